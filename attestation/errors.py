"""Codes of evidence, session and policy.  `host` may import this module: keep it free of anything else."""

from __future__ import annotations

from typing import Any

from manifests.errors import ErrorCode, Fault, StrongroomError

_PEER = "check that the address is that of a Strongroom host agent"
_OLDER = "update the older of the two sides"
_COMPARE = "compare the versions of the two sides"
_ANEW = "connect again; if it stays so, the host or the network alters what is sent"


class WireCode(ErrorCode):
    """Codes of frames, handshake, records and messages."""

    FRAME_MALFORMED = "frame-malformed", Fault.MALFORMED, "a frame on the host's side of the wire is not one", _PEER
    FRAME_TOO_LARGE = "frame-too-large", Fault.MALFORMED, "a frame claims more bytes than the protocol allows", _PEER
    FRAME_VERSION = (
        "frame-version",
        Fault.UNSUPPORTED,
        "a frame is of a version that this program does not speak",
        _OLDER,
    )
    ADDRESS_INVALID = (
        "address-invalid",
        Fault.USAGE,
        "the text is not an address of a host agent",
        "write unix:/path or tcp:HOST:PORT",
    )
    HANDSHAKE_FAILED = (
        "handshake-failed",
        Fault.REFUSED,
        "a handshake message is malformed or does not authenticate",
        _ANEW,
    )
    HANDSHAKE_VERSION = (
        "handshake-version",
        Fault.UNSUPPORTED,
        "a hello is of a version that this program does not speak",
        _OLDER,
    )
    TICKET_REFUSED = (
        "ticket-refused",
        Fault.REFUSED,
        "the ticket is unknown, used or dropped; attest anew",
        "connect without the ticket: the enclave is attested anew",
    )
    RECORD_REFUSED = "record-refused", Fault.REFUSED, "a record was altered, dropped, repeated or reordered", _ANEW
    RECORD_MALFORMED = "record-malformed", Fault.MALFORMED, "an authentic record does not follow the format", _COMPARE
    MESSAGE_TOO_LARGE = (
        "message-too-large",
        Fault.MALFORMED,
        "a message is longer than the receiver admits",
        "send fewer rows at once",
    )
    MESSAGE_MALFORMED = "message-malformed", Fault.MALFORMED, "a message's content does not follow its format", _COMPARE
    SESSION_TRUNCATED = "session-truncated", Fault.REFUSED, "the stream ended without a close record", _ANEW
    SESSION_STATE = (
        "session-state",
        Fault.INTERNAL,
        "the session object was used out of order",
        "use a session as docs/client.md shows; if you did, please report it",
    )
    SESSION_CLOSED = (
        "session-closed",
        Fault.UNAVAILABLE,
        "the peer has closed the session",
        "connect again; a new session attests the enclave anew",
    )


class WireError(StrongroomError):
    """Raised by `attestation.wire`."""


_RAW = "get the evidence again, whole and as raw bytes: `strongroom attest show ADDRESS -o FILE`"
_CLOCK = "check this machine's clock"
_FRESH = "fetch fresh collateral of this very platform; a simulated one publishes its own with `strongroom sim init`"


