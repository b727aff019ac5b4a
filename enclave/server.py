"""The server: threads that take turns at the host's stream and serve sessions.

One thread at a time reads frames, puts each into its session's lane, lets go of the stream, and serves a lane itself.
A request that arrives alone is so read, decided and answered by one thread, without a hand-off.

Nothing that a client or the host sends ends the process; the end of the host's stream does, in order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from attestation.wire.frames import ROUTE_READY, ROUTE_STATS, ROUTE_STOP, Frame
from enclave.channel import Channel
from enclave.deadline import OVERDUE, AbandonedError
from enclave.errors import EnclaveCode, EnclaveError
from enclave.lane import END, Lane, Step
from enclave.lanes import Lanes
from enclave.log import Event, log
from enclave.park import Continuation, Park
from enclave.service import Service
from enclave.session import Session
from enclave.turns import Turns
from manifests import canonical
from manifests.telemetry import BY_NAME

_TOLD_AS = {
    "sessions_open": "open",
    "sessions_refused": "refused",
    "handshakes_open": "half_open",
    "held_bytes": "held",
}
"""Names on the allow-list of telemetry, and what they are called among the counters."""
_UNWATCHED = {name: 0 for name in BY_NAME if name.startswith("abuse_")}
"""What is told where no model is watched."""


class Server:
    """Serves one host stream until it ends or says stop."""

    def __init__(self, channel: Channel, service: Service) -> None:
        """Serve `service` over `channel`."""
        self._channel = channel
        self._service = service
        self._threads = service.settings.limits.threads
        self._turns = Turns(channel.fileno())
        self._stopped = False
        self._reading = threading.Lock()
        self.lanes = Lanes(service.settings.limits, partial(Session, service))
        self._serving: dict[int, Lane] = {}
        """By thread, the lane whose step it takes."""
        self._errands: dict[int, Lane] = {}
        """By thread, the parked lane that it works for."""
        service.abandon = self._abandon
        service.crowd = self.lanes.crowd

    def serve(self) -> None:
        """Announce readiness and serve; returns when the host's stream has ended or everything is drained.

        Raises EnclaveError `host-stream-broken` if there is no host to announce it to.
        """
        ready = {
            "boot_id": self._service.keys.boot_id,
            "class": str(self._service.platform),
            "max_sessions": self._service.settings.limits.max_sessions,
        }
        self._channel.send([Frame(ROUTE_READY, 0, canonical.encode(ready))])
        names = [f"server-{index}" for index in range(1, self._threads)]
        others = [threading.Thread(target=self._run, name=name, daemon=True) for name in names]
        for other in others:
            other.start()
        self._run()
        for other in others:
            other.join()
        self._service.stop()
        self._turns.close()

    def _run(self) -> None:
        while not self._stopped:
            lane = None
            try:
                lane = self._next_lane()
                if lane is not None:
                    self._serve_lane(lane)
            except AbandonedError:  # the lane was taken out of this thread's hands
                continue
            except EnclaveError:  # the host's stream is gone
                self._stop()
            except Exception as error:  # noqa: BLE001 - a defect ends the lane, not the process
                log(Event.DEFECT, EnclaveCode.INTERNAL, **{type(error).__name__: 1})
                self._give_up(lane)

    def _next_lane(self) -> Lane | None:
        """Return a lane to serve, or None if waiting and reading brought none."""
        lane = self.lanes.take()
        if lane is None and self._turns.wait():
            return self._read()
        if lane is not None and self._service.settings.limits.max_client_runs and self.lanes.ready:
            self._turns.wake(1)  # a lane of a client that was at its limit may have become ready with this one
        return lane

    def _read(self) -> Lane | None:
        """Read once, let go of the stream as soon as the frames are in their lanes, and take the first lane."""
        with self._reading:
            answers = [answer for frame in self._channel.read() for answer in self._put(frame)]
            lane = self.lanes.take()
            self._turns.rearm()
        self._turns.wake(self.lanes.ready)
        if answers:
            self._channel.send(answers)
        return lane

    def _glance(self) -> None:
        """Read what has arrived, if nobody else does, between two steps: who has come meanwhile may be next.

        Where every thread has work, none waits for the stream, and a new client would wait until all of it was done.
        """
        if not self._reading.acquire(blocking=False):
            return
        try:
            frames = self._channel.read()
            answers = [answer for frame in frames for answer in self._put(frame)]
        finally:
            self._reading.release()
        self._turns.wake(min(len(frames), self.lanes.ready))
        if answers:
            self._channel.send(answers)

    def _put(self, frame: Frame) -> list[Frame]:
        if not frame.route.startswith("!"):
            return self.lanes.put(frame)
        if frame.route == ROUTE_STATS:
            return [self._stats(frame.sid)]
        if frame.route == ROUTE_STOP:
            log(Event.STOPPING, sessions=len(self.lanes))
            self.lanes.drain()
            self._stop_if_drained()
        else:
            log(Event.FRAME_REFUSED)
        return []

    # ------------------------------------------------------------------------------------ lanes

    def _serve_lane(self, lane: Lane) -> None:
        """Serve a lane until it is empty, parked or over, or another waits for its turn."""
        while (step := self.lanes.next_step(lane)) is not None:
            began = time.perf_counter()
            park = self._take_step(lane, step)
            output = lane.session.take_output()
            if output:
                self._channel.send_stream(lane.route, lane.sid, output)
            self.lanes.settle(lane, time.perf_counter() - began)
            if lane.session.over:
                self._forget(lane)
                return
            if park is not None:
                self.lanes.park(lane)
                park.start(Errand(self, lane))
                return
            if self.lanes.has_work(lane):
                self._glance()
                if self.lanes.make_way(lane):
                    return

    def _take_step(self, lane: Lane, step: Step) -> Park | None:
        """Take a step of a lane, under this thread's name; raises AbandonedError where the lane was taken away."""
        thread = threading.get_ident()
        self._serving[thread] = lane
        try:
            return step()
        finally:
            del self._serving[thread]

    @contextmanager
    def working(self, lane: Lane) -> Iterator[None]:
        """Note that this thread works for a parked lane; called by helpers' threads."""
        thread = threading.get_ident()
        self._errands[thread] = lane
        try:
            yield
        finally:
            del self._errands[thread]

    def resume(self, lane: Lane, continuation: Continuation) -> None:
        """Queue a parked lane; called by helpers' threads."""
        self.lanes.resume(lane, continuation)
        self._turns.wake(1)

    def _forget(self, lane: Lane) -> None:
        """End a lane and tell the host."""
        if self.lanes.forget(lane):
            self._channel.send([Frame(lane.route, lane.sid, END)])
            self._stop_if_drained()

    def _give_up(self, lane: Lane | None) -> None:
        """End the lane that met a defect; one met while reading has lost the place in the host's stream."""
        if lane is None or self._stopped:
            self._stop()
            return
        try:
            self._forget(lane)
        except EnclaveError:
            self._stop()

    # ------------------------------------------------------------------------------------ stuck

    def _abandon(self, thread: int) -> None:
        """Refuse the request in which a thread is stuck, and tell the host and the brokers; the watchdog calls it.

        Every thread may be stuck, so the word goes out from here.  Brokers learn by the end of their sessions that
        they should look: they come back and ask.
        """
        failure = EnclaveError(
            EnclaveCode.STOPPING, "a run is stuck, so this process ends; ask which, in a new session"
        )
        self.lanes.end_where(lambda session: session.in_control, failure)
        overdue = EnclaveError(EnclaveCode.INFERENCE_TIMEOUT, OVERDUE)
        parked, lane = self._errands.get(thread), self._serving.get(thread)
        if parked is not None:  # its own outcome never comes
            self.resume(parked, partial(parked.session.give_up, overdue))
        try:
            if lane is not None:
                lane.session.give_up(overdue)
                self._channel.send_stream(lane.route, lane.sid, lane.session.take_output())
                self._forget(lane)
            self._channel.send([self._stats(0)])
        except EnclaveError:  # the host's stream is gone, and with it the process
            self._stop()
        self._turns.wake(self.lanes.ready)

    def _stats(self, sid: int) -> Frame:
        counts = {**self.lanes.counts(), **self._service.stats()}
        telemetry = self._service.metrics.export(partial(self._single, counts))
        return Frame(ROUTE_STATS, sid, canonical.encode({**counts, "telemetry": telemetry}))

    def _single(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the single values of telemetry; the score is not among the counters, which move at once."""
        named = {name: counts[source] for name, source in _TOLD_AS.items()}
        return {**_UNWATCHED, **counts, **named, "abuse_score": self._service.score()}

    # ------------------------------------------------------------------------------------ the end

    def _stop_if_drained(self) -> None:
        if self.lanes.is_drained:
            self._stop()

    def _stop(self) -> None:
        self._stopped = True
        self._channel.shut()
        self._turns.wake(self._threads)


@dataclass(frozen=True)
class Errand:
    """Has a parked lane go on when the work that it waits for is done (`enclave.park.Resume`)."""

    server: Server
    lane: Lane

    def __call__(self, continuation: Continuation, /) -> None:
        """Queue the lane with the rest of what was asked."""
        self.server.resume(self.lane, continuation)

    def working(self) -> AbstractContextManager[None]:
        """Note that this thread works for the lane."""
        return self.server.working(self.lane)
