"""One enclave process as the agent runs it: its supervisor, its route, its fetches, and what is known of it."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from attestation.wire.frames import ROUTE_FETCH, ROUTE_READY, ROUTE_STATS, Frame
from host.config import SIMULATED, Deployment
from host.control import decode_report
from host.errors import HostCode, HostError
from host.fetch import Fetcher
from host.link import EnclaveLink
from host.log import show_class
from host.process import Command
from host.relay import Relay
from host.supervisor import Schedule, State, Supervisor
from host.watch import ModelWatch
from manifests.errors import ManifestError, StrongroomError
from manifests.telemetry import read_telemetry

_log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Starts that may fail before an enclave that has never been ready is given up."""

STATS_EVERY = 5.0
"""Seconds between two questions for an enclave's counters."""

MAX_UNANSWERED = 18
"""Such questions in a row, a minute and a half of them, after which an enclave that says nothing is started again.

They are counted, and not timed, so that a host which was itself stopped for a while blames no one.
"""


class Enclave:
    """Runs one process of a deployment; `host.pool` says where new sessions go.

    `changed` is called when it has become ready, is gone, or has told something new of itself.
    """

    def __init__(
        self,
        deployment: Deployment,
        relay: Relay,
        models: ModelWatch,
        *,
        changed: Callable[[], None],
        slot: int = 1,
        schedule: Schedule | None = None,
        command: Command | None = None,
    ) -> None:
        """Name one process; `run` starts the platform.  slot: 1 for the deployment's first process, and so on."""
        self.deployment = deployment
        self.slot = slot
        self.name = deployment.slots()[slot - 1] if deployment.processes > 1 else deployment.route
        self.supervisor = Supervisor(
            self.name, command or deployment.command, self._connect, self._attached, schedule=schedule
        )
        self.stuck_ends = 0
        """Processes that were ended because a run was stuck in them."""
        self._changed = changed
        self._is_attached = False
        self._is_stuck = False
        self._relay = relay
        self._models = models
        self._link: EnclaveLink | None = None
        self._fetcher: Fetcher | None = None
        self._reports: dict[str, Any] = {}
        self._unanswered = 0
        self._frames_seen = 0

    @property
    def link(self) -> EnclaveLink | None:
        """The stream to a process that is ready and in good order, None without one."""
        return self._link if self._is_attached and not self._is_stuck else None

    @property
    def models(self) -> int:
        """How many models the process has told that it holds."""
        return _counts(self._reports.get(ROUTE_STATS)).get("models", 0)

    @property
    def telemetry(self) -> dict[str, Any]:
        """What the process has chosen to tell, as far as it is on the allow-list; empty otherwise."""
        try:
            return read_telemetry(self._reports.get(ROUTE_STATS, {}).get("telemetry", {}))
        except ManifestError:
            return {}

    async def run(self, after: Enclave | None = None) -> None:
        """Keep the process running until its supervisor is stopped; begin once `after` was ready for the first time.

        So a platform's folder is made by one process alone.
        """
        if after is not None:
            async for state in after.supervisor.states():
                if state is State.READY or after.supervisor.stopping:
                    break
        await self.supervisor.run()

    async def first_ready(self) -> None:
        """Wait for the first start to succeed; raises HostError `enclave-not-ready` when that will not happen."""
        async for state in self.supervisor.states():
            if state is State.READY:
                return
            if self.supervisor.hopeless or self.supervisor.failures >= ATTEMPTS:
                raise self._not_ready()

    def _not_ready(self) -> HostError:
        last = self.supervisor.last_ending
        said = self.supervisor.last_lines[-1:] or ["nothing was written"]
        return HostError(
            HostCode.ENCLAVE_NOT_READY,
            f"the enclave of route {self.deployment.route!r} does not start",
            expected="ready",
            found=None if last is None else f"status {last.status}, {last.reason}; last line: {said[0]}",
            remedy="read the agent's log; strongroom host check finds the usual causes",
        )

    async def _connect(self, stream: socket.socket, ready: asyncio.Event) -> EnclaveLink:
        """Make the relay's end of a new enclave's stream (host.process.Connect)."""

        def control(link: EnclaveLink, frame: Frame) -> None:
            self._control(link, frame, fetcher, ready)

        link = self._relay.make_link(control)
        fetcher = Fetcher(link, self._models)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: link, sock=stream)
        work = loop.create_task(fetcher.run())
        link.lost.add_done_callback(lambda _: work.cancel())
        self._link, self._fetcher, self._reports = link, fetcher, {}
        self._unanswered = self._frames_seen = 0
        self._is_stuck = False
        return link

    def _control(self, link: EnclaveLink, frame: Frame, fetcher: Fetcher, ready: asyncio.Event) -> None:
        if frame.route == ROUTE_FETCH:
            fetcher.request(frame.sid, frame.body)
            return
        if frame.route not in {ROUTE_READY, ROUTE_STATS}:
            _log.warning("%s: the enclave sent a control frame that is not known", self.name)
            return
        try:
            self._reports[frame.route] = decode_report(frame.body)
        except StrongroomError as error:
            link.fail(error)
            return
        if frame.route == ROUTE_READY:
            show_class(self.name, self._reports[ROUTE_READY].get("class"))
            link.admits(self._reports[ROUTE_READY].get("max_sessions"))
            ready.set()
        elif link is self._link:
            self._note_stuck(link)
            self._changed()

    def _note_stuck(self, link: EnclaveLink) -> None:
        """End a process that says a run is stuck in it, after a time for its brokers; nothing else can stop that run.

        Its sessions go on until then: inside them the enclave says what is the matter, under a key that clients trust.
        """
        if self._is_stuck or not _counts(self._reports[ROUTE_STATS]).get("stuck"):
            return
        self._is_stuck = True
        self.stuck_ends += 1
        grace = self._relay.limits.stuck_grace
        _log.warning("%s: a run cannot be stopped; the process is ended in %g s", self.name, grace)
        error = HostError(HostCode.ENCLAVE_LOST, "a run could not be stopped, so the host ended it")
        asyncio.get_running_loop().call_later(grace, link.fail, error)

    async def watch(self) -> None:
        """Ask the enclave for its counters now and then, and give up one that has fallen silent; until cancelled."""
        while True:
            await asyncio.sleep(STATS_EVERY)
            if self.supervisor.state is State.READY and self._link is not None and not self._link.closed:
                self._ping(self._link)

    def _ping(self, link: EnclaveLink) -> None:
        """Ask once; whatever the enclave has sent since the last time shows that it lives."""
        if link.traffic.frames_in != self._frames_seen:
            self._frames_seen, self._unanswered = link.traffic.frames_in, 0
        if self._unanswered >= MAX_UNANSWERED:
            link.fail(HostError(HostCode.ENCLAVE_LOST, f"it has not answered {self._unanswered} questions in a row"))
            return
        self._unanswered += 1
        link.send(ROUTE_STATS, 0, b"")

    def _attached(self, link: EnclaveLink | None) -> None:
        self._is_attached = link is not None
        if self.deployment.processes > 1:
            self._relay.attach(self.name, link)
        self._changed()

    def to_dict(self) -> dict[str, Any]:
        """Return what `host status` shows of the deployment."""
        supervisor, since = self.supervisor, self.supervisor.ready_since
        return {
            "route": self.deployment.route,
            "process": self.slot,
            "stuck_ends": self.stuck_ends,
            "class": SIMULATED,
            "state": str(supervisor.state),
            "pid": None if supervisor.process is None else supervisor.process.pid,
            "ready_seconds": None if since is None else round(time.time() - since, 1),
            "restarts": supervisor.restarts,
            "failures": supervisor.failures,
            "unanswered": self._unanswered,
            "last_exit": None if supervisor.last_ending is None else supervisor.last_ending.to_dict(),
            "last_lines": [] if supervisor.state is State.READY else supervisor.last_lines[-10:],
            "manifest": str(self.deployment.manifest),
            **self._identity(),
            **self._traffic(),
        }

    def _identity(self) -> dict[str, Any]:
        process = self.supervisor.process
        facts = {} if process is None else process.introduction.facts
        boot_id = self._reports.get(ROUTE_READY, {}).get("boot_id")
        return {
            "enclave_pid": facts.get("enclave_pid"),
            "mrenclave": facts.get("mrenclave"),
            "confinement": _counts(facts.get("confinement")),
            "boot_id": boot_id.hex() if isinstance(boot_id, bytes) else None,
            "enclave": _counts(self._reports.get(ROUTE_STATS)),
            "telemetry": self.telemetry,
        }

    def _traffic(self) -> dict[str, Any]:
        if self._link is None or self._fetcher is None:
            return {}
        traffic = self._link.traffic
        return {
            "sessions": len(self._link.streams),
            "places": self._link.places,
            "sessions_total": self._link.sessions,
            "frames_in": traffic.frames_in,
            "frames_out": traffic.frames_out,
            "bytes_in": traffic.bytes_in,
            "bytes_out": traffic.bytes_out,
            "queued": self._link.queued,
            "fetches": self._fetcher.served,
            "bytes_fetched": self._fetcher.bytes_served,
        }


def _counts(reported: object) -> dict[str, int]:
    """Return what of a report is a count; a peer may say anything."""
    entries = reported.items() if isinstance(reported, dict) else ()
    return {key: value for key, value in entries if isinstance(key, str) and type(value) is int}