class EvidenceCode(ErrorCode):
    """Codes of evidence and its collateral: formats, chains, signatures, dates, and TCB levels."""

    EVIDENCE_DEVICE = (
        "evidence-device",
        Fault.REFUSED,
        "the evidence is of a device, and says nothing of the code that uses it",
        "give the evidence of the processor, and the device's beside it",
    )
    EVIDENCE_UNKNOWN = (
        "evidence-unknown",
        Fault.UNSUPPORTED,
        "the bytes are evidence of no platform that is handled",
        _RAW,
    )
    WRAPPING_AMBIGUOUS = (
        "wrapping-ambiguous",
        Fault.MALFORMED,
        "the text holds more than one piece of evidence, or none that is whole",
        "give one piece of evidence, by itself",
    )
    WRAPPING_TOO_LARGE = (
        "wrapping-too-large",
        Fault.MALFORMED,
        "what wraps the evidence is larger, or nested deeper, than any tool makes it",
        _RAW,
    )
    QUOTE_TRUNCATED = "quote-truncated", Fault.MALFORMED, "the quote ends before its fields do", _RAW
    QUOTE_TRAILING_BYTES = "quote-trailing-bytes", Fault.MALFORMED, "bytes that nothing signs follow the quote", _RAW
    QUOTE_TOO_LARGE = "quote-too-large", Fault.MALFORMED, "the quote is larger than any that a platform makes", _RAW
    QUOTE_RESERVED = "quote-reserved", Fault.MALFORMED, "a field that must be zero is not", _RAW
    QUOTE_LENGTHS = "quote-lengths", Fault.MALFORMED, "the lengths inside the quote contradict each other", _RAW
    QUOTE_VERSION = "quote-version", Fault.UNSUPPORTED, "the quote is of a version that is not handled"
    QUOTE_KEY_TYPE = "quote-key-type", Fault.UNSUPPORTED, "the attestation key is not ECDSA on P-256"
    QUOTE_QE_VENDOR = "quote-qe-vendor", Fault.UNSUPPORTED, "the quoting enclave is not of a known vendor"
    QUOTE_CERTIFICATION = "quote-certification", Fault.UNSUPPORTED, "the quote does not carry its PCK chain (type 5)"

    PEM_MALFORMED = "pem-malformed", Fault.MALFORMED, "the text is not the one PEM form of its certificates"
    CERTIFICATE_MALFORMED = "certificate-malformed", Fault.MALFORMED, "a certificate does not follow its profile"
    CHAIN_LENGTH = "chain-length", Fault.MALFORMED, "the chain has too few or too many certificates"
    CHAIN_ROOT = "chain-root", Fault.REFUSED, "the chain ends in a root that is not pinned"
    CHAIN_SIGNATURE = "chain-signature", Fault.REFUSED, "a certificate is not signed by the next one of its chain"
    CHAIN_NAMES = "chain-names", Fault.REFUSED, "a certificate's issuer is not the subject of the next one"
    CHAIN_ROLE = "chain-role", Fault.REFUSED, "a certificate is not one for the role that it plays here"
    CHAIN_SIMULATED = "chain-simulated", Fault.REFUSED, "a certificate of a simulated platform is below a vendor root"
    CHAIN_NOT_SIMULATED = "chain-not-simulated", Fault.REFUSED, "a simulated root has issued an unmarked certificate"
    CERTIFICATE_EARLY = "certificate-early", Fault.REFUSED, "a certificate is not valid yet", _CLOCK
    CERTIFICATE_EXPIRED = "certificate-expired", Fault.REFUSED, "a certificate is no longer valid", _FRESH
    CERTIFICATE_REVOKED = "certificate-revoked", Fault.REFUSED, "a certificate of the chain was revoked"
    PCK_EXTENSION = "pck-extension", Fault.MALFORMED, "the SGX extension of the PCK certificate breaks its profile"

    CRL_MALFORMED = "crl-malformed", Fault.MALFORMED, "a revocation list does not follow its profile", _FRESH
    CRL_SIGNATURE = "crl-signature", Fault.REFUSED, "a revocation list is not signed by its issuer"
    CRL_ISSUER = "crl-issuer", Fault.REFUSED, "a revocation list is from another authority than the certificate"
    CRL_EARLY = "crl-early", Fault.REFUSED, "a revocation list is from the future", _CLOCK
    CRL_EXPIRED = "crl-expired", Fault.REFUSED, "a revocation list is past its next update", _FRESH

    CBOR_MALFORMED = "cbor-malformed", Fault.MALFORMED, "the bytes are not strict CBOR within its bounds"
    COSE_MALFORMED = "cose-malformed", Fault.MALFORMED, "the bytes are not a COSE_Sign1 message of the expected profile"
    JSON_MALFORMED = "json-malformed", Fault.MALFORMED, "the text is not strict JSON within its bounds"
    COLLATERAL_MALFORMED = (
        "collateral-malformed",
        Fault.MALFORMED,
        "the collateral lacks a field or has a wrong one",
        _FRESH,
    )
    COLLATERAL_MISSING = "collateral-missing", Fault.UNAVAILABLE, "no collateral is held for this platform", _FRESH
    COLLATERAL_KEY = "collateral-key", Fault.MALFORMED, "the evidence does not say which collateral it needs"
    COLLATERAL_ROOTS = "collateral-roots", Fault.REFUSED, "the collateral was prepared under other roots", _FRESH
    COLLATERAL_TEE = "collateral-tee", Fault.REFUSED, "the collateral is for another TEE than the evidence", _FRESH
    TCB_INFO_MALFORMED = "tcb-info-malformed", Fault.MALFORMED, "the TCB info does not follow its format", _FRESH
    TCB_INFO_UNSUPPORTED = (
        "tcb-info-unsupported",
        Fault.UNSUPPORTED,
        "the TCB info is neither for SGX nor for TDX, or of another version",
    )
    TCB_INFO_SIGNATURE = "tcb-info-signature", Fault.REFUSED, "the TCB info is not signed by its issuer"
    TCB_INFO_EARLY = "tcb-info-early", Fault.REFUSED, "the TCB info is from the future", _CLOCK
    TCB_INFO_EXPIRED = "tcb-info-expired", Fault.REFUSED, "the TCB info is past its next update", _FRESH
    TCB_INFO_FMSPC = "tcb-info-fmspc", Fault.REFUSED, "the TCB info is for another platform family", _FRESH
    TCB_INFO_PCE = "tcb-info-pce", Fault.REFUSED, "the TCB info is for another provisioning enclave", _FRESH
    QE_IDENTITY_MALFORMED = (
        "qe-identity-malformed",
        Fault.MALFORMED,
        "the QE identity does not follow its format",
        _FRESH,
    )
    QE_IDENTITY_UNSUPPORTED = (
        "qe-identity-unsupported",
        Fault.UNSUPPORTED,
        "the identity is of no quoting enclave that is handled, or of another version",
    )
    QE_IDENTITY_SIGNATURE = "qe-identity-signature", Fault.REFUSED, "the QE identity is not signed by its issuer"
    QE_IDENTITY_EARLY = "qe-identity-early", Fault.REFUSED, "the QE identity is from the future", _CLOCK
    QE_IDENTITY_EXPIRED = "qe-identity-expired", Fault.REFUSED, "the QE identity is past its next update", _FRESH

    ATTESTATION_KEY = "attestation-key", Fault.REFUSED, "the attestation key is not a point on P-256"
    QE_REPORT_SIGNATURE = "qe-report-signature", Fault.REFUSED, "the QE report is not signed by the platform's PCK"
    QE_REPORT_BINDING = "qe-report-binding", Fault.REFUSED, "the QE report does not vouch for the attestation key"
    QE_REPORT_IDENTITY = "qe-report-identity", Fault.REFUSED, "the quoting enclave is not the vendor's"
    QUOTE_SIGNATURE = "quote-signature", Fault.REFUSED, "the quote is not signed by its attestation key"
    TCB_NO_MATCH = (
        "tcb-no-match",
        Fault.REFUSED,
        "the platform is below every level of the TCB info",
        "update the platform's firmware and microcode",
    )
    QE_TCB_NO_MATCH = (
        "qe-tcb-no-match",
        Fault.REFUSED,
        "the quoting enclave is below every level of its identity",
        "update the platform's quoting enclave",
    )
    TCB_REVOKED = "tcb-revoked", Fault.REFUSED, "the vendor has revoked this TCB level"

    VERIFIER_DEFECT = (
        "verifier-defect",
        Fault.INTERNAL,
        "the verifier met a defect of its own over this piece, which is neither accepted nor refused",
        "please report it, with the piece of evidence",
    )
    APPRAISAL_REFUSED = "appraisal-refused", Fault.REFUSED, "genuine evidence does not meet the policy"
    SIMULATOR_STATE = "simulator-state", Fault.USAGE, "the simulated platform's folder or state file is not usable"
    SIMULATOR_LAUNCH = "simulator-launch", Fault.UNAVAILABLE, "the simulated platform cannot start the enclave"
    SIMULATOR_CONFINEMENT = (
        "simulator-confinement",
        Fault.UNSUPPORTED,
        "the kernel cannot keep the simulated enclave to its trusted files",
    )


