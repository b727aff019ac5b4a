"""The server: threads that take turns at the host's stream and serve sessions.

One thread at a time reads frames, puts each into its session's lane, lets go of the stream, and serves a lane itself.
A request that arrives alone is so read, decided and answered by one thread, without a hand-off.

Nothing that a client or the host sends ends the process; the end of the host's stream does, in order.
"""

from __future__ import annotations

import threading
from functools import partial

from attestation.wire.frames import ROUTE_READY, ROUTE_STATS, ROUTE_STOP, Frame
from enclave.channel import Channel
from enclave.errors import EnclaveCode, EnclaveError
from enclave.lanes import END, Lane, Lanes
from enclave.log import Event, log
from enclave.service import Service
from enclave.session import Continuation, Session
from enclave.turns import Turns
from manifests import canonical


class Server:
    """Serves one host stream until it ends or says stop."""

    def __init__(self, channel: Channel, service: Service) -> None:
        """Serve `service` over `channel`."""
        self._channel = channel
        self._service = service
        self._threads = service.settings.limits.threads
        self._turns = Turns(channel.fileno())
        self._stopped = False
        self.lanes = Lanes(service.settings.limits, partial(Session, service))

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
        streamed = False
        while not self._stopped:
            lane = None
            try:
                lane = self._next_lane(glance=streamed)
                streamed = lane is not None and self._serve_lane(lane)
            except EnclaveError:  # the host's stream is gone
                self._stop()
            except Exception as error:  # noqa: BLE001 - a defect ends the lane, not the process
                log(Event.DEFECT, EnclaveCode.INTERNAL, **{type(error).__name__: 1})
                self._give_up(lane)

    def _next_lane(self, *, glance: bool) -> Lane | None:
        """Return a lane to serve, or None if waiting and reading brought none.

        glance: look for new bytes first.  A thread that serves streams finds a lane each time, and were all threads to
        do so, nobody would read what else arrives.
        """
        if glance and self._turns.glance():
            return self._read()
        lane = self.lanes.take()
        if lane is None and self._turns.wait():
            lane = self._read()
        return lane

    def _read(self) -> Lane | None:
        """Read once, let go of the stream as soon as the frames are in their lanes, and take the first lane."""
        answers = [answer for frame in self._channel.read() for answer in self._put(frame)]
        lane = self.lanes.take()
        self._turns.rearm()
        self._turns.wake(self.lanes.ready)
        if answers:
            self._channel.send(answers)
        return lane

    def _put(self, frame: Frame) -> list[Frame]:
        if not frame.route.startswith("!"):
            return self.lanes.put(frame)
        if frame.route == ROUTE_STATS:
            return [Frame(ROUTE_STATS, frame.sid, canonical.encode({**self.lanes.counts(), **self._service.stats()}))]
        if frame.route == ROUTE_STOP:
            log(Event.STOPPING, sessions=len(self.lanes))
            self.lanes.drain()
            self._stop_if_drained()
        else:
            log(Event.FRAME_REFUSED)
        return []

    # ------------------------------------------------------------------------------------ lanes

    def _serve_lane(self, lane: Lane) -> bool:
        """Serve a lane until it is empty, parked or over, or another waits for its turn.

        Returns whether it was put behind the others with a stream that goes on.
        """
        while (step := self.lanes.next_step(lane)) is not None:
            park = step()
            output = lane.session.take_output()
            if output:
                self._channel.send_stream(lane.route, lane.sid, output)
            self.lanes.settle(lane)
            if lane.session.over:
                self._forget(lane)
                return False
            if park is not None:
                park.start(partial(self._resume, lane))
                return False
            if lane.session.streaming:
                self.lanes.put_behind(lane)
                return True
            if self.lanes.ready and self.lanes.make_way(lane):
                return False
        return False

    def _resume(self, lane: Lane, continuation: Continuation) -> None:
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

    # ------------------------------------------------------------------------------------ the end

    def _stop_if_drained(self) -> None:
        if self.lanes.is_drained:
            self._stop()

    def _stop(self) -> None:
        self._stopped = True
        self._channel.shut()
        self._turns.wake(self._threads)
