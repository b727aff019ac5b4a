"""Which collateral each TEE has."""

from __future__ import annotations

from typing import Final

from attestation import strict_json
from attestation.amd.collateral import SnpCollateral
from attestation.collateral.document import MAX_COLLATERAL, Collateral, malformed
from attestation.intel.collateral import IntelCollateral

KINDS: Final[dict[str, type[Collateral]]] = {
    "sgx": IntelCollateral,
    "tdx": IntelCollateral,
    "snp": SnpCollateral,
}
"""By the TEE of a CollateralKey."""


def decode(data: bytes) -> Collateral:
    """Return the collateral of a file, of the kind that most of its fields are of; raises EvidenceError."""
    value = strict_json.loads(data.decode("utf-8", "replace"), max_size=MAX_COLLATERAL)
    names = value.keys() if isinstance(value, dict) else set()
    kind = max(KINDS.values(), key=lambda kind: len(names & kind.__dataclass_fields__.keys()))
    if not names & kind.__dataclass_fields__.keys():
        raise malformed("it is no collateral of Intel's or AMD's", [sorted(each.__dataclass_fields__) for each in _ALL])
    return kind.from_json(data)


_ALL: Final = tuple(dict.fromkeys(KINDS.values()))
