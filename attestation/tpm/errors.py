"""Codes of TPM evidence: what its bytes are, who signed it, and what a policy checks."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class TpmCode(ErrorCode):
    """Codes of TPM 2.0 quotes and of the container that they travel in."""

    EVIDENCE_MALFORMED = "tpm-evidence-malformed", Fault.MALFORMED, "the container of TPM evidence breaks its format"
    EVIDENCE_VERSION = "tpm-evidence-version", Fault.UNSUPPORTED, "the container is of a version that is not handled"
    TRUNCATED = "tpm-truncated", Fault.MALFORMED, "a TPM structure ends before its fields do"
    TRAILING_BYTES = "tpm-trailing-bytes", Fault.MALFORMED, "bytes follow the end of a TPM structure"
    SIZE = "tpm-size", Fault.MALFORMED, "a field of a TPM structure has a size that its type does not allow"
    RESERVED = "tpm-reserved", Fault.MALFORMED, "reserved bits of a TPM structure are set"
    MAGIC = "tpm-magic", Fault.REFUSED, "the signed message does not begin as what only a TPM can make"
    ATTEST_TYPE = "tpm-attest-type", Fault.UNSUPPORTED, "the attestation is not a quote"
    ALGORITHM = "tpm-algorithm", Fault.UNSUPPORTED, "an algorithm or curve is unknown, or too weak to be accepted"
    PCR_SELECTION = "tpm-pcr-selection", Fault.MALFORMED, "the selection of PCRs is empty, or contradicts itself"
    PCR_VALUES = "tpm-pcr-values", Fault.MALFORMED, "the PCR values that are carried are not those that are selected"
    PCR_DIGEST = "tpm-pcr-digest", Fault.REFUSED, "the quote is over other PCR values than are carried"
    KEY_KIND = "tpm-key-kind", Fault.UNSUPPORTED, "the attestation key is none that signs with RSA or ECDSA"
    KEY_SIZE = "tpm-key-size", Fault.REFUSED, "the attestation key is too small"
    KEY_INVALID = "tpm-key-invalid", Fault.REFUSED, "the attestation key is not a usable public key"
    KEY_ATTRIBUTES = "tpm-key-attributes", Fault.REFUSED, "the attestation key could sign what no TPM has attested"
    KEY_CERTIFICATE = "tpm-key-certificate", Fault.REFUSED, "the certificate is for another attestation key"
    SCHEME = "tpm-scheme", Fault.REFUSED, "the signature is made by another scheme than its key is for"
    SIGNATURE = "tpm-signature", Fault.REFUSED, "the quote is not signed by its attestation key"
    SIGNER_NAME = "tpm-signer-name", Fault.REFUSED, "the quote names another key, or another parent of it"


class TpmFinding(ErrorCode):
    """Codes of the checks of an appraisal of TPM evidence; each shows as passed or failed."""

    PCR = "tpm-pcr", Fault.REFUSED, "a PCR has a value that the policy names"
    AK = "tpm-ak", Fault.REFUSED, "the attestation key is one that the policy names"
    FIRMWARE = "tpm-firmware", Fault.REFUSED, "the TPM's firmware is at least as new as the policy's floor"
    CLOCK = "tpm-clock", Fault.REFUSED, "the TPM's clock cannot have run backwards, unless the policy says so"
    EVENT_LOG = "tpm-event-log", Fault.REFUSED, "the event log replays to the quoted PCRs"
    EVENT_LOG_PCRS = "tpm-event-log-pcrs", Fault.REFUSED, "an event log explains every PCR that the policy names"
