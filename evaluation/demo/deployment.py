"""A whole deployment on one machine: owner, broker, simulated platform, enclave, host, each as real processes.

    with Deployment(home, models=[ModelToSeal("tumour", onnx_bytes)]) as deployment:
        with deployment.session() as session:
            session.infer("tumour", {"X": rows})

Everything is done by the `strongroom` command, as an owner and an operator would.  Tests use it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attestation.client import EpochMemory, Session, Timeouts
from attestation.sim import landlock
from evaluation.demo.errors import DemoCode, DemoError
from evaluation.demo.layout import Layout
from evaluation.demo.preparation import ModelToSeal, Preparation, Tables
from evaluation.demo.processes import Commands, Part, Shown, unseen, wait_until
from host.admin import ask
from host.errors import HostError
from host.home import Home
from manifests.errors import StrongroomError

READY_SECONDS = 60.0
"""Starting the enclave's interpreter and loading a model takes two seconds on an idle machine."""


_ENDED = re.compile(r'"event": "session-ended"[^}\n]*"code": "([a-z-]+)"')
"""The enclave's log line within the host's."""


class Deployment:
    """Starts, watches and ends all parts; a context manager that starts on entry and stops on exit."""

    def __init__(
        self,
        home: Path,
        models: Sequence[ModelToSeal],
        *,
        listen: str | None = None,
        client: Tables | None = None,
        release: Tables | None = None,
        python: Path | None = None,
        shown: Shown = unseen,
        limits: Mapping[str, int] | None = None,
        processes: int = 1,
        components: Sequence[str] = (),
    ) -> None:
        """Plan a deployment below `home`, which is made if needed; keep its path short, for sockets lie in it.

        listen: address of the host, by default a Unix socket.  client, release: entries that change the policies.
        python: interpreter that runs the enclave, by default this one.  shown: is told every command before it runs.
        limits: of the enclave's settings.  components: optional libraries that the enclave has.  processes: of the
        enclave, one that serves and spares.
        """
        self.layout = Layout(Path(home))
        self.address = listen or f"unix:{self.layout.home / 'host.sock'}"
        self.preparation = Preparation(
            self.layout,
            models,
            client=client or {},
            release=release or {},
            python=python,
            shown=shown,
            limits=limits,
            components=components,
        )
        self.processes = processes
        self._parts: dict[str, Part] = {}

    # ------------------------------------------------------------------------------------- where things are

    @property
    def policy_path(self) -> Path:
        """The clients' policy file."""
        return self.layout.client_policy

    @property
    def collateral_dir(self) -> Path:
        """The folder of the platform's collateral."""
        return self.layout.platform / "collateral"

    @property
    def host_pid(self) -> int:
        """Process id of the host agent."""
        return self._part("host").pid

    @property
    def broker_pid(self) -> int:
        """Process id of the broker."""
        return self._part("broker").pid

    @property
    def enclave_pid(self) -> int:
        """Process id of the enclave, as the host reports it."""
        return int(self._enclave()["enclave_pid"])

    @property
    def platform_pid(self) -> int:
        """Process id of the simulated platform."""
        return int(self._enclave()["pid"])

    @property
    def confined(self) -> bool:
        """Whether the platform says that it keeps the enclave to its trusted files."""
        layers = self._enclave()["confinement"]
        return bool(layers) and all(layers.values())

    @property
    def commands(self) -> Commands:
        """Runs further `strongroom` commands with this deployment's passphrase."""
        return self.preparation.commands

    # ---------------------------------------------------------------------------------------- running parts

    def start(self) -> None:
        """Prepare what is missing, start host and broker, and wait until every model answers."""
        if not self.preparation.done:
            self.preparation.all()
        self.start_host()
        self.start_broker()
        self.wait_until_serving()

    def start_host(
        self, *, manifest: Path | None = None, models: Path | None = None, platform: Path | None = None
    ) -> None:
        """Start the host agent with the enclave and wait until the enclave is ready.

        Another manifest, folder of models or platform may be given, as an attacker would.
        """
        layout = self.layout
        self._parts["host"] = self.commands.start(
            "host",
            layout.log("host"),
            *("host", "up", "--home", layout.host, "--listen", self.address),
            *("--manifest", manifest or layout.manifest, "--models", models or layout.models),
            *("--platform-home", platform or layout.platform, "--processes", str(self.processes)),
            *(() if landlock.version() else ("--dangerously-unconfined",)),
        )
        wait_until(self.enclave_is_ready, READY_SECONDS, "starting the enclave", [self._parts["host"]])

    def start_broker(self, address: str | None = None) -> None:
        """Start the broker, which dials the host, or another address, and releases keys to the enclave."""
        layout = self.layout
        layout.log("broker").unlink(missing_ok=True)
        self._parts["broker"] = self.commands.start(
            *("broker", layout.log("broker")),
            *(
                "broker",
                "serve",
                "--home",
                layout.broker,
                "--host",
                address or self.address,
                "--collateral",
                self.collateral_dir,
            ),
            *("--processes", str(self.processes), "--json"),
        )

    def wait_until_serving(self, names: Sequence[str] | None = None) -> None:
        """Wait until every process of the enclave serves the models of these names, by default all."""
        wanted = {model.name for model in self.preparation.models} if names is None else set(names)
        routes = [f"default.{slot}" for slot in range(1, self.processes + 1)] if self.processes > 1 else ["default"]
        wait_until(
            lambda: all(wanted <= self._served(route) for route in routes),
            READY_SECONDS,
            "provisioning",
            list(self._parts.values()),
        )

    def session(self, address: str | None = None, **terms: Any) -> Session:
        """Connect as a client does; `terms` change the arguments of Session.connect."""
        defaults = {
            "policy": self.policy_path,
            "collateral": self.collateral_dir,
            "memory": EpochMemory(),
            "timeouts": Timeouts(connect=5, handshake=15, request=30),
        }
        return Session.connect(address or self.address, **{**defaults, **terms})

    def broker_events(self) -> list[dict[str, Any]]:
        """Return what the broker has told of itself since it was last started, oldest first."""
        lines = self.layout.log("broker").read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def sessions_ended(self) -> list[str]:
        """Return the codes with which the enclave has ended sessions since the host first started, oldest first."""
        return _ENDED.findall(self.layout.log("host").read_text(errors="replace"))

    def is_running(self, part: str) -> bool:
        """Tell whether "host" or "broker" runs."""
        return part in self._parts and self._parts[part].running

    def kill(self, part: str) -> None:
        """End a part at once, as a crash would: "host", "broker", "enclave" or "platform"."""
        if part in {"host", "broker"}:
            self._part(part).kill()
        else:
            os.kill(self.enclave_pid if part == "enclave" else self.platform_pid, signal.SIGKILL)

    def stop_part(self, part: str) -> None:
        """Ask "host" or "broker" to end, and wait until it has."""
        if part in self._parts:
            self._parts.pop(part).stop()

    def stop(self) -> None:
        """End everything that runs; safe to call twice."""
        for part in ("broker", "host"):
            self.stop_part(part)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def status(self) -> dict[str, Any]:
        """Return what `strongroom host status --json` prints; raises HostError where no agent answers."""
        return dict(ask(Home(self.layout.host).admin_socket, "status"))

    def _part(self, name: str) -> Part:
        if name not in self._parts:
            raise DemoError(DemoCode.PART_FAILED, f"the {name} was not started")
        return self._parts[name]

    def enclave_is_ready(self) -> bool:
        """Tell whether the host has an enclave that is ready."""
        with contextlib.suppress(HostError):
            return bool(self._enclave()["state"] == "ready")
        return False

    def _enclave(self) -> dict[str, Any]:
        """Return what the host says of the process that serves, or without one of the first."""
        processes = self.status()["deployments"]
        return dict(next((one for one in processes if one["serving"]), processes[0]))

    def _served(self, route: str) -> set[str]:
        with contextlib.suppress(StrongroomError), self.session(route=route) as session:
            return {model.name for model in session.models()}
        return set()


@contextlib.contextmanager
def temporary_home(keep: Path | None = None) -> Iterator[Path]:
    """Give a folder with a short path that vanishes afterwards, or `keep`, which stays."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise DemoError(DemoCode.FOLDER_IN_USE, f"{keep} is not empty", remedy="name another folder, or empty it")
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder:
        yield Path(folder)
