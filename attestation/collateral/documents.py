"""The documents that vendors publish, as they come over HTTP: their one form here, and from when until when they count.

Nothing is verified here.  What is read of a document, its dates, decides only how long it is served from a cache; an
answer that has none is not such a document, and is not kept.
"""

from __future__ import annotations

import binascii
import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.amd.signatures import split_signed
from attestation.collateral.answers import Request
from attestation.collateral.errors import FetchCode, FetchError
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import pem
from attestation.roots import X509_ERRORS
from attestation.strict_x509 import parse_certificate
from attestation.validity import crl_dates, parse_rfc3339

T = TypeVar("T")

MAX_CRL: Final = 8 * 1024 * 1024
"""The same as what verification takes: some 200,000 revoked platforms."""
MAX_CHAIN: Final = 64 * 1024
MAX_CERTIFICATE: Final = 16 * 1024
MAX_JSON: Final = 1024 * 1024

_JSON: Final = frozenset({"application/json"})
_PEM_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*+)-----END CERTIFICATE-----")
_PEM: Final = re.compile(rb"(?:" + _PEM_BLOCK.pattern + rb"\s*+)+")
_PARSE_ERRORS: Final = (*X509_ERRORS, EvidenceError, KeyError, OverflowError, RecursionError, AttributeError)


@dataclass(frozen=True)
class Fetched:
    """A document in its one form.  issued and expires: Unix seconds, as the unverified document says.

    chain: PEM text of its issuers, where the service sends them in a header; signature: where JSON carries it.
    """

    body: bytes
    issued: int
    expires: int
    chain: bytes = b""
    signature: bytes = b""


@dataclass(frozen=True)
class Document:
    """How to ask for a document, and how to read the answer's body and headers (in lower case).

    `read` raises FetchError `fetch-content` for whatever is not such a document.
    """

    request: Request
    read: Callable[[bytes, Mapping[str, str]], Fetched]


def revocation_list(url: str, chain_header: str | None = None) -> Document:
    """Describe a list in DER, PEM, or hex of DER, as a caching service keeps it; `chain_header` has its issuers."""
    headers = (chain_header,) if chain_header else ()
    return Document(Request(url, MAX_CRL, headers), lambda body, got: _revocation_list(url, body, got, chain_header))


def certificate(url: str) -> Document:
    """Describe one certificate of AMD's in DER or PEM."""
    return Document(Request(url, MAX_CERTIFICATE), lambda body, _: _certificates(url, body, 1))


def certificate_chain(url: str) -> Document:
    """Describe a chain of two certificates of AMD's in PEM; `body` is PEM in its one form."""
    return Document(Request(url, MAX_CHAIN), lambda body, _: _certificates(url, body, 2))


def signed_json(url: str, member: str, chain_header: str) -> Document:
    """Describe {"<member>": {...}, "signature": "hex"}, whose signature is over the member's exact bytes."""
    request = Request(url, MAX_JSON, (chain_header,), _JSON)
    return Document(request, lambda body, got: _signed_json(url, body, member, got.get(chain_header.lower())))


def _revocation_list(url: str, body: bytes, headers: Mapping[str, str], chain_header: str | None) -> Fetched:
    der = _reading(url, lambda: _crl_der(body))
    crl = _reading(url, lambda: x509.load_der_x509_crl(der))
    issued, expires = _reading(url, lambda: crl_dates(crl))
    if expires is None:
        raise _content(url, "the list has no next update")
    chain = _chain(url, headers.get(chain_header.lower())) if chain_header else b""
    return Fetched(der, issued, expires, chain)


def _crl_der(body: bytes) -> bytes:
    if body.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_crl(body).public_bytes(Encoding.DER)
    text = body.strip()
    if len(text) % 2 == 0 and re.fullmatch(rb"[0-9a-fA-F]+", text):
        return binascii.unhexlify(text)
    return body


def _certificates(url: str, body: bytes, count: int) -> Fetched:
    """Read certificates by AMD's own profile: VCEKs have the serial number 0, which general readers refuse soon."""
    found = _reading(url, lambda: _split_certificates(body))
    if len(found) != count:
        raise _content(url, f"{len(found)} certificates instead of {count}")
    spans = _reading(url, lambda: [_span(der) for der in found])
    data = found[0] if count == 1 else pem.encode_chain(*found)
    return Fetched(data, max(start for start, _ in spans), min(end for _, end in spans))


def _split_certificates(body: bytes) -> list[bytes]:
    """Return the DER of the certificates in PEM, in lines of any length; anything else counts as one DER."""
    text = body.strip()
    if not text.startswith(b"-----BEGIN"):
        return [body]
    if _PEM.fullmatch(text) is None:
        raise ValueError("the text is not of certificates alone")
    blocks = (b"".join(block.split()) for block in _PEM_BLOCK.findall(text))
    return [binascii.a2b_base64(block, strict_mode=True) for block in blocks]


def _span(der: bytes) -> tuple[int, int]:
    """Return the Unix seconds from which, and up to before which, a certificate of AMD's is valid."""
    tbs, algorithm, _ = split_signed(der, EvidenceCode.CERTIFICATE_MALFORMED)
    fields = parse_certificate(tbs, algorithm)
    return fields.start, fields.end + 1


def _chain(url: str, header: str | None) -> bytes:
    """Return the chain of a header, where PEM stands percent-encoded."""
    if header is None:
        raise _content(url, "the header with its issuers is missing")
    text = urllib.parse.unquote_to_bytes(header)
    found = _reading(url, lambda: _bounded(x509.load_pem_x509_certificates(text)))
    return pem.encode_chain(*(item.public_bytes(Encoding.DER) for item in found))


def _bounded(found: list[x509.Certificate]) -> list[x509.Certificate]:
    if len(found) != 2:
        raise ValueError("a chain is of an issuer and a root")
    return found


def _signed_json(url: str, body: bytes, member: str, header: str | None) -> Fetched:
    signed, signature = _reading(url, lambda: _split_json(body.decode("utf-8"), member))
    value = _reading(url, lambda: json.loads(signed))
    issued, expires = _reading(
        url, lambda: (parse_rfc3339(str(value["issueDate"])), parse_rfc3339(str(value["nextUpdate"])) + 1)
    )
    return Fetched(signed.encode("utf-8"), issued, expires, _chain(url, header), signature)


def _split_json(text: str, member: str) -> tuple[str, bytes]:
    """Return the exact text of a member, and the signature beside it."""
    begin = re.match(rf'\s*\{{\s*"{member}"\s*:\s*', text)
    if begin is None:
        raise ValueError("another member comes first")
    _, end = json.JSONDecoder().raw_decode(text, begin.end())
    rest = re.fullmatch(r'\s*,\s*"signature"\s*:\s*"([0-9a-fA-F]{128})"\s*\}\s*', text[end:])
    if rest is None:
        raise ValueError("no signature follows")
    return text[begin.end() : end], bytes.fromhex(rest[1])


def _reading(url: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except _PARSE_ERRORS:
        raise _content(url, "it cannot be read as such a document") from None


def _content(url: str, why: str) -> FetchError:
    return FetchError(
        FetchCode.CONTENT,
        f"the answer of {url} is not usable: {why}",
        remedy="check the address; a proxy or a login page may have answered instead",
    )
