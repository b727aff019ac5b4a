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
    """Return the collateral of a file, of whichever kind its fields say; raises EvidenceError."""
    kinds = list(dict.fromkeys(KINDS.values()))
    value = strict_json.loads(data.decode("utf-8", "replace"), max_size=MAX_COLLATERAL)
    for kind in kinds:
        if isinstance(value, dict) and value.keys() == kind.__dataclass_fields__.keys():
            return kind.from_json(data)
    raise malformed("it has the fields of no kind", [kind.__name__ for kind in kinds])
