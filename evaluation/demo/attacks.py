"""Five attacks that the owner of the machine can mount, each against the running deployment, and how they end.

The first two leave the deployment as it is; each of the others restarts it with something replaced.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attestation.client import RemoteError
from attestation.errors import WireCode
from evaluation.demo.deployment import Deployment
from evaluation.demo.errors import DemoError
from evaluation.demo.installation import Installation
from evaluation.demo.models import DemoModel
from evaluation.demo.processes import wait_until
from evaluation.demo.report import Refusal
from evaluation.demo.screen import Narrator
from evaluation.demo.tap import Direction, Seen, Tap
from manifests.errors import Fault, StrongroomError

PATCHED_FILE = "enclave/process.py"
LOG_SECONDS = 5.0
RECORD_REFUSED = str(WireCode.RECORD_REFUSED)
PATCH = "\n# From here on the inputs would also go to the operator.\n"


@dataclass(frozen=True)
class Scene:
    """What an attack works with."""

    deployment: Deployment
    installation: Installation
    model: DemoModel
    narrator: Narrator

    @property
    def folder(self) -> Path:
        """The attacker's own folder."""
        return self.deployment.layout.home / "attacker"

    def ask(self, address: str | None = None, **terms: Any) -> None:
        """Do what a client does: attest, then ask about one case."""
        with self.deployment.session(address, **terms) as session:
            session.infer(self.model.name, self.one_case())

    def one_case(self) -> dict[str, Any]:
        """Return the input of one case."""
        return {name: value[:1] for name, value in self.model.inputs.items()}

    def restart(self, **replaced: Path) -> None:
        """Start the host again with something replaced; the broker does not know."""
        self.deployment.stop()
        self.deployment.start_host(**replaced)

    def provision_once(self) -> list[dict[str, Any]]:
        """Have the broker try to provision the enclave, which must not succeed; return what it told of it."""
        layout = self.deployment.layout
        printed = self.deployment.commands.run(
            *("broker", "serve", "--once", "--json", "--home", layout.broker, "--host", self.deployment.address),
            *("--collateral", self.deployment.collateral_dir),
            expect=(Fault.REFUSED, Fault.MALFORMED),
        )
        return [json.loads(line) for line in printed.splitlines() if line.startswith('{"')]

    def refused_by_broker(self) -> str:
        """Have the broker try to provision the enclave, and return the failed checks that its audit log names."""
        self.provision_once()
        row = self.deployment.commands.json(
            *("broker", "audit", "show", "--home", self.deployment.layout.broker, "--kind", "refusal", "--last", "1")
        )[0]
        return ",".join(code for code, _, _ in row["event"]["unmet"])


def code_of(action: Callable[[], object]) -> str | None:
    """Return the stable code with which an action is refused, or None if it is not."""
    try:
        action()
    except RemoteError as error:
        return error.remote_code
    except StrongroomError as error:
        return str(error.code)
    return None


def replayed_record(scene: Scene) -> list[Refusal]:
    """Repeat a record, once towards the client and once towards the enclave."""
    return [
        Refusal("replayed record", "client", (RECORD_REFUSED,), _replay(scene, Direction.TO_CLIENT)),
        Refusal("replayed record", "enclave", (RECORD_REFUSED,), _replay(scene, Direction.TO_ENCLAVE)),
    ]


def _replay(scene: Scene, way: Direction) -> str | None:
    """Repeat one record of a session and return the code with which its receiver ended the session."""
    repeat = _Repeat(way)
    before = len(scene.deployment.sessions_ended())
    path = scene.folder / f"replay-{way.name.lower()}.sock"
    with Tap(path, scene.deployment.address, alter=repeat) as tap, scene.deployment.session(tap.address) as session:
        repeat.armed = True
        found = code_of(lambda: [session.infer(scene.model.name, scene.one_case()) for _ in range(2)])
    if way is Direction.TO_CLIENT or found is None:
        return found
    ended = scene.deployment.sessions_ended
    wait_until(lambda: RECORD_REFUSED in ended()[before:], LOG_SECONDS, "the enclave to refuse the record")
    return RECORD_REFUSED


