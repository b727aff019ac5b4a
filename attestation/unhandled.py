"""Input that is recognised and not handled: whoever gives it is told what it is, and not only that it is unknown."""

from __future__ import annotations

import codecs
from typing import Final, NamedTuple

CCA_TOKEN: Final = b"\xd9\x01\x8f"
"""CBOR tag 399: Arm's CCA token, a platform token and a realm token (draft-ffm-rats-cca-token, section 3)."""


class Unhandled(NamedTuple):
    """What bytes are, and what to do about it."""

    title: str
    remedy: str


_CCA: Final = Unhandled(
    "an Arm CCA token (CBOR tag 399), which this release does not handle",
    "use a platform that this release handles (docs/attestation.md): getting Arm's token again does not help",
)
_UTF16: Final = Unhandled(
    "text in UTF-16",
    "save it as ASCII or UTF-8: PowerShell's `>` writes UTF-16, and `| Out-File -Encoding ascii` does not",
)
COLLATERAL: Final = Unhandled(
    "collateral, and no evidence",
    "give it with --collateral, and evidence with --evidence: the two look swapped",
)
_KINDS: Final = {CCA_TOKEN: _CCA, codecs.BOM_UTF16_LE: _UTF16, codecs.BOM_UTF16_BE: _UTF16}


def describe(data: bytes) -> Unhandled | None:
    """Return what bytes are by how they begin; None where that is unknown, too."""
    return next((kind for head, kind in _KINDS.items() if data.startswith(head)), None)
