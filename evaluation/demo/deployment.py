"""A whole deployment on one machine: owner, broker, simulated platform, enclave, host, each as real processes.

    with Deployment(home, models=[ModelToSeal("tumour", onnx_bytes)]) as deployment:
        with deployment.session() as session:
            session.infer("tumour", {"X": rows})

Everything is done by the `strongroom` command, as an owner and an operator would.  Tests use it too.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w

from attestation.client import EpochMemory, Session, Timeouts
from evaluation.demo.errors import DemoCode, DemoError
from evaluation.demo.layout import Layout
from evaluation.demo.processes import Commands, Part, wait_until
from manifests.errors import StrongroomError

READY_SECONDS = 60.0
"""Starting the enclave's interpreter and loading a model takes two seconds on an idle machine."""
MAX_BATCH = 256

Tables = Mapping[str, Mapping[str, Any]]
"""Tables of a policy file by name, each with the entries to set."""


@dataclass(frozen=True)
class ModelToSeal:
    """An ONNX model for the owner to seal.

    review: entries that the owner sets in the drafted model manifest, such as labels or post-processing.
    """

    name: str
    onnx: bytes
    epoch: int = 1
    review: Mapping[str, Any] | None = None


class Deployment:
    """Prepares, starts, watches and ends all parts; a context manager that starts on entry and stops on exit."""

    def __init__(
        self,
        home: Path,
        models: Sequence[ModelToSeal],
        *,
        listen: str | None = None,
        client: Tables | None = None,
        release: Tables | None = None,
        shown: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Plan a deployment below `home`, which is made if needed; keep its path short, for sockets lie in it.

        listen: address of the host, by default a Unix socket.  client, release: entries that change the policies.
        shown: is told every command before it runs.
        """
        self.layout = Layout(Path(home))
        self.address = listen or f"unix:{self.layout.home / 'host.sock'}"
        self.client_changes = client or {}
        self.release_changes = release or {}
        self._models = tuple(models)
        self._shown = shown
        self._parts: dict[str, Part] = {}
        self._prepared = False

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
    def commands(self) -> Commands:
        """Runs further `strongroom` commands with this deployment's passphrase."""
        return Commands(self.layout.passphrase, self._shown)

    # ------------------------------------------------------------------------------------------- before start

    def prepare(self) -> None:
        """Make keys, seal the models, render the enclave, and write policies; once."""
        if self._prepared:
            return
        self.make_owner()
        self.make_broker()
        self.seal_models()
        self.render_enclave()
        self.write_policies()
        self.arm_broker()
        self._prepared = True

    def make_owner(self) -> None:
        """The owner makes a key."""
        layout = self.layout
        layout.models.mkdir(parents=True, exist_ok=True)
        if not layout.passphrase.exists():
            layout.passphrase.touch(mode=0o600)
            layout.passphrase.write_text(secrets.token_urlsafe(24))
        self.commands.run("owner", "init", "--key", layout.owner_key)

    def make_broker(self) -> None:
        """The broker makes its keys, and the owner delegates to it."""
        layout = self.layout
        self.commands.run("broker", "init", "--home", layout.broker)
        rights = [word for right in ("provision", "heartbeat", "revoke") for word in ("--right", right)]
        self.commands.run(
            *("broker", "delegate", "--owner-key", layout.owner_key, "--broker", layout.broker / "broker.pub"),
            *("--model", "*", *rights, "-o", layout.delegation),
        )

    def seal_models(self) -> None:
        """The owner drafts, reviews and seals each model."""
        for model in self._models:
            self.seal(model)

    def seal(self, model: ModelToSeal, name: str | None = None) -> Path:
        """Seal one model into the host's folder, under a file name of its own if given; returns the file."""
        layout = self.layout
        graph, manifest = layout.home / f"{model.name}.onnx", layout.home / f"{model.name}.toml"
        graph.write_bytes(model.onnx)
        manifest.unlink(missing_ok=True)
        self.commands.run("model", "draft", graph, "--name", model.name, "-o", manifest)
        _review(manifest, model)
        sealed = layout.sealed(name or model.name)
        self.commands.run(
            *("seal", graph, "--manifest", manifest, "--owner-key", layout.owner_key),
            *("--recipient", layout.broker / "broker.pub", "-o", sealed),
        )
        graph.unlink()  # from here on the model exists in sealed form alone
        return sealed

    def render_enclave(self) -> str:
        """Render the enclave's manifest for this owner and return the measurement in hex."""
        return self.render(self.layout.enclave)

    def render(self, folder: Path, python: Path | None = None) -> str:
        """Render a manifest into a folder, for another interpreter if given; returns the measurement in hex."""
        with_python = ("--python", python) if python else ()
        words = ("manifest", "render", "--output", folder, "--owner", self.layout.owner_card, *with_python)
        return str(self.commands.json(*words)["mrenclave"])

    def write_policies(self) -> None:
        """Make the platform and write both policies, which name it and the enclave's measurement."""
        layout = self.layout
        self.commands.run("sim", "init", "--home", layout.platform)
        measured = self.commands.json("manifest", "measure", layout.manifest)["mrenclave"]
        owner = self.commands.json("owner", "show", layout.owner_card)["strongroom-owner"]
        common = {
            "evidence": {
                "simulation": True,
                "simulated_root": str(layout.platform / "root.pem"),
                "tcb_status": ["UpToDate"],
            },
            "sgx": {"mrenclave": [measured]},
        }
        service = {"service": {"owners": [owner], "min_epoch": 1}}
        release = {"release": {"models": ["*"], "lease": 100_000, "heartbeat_seconds": 5, "max_enclaves": 16}}
        _write_policy(layout.client_policy, {**common, **service}, self.client_changes)
        _write_policy(layout.release_policy, {**common, **release}, self.release_changes)

    def arm_broker(self) -> None:
        """The broker takes in the policy and the models' keys."""
        layout = self.layout
        self.commands.run("broker", "policy", "--home", layout.broker, layout.release_policy)
        for model in self._models:
            self.add_to_broker(layout.sealed(model.name))

    def add_to_broker(self, sealed: Path) -> None:
        """The broker takes in the key of a sealed model."""
        self.commands.run("broker", "add", "--home", self.layout.broker, sealed, "--delegation", self.layout.delegation)

    # ---------------------------------------------------------------------------------------- running parts

    def start(self) -> None:
        """Prepare what is missing, start host and broker, and wait until every model answers."""
        self.prepare()
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
            *("--platform-home", platform or layout.platform),
        )
        wait_until(self._is_up, READY_SECONDS, "starting the enclave", [self._parts["host"]])

    def start_broker(self) -> None:
        """Start the broker, which dials the host and releases keys to the enclave."""
        layout = self.layout
        self._parts["broker"] = self.commands.start(
            *("broker", layout.log("broker")),
            *("broker", "serve", "--home", layout.broker, "--host", self.address, "--collateral", self.collateral_dir),
        )

    def wait_until_serving(self, names: Sequence[str] | None = None) -> None:
        """Wait until the enclave serves the models of these names, by default all."""
        wanted = {model.name for model in self._models} if names is None else set(names)
        wait_until(lambda: wanted <= self._served(), READY_SECONDS, "provisioning", list(self._parts.values()))

    def session(self, address: str | None = None, **terms: Any) -> Session:
        """Connect as a client does; `terms` change the arguments of Session.connect."""
        defaults = {
            "policy": self.policy_path,
            "collateral": self.collateral_dir,
            "memory": EpochMemory(),
            "timeouts": Timeouts(connect=5, handshake=15, request=30),
        }
        return Session.connect(address or self.address, **{**defaults, **terms})

    def log_of(self, part: str) -> str:
        """Return the end of a part's log."""
        return self._part(part).log_tail()

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
        """Return what `strongroom host status --json` prints."""
        silent = Commands(self.layout.passphrase, lambda _: None)
        return dict(silent.json("host", "status", "--home", self.layout.host))

    def _part(self, name: str) -> Part:
        if name not in self._parts:
            raise DemoError(DemoCode.PART_FAILED, f"the {name} was not started")
        return self._parts[name]

    def _is_up(self) -> bool:
        with contextlib.suppress(DemoError):
            return bool(self._enclave()["state"] == "ready")
        return False

    def _enclave(self) -> dict[str, Any]:
        return dict(self.status()["enclaves"][0])

    def _served(self) -> set[str]:
        with contextlib.suppress(StrongroomError), self.session() as session:
            return {model.name for model in session.models()}
        return set()


def _review(manifest: Path, model: ModelToSeal) -> None:
    """Do what a draft asks its owner to do: bound the batch, and set what the owner knows."""
    table = tomllib.loads(manifest.read_text())
    table["epoch"] = model.epoch
    for axis in table.get("axes", {}).values():
        axis["maximum"] = MAX_BATCH
    table.pop("limits", None)
    table.update(model.review or {})
    manifest.write_text(tomli_w.dumps(table))


def _write_policy(path: Path, tables: dict[str, dict[str, Any]], changes: Tables) -> None:
    for name, entries in changes.items():
        tables[name] = {**tables.get(name, {}), **entries}
    path.write_text(tomli_w.dumps({"version": 1, **tables}))


@contextlib.contextmanager
def temporary_home(keep: Path | None = None) -> Iterator[Path]:
    """Give a folder with a short path that vanishes afterwards, or `keep`, which stays."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder:
        yield Path(folder)