def stale_collateral(scene: Scene) -> list[Refusal]:
    """Withhold newer collateral: give the client what has passed its date."""
    platform = _copy_platform(scene, "stale")
    documents = ("--expired", "tcb-info", "--expired", "qe-identity")
    scene.deployment.commands.run("sim", "reissue", "--home", platform, *documents)
    found = code_of(lambda: scene.ask(collateral=platform / "collateral"))
    return [Refusal("stale collateral", "client", ("tcb-info-expired", "qe-identity-expired"), found)]


def tampered_model(scene: Scene) -> list[Refusal]:
    """Change one bit in the middle of a sealed model and have the enclave load it."""
    models = scene.folder / "models"
    shutil.copytree(scene.deployment.layout.models, models)
    sealed = models / f"{scene.model.name}.sealed"
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 1
    sealed.write_bytes(data)
    inspected = scene.deployment.commands.json("inspect", sealed, expect=(10,))["error"]["code"]
    scene.restart(models=models)
    loaded = next((event["code"] for event in scene.provision_once() if event["event"] == "failed"), None)
    return [
        Refusal("tampered model", "anyone with `strongroom inspect`", ("sealed-chunk",), inspected),
        Refusal("tampered model", "enclave", ("sealed-chunk",), loaded),
    ]


def patched_enclave(scene: Scene) -> list[Refusal]:
    """Change a file of the enclave: first behind the manifest's back, then with the manifest rendered anew."""
    scene.deployment.stop()
    with scene.installation.patched(PATCHED_FILE, PATCH):
        launched = _failure_of_start(scene)
        patched = scene.folder / "enclave"
        measured = scene.deployment.preparation.render(patched, scene.installation.python)
        scene.narrator.fact(f"the patched enclave measures {measured[:16]}…, the policies name another")
        scene.restart(manifest=patched / "enclave.manifest")
        return [
            Refusal("patched enclave", "launcher", ("trusted-file-changed",), launched),
            Refusal("patched enclave", "client", ("sgx-mrenclave",), _failed_check(scene)),
            Refusal("patched enclave", "broker", ("sgx-mrenclave",), scene.refused_by_broker()),
        ]


def debug_quote(scene: Scene) -> list[Refusal]:
    """Start the genuine enclave in debug mode, where the operator could read its memory."""
    platform = _copy_platform(scene, "debug")
    scene.deployment.commands.run("sim", "reissue", "--home", platform, "--debug")
    scene.restart(platform=platform)
    return [
        Refusal("debug quote", "client", ("sgx-debug",), _failed_check(scene)),
        Refusal("debug quote", "broker", ("sgx-debug",), scene.refused_by_broker()),
    ]


ATTACKS: dict[str, tuple[str, Callable[[Scene], list[Refusal]]]] = {
    "replayed record": ("The host repeats a record that it has seen.", replayed_record),
    "stale collateral": ("The host withholds newer collateral from the client.", stale_collateral),
    "tampered model": ("The host changes one bit of a sealed model.", tampered_model),
    "patched enclave": ("The operator patches a file of the enclave.", patched_enclave),
    "debug quote": ("The operator starts the enclave in debug mode.", debug_quote),
}
"""Each attack by name, with the line that explains it."""


class _Repeat:
    """Sends the first frame of one direction twice, once it is armed."""

    def __init__(self, way: Direction) -> None:
        self.armed = False
        self._way = way

    def __call__(self, seen: Seen) -> list[Any]:
        if not self.armed or seen.direction is not self._way or not seen.frame.body:
            return [seen.frame]
        self.armed = False
        return [seen.frame, seen.frame]


def _copy_platform(scene: Scene, name: str) -> Path:
    """Return a copy of the platform, which keeps its root and may be put into any state."""
    return Path(shutil.copytree(scene.deployment.layout.platform, scene.folder / name))


def _failed_check(scene: Scene) -> str | None:
    """Return the checks that made the client refuse the enclave."""
    try:
        scene.ask()
    except StrongroomError as error:
        return ",".join(str(finding.code) for finding in getattr(error, "failed", ())) or str(error.code)
    return None


def _failure_of_start(scene: Scene) -> str | None:
    """Return the code with which the launcher refuses to start the enclave."""
    try:
        scene.deployment.start_host()
    except DemoError as error:
        return next((code for code in ("trusted-file-changed",) if code in str(error.found)), str(error.code))
    return None
