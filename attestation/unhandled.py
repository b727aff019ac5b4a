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
_UTF32: Final = Unhandled("text in UTF-32", "save it as ASCII or UTF-8")
CERTIFICATE: Final = Unhandled(
    "a certificate that carries no evidence",
    "give an RA-TLS certificate, or the evidence itself; if it belongs to collateral, give it with --collateral",
)
COLLATERAL: Final = Unhandled(
    "collateral, and no evidence",
    "give it with --collateral, and evidence with --evidence: the two look swapped",
)
_KINDS: Final = {
    CCA_TOKEN: _CCA,
    codecs.BOM_UTF32_LE: _UTF32,  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: _UTF32,
    codecs.BOM_UTF16_LE: _UTF16,
    codecs.BOM_UTF16_BE: _UTF16,
}
_SAMPLE: Final = 64
"""Bytes that show whether text is in UTF-16 without a mark: ASCII characters alone are told, each beside a zero."""


def describe(data: bytes) -> Unhandled | None:
    """Return what bytes are by how they begin; None where that is unknown, too."""
    known = next((kind for head, kind in _KINDS.items() if data.startswith(head)), None)
    return known or (_UTF16 if _is_unmarked_utf16(data[:_SAMPLE]) else None)


def _is_unmarked_utf16(sample: bytes) -> bool:
    """Tell whether bytes are printable ASCII, in UTF-16 of either order; at least four characters of it."""
    halves = sample[: len(sample) // 2 * 2]
    for zeros, text in ((halves[1::2], halves[::2]), (halves[::2], halves[1::2])):
        if len(text) >= _LEAST and not any(zeros) and all(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in text):
            return True
    return False


_LEAST: Final = 4
