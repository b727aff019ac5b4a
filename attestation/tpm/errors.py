"""Codes of TPM evidence: what its bytes are, who signed it, and what a policy checks."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class TpmCode(ErrorCode):
    """Codes of TPM 2.0 quotes and of the container that they travel in."""

    EVIDENCE_MALFORMED = (
        "tpm-evidence-malformed",
        Fault.MALFORMED,
        "the container of TPM evidence breaks its format",
        "carry the quote in the container of docs/attestation-tpm.md, in its one encoding",
    )
    EVIDENCE_VERSION = (
        "tpm-evidence-version",
        Fault.UNSUPPORTED,
        "the container is of a version that is not handled",
        "use a newer release",
    )
    TRUNCATED = (
        "tpm-truncated",
        Fault.MALFORMED,
        "a TPM structure ends before its fields do",
        "carry the structure whole, as the TPM returned it",
    )
    TRAILING_BYTES = (
        "tpm-trailing-bytes",
        Fault.MALFORMED,
        "bytes follow the end of a TPM structure",
        "carry the structure alone: neither a command's other answers nor padding",
    )
    SIZE = (
        "tpm-size",
        Fault.MALFORMED,
        "a field of a TPM structure has a size that its type does not allow",
        "carry the structure as the TPM returned it, without a length of your own before it",
    )
    RESERVED = (
        "tpm-reserved",
        Fault.MALFORMED,
        "reserved bits of a TPM structure are set",
        "use a newer release: the specification may have given the bits a meaning that this one does not know",
    )
    MAGIC = (
        "tpm-magic",
        Fault.REFUSED,
        "the signed message does not begin as what only a TPM can make",
        "treat the message as forged: a restricted key signs nothing else that begins so",
    )
    ATTEST_TYPE = (
        "tpm-attest-type",
        Fault.UNSUPPORTED,
        "the attestation is not a quote",
        "ask the TPM for a quote (TPM2_Quote)",
    )
    ALGORITHM = (
        "tpm-algorithm",
        Fault.UNSUPPORTED,
        "an algorithm or curve is unknown, or too weak to be accepted",
        "use RSA or ECDSA on a NIST curve, with SHA-256, SHA-384 or SHA-512",
    )
    PCR_SELECTION = (
        "tpm-pcr-selection",
        Fault.MALFORMED,
        "the selection of PCRs is empty, or contradicts itself",
        "quote at least one PCR, and name each bank once",
    )
    PCR_VALUES = (
        "tpm-pcr-values",
        Fault.MALFORMED,
        "the PCR values that are carried are not those that are selected",
        "carry one value for each PCR that the quote's own selection names, in its order",
    )
    PCR_DIGEST = (
        "tpm-pcr-digest",
        Fault.REFUSED,
        "the quote is over other PCR values than are carried",
        "read the PCRs again: one was extended between reading and quoting, or a value was altered",
    )
    KEY_KIND = (
        "tpm-key-kind",
        Fault.UNSUPPORTED,
        "the attestation key is none that signs with RSA or ECDSA",
        "quote with a restricted signing key; an endorsement or storage key cannot sign",
    )
    KEY_SIZE = (
        "tpm-key-size",
        Fault.REFUSED,
        "the attestation key is too small",
        "make an attestation key of at least 2048 bits (RSA), or on P-256, P-384 or P-521",
    )
    KEY_INVALID = (
        "tpm-key-invalid",
        Fault.REFUSED,
        "the attestation key is not a usable public key",
        "carry the public area as the TPM returned it",
    )
    KEY_ATTRIBUTES = (
        "tpm-key-attributes",
        Fault.REFUSED,
        "the attestation key could sign what no TPM has attested",
        "make the attestation key as a restricted signing key that never leaves its TPM",
    )
    KEY_CERTIFICATE = (
        "tpm-key-certificate",
        Fault.REFUSED,
        "the certificate is for another attestation key",
        "carry the certificate of the key that quotes",
    )
    SCHEME = (
        "tpm-scheme",
        Fault.REFUSED,
        "the signature is made by another scheme than its key is for",
        "quote with the scheme and hash that the key's public area fixes",
    )
    SIGNATURE = (
        "tpm-signature",
        Fault.REFUSED,
        "the quote is not signed by its attestation key",
        "treat the evidence as altered, or as made under another key",
    )
    SIGNER_NAME = (
        "tpm-signer-name",
        Fault.REFUSED,
        "the quote names another key, or another parent of it",
        "carry the public area of the key that quotes, and the qualified name of its parent",
    )


class PackCode(ErrorCode):
    """Codes of making a container from what a TPM's tools have written."""

    PCR_FILE = (
        "tpm-pcr-file",
        Fault.MALFORMED,
        "the file of PCR values is in neither of the forms that tpm2-tools write",
        "write it with `tpm2_quote ... -o FILE`, or `tpm2_pcrread -o FILE` of what the quote selects",
    )
    KEY_BARE = (
        "tpm-key-bare",
        Fault.UNSUPPORTED,
        "the key comes without its public area, and nothing tells what else it may sign",
        "write the public area instead: `tpm2_readpublic -c KEY -f tss -o FILE`",
    )


class TpmFinding(ErrorCode):
    """Codes of the checks of an appraisal of TPM evidence; each shows as passed or failed."""

    PCR = "tpm-pcr", Fault.REFUSED, "a PCR has a value that the policy names"
    AK = "tpm-ak", Fault.REFUSED, "the attestation key is one that the policy names"
    FIRMWARE = "tpm-firmware", Fault.REFUSED, "the TPM's firmware is at least as new as the policy's floor"
    CLOCK = "tpm-clock", Fault.REFUSED, "the TPM's clock cannot have run backwards, unless the policy says so"
    EVENT_LOG = "tpm-event-log", Fault.REFUSED, "the event log replays to the quoted PCRs"
    EVENT_LOG_PCRS = "tpm-event-log-pcrs", Fault.REFUSED, "an event log explains every PCR that the policy names"
