"""Codes of RA-TLS certificates."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class RatlsCode(ErrorCode):
    """Codes of certificates that carry evidence, and of how their key is bound to it."""

    CERTIFICATE = "ratls-certificate", Fault.MALFORMED, "the bytes are not an X.509 certificate in strict DER"
    KEY_KIND = "ratls-key-kind", Fault.UNSUPPORTED, "the certificate's key or signature algorithm is not handled"
    SIGNATURE = "ratls-signature", Fault.REFUSED, "the certificate is not signed by its own key"
    NO_EVIDENCE = "ratls-no-evidence", Fault.UNSUPPORTED, "the certificate carries no evidence in a known extension"
    EVIDENCE = "ratls-evidence", Fault.MALFORMED, "the evidence's extension is not tagged evidence"
    EVIDENCE_KIND = "ratls-evidence-kind", Fault.UNSUPPORTED, "the evidence inside is of a kind that is not handled"
    CLAIMS = "ratls-claims", Fault.MALFORMED, "the claims do not name the hash of exactly one key"
    CLAIMS_HASH = "ratls-claims-hash", Fault.UNSUPPORTED, "the key is hashed by an algorithm that is not handled"
    KEY = "ratls-key", Fault.REFUSED, "the claims are of another key than the certificate's"
    BINDING = "ratls-binding", Fault.REFUSED, "the evidence is not bound to the certificate's key"
    MIXED = "ratls-mixed", Fault.REFUSED, "the certificate carries evidence of two different programs"
