"""Evidence that is recognised and not handled: whoever gives it is told what it is, and not only that it is unknown."""

from __future__ import annotations

from typing import Final

CCA_TOKEN: Final = b"\xd9\x01\x8f"
"""CBOR tag 399: Arm's CCA token, a platform token and a realm token (draft-ffm-rats-cca-token, section 3)."""

_KINDS: Final = {CCA_TOKEN: "an Arm CCA token (CBOR tag 399), which this release does not handle"}


def describe(data: bytes) -> str | None:
    """Return what bytes are by how they begin; None where that is unknown, too."""
    return next((title for head, title in _KINDS.items() if data.startswith(head)), None)
