"""Which files the enclave process loads: everything is imported and run once, then no further code is let in.

The same warm-up runs when the manifest is rendered, where its files are recorded, and when the enclave starts.  So
what a manifest lists is what a process needs.  A file that it does not list cannot be opened, under Gramine and on a
simulated platform that confines its enclave; after the start, no import is let through anywhere.
"""

from __future__ import annotations

import importlib.machinery
import sys
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from enclave.log import Event, log
from manifests import steps
from manifests.model import ModelManifest
from manifests.tensors import TensorField
from manifests.values import Characters, Feature

TINY = b64decode(
    "CAg6kwEKIQoBeAoBdwoBYhIBeiIER2VtbSoNCgZ0cmFuc0IYAKABAgoPCgF6EgF5IgdTb2Z0bWF4EgFnKhsIAggCEAFCAXdKEAAAgD8AAAAA"
    "AAAAAAAAgD8qEQgCEAFCAWJKCAAAAAAAAAAAWhQKAXgSDwoNCAESCQoDEgFuCgIIAmIUCgF5Eg8KDQgBEgkKAxIBbgoCCAJCBAoAEBE="
)
"""An ONNX model (opset 17): y = softmax(x w + b), with w the 2 x 2 identity and b zero."""

_MEMORY = 1 << 20
"""Bytes that the warm-up's run may take."""

_opened: set[str] = set()


class _NoImports:
    """A finder that finds nothing and lets nobody else look."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Refuse; raises ImportError."""
        del path, target
        log(Event.IMPORT_REFUSED)
        raise ImportError(f"the enclave loads no code after its start: {name}")


def freeze_imports() -> None:
    """Refuse every import of a module that is not loaded yet, for good."""
    sys.meta_path.insert(0, _NoImports)


def watch_opens() -> None:
    """Begin to note which files Python opens; cannot be undone, so only a recording process calls it."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes):
        path = arguments[0]
        _opened.add(path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path)


def warm_up(components: Sequence[str] = ()) -> None:
    """Import all that the enclave uses, these components among it, and run a model with every kind of step once."""
    import numpy as np
    import onnxruntime as ort

    import enclave.attesters.simulator
    import enclave.server  # noqa: F401 - loaded so that nothing has to be later
    from enclave.components import load_components
    from enclave.memory import release_memory
    from enclave.models import check_parts, open_session
    from enclave.process import compile_post, compile_pre, run_steps
    from manifests.sealed.core import GRAPH_PART

    manifest = _warm_up_manifest()
    check_parts({GRAPH_PART: bytearray(TINY)}, manifest)
    session = open_session({GRAPH_PART: bytearray(TINY)}, 1, _MEMORY)
    inputs = run_steps(compile_pre(manifest), {"x": np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)})
    options = ort.RunOptions()
    release_memory(options)
    (y,) = session.run(None, inputs, options)
    run_steps(compile_post(manifest), {"y": y, "z": y, "u": y, "v": y, "c": np.array([0, 1])})
    _check_values()
    for component in load_components(components).values():
        component.rehearse()
    _rehearse_guard(y)
    _draw()
    _rehearse()


def _check_values() -> None:
    """Hold values against every kind of promise that an input can make."""
    import numpy as np

    from enclave.values import compile_values

    features = (Feature(0, minimum=0.0), Feature(1, values=(0.0, 1.0)))
    numbers = TensorField("n", "float32", (1, 2), 0.0, features=features)
    whole = TensorField("w", "float64", (2,), values=(0.0, 1.0), whole=True, allow_nan=True)
    text = TensorField("t", "string", (1,), max_text=1, values=("a",), characters=Characters.TEXT)
    for field, values in ((numbers, [[0.0, 1.0]]), (whole, [0.0, 1.0])):
        for check in compile_values(field):
            check(np.array(values, field.dtype))
    for check in compile_values(text):
        check(np.array(["a"], object))


def _rehearse_guard(scores: Any) -> None:
    """Show the abuse guard a request."""
    from enclave.abuse import Guard
    from manifests.abuse.policy import AbusePolicy
    from manifests.abuse.profile import Profile, blank

    manifest = replace(_warm_up_manifest(), post=(), abuse=AbusePolicy())
    profile = replace(blank(2, 2), input="x", output="y")
    guard = Guard.load(manifest, {"profile": Profile.encode(profile)}, memoryview(bytes(32)), bytes(64))
    if guard is not None:
        seen = guard.observe(b"", {"x": scores})
        guard.settle(seen, {"y": scores}, {"y": scores}, {"y": scores})


def _draw() -> None:
    """Draw a token in every way."""
    import numpy as np

    from enclave.sampling import Sampler

    Sampler(1.0, top_k=2, top_p=0.5).pick(np.array([0.0, 1.0], np.float32), 0)


def _rehearse() -> None:
    """Draw keys, sign, commit, and hold a session with ourselves: libraries load parts of themselves at first use."""
    from attestation.binding import InclusionProof
    from attestation.types import EvidenceRecord
    from attestation.wire.commitments import Direction, commit
    from attestation.wire.messages import MessageType, TensorSpec
    from attestation.wire.session import ClientSession, ServerSession
    from manifests.sealed.recipients import RecipientKey
    from manifests.signing import Signer, verify

    RecipientKey.generate().public  # noqa: B018 - deriving it is what loads the library's parts
    signer = Signer.generate()
    verify(signer.public, b"", b"", signer.sign(b"", b""))
    commit(Direction.INPUT, bytes(32), [(TensorSpec("x", "int8", (1,), 1), b"0")])
    client, server = ClientSession(), ServerSession(tickets=None)
    server.receive(client.start())
    client.receive(server.send_evidence(EvidenceRecord(b"", b"", InclusionProof(0, 1, ()), "none")))
    client.accept()
    server.receive(client.send(MessageType.REQUEST, b""))


def _warm_up_manifest() -> ModelManifest:
    """Return a manifest that asks for every kind of step."""
    inputs = (TensorField("x", "float32", (2, 2)),)
    outputs = tuple(TensorField(name, "float32", (2, 2)) for name in ("y", "z", "u", "v"))
    return ModelManifest(
        name="warm-up",
        version="1",
        epoch=0,
        owner=bytes(32),
        inputs=inputs,
        outputs=(*outputs, TensorField("c", "int64", (2,))),
        labels=("no", "yes"),
        pre=(steps.Scale("x", (0.0,), (1.0,)), steps.Cast("x", "float32")),
        post=(
            steps.Softmax("y", -1),
            steps.Sigmoid("y"),
            steps.Round("y", 3),
            steps.TopK("z", 1),
            steps.Label("c"),
            steps.ArgMax("y"),
            steps.Threshold("v", (0.5,)),
            steps.Select(("u",)),
            steps.LabelOnly("u"),
        ),
    )


def loaded_files() -> list[str]:
    """Return the absolute paths of all files that this process has loaded, in ascending order."""
    paths = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    found = {Path(path) for path in paths | _opened | _mapped() if path} | _interpreter()
    return sorted(str(path) for path in found if _is_plain(path))


def _mapped() -> set[str]:
    """Return the files that are mapped into this process: interpreter, libraries, locale data (proc(5))."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return {fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6}


def _interpreter() -> set[Path]:
    """Return the interpreter under the name it was started by, the file itself, and the venv's configuration."""
    started = Path(sys.executable)
    return {started, started.resolve(), started.parent.parent / "pyvenv.cfg"}


def _is_plain(path: Path) -> bool:
    pseudo = ("/proc/", "/sys/", "/dev/")
    return path.is_absolute() and not str(path).startswith(pseudo) and path.is_file()
