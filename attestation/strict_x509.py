"""A strict reader of X.509 certificates as AMD makes them: bytes that are authentic already, to fields.

Source: RFC 5280, section 4.1, except that a serial number may be 0, which AMD gives every VCEK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from attestation.der import BOOLEAN, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, DerReader
from attestation.errors import EvidenceCode

Extensions: TypeAlias = Mapping[bytes, tuple[bool, bytes]]
"""By the DER content of their identifiers: whether critical, and the value."""

_MALFORMED: Final = EvidenceCode.CERTIFICATE_MALFORMED
_V3 = 2
_MAX_SERIAL = (1 << 160) - 1
_VERSION_TAG = 0xA0
_EXTENSIONS_TAG = 0xA3
_SET = 0x31
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_STRINGS = frozenset({0x0C, 0x13})
"""UTF8String and PrintableString."""
_TIME = re.compile(rb"[0-9]{14}Z")


def encode_oid(dotted: str) -> bytes:
    """Return the DER content of an object identifier."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    return b"".join(_base128(number) for number in (40 * first + second, *rest))


def _base128(number: int) -> bytes:
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(number & 0x7F | 0x80)
    return bytes(reversed(parts))


COMMON_NAME: Final = encode_oid("2.5.4.3")


@dataclass(frozen=True)
class Fields:
    """What a certificate says.

    issuer, subject: DER names.  start, end: Unix seconds, both inclusive.  name: the subject's one common name, or an
    empty text.  key: DER SubjectPublicKeyInfo.
    """

    serial: int
    issuer: bytes
    start: int
    end: int
    subject: bytes
    name: str
    key: bytes
    extensions: Extensions


def parse_certificate(tbs: bytes, algorithm: bytes) -> Fields:
    """Read the to-be-signed part of a certificate of version 3 (RFC 5280, 4.1.2), whose outer algorithm is given.

    Raises EvidenceError `certificate-malformed`.
    """
    reader = DerReader(tbs, _MALFORMED).inside(SEQUENCE)
    version = reader.inside(_VERSION_TAG)
    if version.integer(_V3) != _V3:
        raise version.refuse("a certificate is not of version 3")
    version.finish()
    serial = reader.integer(_MAX_SERIAL)
    if reader.element(SEQUENCE) != algorithm:
        raise reader.refuse("a certificate names two signature algorithms")
    issuer = reader.element(SEQUENCE)
    dates = reader.inside(SEQUENCE)
    start, end = _time(dates), _time(dates)
    dates.finish()
    subject = reader.element(SEQUENCE)
    key = reader.element(SEQUENCE)
    outer = reader.inside(_EXTENSIONS_TAG)
    extensions = _extensions(outer.inside(SEQUENCE))
    outer.finish()
    reader.finish()
    return Fields(serial, issuer, start, end, subject, common_name(subject), key, extensions)


def _time(reader: DerReader) -> int:
    """Read UTCTime (for years 1950 to 2049) or GeneralizedTime, in DER's one form of each; returns Unix seconds."""
    tag = reader.next_tag()
    if tag not in {_UTC_TIME, _GENERALIZED_TIME}:
        raise reader.refuse("a date is neither UTCTime nor GeneralizedTime")
    text = reader.content(tag)
    if tag == _UTC_TIME:
        text = (b"19" if text >= b"50" else b"20") + text
    if _TIME.fullmatch(text) is None:
        raise reader.refuse("a date is not in the one form of its kind")
    try:
        return int(datetime.fromisoformat(f"{text[:8].decode()}T{text[8:].decode()}").timestamp())
    except ValueError:
        raise reader.refuse("a date is none") from None


def common_name(name: bytes) -> str:
    """Return the common name of a DER name; an empty text where it has none or several."""
    reader = DerReader(name, _MALFORMED).inside(SEQUENCE)
    found = []
    while reader.more:
        attributes = reader.inside(_SET)
        attribute = attributes.inside(SEQUENCE)
        attributes.finish()
        kind = attribute.content(OBJECT_IDENTIFIER)
        tag = attribute.next_tag()
        if tag not in _STRINGS:
            raise attribute.refuse("a name has an attribute of another type than text")
        text = attribute.content(tag)
        attribute.finish()
        if kind == COMMON_NAME:
            found.append(text.decode("utf-8", "backslashreplace"))
    return found[0] if len(found) == 1 else ""


def _extensions(reader: DerReader) -> Extensions:
    found: dict[bytes, tuple[bool, bytes]] = {}
    while reader.more:
        extension = reader.inside(SEQUENCE)
        oid = extension.content(OBJECT_IDENTIFIER)
        critical = extension.next_tag() == BOOLEAN and extension.boolean()
        if oid in found:
            raise reader.refuse("an extension is repeated")
        found[oid] = (critical, extension.content(OCTET_STRING))
        extension.finish()
    return found
