"""Make the golden sealed models anew: `python tests/vectors/sealed/generate.py`, from the root of the checkout.

Keys, salts and plaintexts are fixed, so that everything but the sealed keys (whose encapsulation is random) comes
out the same.  A file that is there already keeps its recorded sealed keys; it is only written if something else
changed, which for a released version of the format is an error that a test reports.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from manifests.sealed.writer import MemoryPart, write_sealed  # noqa: E402 - after the path
from tests.manifests.small import (  # noqa: E402 - after the path
    OTHER_RECIPIENT,
    OWNER,
    RECIPIENT,
    Pieces,
    flip,
    manifest,
    randomness,
)

CASES: dict[str, dict[str, Any]] = {
    "one-chunk": {"about": "one chunk a part", "graph": b"a graph", "more": {}},
    "several-chunks": {"about": "parts of several chunks, the last ones short", "graph": bytes(700), "more": {}},
    "whole-chunks": {"about": "a graph of exactly two chunks", "graph": b"g" * 512, "more": {}},
    "empty-parts": {"about": "an empty graph and an empty table", "graph": b"", "more": {"table": b""}},
    "many-parts": {
        "about": "external data in a folder, a table; seven leaves; two recipients",
        "graph": b"graph",
        "more": {"weights/layer.bin": bytes(range(256)) * 2 + b"!", "table": b"t"},
        "recipients": [RECIPIENT, OTHER_RECIPIENT],
    },
}

CHANGES: dict[str, tuple[str, str, Any]] = {
    "flipped-chunk": ("a bit of a chunk", "sealed-chunk", lambda p: p.chunks.__setitem__(0, flip(p.chunks[0], 5))),
    "swapped-chunks": (
        "two chunks swapped",
        "sealed-chunk",
        lambda p: p.chunks.__setitem__(slice(2, 4), p.chunks[3:1:-1]),
    ),
    "flipped-hash": ("a bit of a chunk hash", "sealed-signature", lambda p: setattr(p, "tail", flip(p.tail, 9))),
    "flipped-commitment": ("another commitment", "sealed-signature", lambda p: p.change_core(commitment=bytes(32))),
    "later-version": ("the suite of a later version", "sealed-version", lambda p: p.change_core(suite="later")),
    "damaged-recipients": (
        "a bit of the recipients",
        "sealed-malformed",
        lambda p: setattr(p, "recipients", flip(p.recipients, 400)),
    ),
    "trailing-byte": (
        "a byte after the end",
        "sealed-malformed",
        lambda p: setattr(p, "recipients", p.recipients + b"\0"),
    ),
    "cut": ("the last byte is missing", "sealed-truncated", lambda p: setattr(p, "recipients", p.recipients[:-1])),
}


def build(seed: int, case: dict[str, Any]) -> dict[str, Any]:
    """Seal one case and describe it."""
    recipients = case.get("recipients", [RECIPIENT])
    parts = {"manifest": manifest().encode(), "model.onnx": case["graph"], **case["more"]}
    with tempfile.TemporaryDirectory() as folder:
        info = write_sealed(
            Path(folder) / "s",
            [MemoryPart(name, content) for name, content in parts.items()],
            name="small",
            epoch=3,
            owner_key=OWNER,
            recipients=[recipient.public for recipient in recipients],
            chunk_size=256,
            dangerous_random=randomness(seed),
        )
        file = (Path(folder) / "s").read_bytes()
    return {
        "about": case["about"],
        "expect": "opens",
        "owner_seed": OWNER.seed().hex(),
        "owner": OWNER.public.hex(),
        "recipient_seeds": [recipient.to_bytes().hex() for recipient in recipients],
        "dek": randomness(seed)(32).hex(),
        "digest": info.digest.hex(),
        "parts": {name: base64.b64encode(content).decode() for name, content in parts.items()},
        "file": base64.b64encode(file).decode(),
    }


def before_recipients(vector: dict[str, Any]) -> bytes:
    """Return the reproducible bytes of a genuine vector's file."""
    pieces = Pieces.of(base64.b64decode(vector["file"]))
    pieces.recipients = b""
    return pieces.join()


def genuine() -> dict[str, dict[str, Any]]:
    """Build every genuine vector, with the recorded sealed keys where there are any."""
    vectors = {}
    for seed, (name, case) in enumerate(CASES.items()):
        vectors[name] = built = build(seed, case)
        recorded = HERE / f"{name}.json"
        if recorded.exists():
            old = json.loads(recorded.read_text(encoding="ascii"))
            if before_recipients(old) == before_recipients(built):
                built["file"] = old["file"]
    return vectors


def refused(vector: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Derive from a genuine vector those that a reader refuses."""
    vectors = {}
    for name, (about, code, change) in CHANGES.items():
        pieces = Pieces.of(base64.b64decode(vector["file"]))
        change(pieces)
        file = base64.b64encode(pieces.join()).decode()
        vectors[name] = {**vector, "about": about, "expect": code, "file": file}
    return vectors


def everything() -> dict[str, dict[str, Any]]:
    """Return all vectors by name."""
    vectors = genuine()
    return vectors | refused(vectors["several-chunks"])


def main() -> None:
    """Write the files."""
    for name, vector in everything().items():
        (HERE / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
