"""Write the conformance corpus: `python -m tests.vectors.attestation.generate`.

Everything follows from fixed seeds and keys, so that the bytes are the same each time.  Files of a released version are
never written anew.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tests.vectors.attestation.vector import CASES, FOLDER, SHARED, Vector

MODULES: Final = (
    *("sgx", "tdx", "snp", "nitro", "tpm", "nvidia", "azure_snp", "azure_tdx", "ratls", "policies"),
    *("readers", "collateral", "sessions", "devices", "issuing", "tokens", "event_logs"),
)
"""The modules of cases, in order of the index."""
INDEX: Final = FOLDER / "index.json"


def all_cases() -> Iterator[Vector]:
    """Return every case, made anew."""
    for name in MODULES:
        yield from importlib.import_module(f"tests.vectors.attestation.{name}").cases()


def index_of(vectors: list[Vector]) -> str:
    """Return the text of the index: how many cases there are, in which folder and with which outcome."""
    outcomes: dict[str, dict[str, int]] = {}
    for folder in sorted({vector.folder for vector in vectors}):
        counted = Counter(vector.expect for vector in vectors if vector.folder == folder)
        outcomes[folder] = dict(sorted(counted.items()))
    codes = Counter(code for vector in vectors for code in vector.codes)
    value = {
        "format": 1,
        "cases": len(vectors),
        "by_folder": outcomes,
        "codes": dict(sorted(codes.items())),
        "files": sorted(f"cases/{vector.name}.txt" for vector in vectors),
    }
    return json.dumps(value, indent=1) + "\n"


def write(vectors: list[Vector]) -> None:
    """Write all files, and take away those that no case has any more."""
    SHARED.mkdir(exist_ok=True)
    wanted = {INDEX}
    uses = Counter(vector.evidence for vector in vectors)
    for each in vectors:
        vector = replace(each, shares_evidence=uses[each.evidence] > 1)
        text, shared = vector.encode()
        for name, content in shared.items():
            (SHARED / name).write_text(content, encoding="utf-8")
            wanted.add(SHARED / name)
        vector.path.parent.mkdir(parents=True, exist_ok=True)
        assert vector.path not in wanted, f"two cases have the edge {vector.name!r}"
        vector.path.write_text(text, encoding="utf-8")
        wanted.add(vector.path)
    INDEX.write_text(index_of(vectors), encoding="utf-8")
    for path in [*CASES.rglob("*"), *SHARED.iterdir()]:
        if path.is_file() and path not in wanted:
            path.unlink()


if __name__ == "__main__":
    write(list(all_cases()))
