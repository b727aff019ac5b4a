"""What owner, broker and operator do before anything runs: keys, sealing, measuring, policies."""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from evaluation.demo.layout import Layout
from evaluation.demo.processes import Commands, Shown

MAX_BATCH = 256

Tables = Mapping[str, Mapping[str, Any]]
"""Tables of a policy file by name, each with the entries to set."""


@dataclass(frozen=True)
class ModelToSeal:
    """An ONNX model for the owner to seal.

    review: entries that the owner sets in the drafted model manifest, such as labels or post-processing.  parts:
    further parts to seal, by name, such as a detector profile.
    """

    name: str
    onnx: bytes
    epoch: int = 1
    review: Mapping[str, Any] | None = None
    parts: Mapping[str, bytes] | None = None


class Preparation:
    """The steps before the start, each of them a few `strongroom` commands."""

    def __init__(
        self,
        layout: Layout,
        models: Sequence[ModelToSeal],
        *,
        client: Tables,
        release: Tables,
        python: Path | None,
        shown: Shown,
    ) -> None:
        """Plan the steps; `client` and `release` change the policies."""
        self.layout = layout
        self.models = tuple(models)
        self.done = False
        self._client = client
        self._release = release
        self._python = python
        self._shown = shown

    @property
    def commands(self) -> Commands:
        """Runs `strongroom` commands with this deployment's passphrase."""
        return Commands(self.layout.passphrase, self._shown)

    def all(self) -> None:
        """Make keys, seal the models, render the enclave, and write policies; once."""
        if self.done:
            return
        self.make_owner()
        self.make_broker()
        self.seal_models()
        self.render_enclave()
        self.write_policies()
        self.arm_broker()
        self.done = True

    def make_owner(self) -> None:
        """Make the owner's key, and the passphrase of all key files."""
        layout = self.layout
        layout.models.mkdir(parents=True, exist_ok=True)
        if not layout.passphrase.exists():
            layout.passphrase.touch(mode=0o600)
            layout.passphrase.write_text(secrets.token_urlsafe(24))
        self.commands.run("owner", "init", "--key", layout.owner_key)

    def make_broker(self) -> None:
        """Make the broker's keys, and have the owner delegate to it."""
        layout = self.layout
        self.commands.run("broker", "init", "--home", layout.broker)
        rights = [word for right in ("provision", "heartbeat", "revoke") for word in ("--right", right)]
        self.commands.run(
            *("broker", "delegate", "--owner-key", layout.owner_key, "--broker", layout.broker / "broker.pub"),
            *("--model", "*", *rights),
            *("-o", layout.delegation),
        )

    def seal_models(self) -> None:
        """Have the owner draft, review and seal each model."""
        for model in self.models:
            self.seal(model)

    def seal(self, model: ModelToSeal, name: str | None = None) -> Path:
        """Seal one model into the host's folder, under a file name of its own if given; returns the file."""
        layout = self.layout
        graph, manifest = layout.home / f"{model.name}.onnx", layout.home / f"{model.name}.toml"
        graph.write_bytes(model.onnx)
        manifest.unlink(missing_ok=True)
        self.commands.run("model", "draft", graph, "--name", model.name, "-o", manifest)
        _review(manifest, model)
        sealed, parts = layout.sealed(name or model.name), self._parts(model)
        self.commands.run(
            *("seal", graph, "--manifest", manifest, "--owner-key", layout.owner_key),
            *("--recipient", layout.broker / "broker.pub", "-o", sealed),
            *(word for part in parts for word in ("--part", part)),
        )
        graph.unlink()  # from here on the model exists in sealed form alone
        return sealed

    def _parts(self, model: ModelToSeal) -> list[str]:
        """Write the model's further parts, and return them as the command wants them: NAME=FILE."""
        words = []
        for name, content in (model.parts or {}).items():
            path = self.layout.home / f"{model.name}.{name}"
            path.write_bytes(content)
            words.append(f"{name}={path}")
        return words

    def render_enclave(self) -> str:
        """Render the enclave's manifest for this owner and return the measurement in hex."""
        return self.render(self.layout.enclave, self._python)

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
        common: dict[str, dict[str, Any]] = {
            "evidence": {
                "simulation": True,
                "simulated_root": str(layout.platform / "root.pem"),
                "tcb_status": ["UpToDate"],
            },
            "sgx": {"mrenclave": [measured]},
        }
        service: dict[str, dict[str, Any]] = {"service": {"owners": [owner], "min_epoch": 1}}
        release: dict[str, dict[str, Any]] = {
            "release": {"models": ["*"], "lease": 100_000, "heartbeat_seconds": 5, "max_enclaves": 16}
        }
        _write_policy(layout.client_policy, {**common, **service}, self._client)
        _write_policy(layout.release_policy, {**common, **release}, self._release)

    def arm_broker(self) -> None:
        """Give the broker its policy and the models' keys."""
        layout = self.layout
        self.commands.run("broker", "policy", "set", "--home", layout.broker, layout.release_policy)
        for model in self.models:
            self.add_to_broker(layout.sealed(model.name))

    def add_to_broker(self, sealed: Path) -> None:
        """Give the broker the key of a sealed model."""
        self.commands.run("broker", "add", "--home", self.layout.broker, sealed, "--delegation", self.layout.delegation)


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
