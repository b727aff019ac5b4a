"""Codes of Nitro attestation documents, beside those that all evidence shares in `attestation.errors`."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault

_WHOLE = "get the document again, whole and as the Nitro Security Module returns it"


class NitroCode(ErrorCode):
    """Codes of attestation documents of AWS Nitro enclaves."""

    TOO_LARGE = (
        "nitro-too-large",
        Fault.MALFORMED,
        "the document is larger than the Nitro Security Module makes one",
        _WHOLE,
    )
    ALGORITHM = (
        "nitro-algorithm",
        Fault.UNSUPPORTED,
        "the document is not signed with ES384",
        "use documents of the Nitro Security Module, which signs with ES384",
    )
    DIGEST = (
        "nitro-digest",
        Fault.UNSUPPORTED,
        "the document's registers are not of SHA-384",
        "use a newer release, if AWS has introduced another digest",
    )
    MALFORMED = (
        "nitro-malformed",
        Fault.MALFORMED,
        "a field of the document is missing, unknown or out of its bounds",
        _WHOLE,
    )
    SIGNATURE = (
        "nitro-signature",
        Fault.REFUSED,
        "the document is not signed by its certificate's key",
        "treat the document as forged",
    )
    TIMESTAMP = (
        "nitro-timestamp",
        Fault.REFUSED,
        "the document was not made while its certificate was valid",
        "treat the document as forged: the module makes both at once",
    )
    EARLY = ("nitro-early", Fault.REFUSED, "the document is from the future", "check this machine's clock")
    MODULE = (
        "nitro-module",
        Fault.REFUSED,
        "the document is of another module than its certificate",
        "treat the document as forged: a module names itself in both",
    )


class NitroFinding(ErrorCode):
    """Codes of the checks of a Nitro appraisal; each shows as passed or failed."""

    DEBUG = "nitro-debug", Fault.REFUSED, "the enclave is not in debug mode, unless the policy says so"
    PCR = "nitro-pcr", Fault.REFUSED, "a platform configuration register is one that the policy names"
    MODULE_ID = "nitro-module-id", Fault.REFUSED, "the enclave's module is one that the policy names"
