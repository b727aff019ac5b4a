"""The server: threads that take turns at the host's stream and serve sessions.

One thread at a time reads frames, puts each into its session's lane, lets go of the stream, and serves a lane itself.
A request that arrives alone is so read, decided and answered by one thread, without a hand-off.  A lane is served by
one thread at a time, which keeps each session's order; a lane that is parked (it waits for a quote or a model) is
served by nobody until its work comes back.

Everything is bounded: sessions, half-open handshakes, bytes that wait in a lane, and bytes over all lanes.  Over a
bound the session that asked for more ends, with a code.  Nothing that a client or the host sends ends the process;
the end of the host's stream does, in order.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from attestation.wire.frames import ROUTE_READY, ROUTE_STATS, ROUTE_STOP, Frame, error_frame
from enclave.channel import Channel
from enclave.errors import EnclaveCode, EnclaveError
from enclave.log import Event, log
from enclave.service import Service
from enclave.session import Continuation, Park, Session
from enclave.turns import Turns
from manifests import canonical

REMEMBERED = 4096
"""Sids that have ended: frames that were under way to them are dropped instead of beginning a session."""
_EOF = b""

Step = Callable[[], Park | None]


@dataclass(eq=False)
class Lane:
    """One session and what waits for it.  All fields but `session` are guarded by the server's lock."""

    sid: int
    route: str
    session: Session
    inbox: deque[memoryview | bytes] = field(default_factory=deque)
    waiting: int = 0
    """Bytes in the inbox."""
    charged: int = 0
    """Bytes of this lane that count against the bound over all lanes."""
    busy: bool = False
    """A thread serves the lane, or it is queued for one, or parked."""
    half_open: bool = True
    continuation: Continuation | None = None
    failure: EnclaveError | None = None
    closing: bool = False