_BY_FAULT = {
    Fault.USAGE: "correct what was asked for; docs/attestation.md explains it",
    Fault.UNAVAILABLE: "try again; if it stays so, look at the machine that gives evidence or collateral",
    Fault.MALFORMED: "get evidence and collateral again; if it stays so, whoever made them does not keep to the format",
    Fault.UNSUPPORTED: "use a newer release, or a platform that this one handles (docs/attestation.md)",
    Fault.REFUSED: "get evidence and collateral again; if it stays so, do not trust this platform",
}


class EvidenceError(StrongroomError):
    """Raised by parsing, verifying and appraising evidence; its remedy is that of its code, or of the code's fault."""

    def __init__(self, code: ErrorCode, message: str, **details: Any) -> None:
        """Keep what `StrongroomError` keeps."""
        super().__init__(code, message, **details)
        self.remedy = self.remedy or _BY_FAULT.get(code.fault)


_FIELDS = "docs/policy.md explains each field"
_FEED = "get a whole and current copy from whoever signs it"


class PolicyCode(ErrorCode):
    """Codes of policy files."""

    POLICY_MALFORMED = (
        "policy-malformed",
        Fault.MALFORMED,
        "the policy is not TOML, or has a wrong or unknown field",
        _FIELDS,
    )
    POLICY_VERSION = (
        "policy-version",
        Fault.UNSUPPORTED,
        "the policy is of a version that is not handled",
        "use a newer release",
    )
    POLICY_VACUOUS = "policy-vacuous", Fault.USAGE, "the policy leaves open what it must name", _FIELDS
    POLICY_CONTRADICTION = (
        "policy-contradiction",
        Fault.USAGE,
        "two fields of the policy exclude each other",
        "keep one of the two; docs/policy.md explains each field",
    )

    FEED_MALFORMED = (
        "hardware-feed-malformed",
        Fault.MALFORMED,
        "the list of broken hardware does not follow its format",
        _FEED,
    )
    FEED_VERSION = (
        "hardware-feed-version",
        Fault.UNSUPPORTED,
        "the list of broken hardware is of a later version",
        "use a newer release",
    )
    FEED_SIGNATURE = (
        "hardware-feed-signature",
        Fault.REFUSED,
        "the list of broken hardware is not signed by the policy's key",
        _FEED,
    )
    FEED_ROLLED_BACK = (
        "hardware-feed-rolled-back",
        Fault.REFUSED,
        "the list of broken hardware is older than the policy's floor",
        _FEED,
    )


