"""The two forms of evidence in RA-TLS certificates, and the report data that binds each to the certificate's key.

Sources: TCG DICE Attestation Architecture, "tcg-dice-TaggedEvidence" (2.23.133.5.4.9); Interoperable RA-TLS (CCC
Attestation SIG), CBOR tag 60000; Gramine 1.9, `tools/sgx/ra-tls`.

    tagged    60000([quote, claims]); claims = {"pubkey-hash": bytes of [algorithm, digest of the key],
              ? "nonce": bytes}; report data = SHA-256(claims) || 32 zero bytes
    legacy    the quote as it is; report data = SHA-256(key) || 32 zero bytes

The key is its DER SubjectPublicKeyInfo.  Gramine puts both forms into one certificate, with a quote for each.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from attestation.errors import EvidenceError
from attestation.intel import abi, td_abi
from attestation.ratls.errors import RatlsCode
from attestation.types import cbor

INTEL_QUOTE = 60000
"""CBOR tag of evidence that is an SGX or TDX quote."""
HASHES = {1: "sha256", 7: "sha384", 8: "sha512"}
"""By their number in IANA's registry of named information hash algorithms (RFC 6920)."""
MAX_EVIDENCE = 64 * 1024
_MAX_CLAIMS = 1024
_KEY_HASH = "pubkey-hash"
_NONCE = "nonce"

Quote = abi.QuoteV3 | td_abi.TdQuote


@dataclass(frozen=True)
class BoundQuote:
    """A quote, and the 64 bytes of report data that it must have to be bound to the certificate's key.

    form: "tagged" or "legacy".  nonce: what the attester was asked to include; None where the claims have none.
    """

    form: str
    quote: Quote
    expected: bytes = field(repr=False)
    nonce: bytes | None = None

    def check_binding(self) -> None:
        """Return if all 64 bytes are as expected; raises EvidenceError `ratls-binding`."""
        if not hmac.compare_digest(self.expected, self.quote.report_data):
            raise EvidenceError(
                RatlsCode.BINDING,
                RatlsCode.BINDING.meaning,
                expected=self.expected.hex(),
                found=self.quote.report_data.hex(),
            )


def read_tagged(value: bytes, key: bytes) -> BoundQuote:
    """Read TCG DICE tagged evidence for a key (DER SubjectPublicKeyInfo).

    Raises EvidenceError `cbor-malformed`, `ratls-...`, or a code of the quote.
    """
    decoded = cbor.decode(value, max_size=MAX_EVIDENCE)
    if not isinstance(decoded, cbor.Tag):
        raise EvidenceError(RatlsCode.EVIDENCE, RatlsCode.EVIDENCE.meaning, expected=f"CBOR tag {INTEL_QUOTE}")
    if decoded.number != INTEL_QUOTE:
        raise _kind(f"CBOR tag {INTEL_QUOTE}", f"CBOR tag {decoded.number}")
    pair = decoded.value
    if not isinstance(pair, list) or [type(item) for item in pair] != [bytes, bytes]:
        raise EvidenceError(RatlsCode.EVIDENCE, RatlsCode.EVIDENCE.meaning, expected="quote and claims")
    quote, claims = pair
    nonce = _check_claims(claims, key)
    return BoundQuote("tagged", _parse_quote(quote), hashlib.sha256(claims).digest() + bytes(32), nonce)


def read_legacy(value: bytes, key: bytes) -> BoundQuote:
    """Read Gramine's legacy extension for a key; raises EvidenceError `ratls-...`, or a code of the quote."""
    return BoundQuote("legacy", _parse_quote(value), hashlib.sha256(key).digest() + bytes(32))


def _parse_quote(data: bytes) -> Quote:
    if abi.is_quote(data, abi.VERSION):
        return abi.parse_quote(data)
    if abi.is_quote(data, *td_abi.VERSIONS):
        return td_abi.parse_td_quote(data)
    raise _kind("an SGX or TDX quote", f"first bytes {data[:4].hex() or '(none)'}")


def _check_claims(data: bytes, key: bytes) -> bytes | None:
    """Return the nonce of claims that name the hash of this very key."""
    claims = cbor.decode(data, max_size=_MAX_CLAIMS)
    if not isinstance(claims, dict) or _KEY_HASH not in claims or claims.keys() - {_KEY_HASH, _NONCE}:
        raise _claims("a map with pubkey-hash, and at most a nonce besides")
    nonce = claims.get(_NONCE)
    if type(claims[_KEY_HASH]) is not bytes or (_NONCE in claims and type(nonce) is not bytes):
        raise _claims("byte strings in both")
    _check_key(cbor.decode(claims[_KEY_HASH], max_size=_MAX_CLAIMS), key)
    return nonce


def _check_key(entry: object, key: bytes) -> None:
    if not isinstance(entry, list) or [type(item) for item in entry] != [int, bytes]:
        raise _claims("pubkey-hash of an algorithm's number and a digest")
    algorithm, digest = entry
    if algorithm not in HASHES:
        raise EvidenceError(
            RatlsCode.CLAIMS_HASH,
            RatlsCode.CLAIMS_HASH.meaning,
            expected=" or ".join(f"{number} ({name})" for number, name in HASHES.items()),
            found=algorithm,
        )
    found = hashlib.new(HASHES[algorithm], key).digest()
    if not hmac.compare_digest(found, digest):
        raise EvidenceError(RatlsCode.KEY, RatlsCode.KEY.meaning, expected=digest.hex(), found=found.hex())


def _claims(expected: str) -> EvidenceError:
    return EvidenceError(RatlsCode.CLAIMS, RatlsCode.CLAIMS.meaning, expected=expected)


def _kind(expected: str, found: str) -> EvidenceError:
    return EvidenceError(RatlsCode.EVIDENCE_KIND, RatlsCode.EVIDENCE_KIND.meaning, expected=expected, found=found)
