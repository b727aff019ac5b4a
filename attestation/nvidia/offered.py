"""Which manifests of a folder are used for some devices: what lies there is offered, and need not be for them.

What serves none of them is passed over.  So is what is not usable, where another manifest serves in its place: a copy
that does not parse or does not verify.  Two genuine ones that differ are left to be refused: they have no date.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attestation.nvidia.rim import Rim, parse_rim
from attestation.roots import Roots
from manifests.errors import StrongroomError


def serving(
    manifests: Sequence[bytes],
    wanted: Collection[tuple[str, str]],
    roots: Roots,
    held: Collection[tuple[str, str]] = (),
) -> list[bytes]:
    """Return the manifests (XML) that are for a wanted (product, version); a broken one where something is missing.

    held: what the evidence has a manifest for itself.
    """
    broken: list[bytes] = []
    found: dict[tuple[str, str], list[Rim]] = {}
    for content in manifests:
        try:
            rim = parse_rim(content)
        except StrongroomError:
            broken.append(content)
            continue
        if (rim.product, rim.version) in wanted:
            found.setdefault((rim.product, rim.version), []).append(rim)
    served = [rim.raw for rims in found.values() for rim in _genuine(rims, roots)]
    return served if found.keys() | set(held) >= set(wanted) else served + broken


def _genuine(rims: list[Rim], roots: Roots) -> list[Rim]:
    """Of several manifests for the same, return those that verify; all of them where none does."""
    return rims if len(rims) == 1 else [rim for rim in rims if _verifies(rim, roots)] or rims


def _verifies(rim: Rim, roots: Roots) -> bool:
    try:
        rim.verify(roots)
    except StrongroomError:
        return False
    return True
