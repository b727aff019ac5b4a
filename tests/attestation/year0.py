"""Certificates and lists with dates of the year 0, which DER can write and no calendar has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attestation.der import BIT_STRING, SEQUENCE, DerReader
from attestation.errors import EvidenceCode
from attestation.sim.extension import element

FAR: Final = 2_840_140_800
"""2060-01-01T00:00:00Z, which DER has as a GeneralizedTime: four digits for the year."""


def in_the_year_0(der: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A certificate or revocation list whose dates at `FAR` are in the year 0 instead, signed anew."""
    reader = DerReader(der, EvidenceCode.CERTIFICATE_MALFORMED).inside(SEQUENCE)
    tbs, algorithm = reader.element(SEQUENCE), reader.element(SEQUENCE)
    changed = tbs.replace(b"20600101000000Z", b"00000101000000Z")
    assert changed != tbs
    return element(SEQUENCE, changed + algorithm + element(BIT_STRING, b"\0" + sign(changed)))