class Server:
    """Serves one host stream until it ends or says stop."""

    def __init__(self, channel: Channel, service: Service) -> None:
        """Serve `service` over `channel`."""
        limits = service.settings.limits
        self._channel = channel
        self._service = service
        self._limits = limits
        self._lane_bytes = limits.max_message + limits.max_message // 4 + (1 << 20)
        self._lanes: dict[int, Lane] = {}
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._ready: deque[Lane] = deque()
        self._turns = Turns(channel.fileno())
        self._lock = threading.RLock()
        self._stopped = False
        self._draining = False
        self._half_open = 0
        self._held = 0
        self.sessions = 0
        self.refused = 0

    def serve(self) -> None:
        """Announce readiness and serve; returns when the host's stream has ended or everything is drained."""
        ready = {"boot_id": self._service.keys.boot_id, "class": str(self._service.platform)}
        self._channel.send([Frame(ROUTE_READY, 0, canonical.encode(ready))])
        count = self._limits.threads - 1
        followers = [threading.Thread(target=self._run, name=f"server-{i}", daemon=True) for i in range(count)]
        for follower in followers:
            follower.start()
        self._run()
        self._channel.shut()
        for follower in followers:
            follower.join()
        self._service.stop()
        self._turns.close()

    # ------------------------------------------------------------------------------------ turns

    def _run(self) -> None:
        while not self._stopped:
            lane = None
            try:
                lane = self._next_lane()
                if lane is not None:
                    self._serve_lane(lane)
            except EnclaveError:  # the host's stream is gone
                self._stop()
            except Exception as error:  # noqa: BLE001 - a defect ends the lane, not the process
                log(Event.DEFECT, EnclaveCode.INTERNAL, **{type(error).__name__: 1})
                self._give_up(lane)

    def _give_up(self, lane: Lane | None) -> None:
        """End the lane that met a defect; one met while reading has lost the place in the host's stream."""
        if lane is None:
            self._stop()
        else:
            self._forget(lane)

    def _next_lane(self) -> Lane | None:
        """Return a lane to serve, or None if waiting and reading brought none."""
        with self._lock:
            if self._ready:
                return self._ready.popleft()
        return self._read() if self._turns.wait() else None

    def _read(self) -> Lane | None:
        """Read once, let go of the stream as soon as the frames are in their lanes, and take the first lane."""
        answers: list[Frame] = []
        frames = self._channel.read()
        with self._lock:
            for frame in frames:
                self._take(frame, answers)
            lane = self._ready.popleft() if self._ready else None
            others = len(self._ready)
        self._turns.rearm()
        self._turns.wake(others)
        if answers:
            self._channel.send(answers)
        return lane

    def _stop(self) -> None:
        self._stopped = True
        self._channel.shut()
        self._turns.wake(self._limits.threads)

    # ------------------------------------------------------------------------------------ frames (under the lock)

    def _take(self, frame: Frame, answers: list[Frame]) -> None:
        if frame.route.startswith("!"):
            self._take_control(frame, answers)
            return
        lane = self._lanes.get(frame.sid)
        if lane is None:
            if frame.sid in self._ended or not frame.body:
                return
            lane = self._admit(frame, answers)
            if lane is None:
                return
        self._append(lane, frame.body)

    def _take_control(self, frame: Frame, answers: list[Frame]) -> None:
        if frame.route == ROUTE_STOP:
            self._drain()
        elif frame.route == ROUTE_STATS:
            answers.append(Frame(ROUTE_STATS, frame.sid, canonical.encode(self._stats())))
        else:
            log(Event.FRAME_REFUSED)

    def _admit(self, frame: Frame, answers: list[Frame]) -> Lane | None:
        """Open a lane for a new sid, or refuse it in words that the client will not trust."""
        refusal = self._refusal()
        if refusal is not None:
            self.refused += 1
            self._remember(frame.sid)
            answers += [error_frame(frame.sid, *refusal), Frame(frame.route, frame.sid, _EOF)]
            return None
        lane = Lane(frame.sid, frame.route, Session(self._service))
        self._lanes[frame.sid] = lane
        self._half_open += 1
        self.sessions += 1
        return lane

    def _refusal(self) -> tuple[EnclaveCode, str] | None:
        if self._draining:
            return EnclaveCode.STOPPING, "the enclave is being drained"
        if len(self._lanes) >= self._limits.max_sessions:
            return EnclaveCode.BUSY, "the enclave has as many sessions as it admits"
        if self._half_open >= self._limits.max_half_open:
            return EnclaveCode.BUSY, "the enclave has as many unfinished handshakes as it admits"
        return None

    def _append(self, lane: Lane, body: memoryview | bytes | bytearray) -> None:
        """Put bytes into a lane's inbox and see that it is served; over a bound, the lane is to fail."""
        if lane.failure is not None:
            return
        lane.inbox.append(bytes(body) if isinstance(body, bytearray) else body)
        lane.waiting += len(body)
        self._charge(lane, lane.charged + len(body))
        if lane.waiting > self._lane_bytes:
            self._fail(lane, EnclaveError(EnclaveCode.SESSION_OVERRUN, "the session sent more than is kept for it"))
        elif self._held > self._limits.max_pending:
            self._fail(lane, EnclaveError(EnclaveCode.BUSY, "too many bytes wait to be served", retry_after=1.0))
        self._schedule(lane)

    def _fail(self, lane: Lane, failure: EnclaveError) -> None:
        lane.failure = failure
        lane.inbox.clear()
        lane.waiting = 0
        self._charge(lane, 0)

    def _charge(self, lane: Lane, amount: int) -> None:
        self._held += amount - lane.charged
        lane.charged = amount

    def _schedule(self, lane: Lane) -> None:
        if not lane.busy:
            lane.busy = True
            self._ready.append(lane)

    def _drain(self) -> None:
        """Close every session once what it has sent is answered, and admit no more."""
        log(Event.STOPPING, sessions=len(self._lanes))
        self._draining = True
        for lane in self._lanes.values():
            lane.closing = True
            self._schedule(lane)
        self._stop_if_drained()

    def _stop_if_drained(self) -> None:
        if self._draining and not self._lanes:
            self._stop()

    def _stats(self) -> dict[str, int]:
        own = {"open": len(self._lanes), "half_open": self._half_open, "held": self._held}
        return {**own, "sessions": self.sessions, "refused": self.refused, **self._service.stats()}

    # ------------------------------------------------------------------------------------ lanes

    def _serve_lane(self, lane: Lane) -> None:
        """Serve a lane until it is empty, parked or over, or another waits for its turn."""
        while True:
            step = self._next_step(lane)
            if step is None:
                return
            park = step()
            self._send(lane)
            self._settle(lane)
            if lane.session.over:
                self._forget(lane)
                return
            if park is not None:
                park.start(partial(self._resume, lane))
                return
            if self._ready and self._yield(lane):
                return

    def _yield(self, lane: Lane) -> bool:
        """Put a lane behind the others that are ready; tell whether there are any."""
        with self._lock:
            if not self._ready:
                return False
            self._ready.append(lane)
            return True

    def _next_step(self, lane: Lane) -> Step | None:
        """Return what is to be done next in a lane, or None, with which the lane is nobody's."""
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
                lane.waiting -= len(data)
                return partial(session.receive, data) if data else session.end_of_stream
            if lane.closing:
                return session.close
            lane.busy = False
            return None

    def _resume(self, lane: Lane, continuation: Continuation) -> None:
        """Queue a parked lane with the rest of what it waited for; called by helpers' threads."""
        with self._lock:
            lane.continuation = continuation
            self._ready.append(lane)
        self._turns.wake(1)

    def _settle(self, lane: Lane) -> None:
        """Bring the counts up to date after a step."""
        with self._lock:
            if lane.failure is None:
                self._charge(lane, lane.waiting + lane.session.held)
            if lane.half_open and lane.session.attested:
                lane.half_open = False
                self._half_open -= 1

    def _send(self, lane: Lane) -> None:
        output = lane.session.take_output()
        if output:
            self._channel.send_stream(lane.route, lane.sid, output)

    def _forget(self, lane: Lane) -> None:
        """End a lane: tell the host, and let go of everything that counts."""
        with self._lock:
            if self._lanes.pop(lane.sid, None) is None:
                return
            self._charge(lane, 0)
            self._half_open -= lane.half_open
            self._remember(lane.sid)
        try:
            self._channel.send([Frame(lane.route, lane.sid, _EOF)])
        except EnclaveError:
            self._stop()
        with self._lock:
            self._stop_if_drained()

    def _remember(self, sid: int) -> None:
        self._ended[sid] = None
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
