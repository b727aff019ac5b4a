"""What vendors publish about their platforms: how it is filed, decoded, and where it comes from."""

from __future__ import annotations

from attestation.collateral.document import MAX_COLLATERAL, Collateral
from attestation.collateral.key import CollateralKey
from attestation.collateral.sources import CollateralSource, DirectorySource, FileSource, FixedSource, open_source

__all__ = [
    "MAX_COLLATERAL",
    "Collateral",
    "CollateralKey",
    "CollateralSource",
    "DirectorySource",
    "FileSource",
    "FixedSource",
    "open_source",
]
