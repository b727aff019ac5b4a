"""Which collateral each TEE has."""

from __future__ import annotations

from typing import Final

from attestation.amd.collateral import SnpCollateral
from attestation.collateral.document import Collateral
from attestation.intel.collateral import IntelCollateral

KINDS: Final[dict[str, type[Collateral]]] = {
    "sgx": IntelCollateral,
    "tdx": IntelCollateral,
    "snp": SnpCollateral,
}
"""By the TEE of a CollateralKey."""
