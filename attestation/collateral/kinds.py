"""Which collateral each TEE has."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from attestation import strict_json
from attestation.amd.collateral import SnpCollateral
from attestation.collateral.document import MAX_COLLATERAL, Collateral, malformed, without_mark
from attestation.intel.collateral import IntelCollateral

KINDS: Final[dict[str, type[Collateral]]] = {
    "sgx": IntelCollateral,
    "tdx": IntelCollateral,
    "snp": SnpCollateral,
}
"""By the TEE of a CollateralKey."""


def decode(data: bytes) -> Collateral:
    """Return the collateral of a file, of the kind that most of its fields are of; raises EvidenceError."""
    value = strict_json.loads(without_mark(data).decode("utf-8", "replace"), max_size=MAX_COLLATERAL)
    names = value.keys() if isinstance(value, dict) else set()
    kind = max(KINDS.values(), key=lambda kind: len(names & _fields(kind)))
    if not names & _fields(kind):
        raise malformed("it is no collateral of Intel's or AMD's", [sorted(_fields(each)) for each in _ALL])
    return kind.from_json(data)


def _fields(kind: type[Collateral]) -> set[str]:
    return {item.name for item in fields(kind)}


_ALL: Final = tuple(dict.fromkeys(KINDS.values()))
