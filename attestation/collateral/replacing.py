"""Whether collateral may take the place of what is held: newer documents are not replaced by older ones.

Older collateral is genuine, too, and for as long as it is valid it hides what was revoked since.  Whoever wants it all
the same, for evidence of an earlier time, says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attestation.amd.certificates import read_root
from attestation.amd.collateral import SnpCollateral
from attestation.amd.crl import read_crl
from attestation.collateral.document import MAX_COLLATERAL, Collateral
from attestation.collateral.errors import FetchCode, FetchError
from attestation.collateral.key import CollateralKey
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceError
from attestation.intel import newest, pem
from attestation.intel.collateral import IntelCollateral
from attestation.roots import Roots
from manifests.errors import StrongroomError
from manifests.files import exists, read_bounded

OPTION = "--allow-older"


def check_replaces(path: Path, key: CollateralKey, new: Collateral, roots: Roots) -> None:
    """Refuse collateral with an older document than the file at `path`, or without one that is there.

    What is held and does not verify may be replaced.  Raises FetchError `collateral-older`, or ManifestError.
    """
    if not exists(path):
        return
    try:
        held = decode(read_bounded(path, MAX_COLLATERAL))
    except StrongroomError:
        return
    found = ages(new, key, roots)
    for name, age in ages(held, key, roots).items():
        if name not in found or found[name] < age:
            raise FetchError(
                FetchCode.OLDER,
                f"{path} has a newer {name}" if name in found else f"{path} has a {name}, and this has none",
                expected=f"a {name} that is not older than what is held",
                found="an older one" if name in found else "none",
                remedy=f"keep what is held; or replace it with {OPTION}, which may undo a revocation",
            )


def ages(collateral: Collateral, key: CollateralKey, roots: Roots) -> Mapping[str, tuple[int, ...]]:
    """Return how new each list and document of collateral for `key` is, by name; those alone whose signature holds."""
    if isinstance(collateral, IntelCollateral):
        return newest.ages(collateral, key, roots)
    found: dict[str, tuple[int, ...]] = {}
    if isinstance(collateral, SnpCollateral):
        with suppress(EvidenceError):
            ark, _ = read_root(pem.decode_chain(collateral.chain, 2)[1], roots)
            crl = read_crl(collateral.crl, ark)
            found["revocation list"] = (crl.validity.start, crl.validity.end, len(crl.revoked))
    return found
