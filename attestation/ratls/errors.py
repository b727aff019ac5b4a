"""Codes of RA-TLS certificates."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class RatlsCode(ErrorCode):
    """Codes of certificates that carry evidence, and of how their key is bound to it."""

    CERTIFICATE = (
        "ratls-certificate",
        Fault.MALFORMED,
        "the bytes are not an X.509 certificate in strict DER",
        "give one certificate in DER, as the TLS handshake carries it, and nothing around it",
    )
    KEY_KIND = (
        "ratls-key-kind",
        Fault.UNSUPPORTED,
        "the certificate's key or signature algorithm is not handled",
        "use a key of RSA from 2048 bits or on P-256, P-384 or P-521, and SHA-256 or stronger",
    )
    SIGNATURE = (
        "ratls-signature",
        Fault.REFUSED,
        "the certificate is not signed by its own key",
        "treat the peer as an attacker: whoever made the certificate does not hold its key",
    )
    NO_EVIDENCE = (
        "ratls-no-evidence",
        Fault.UNSUPPORTED,
        "the certificate carries no evidence in a known extension",
        "connect to a server that attests itself, with Gramine's RA-TLS or another of the same form",
    )
    EVIDENCE = (
        "ratls-evidence",
        Fault.MALFORMED,
        "the evidence's extension is not tagged evidence",
        "use an attester that writes tagged evidence as the interoperable form has it",
    )
    EVIDENCE_KIND = (
        "ratls-evidence-kind",
        Fault.UNSUPPORTED,
        "the evidence inside is of a kind that is not handled",
        "use a newer release, or a platform with SGX or TDX",
    )
    CLAIMS = (
        "ratls-claims",
        Fault.MALFORMED,
        "the claims do not name the hash of exactly one key",
        "use an attester that claims the hash of its key, and at most a nonce besides",
    )
    CLAIMS_HASH = (
        "ratls-claims-hash",
        Fault.UNSUPPORTED,
        "the key is hashed by an algorithm that is not handled",
        "use an attester that hashes its key with SHA-256, SHA-384 or SHA-512",
    )
    KEY = (
        "ratls-key",
        Fault.REFUSED,
        "the claims are of another key than the certificate's",
        "treat the peer as an attacker: the evidence was made for another key",
    )
    BINDING = (
        "ratls-binding",
        Fault.REFUSED,
        "the evidence is not bound to the certificate's key",
        "treat the peer as an attacker: the quote was made for another key",
    )
    MIXED = (
        "ratls-mixed",
        Fault.REFUSED,
        "the certificate carries evidence of two different programs",
        "treat the peer as an attacker: one program's evidence stands beside another's",
    )
