"""What an agent is told at its start."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attestation.errors import WireError
from attestation.wire.address import Address, parse_address
from attestation.wire.frames import Frame, encode_frame
from host.errors import HostCode, HostError
from host.scrape import check_address
from manifests import fields
from manifests.errors import ManifestError

SIMULATED = "SIMULATED"
"""The class of a deployment whose platform the agent itself has simulated; in capitals wherever it is shown."""

MAX_TEXT = 4096
MAX_PROCESSES = 16
"""Of one deployment: each takes the memory of all its models, and a place in each release policy."""


@dataclass(frozen=True)
class Deployment:
    """One route, and the enclave behind it."""

    route: str
    manifest: Path
    """The rendered manifest of the enclave."""
    platform_home: Path
    """The simulated platform's folder; made at the first start."""
    dangerously_unconfined: bool = False
    """Whether the platform starts the enclave without what keeps it to its trusted files."""
    processes: int = 1
    """Enclave processes at once: one serves new sessions, the others are spares that brokers provision too."""

    def slots(self) -> tuple[str, ...]:
        """Return the routes that lead to one process each: a broker's, and there where there are several alone."""
        return tuple(f"{self.route}.{slot}" for slot in range(1, self.processes + 1)) if self.processes > 1 else ()

    def command(self, host_fd: int, ready_fd: int) -> list[str]:
        """Return the argument list that starts the simulated platform."""
        module = [sys.executable, "-I", "-B", "-m", "attestation.sim", "run"]
        files = ["--home", str(self.platform_home), "--manifest", str(self.manifest)]
        options = ["--dangerously-unconfined"] if self.dangerously_unconfined else []
        return [*module, *files, "--host-fd", str(host_fd), "--ready-fd", str(ready_fd), *options]


@dataclass(frozen=True)
class HostConfig:
    """Everything that `host up` takes; paths are absolute, so that a detached agent means the same files."""

    home: Path
    models: Path
    listen: tuple[str, ...]
    deployments: tuple[Deployment, ...]
    ready_timeout: float = 60.0
    """Seconds for each start of an enclave."""
    drain_timeout: float = 30.0
    """Seconds that requests under way get when the agent goes down."""
    metrics: str = ""
    """Address of the page that Prometheus reads, on this machine alone; empty for none."""
    otlp: str = ""
    """URL of an OpenTelemetry collector's metrics; empty for none."""

    def addresses(self) -> list[Address]:
        """Return the parsed listening addresses; raises WireError `address-invalid`."""
        return [parse_address(text) for text in self.listen]

    def check(self) -> None:
        """Refuse what cannot work, before anything is started.

        Raises HostError `models-missing`, `enclave-manifest-missing` or `host-configuration-invalid`, and WireError.
        """
        if not self.listen or not self.deployments:
            raise HostError(HostCode.CONFIGURATION_INVALID, "an agent needs an address and a deployment at least")
        self.addresses()
        self._check_routes()
        if self.metrics:
            check_address(self.metrics)
        if self.otlp and not self.otlp.startswith(("http://", "https://")):
            raise HostError(
                HostCode.CONFIGURATION_INVALID,
                f"{self.otlp!r} is no collector's URL",
                expected="http://HOST:4318/v1/metrics",
            )
        if not self.models.is_dir():
            raise HostError(
                HostCode.MODELS_MISSING,
                f"there is no folder of sealed models at {self.models}",
                remedy="make it, and put the owner's .sealed files into it",
            )
        for deployment in self.deployments:
            if not deployment.manifest.is_file():
                raise HostError(
                    HostCode.ENCLAVE_MANIFEST_MISSING,
                    f"there is no enclave manifest at {deployment.manifest}",
                    remedy="render one: strongroom manifest render --output DIR",
                )

    def _check_routes(self) -> None:
        if not all(1 <= deployment.processes <= MAX_PROCESSES for deployment in self.deployments):
            raise HostError(
                HostCode.CONFIGURATION_INVALID,
                "a deployment cannot have so many processes",
                expected=f"1 to {MAX_PROCESSES}",
            )
        routes = [route for deployment in self.deployments for route in (deployment.route, *deployment.slots())]
        for route in routes:
            try:
                encode_frame(Frame(route, 0, b""))
                is_usable = not route.startswith("!") and routes.count(route) == 1
            except WireError:
                is_usable = False
            if not is_usable:
                raise HostError(
                    HostCode.CONFIGURATION_INVALID,
                    f"{route!r} cannot be a route",
                    expected="1 to 63 letters, digits, dots, dashes and underscores; each route once",
                )

    def to_json(self) -> str:
        """Return the form in which a detached agent receives it."""
        value = {
            "home": str(self.home),
            "models": str(self.models),
            "listen": list(self.listen),
            "deployments": [
                [one.route, str(one.manifest), str(one.platform_home), one.dangerously_unconfined, one.processes]
                for one in self.deployments
            ],
            "ready_timeout": self.ready_timeout,
            "drain_timeout": self.drain_timeout,
            "metrics": self.metrics,
            "otlp": self.otlp,
        }
        return json.dumps(value)

    @classmethod
    def from_json(cls, text: str) -> HostConfig:
        """Read what `to_json` wrote; raises HostError `host-configuration-invalid`."""
        names = ("home", "models", "listen", "deployments", "ready_timeout", "drain_timeout", "metrics", "otlp")
        try:
            value = fields.closed_map(json.loads(text), "configuration", names)
            return cls(
                _path(value["home"]),
                _path(value["models"]),
                tuple(fields.text(one, "listen", MAX_TEXT) for one in fields.list_of(value["listen"], "listen", 64)),
                tuple(_deployment(one) for one in fields.list_of(value["deployments"], "deployments", 64)),
                fields.of_type(value["ready_timeout"], "ready_timeout", float),
                fields.of_type(value["drain_timeout"], "drain_timeout", float),
                _optional(value["metrics"], "metrics"),
                _optional(value["otlp"], "otlp"),
            )
        except (ManifestError, ValueError, RecursionError) as error:
            raise HostError(HostCode.CONFIGURATION_INVALID, f"the configuration is malformed: {error}") from None


def _deployment(value: Any) -> Deployment:
    items = fields.list_of(value, "deployment", 5)
    if len(items) != 5:
        raise HostError(HostCode.CONFIGURATION_INVALID, "a deployment has five items")
    route, manifest, platform, unconfined, processes = items
    unconfined = fields.of_type(unconfined, "dangerously_unconfined", bool)
    return Deployment(
        fields.text(route, "route", 64),
        _path(manifest),
        _path(platform),
        unconfined,
        fields.number(processes, "processes", 1),
    )


def _optional(value: Any, name: str) -> str:
    return fields.text(value, name, MAX_TEXT) if value != "" else ""


def _path(value: Any) -> Path:
    return Path(fields.text(value, "path", MAX_TEXT))