class PolicyError(StrongroomError):
    """Raised for a policy that cannot be used."""


class FindingCode(ErrorCode):
    """Codes of the checks of an appraisal; each shows as passed or failed."""

    TEE = "platform-tee", Fault.REFUSED, "the evidence is of a TEE that the policy has a table for"
    BARE = (
        "platform-bare",
        Fault.REFUSED,
        "the evidence stands in the wrapping, or beside the processor's, that the policy has a table for",
    )
    CLASS = "platform-class", Fault.REFUSED, "hardware or simulated, as the policy says"
    ROOT = "platform-root", Fault.REFUSED, "the chains end in the root that the policy names"
    TCB_STATUS = "tcb-status", Fault.REFUSED, "the TCB status is one that the policy names"
    ADVISORIES = "tcb-advisories", Fault.REFUSED, "every advisory that applies is one that the policy accepts"
    TCB_EVALUATION = "tcb-evaluation", Fault.REFUSED, "the TCB info is at least as new as the policy's floor"
    COLLATERAL_AGE = "collateral-age", Fault.REFUSED, "the collateral is no older than the policy allows"
    COLLATERAL_DATES = "collateral-dates", Fault.REFUSED, "collateral and certificates are valid at this time"
    TCB_DATE = "tcb-date", Fault.REFUSED, "the platform deals with what was published up to the policy's date"
    DENIED = "platform-denied", Fault.REFUSED, "the platform is none that the policy refuses by name"
    BROKEN = "platform-broken", Fault.REFUSED, "the platform is not on the list of broken hardware"
    FEED_DATES = "hardware-feed-dates", Fault.REFUSED, "the list of broken hardware is valid at this time"
    FEED_AGE = "hardware-feed-age", Fault.REFUSED, "the list of broken hardware is no older than the policy allows"
    FMSPC = "platform-fmspc", Fault.REFUSED, "the platform family is one that the policy names"
    PPID = "platform-ppid", Fault.REFUSED, "the platform is one that the policy names"
    TCB_COMPONENTS = "tcb-components", Fault.REFUSED, "each component of the TCB reaches the policy's floor for it"
    QE_ISV_SVN = "qe-isv-svn", Fault.REFUSED, "the quoting enclave's security version reaches the policy's floor"
    REPORT_DATA = "report-data", Fault.REFUSED, "the quote is bound to this session and these claims"
    MRENCLAVE = "sgx-mrenclave", Fault.REFUSED, "the enclave's measurement is one that the policy names"
    MRSIGNER = "sgx-mrsigner", Fault.REFUSED, "the enclave's signer is one that the policy names"
    ISV_PROD_ID = "sgx-isv-prod-id", Fault.REFUSED, "the signer's product is the one that the policy names"
    ISV_SVN = "sgx-isv-svn", Fault.REFUSED, "the enclave's security version reaches the policy's floor"
    INIT = "sgx-init", Fault.REFUSED, "the enclave was initialised"
    MODE64 = "sgx-mode64", Fault.REFUSED, "the enclave runs in 64-bit mode"
    DEBUG = "sgx-debug", Fault.REFUSED, "the enclave is not in debug mode, unless the policy says so"
    PROVISION_KEY = "sgx-provision-key", Fault.REFUSED, "no access to provisioning keys, unless the policy says so"
    EINITTOKEN_KEY = "sgx-einittoken-key", Fault.REFUSED, "no access to the launch key, unless the policy says so"
    ATTRIBUTES = "sgx-attributes", Fault.REFUSED, "no attribute is set that neither rule nor policy knows"
    XFRM = "sgx-xfrm", Fault.REFUSED, "the enabled processor features are as the policy says"
    MISCSELECT = "sgx-miscselect", Fault.REFUSED, "the extended state frame is as the policy says"
    CET_ATTRIBUTES = "sgx-cet-attributes", Fault.REFUSED, "control-flow attributes are as the policy says"
    CONFIG_ID = "sgx-config-id", Fault.REFUSED, "CONFIGID is zero, or one that the policy names"
    CONFIG_SVN = "sgx-config-svn", Fault.REFUSED, "CONFIGSVN is zero, or as the policy says"
    ISV_EXT_PROD_ID = "sgx-isv-ext-prod-id", Fault.REFUSED, "ISVEXTPRODID is zero, or the one that the policy names"
    ISV_FAMILY_ID = "sgx-isv-family-id", Fault.REFUSED, "ISVFAMILYID is zero, or the one that the policy names"


class SessionFinding(ErrorCode):
    """Codes of the checks of a session's appraisal, beside those of its evidence."""

    DEVICES = "session-devices", Fault.REFUSED, "the enclave uses no device but those whose evidence is appraised, too"
    DEVICE_CLASS = "session-device-class", Fault.REFUSED, "enclave and devices are both hardware, or both simulated"
