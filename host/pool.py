"""The processes of one deployment: one serves new sessions, the others are spares.

A spare is a process like any other, started from the same manifest and provisioned by the same brokers, each of which
reaches every process by a route of its own (`default.1`, `default.2`).  When the serving process ends, or says that a
run is stuck in it, new sessions go to a spare at once, and the process that is started in its place becomes a spare.
Nothing is ever forked: a process that shares another's memory would share its keys.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from host.config import Deployment
from host.enclaves import Enclave
from host.process import Command
from host.relay import Relay
from host.supervisor import Schedule
from host.watch import ModelWatch


class Pool:
    """One deployment behind its route of the relay."""

    def __init__(
        self,
        deployment: Deployment,
        relay: Relay,
        models: ModelWatch,
        *,
        schedule: Schedule | None = None,
        command: Command | None = None,
    ) -> None:
        """Make the routes known; `runs` start the processes."""
        self.deployment = deployment
        self._relay = relay
        for route in (deployment.route, *deployment.slots()):
            relay.add_route(route)
        self.enclaves = [
            Enclave(deployment, relay, models, changed=self._choose, slot=slot, schedule=schedule, command=command)
            for slot in range(1, deployment.processes + 1)
        ]

    def runs(self) -> list[Awaitable[None]]:
        """Return what keeps each process running until its supervisor is stopped."""
        first, *others = self.enclaves
        return [first.run(), *(other.run(after=first) for other in others)]

    @property
    def serving(self) -> Enclave | None:
        """The process to which new sessions go."""
        link = self._relay.leads_to(self.deployment.route)
        return next((one for one in self.enclaves if link is not None and one.link is link), None)

    def _choose(self) -> None:
        """Stay with the process that serves while it is of use, else take the one that holds most models."""
        present = self.serving
        usable = [one for one in self.enclaves if one.link is not None]
        best = max(usable, key=lambda one: one.models, default=None)
        if present is None or (best is not None and best.models > 0 == present.models):
            self._relay.attach(self.deployment.route, None if best is None else best.link)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return what `host status` shows of each process."""
        serving, processes = self.serving, self.deployment.processes
        return [{**one.to_dict(), "processes": processes, "serving": one is serving} for one in self.enclaves]
