"""The one PEM form of a certificate chain: 64 columns, line feeds, nothing between or around the blocks.

`data` and the certificates in it determine each other, so no bit of a chain's text can be changed unnoticed.
"""

from __future__ import annotations

import base64
import binascii

from attestation.errors import EvidenceCode, EvidenceError

_BEGIN = b"-----BEGIN CERTIFICATE-----\n"
_END = b"\n-----END CERTIFICATE-----\n"
_COLUMNS = 64

MAX_CHAIN = 64 * 1024
"""Three certificates of Intel's take 4 KiB."""


def decode_chain(data: bytes, count: int) -> tuple[bytes, ...]:
    """Return the DER of exactly `count` certificates.

    One NUL at the end, which Intel's library counts as part of the text, and line feeds before it are allowed.
    Raises EvidenceError `pem-malformed` or `chain-length`.
    """
    if len(data) > MAX_CHAIN:
        raise _malformed("the chain is too large")
    text = data.removesuffix(b"\0").rstrip(b"\n") + b"\n"
    *blocks, rest = text.split(_END)
    if rest:
        raise _malformed("bytes follow the last certificate")
    if len(blocks) != count:
        raise EvidenceError(
            EvidenceCode.CHAIN_LENGTH, "the chain has another length", expected=count, found=len(blocks)
        )
    return tuple(_decode(block) for block in blocks)


def encode_chain(*certificates: bytes) -> bytes:
    """Return the PEM text of DER certificates, ending with a line feed."""
    return b"".join(_BEGIN + _body(der) + _END for der in certificates)


def _decode(block: bytes) -> bytes:
    if not block.startswith(_BEGIN):
        raise _malformed("a certificate does not begin as one")
    body = block.removeprefix(_BEGIN)
    text = body.replace(b"\n", b"")
    try:
        der = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise _malformed("a certificate is not base64") from None
    if binascii.b2a_base64(der, newline=False) != text or not _has_columns(body, len(text)):
        raise _malformed("a certificate is not in the one PEM form of its bytes")
    return der


def _has_columns(body: bytes, size: int) -> bool:
    """Tell whether a line feed follows every 64 characters but the last, and there is none elsewhere."""
    breaks = max(0, size - 1) // _COLUMNS
    return body[_COLUMNS :: _COLUMNS + 1] == b"\n" * breaks and len(body) == size + breaks


def _body(der: bytes) -> bytes:
    text = base64.b64encode(der)
    return b"\n".join(text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS))


def _malformed(message: str) -> EvidenceError:
    return EvidenceError(EvidenceCode.PEM_MALFORMED, message)
