"""COSE_Sign1: a payload under one signature.

Source: RFC 9052, sections 2, 4.2 and 4.4; RFC 9053, section 2.1 for the algorithms.

    COSE_Sign1 = [protected: bstr, unprotected: map, payload: bstr, signature: bstr]      tagged 18, or untagged
    signed     = ["Signature1", protected, external_aad: bstr, payload]

The payload is attached always.  The protected header has its signature's algorithm and, where the profile names one,
the content type of the payload.  A header that nothing signs would be a place to write into without breaking the
message, so the unprotected one is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attestation.errors import EvidenceCode, EvidenceError
from attestation.types import cbor

ES384: Final = -35
ED25519: Final = -19
"""EdDSA on Curve25519 alone, fully specified (RFC 9864, section 2.2); -8 of RFC 9053 leaves the curve to the key."""

_TAG: Final = 18
_ALGORITHM: Final = 1
_CONTENT_TYPE: Final = 3


@dataclass(frozen=True)
class Sign1:
    """A parsed message; its signature is not verified.

    algorithm: its COSE number.  payload, signature: as they stand in the message.  tagged: whether it has its tag.
    content_type: a media type; None where the profile has none.
    """

    algorithm: int
    payload: bytes
    signature: bytes
    tagged: bool = False
    content_type: str | None = None

    @property
    def protected(self) -> bytes:
        """The protected header, encoded."""
        typed = {} if self.content_type is None else {_CONTENT_TYPE: self.content_type}
        return cbor.encode({_ALGORITHM: self.algorithm, **typed})

    def signed(self, external: bytes = b"") -> bytes:
        """Return what the signature covers; `external` is the application's own additional data."""
        return cbor.encode(["Signature1", self.protected, external, self.payload])

    def serialize(self) -> bytes:
        """Return the message; `parse` is the inverse."""
        items = [self.protected, {}, self.payload, self.signature]
        return cbor.encode(cbor.Tag(_TAG, items) if self.tagged else items)


def parse(data: bytes, *, max_size: int, content_type: str | None = None) -> Sign1:
    """Parse a message that uses up `data`; raises EvidenceError `cbor-malformed` or `cose-malformed`.

    content_type: what the protected header must say that the payload is; None: that it says nothing of it.
    """
    value = cbor.decode(data, max_size=max_size)
    tagged = isinstance(value, cbor.Tag)
    items = value.value if isinstance(value, cbor.Tag) and value.number == _TAG else value
    if not isinstance(items, list) or [type(item) for item in items] != [bytes, dict, bytes, bytes]:
        raise _malformed("it is not an array of header, map, payload and signature")
    protected, unprotected, payload, signature = items
    if unprotected:
        raise _malformed("it has unprotected headers")
    header = cbor.decode(protected, max_size=len(protected), ordered=True)
    if not isinstance(header, dict) or type(header.get(_ALGORITHM)) is not int:
        raise _malformed("its protected header does not name the signature's algorithm")
    wanted = {} if content_type is None else {_CONTENT_TYPE: content_type}
    if {key: value for key, value in header.items() if key != _ALGORITHM} != wanted:
        raise _malformed("its protected header has not the signature's algorithm and the profile's content type alone")
    return Sign1(header[_ALGORITHM], payload, signature, tagged, content_type)


def _malformed(why: str) -> EvidenceError:
    return EvidenceError(EvidenceCode.COSE_MALFORMED, f"the COSE_Sign1 message is not usable: {why}")
