"""JSON Web Signatures in the compact form, with one algorithm, one type, and one encoding of everything.

    BASE64URL(header) "." BASE64URL(payload) "." BASE64URL(signature)                    (RFC 7515 section 3.1)

The header has exactly `alg` (EdDSA, RFC 8037), `kid` (the RFC 7638 thumbprint of the key) and `typ`.  The payload is
decoded only after the signature has been checked, under a key that the caller trusts already: none that travels
with a token is ever looked at.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from attestation import strict_json
from attestation.ear.errors import EarCode, EarError
from attestation.errors import EvidenceError
from manifests import signing
from manifests.errors import ManifestError

MAX_TOKEN: Final = 64 * 1024
"""A token takes 2 KiB; one that names every finding of composite evidence stays below ten."""
MAX_HEADER: Final = 1024

ALGORITHM: Final = "EdDSA"
TYPE: Final = "eat+jwt"

_NO_CONTEXT = b""
"""JWS signs header and payload as they travel.  They begin with "eyJ", and so with none of this project's labels."""


def sign(payload: dict[str, Any], signer: signing.Signer) -> str:
    """Return the compact form over a payload; its JSON has sorted keys, no spaces, and ASCII alone."""
    header = {"alg": ALGORITHM, "kid": key_id(signer.public), "typ": TYPE}
    signed = f"{_encode(_json(header))}.{_encode(_json(payload))}"
    return f"{signed}.{_encode(signer.sign(_NO_CONTEXT, signed.encode('ascii')))}"


def verify(token: str, keys: Iterable[bytes]) -> tuple[Any, bytes]:
    """Return the payload of a token and the key (Ed25519, 32 bytes, one of `keys`) that signed it.

    Raises EarError `ear-malformed`, `ear-algorithm`, `ear-profile`, `ear-key` or `ear-signature`.
    """
    if len(token) > MAX_TOKEN:
        raise _malformed("it is too large")
    if not token.isascii():
        raise _malformed("it is not ASCII")
    parts = token.split(".")
    if len(parts) != 3:
        raise _malformed("it has not three parts with dots between them")
    key = _key(_header(parts[0]), keys)
    signature = decode_base64url(parts[2])
    if len(signature) != signing.SIGNATURE_SIZE:
        raise _malformed("its signature has not 64 bytes")
    try:
        signing.verify(key, _NO_CONTEXT, f"{parts[0]}.{parts[1]}".encode(), signature)
    except ManifestError:
        raise EarError(
            EarCode.SIGNATURE, EarCode.SIGNATURE.meaning, remedy="treat the token as forged, or get a whole copy"
        ) from None
    return _loads(decode_base64url(parts[1]), MAX_TOKEN), key


def key_id(public: bytes) -> str:
    """Return the thumbprint of an Ed25519 key (RFC 7638; members as of RFC 8037, section 2)."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": encode_base64url(public)}
    return _encode(hashlib.sha256(_json(jwk)).digest())


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Return the bytes of base64url without padding; raises EarError `ear-malformed` for any other writing of them."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("a part is not base64url") from None
    if encode_base64url(data) != text:
        raise _malformed("a part is not in the one base64url form of its bytes")
    return data


_encode = encode_base64url


def _header(part: str) -> dict[str, Any]:
    header = _loads(decode_base64url(part[: 2 * MAX_HEADER]), MAX_HEADER)
    if not isinstance(header, dict) or not all(isinstance(value, str) for value in header.values()):
        raise _malformed("its header is no map of texts")
    if header.get("alg") != ALGORITHM:
        raise EarError(
            EarCode.ALGORITHM,
            EarCode.ALGORITHM.meaning,
            expected=ALGORITHM,
            found=str(header.get("alg"))[:32],
            remedy="have the verifier issue tokens with EdDSA; no other algorithm is accepted",
        )
    if header.get("typ") != TYPE:
        raise EarError(EarCode.PROFILE, "the token is of another type", expected=TYPE, found=header.get("typ"))
    if header.keys() != {"alg", "kid", "typ"}:
        raise _malformed("its header has other members than alg, kid and typ")
    return header


def _key(header: dict[str, Any], keys: Iterable[bytes]) -> bytes:
    known = {key_id(key): key for key in keys}
    if header["kid"] not in known:
        raise EarError(
            EarCode.KEY,
            EarCode.KEY.meaning,
            expected=" or ".join(known) or "no key is trusted",
            found=header["kid"][:64],
            remedy="give the card of the verifier that issued the token, if you trust it",
        )
    return known[header["kid"]]


def _loads(data: bytes, limit: int) -> Any:
    try:
        return strict_json.loads(data.decode("ascii"), max_size=limit)
    except (UnicodeDecodeError, EvidenceError) as error:
        why = error.message if isinstance(error, EvidenceError) else "it is not ASCII"
        raise _malformed(why) from None


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _malformed(why: str) -> EarError:
    return EarError(EarCode.MALFORMED, f"the token is not usable: {why}", remedy="get a whole copy from its verifier")
