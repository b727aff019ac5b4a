"""Lanes: one for each open session, with what waits for it, under bounds.

A lane is served by one thread at a time, which keeps each session's order.  Whose turn it is, `enclave.fair` says:
all sessions of one client are one kind, and so are all anonymous ones, all handshakes, and all brokers.
`busy` means that a thread has it, that it
is queued for one, or that it is parked: then nobody serves it until the work that it waits for comes back.
Over its own bound a session ends.  Over the bound on all of them the one that holds most ends: so nobody who keeps
much unfinished stops those who keep little, and below `GUARANTEED` bytes nobody ends for others.  Over the bound on
their number the one that was idle longest ends, if that is `IDLE_SECONDS` at least.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from attestation.wire.frames import Frame, error_frame
from enclave.errors import EnclaveCode, EnclaveError
from enclave.fair import FairQueue
from enclave.lane import END, PIECE, Lane, Step, kept
from enclave.park import Continuation
from enclave.session import CONTROL, HELLO, Session
from manifests.gramine.settings import Limits

REMEMBERED = 4096
"""Sids that have ended: frames that were under way to them are dropped instead of beginning a session."""
GUARANTEED = 64 * 1024
"""Bytes that a lane may hold whatever the others hold."""
HELLO_SECONDS = 10.0
"""Time for a whole hello: it is one packet."""
MESSAGE_SECONDS = 120.0
"""Time for one whole message: 64 MiB at 5 Mbit/s take less."""
IDLE_SECONDS = 30.0
"""A session on which nothing has moved for so long makes room for another where there is no room left."""
STALLED_SECONDS = 60.0
"""A stream whose client takes no parts for so long ends, with what it holds."""
SWEEP_SECONDS = 1.0
"""Frames that arrive have overdue lanes ended, this often at most; while none arrive, nobody is in need of room."""


class Lanes:
    """All lanes of a server; thread-safe, and never waits for anything but its lock."""

    def __init__(
        self, limits: Limits, new_session: Callable[[], Session], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without sessions; `clock` gives seconds."""
        self._clock = clock
        self._swept = clock()
        self._limits = limits
        self._new_session = new_session
        self._lane_bytes = limits.max_message + limits.max_message // 4 + (1 << 20)
        self._lanes: OrderedDict[int, Lane] = OrderedDict()
        """In the order in which something moved last."""
        self._greeting: OrderedDict[int, Lane] = OrderedDict()
        self._failing: set[int] = set()
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._ready: FairQueue[Lane] = FairQueue(limits.max_client_runs, frozenset({HELLO, CONTROL}))
        self._lock = threading.Lock()
        self._draining = False
        self._half_open = 0
        self._held = 0
        self._opened = 0
        self._refused = 0

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def ready(self) -> int:
        """How many lanes wait for a thread."""
        return len(self._ready)

    @property
    def is_drained(self) -> bool:
        """Whether no session is open and none will be."""
        return self._draining and not self._lanes

    def counts(self) -> dict[str, int]:
        """Return counters for the operator."""
        return {
            "open": len(self._lanes),
            "greeting": len(self._greeting),
            "half_open": self._half_open,
            "held": self._held,
            "sessions": self._opened,
            "refused": self._refused,
            "waiting": len(self._ready),
        }

    # ------------------------------------------------------------------------------------ arriving

    def put(self, frame: Frame) -> list[Frame]:
        """Put a frame into its lane, which a new sid opens; return the frames that refuse one or tell of its end."""
        with self._lock:
            self._sweep()
            lane = self._lanes.get(frame.sid)
            answers: list[Frame] = []
            if lane is None:
                if frame.sid in self._ended or not frame.body:
                    return []
                answers = self._make_room()
                refusal = self._refusal()
                if refusal is not None:
                    self._refused += 1
                    self._remember(frame.sid)
                    return [*answers, error_frame(frame.sid, *refusal), Frame(frame.route, frame.sid, END)]
                lane = self._open(frame)
            self._append(lane, frame.body)
            return answers

    @property
    def _is_full(self) -> bool:
        return len(self._lanes) - len(self._failing) >= self._limits.max_sessions

    def _make_room(self) -> list[Frame]:
        """Where there is no room for one more hello, end the oldest that is not whole; return what tells its client.

        Without one, the session that was idle longest ends: it is told inside, under its own key.
        """
        if self._draining:
            return []
        if self._greeting and (self._is_full or len(self._greeting) >= self._limits.max_half_open):
            oldest = next(iter(self._greeting.values()))
            failure = self._evict(oldest, "others needed the room of this unfinished handshake")
            return [error_frame(oldest.sid, failure.code, failure.message)]
        idle = self._longest_idle() if self._is_full else None
        if idle is not None:
            self._evict(idle, "others needed the room of this idle session")
        return []

    def _longest_idle(self) -> Lane | None:
        """Return the session on which nothing has moved for longest, if that is long enough; never one at work."""
        at_rest = (lane for lane in self._lanes.values() if not lane.busy and lane.failure is None)
        longest = next(at_rest, None)
        return longest if longest is not None and self._clock() - longest.moved >= IDLE_SECONDS else None

    def _evict(self, lane: Lane, why: str) -> EnclaveError:
        failure = EnclaveError(EnclaveCode.BUSY, why)
        self._fail(lane, failure)
        self._schedule(lane)
        self._refused += 1
        return failure

    def _refusal(self) -> tuple[EnclaveCode, str] | None:
        """Return why no session can be opened, in words that the client will not trust."""
        if self._draining:
            return EnclaveCode.STOPPING, "the enclave is being drained"
        if self._is_full:
            return EnclaveCode.BUSY, "the enclave has as many sessions as it admits"
        if self._half_open >= self._limits.max_half_open:
            return EnclaveCode.BUSY, "the enclave has as many unfinished handshakes as it admits"
        return None

    def _open(self, frame: Frame) -> Lane:
        now = self._clock()
        lane = Lane(frame.sid, frame.route, self._new_session(), now, since=now)
        self._lanes[frame.sid] = self._greeting[frame.sid] = lane
        self._opened += 1
        return lane

    def _append(self, lane: Lane, body: memoryview | bytes | bytearray) -> None:
        if lane.failure is not None:
            return
        self._touch(lane)
        lane.inbox.append(kept(body))
        lane.waiting += len(body) + PIECE
        self._charge(lane, lane.charged + len(body) + PIECE)
        if lane.waiting > self._lane_bytes:
            self._fail(lane, EnclaveError(EnclaveCode.SESSION_OVERRUN, "the session sent more than is kept for it"))
        elif self._held > self._limits.max_pending:
            self._fail_largest()
        self._schedule(lane)

    def _fail_largest(self) -> None:
        """End the lane that holds most, unless all that there are hold little."""
        largest = max(self._lanes.values(), key=lambda lane: lane.charged)
        if largest.charged > GUARANTEED:
            self._fail(largest, EnclaveError(EnclaveCode.BUSY, "too many bytes wait to be served", retry_after=1.0))
            self._schedule(largest)

    def _sweep(self) -> None:
        """End the lanes whose hello or message takes too long, and streams whose client does."""
        now = self._clock()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for lane in self._lanes.values():
            limit = HELLO_SECONDS if lane.sid in self._greeting else MESSAGE_SECONDS
            if lane.failure is None and now - lane.since > limit:
                self._fail(lane, EnclaveError(EnclaveCode.SESSION_OVERRUN, "a message took too long to arrive"))
                self._schedule(lane)
            elif now - lane.stalled > STALLED_SECONDS:
                lane.stalled, lane.expired = math.inf, True
                self._schedule(lane)

    def _fail(self, lane: Lane, failure: EnclaveError) -> None:
        """Have a lane end with an error, in the hands of the thread that serves it next."""
        lane.failure = failure
        self._failing.add(lane.sid)
        self._greeting.pop(lane.sid, None)
        lane.inbox.clear()
        lane.waiting = 0
        self._charge(lane, 0)

    def _charge(self, lane: Lane, amount: int) -> None:
        self._held += amount - lane.charged
        lane.charged = amount

    def _touch(self, lane: Lane) -> None:
        lane.moved = self._clock()
        self._lanes.move_to_end(lane.sid)

    def _schedule(self, lane: Lane) -> None:
        if not lane.busy:
            lane.busy = True
            self._ready.push(lane.session.kind, lane)

    # ------------------------------------------------------------------------------------ serving

    def take(self) -> Lane | None:
        """Return the lane whose turn it is (enclave.fair); it is the caller's until a call gives it back."""
        with self._lock:
            taken = self._ready.pop()
            if taken is None:
                return None
            key, lane = taken
            lane.serving = key
            return lane

    def _give_back(self, lane: Lane) -> None:
        """End a thread's service of a lane."""
        if lane.serving is not None:
            self._ready.done(lane.serving)
            lane.serving = None

    def next_step(self, lane: Lane) -> Step | None:
        """Return what is to be done next in a lane, or None, with which the lane is given back."""
        session = lane.session
        with self._lock:
            if lane.failure is not None:
                failure, lane.continuation = lane.failure, None
                return partial(session.abort, failure)
            if lane.continuation is not None:
                continuation, lane.continuation = lane.continuation, None
                return partial(session.proceed, continuation)
            if lane.inbox:
                data = lane.inbox.popleft()
                lane.waiting -= len(data) + PIECE
                return partial(session.receive, data) if data else session.end_of_stream
            if lane.closing:
                return session.close
            if lane.expired:
                lane.expired = False
                return partial(session.expire_streams, self._clock() - STALLED_SECONDS)
            if session.streaming:
                return session.step
            lane.busy = False
            self._give_back(lane)
            return None

    def settle(self, lane: Lane, seconds: float) -> None:
        """Bring the counts up to date after a step that took so long."""
        with self._lock:
            if lane.serving is not None:
                self._ready.charge(lane.serving, seconds)
            if lane.failure is not None:
                return
            self._touch(lane)
            held = lane.session.held
            self._charge(lane, lane.waiting + held)
            if not held:
                lane.since = math.inf
            elif lane.since == math.inf:
                lane.since = self._clock()
            lane.stalled = lane.session.stalled
            self._count_half_open(lane)

    def _count_half_open(self, lane: Lane) -> None:
        """Count a handshake from its whole hello on until its evidence is sent."""
        if lane.session.greeted:
            self._greeting.pop(lane.sid, None)
        is_half_open = lane.session.greeted and not lane.session.attested and not lane.session.over
        self._half_open += is_half_open - lane.half_open
        lane.half_open = is_half_open

    def make_way(self, lane: Lane) -> bool:
        """Put a lane that has more to do back in the queue; False, and it stays the caller's, if no other is ready."""
        with self._lock:
            if not self._ready or not _has_more(lane):
                return False
            self._give_back(lane)
            self._ready.push(lane.session.kind, lane)
            return True

    def has_work(self, lane: Lane) -> bool:
        """Tell whether the thread that has this lane will find more to do at once, there or elsewhere."""
        return bool(self._ready) or _has_more(lane)

    def park(self, lane: Lane) -> None:
        """Let go of a lane that waits for work done elsewhere, until `resume`."""
        with self._lock:
            self._give_back(lane)

    def resume(self, lane: Lane, continuation: Continuation) -> None:
        """Queue a parked lane with the rest of what it waited for."""
        with self._lock:
            lane.continuation = continuation
            self._ready.push(lane.session.kind, lane)

    def crowd(self, kind: bytes) -> float | None:
        """Return the seconds after which a request of this kind would find less waiting, None where there is room."""
        bound = self._limits.max_waiting
        with self._lock:
            if not bound or self._ready.waiting(kind) < bound:
                return None
            return self._ready.wait_seconds(kind, self._limits.threads)

    def forget(self, lane: Lane) -> bool:
        """Let go of a lane and of all that counts for it; False if that was done before."""
        with self._lock:
            self._give_back(lane)
            if self._lanes.pop(lane.sid, None) is None:
                return False
            self._charge(lane, 0)
            self._half_open -= lane.half_open
            self._failing.discard(lane.sid)
            self._greeting.pop(lane.sid, None)
            self._remember(lane.sid)
            return True

    def end_where(self, chosen: Callable[[Session], bool], failure: EnclaveError) -> None:
        """End the sessions that are chosen, each in the hands of the thread that serves it next."""
        with self._lock:
            for lane in [lane for lane in self._lanes.values() if lane.failure is None and chosen(lane.session)]:
                self._fail(lane, failure)
                self._schedule(lane)

    def drain(self) -> None:
        """Have every session close once what it has sent is answered, and admit no more."""
        with self._lock:
            self._draining = True
            for lane in self._lanes.values():
                lane.closing = True
                self._schedule(lane)

    def _remember(self, sid: int) -> None:
        self._ended[sid] = None
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)


def _has_more(lane: Lane) -> bool:
    waits = bool(lane.inbox) or lane.failure is not None or lane.closing or lane.expired
    return waits or lane.session.streaming
