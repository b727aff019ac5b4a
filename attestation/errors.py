"""Codes of evidence, session, broker and client.  `host` may import this module: keep it free of anything else."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError


class WireCode(ErrorCode):
    """Codes of frames, handshake, records and messages."""

    FRAME_MALFORMED = "frame-malformed", Fault.MALFORMED, "a frame on the host's side of the wire is not one"
    FRAME_TOO_LARGE = "frame-too-large", Fault.MALFORMED, "a frame claims more bytes than the protocol allows"
    FRAME_VERSION = "frame-version", Fault.UNSUPPORTED, "a frame is of a version that this program does not speak"
    ADDRESS_INVALID = "address-invalid", Fault.USAGE, "the text is not an address of a host agent"
    HANDSHAKE_FAILED = (
        "handshake-failed",
        Fault.REFUSED,
        "a handshake message is malformed or does not authenticate",
    )
    HANDSHAKE_VERSION = (
        "handshake-version",
        Fault.UNSUPPORTED,
        "a hello is of a version that this program does not speak",
    )
    TICKET_REFUSED = "ticket-refused", Fault.REFUSED, "the ticket is unknown, used or dropped; attest anew"
    RECORD_REFUSED = "record-refused", Fault.REFUSED, "a record was altered, dropped, repeated or reordered"
    RECORD_MALFORMED = "record-malformed", Fault.MALFORMED, "an authentic record does not follow the format"
    MESSAGE_TOO_LARGE = "message-too-large", Fault.MALFORMED, "a message is longer than the receiver admits"
    MESSAGE_MALFORMED = "message-malformed", Fault.MALFORMED, "a message's content does not follow its format"
    SESSION_TRUNCATED = "session-truncated", Fault.REFUSED, "the stream ended without a close record"
    SESSION_STATE = "session-state", Fault.INTERNAL, "the session object was used out of order"
    SESSION_CLOSED = "session-closed", Fault.UNAVAILABLE, "the peer has closed the session"


class WireError(StrongroomError):
    """Raised by `attestation.wire`."""


class EvidenceCode(ErrorCode):
    """Codes of evidence and its collateral: formats, chains, signatures, dates, and TCB levels."""

    EVIDENCE_UNKNOWN = "evidence-unknown", Fault.UNSUPPORTED, "the bytes are evidence of no platform that is handled"
    QUOTE_TRUNCATED = "quote-truncated", Fault.MALFORMED, "the quote ends before its fields do"
    QUOTE_TRAILING_BYTES = "quote-trailing-bytes", Fault.MALFORMED, "bytes that nothing signs follow the quote"
    QUOTE_TOO_LARGE = "quote-too-large", Fault.MALFORMED, "the quote is larger than any that a platform makes"
    QUOTE_RESERVED = "quote-reserved", Fault.MALFORMED, "a field that must be zero is not"
    QUOTE_LENGTHS = "quote-lengths", Fault.MALFORMED, "the lengths inside the quote contradict each other"
    QUOTE_VERSION = "quote-version", Fault.UNSUPPORTED, "the quote is of a version that is not handled"
    QUOTE_KEY_TYPE = "quote-key-type", Fault.UNSUPPORTED, "the attestation key is not ECDSA on P-256"
    QUOTE_QE_VENDOR = "quote-qe-vendor", Fault.UNSUPPORTED, "the quoting enclave is not of a known vendor"
    QUOTE_CERTIFICATION = "quote-certification", Fault.UNSUPPORTED, "the quote does not carry its PCK chain (type 5)"

    PEM_MALFORMED = "pem-malformed", Fault.MALFORMED, "the text is not the one PEM form of its certificates"
    DER_MALFORMED = "der-malformed", Fault.MALFORMED, "the bytes are not strict DER of the expected structure"
    CERTIFICATE_MALFORMED = "certificate-malformed", Fault.MALFORMED, "a certificate does not follow its profile"
    CHAIN_LENGTH = "chain-length", Fault.MALFORMED, "the chain has too few or too many certificates"
    CHAIN_ROOT = "chain-root", Fault.REFUSED, "the chain ends in a root that is not pinned"
    CHAIN_SIGNATURE = "chain-signature", Fault.REFUSED, "a certificate is not signed by the next one of its chain"
    CHAIN_NAMES = "chain-names", Fault.REFUSED, "a certificate's issuer is not the subject of the next one"
    CHAIN_ROLE = "chain-role", Fault.REFUSED, "a certificate is not one for the role that it plays here"
    CHAIN_SIMULATED = "chain-simulated", Fault.REFUSED, "a certificate of a simulated platform is below a vendor root"
    CHAIN_NOT_SIMULATED = "chain-not-simulated", Fault.REFUSED, "a simulated root has issued an unmarked certificate"
    CERTIFICATE_EARLY = "certificate-early", Fault.REFUSED, "a certificate is not valid yet"
    CERTIFICATE_EXPIRED = "certificate-expired", Fault.REFUSED, "a certificate is no longer valid"
    CERTIFICATE_REVOKED = "certificate-revoked", Fault.REFUSED, "a certificate of the chain was revoked"
    PCK_EXTENSION = "pck-extension", Fault.MALFORMED, "the SGX extension of the PCK certificate breaks its profile"

    CRL_MALFORMED = "crl-malformed", Fault.MALFORMED, "a revocation list does not follow its profile"
    CRL_SIGNATURE = "crl-signature", Fault.REFUSED, "a revocation list is not signed by its issuer"
    CRL_ISSUER = "crl-issuer", Fault.REFUSED, "a revocation list is from another authority than the certificate"
    CRL_EARLY = "crl-early", Fault.REFUSED, "a revocation list is from the future"
    CRL_EXPIRED = "crl-expired", Fault.REFUSED, "a revocation list is past its next update"

    CBOR_MALFORMED = "cbor-malformed", Fault.MALFORMED, "the bytes are not strict CBOR within its bounds"
    COSE_MALFORMED = "cose-malformed", Fault.MALFORMED, "the bytes are not a COSE_Sign1 message of the expected profile"
    JSON_MALFORMED = "json-malformed", Fault.MALFORMED, "the text is not strict JSON within its bounds"
    COLLATERAL_MALFORMED = "collateral-malformed", Fault.MALFORMED, "the collateral lacks a field or has a wrong one"
    COLLATERAL_MISSING = "collateral-missing", Fault.UNAVAILABLE, "no collateral is held for this platform"
    COLLATERAL_KEY = "collateral-key", Fault.MALFORMED, "the evidence does not say which collateral it needs"
    COLLATERAL_ROOTS = "collateral-roots", Fault.REFUSED, "the collateral was prepared under other roots"
    COLLATERAL_TEE = "collateral-tee", Fault.REFUSED, "the collateral is for another TEE than the evidence"
    TCB_INFO_MALFORMED = "tcb-info-malformed", Fault.MALFORMED, "the TCB info does not follow its format"
    TCB_INFO_UNSUPPORTED = (
        "tcb-info-unsupported",
        Fault.UNSUPPORTED,
        "the TCB info is neither for SGX nor for TDX, or of another version",
    )
    TCB_INFO_SIGNATURE = "tcb-info-signature", Fault.REFUSED, "the TCB info is not signed by its issuer"
    TCB_INFO_EARLY = "tcb-info-early", Fault.REFUSED, "the TCB info is from the future"
    TCB_INFO_EXPIRED = "tcb-info-expired", Fault.REFUSED, "the TCB info is past its next update"
    TCB_INFO_FMSPC = "tcb-info-fmspc", Fault.REFUSED, "the TCB info is for another platform family"
    TCB_INFO_PCE = "tcb-info-pce", Fault.REFUSED, "the TCB info is for another provisioning enclave"
    QE_IDENTITY_MALFORMED = "qe-identity-malformed", Fault.MALFORMED, "the QE identity does not follow its format"
    QE_IDENTITY_UNSUPPORTED = (
        "qe-identity-unsupported",
        Fault.UNSUPPORTED,
        "the identity is of no quoting enclave that is handled, or of another version",
    )
    QE_IDENTITY_SIGNATURE = "qe-identity-signature", Fault.REFUSED, "the QE identity is not signed by its issuer"
    QE_IDENTITY_EARLY = "qe-identity-early", Fault.REFUSED, "the QE identity is from the future"
    QE_IDENTITY_EXPIRED = "qe-identity-expired", Fault.REFUSED, "the QE identity is past its next update"

    ATTESTATION_KEY = "attestation-key", Fault.REFUSED, "the attestation key is not a point on P-256"
    QE_REPORT_SIGNATURE = "qe-report-signature", Fault.REFUSED, "the QE report is not signed by the platform's PCK"
    QE_REPORT_BINDING = "qe-report-binding", Fault.REFUSED, "the QE report does not vouch for the attestation key"
    QE_REPORT_IDENTITY = "qe-report-identity", Fault.REFUSED, "the quoting enclave is not the vendor's"
    QUOTE_SIGNATURE = "quote-signature", Fault.REFUSED, "the quote is not signed by its attestation key"
    TCB_NO_MATCH = "tcb-no-match", Fault.REFUSED, "the platform is below every level of the TCB info"
    QE_TCB_NO_MATCH = "qe-tcb-no-match", Fault.REFUSED, "the quoting enclave is below every level of its identity"
    TCB_REVOKED = "tcb-revoked", Fault.REFUSED, "the vendor has revoked this TCB level"

    APPRAISAL_REFUSED = "appraisal-refused", Fault.REFUSED, "genuine evidence does not meet the policy"
    SIMULATOR_STATE = "simulator-state", Fault.USAGE, "the simulated platform's folder or state file is not usable"
    SIMULATOR_LAUNCH = "simulator-launch", Fault.UNAVAILABLE, "the simulated platform cannot start the enclave"


class EvidenceError(StrongroomError):
    """Raised by parsing, verifying and appraising evidence."""


class PolicyCode(ErrorCode):
    """Codes of policy files."""

    POLICY_MALFORMED = "policy-malformed", Fault.MALFORMED, "the policy is not TOML, or has a wrong or unknown field"
    POLICY_VERSION = "policy-version", Fault.UNSUPPORTED, "the policy is of a version that is not handled"
    POLICY_VACUOUS = "policy-vacuous", Fault.USAGE, "the policy leaves open what it must name"
    POLICY_CONTRADICTION = "policy-contradiction", Fault.USAGE, "two fields of the policy exclude each other"

    FEED_MALFORMED = "hardware-feed-malformed", Fault.MALFORMED, "the list of broken hardware does not follow its format"
    FEED_VERSION = "hardware-feed-version", Fault.UNSUPPORTED, "the list of broken hardware is of a later version"
    FEED_SIGNATURE = (
        "hardware-feed-signature",
        Fault.REFUSED,
        "the list of broken hardware is not signed by the policy's key",
    )
    FEED_ROLLED_BACK = (
        "hardware-feed-rolled-back",
        Fault.REFUSED,
        "the list of broken hardware is older than the policy's floor",
    )


class PolicyError(StrongroomError):
    """Raised for a policy that cannot be used."""


class FindingCode(ErrorCode):
    """Codes of the checks of an appraisal; each shows as passed or failed."""

    TEE = "platform-tee", Fault.REFUSED, "the evidence is of a TEE that the policy has a table for"
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
    CONFIG_SVN = "sgx-config-svn", Fault.REFUSED, "CONFIGSVN is zero, or the one that the policy names"
    ISV_EXT_PROD_ID = "sgx-isv-ext-prod-id", Fault.REFUSED, "ISVEXTPRODID is zero, or the one that the policy names"
    ISV_FAMILY_ID = "sgx-isv-family-id", Fault.REFUSED, "ISVFAMILYID is zero, or the one that the policy names"


class ClientCode(ErrorCode):
    """Codes of the client library."""

    ADDRESS_UNREACHABLE = "address-unreachable", Fault.UNAVAILABLE, "nothing answers at the address"
    TIMED_OUT = "timed-out", Fault.UNAVAILABLE, "the peer did not answer in the time that the caller allows"
    HOST_REFUSED = "host-refused", Fault.UNAVAILABLE, "the host, which nobody trusts, says it cannot serve this"
    FRAME_UNEXPECTED = "frame-unexpected", Fault.MALFORMED, "a frame for another session or deployment arrived"
    RESPONSE_UNEXPECTED = "response-unexpected", Fault.MALFORMED, "a response does not answer the request"
    REMOTE_REFUSED = "remote-refused", Fault.REFUSED, "the enclave refused the request; it names its own code"
    CLIENT_CLOSED = "client-closed", Fault.USAGE, "the session was closed, or ended by an earlier error"
    COLLATERAL_UNNAMED = "collateral-unnamed", Fault.USAGE, "no source of collateral was given"
    POLICY_UNSUITABLE = "policy-unsuitable", Fault.USAGE, "the policy has no table for what it is used for"
    ADMITS_ANY_OWNER = "admits-any-owner", Fault.REFUSED, "the enclave serves any owner and the policy does not"
    OWNER_NOT_SERVED = "owner-not-served", Fault.UNAVAILABLE, "the enclave holds no model of an accepted owner yet"
    OWNER_NOT_ACCEPTED = "owner-not-accepted", Fault.REFUSED, "a response comes under an owner not in the policy"
    BEAT_INVALID = "beat-invalid", Fault.REFUSED, "the broker's heartbeat or its delegation does not verify"
    BEAT_STALE = "beat-stale", Fault.REFUSED, "the broker's newest heartbeat is older than the policy accepts"
    EPOCH_ROLLBACK = "epoch-rollback", Fault.REFUSED, "an epoch is lower than the policy's or one seen before"
    MODEL_NAME_INVALID = "model-name-invalid", Fault.USAGE, "the model is named in no way that can be resolved"
    MODEL_NOT_ALLOWED = "model-not-allowed", Fault.REFUSED, "the model's digest is not in the policy's list"
    TENSOR_INVALID = "tensor-invalid", Fault.USAGE, "an input cannot be read, or cannot travel as a tensor"


class ClientError(StrongroomError):
    """Raised by `attestation.client`."""


class BrokerCode(ErrorCode):
    """Codes of the key broker: its home, its store, its audit log, its decisions, and its talk with enclaves."""

    HOME_EXISTS = "broker-home-exists", Fault.USAGE, "the folder already holds something"
    HOME_INVALID = "broker-home-invalid", Fault.USAGE, "the folder is not a broker's home, or its making was cut short"
    HOME_VERSION = "broker-home-version", Fault.UNSUPPORTED, "another version of the program made this home"
    HOME_EXPOSED = "broker-home-exposed", Fault.REFUSED, "others than its owner may enter the broker's home"

    STORE_UNAVAILABLE = "store-unavailable", Fault.UNAVAILABLE, "the database cannot be opened, read or written"
    STORE_BUSY = "store-busy", Fault.UNAVAILABLE, "another process holds the database for too long"
    STORE_FULL = "store-full", Fault.UNAVAILABLE, "no space is left for the database, so nothing was released"
    STORE_VERSION = "store-version", Fault.UNSUPPORTED, "the database has a schema that this program does not know"
    STORE_ALTERED = "store-altered", Fault.REFUSED, "the database was changed by something else than the broker"
    STORE_ROLLED_BACK = "store-rolled-back", Fault.REFUSED, "the database is older than what the broker remembers"
    ANCHOR_BEHIND = (
        "anchor-behind",
        Fault.UNAVAILABLE,
        "the change is recorded and in force, but the anchor could not be written: no key was released for it",
    )
    KEY_UNWRAP_FAILED = "key-unwrap-failed", Fault.REFUSED, "a wrapped key does not belong to its owner and model"

    AUDIT_MALFORMED = "audit-malformed", Fault.MALFORMED, "an audit row or an exported log does not follow its format"
    AUDIT_VERSION = "audit-version", Fault.UNSUPPORTED, "a newer version of the program wrote this row or log"
    AUDIT_ORDER = "audit-order", Fault.REFUSED, "an audit row is missing, moved or repeated"
    AUDIT_ALTERED = "audit-altered", Fault.REFUSED, "an audit row does not carry the broker's signature"
    AUDIT_FORKED = "audit-forked", Fault.REFUSED, "an audit row was signed for another history than this one"
    AUDIT_TOO_LARGE = "audit-too-large", Fault.REFUSED, "an event does not fit an audit row, so nothing was recorded"
    AUDIT_HEAD = "audit-head", Fault.REFUSED, "the log does not contain the head it is held against: its end was cut"

    MODEL_UNKNOWN = "model-not-held", Fault.USAGE, "the broker holds no such model"
    MODEL_HELD = "model-held", Fault.USAGE, "the broker already holds this model"
    MODEL_LEASED = "model-leased", Fault.REFUSED, "enclaves may still hold an unspent lease on the model"
    POLICY_MISSING = "policy-missing", Fault.USAGE, "no release policy is set, so nothing is released"
    ENCLAVE_UNKNOWN = "enclave-not-known", Fault.USAGE, "the broker has given no key to such an enclave"
    REVOCATION_VACUOUS = "revocation-vacuous", Fault.USAGE, "the revocation would change nothing"

    RELEASE_REFUSED = "release-refused", Fault.REFUSED, "an enclave does not meet what the policy expects"
    PLATFORM_MIXED = "platform-mixed", Fault.REFUSED, "the platform is of another class than the policy is for"
    EVIDENCE_EXPIRED = "evidence-expired", Fault.REFUSED, "the evidence or its collateral is no longer valid"
    POLICY_CHANGED = (
        "policy-changed",
        Fault.REFUSED,
        "the evidence was appraised under another policy than the one in force",
    )
    OWNER_NOT_ADMITTED = "owner-not-admitted", Fault.REFUSED, "the enclave does not admit this model's owner"
    MODEL_NOT_IN_POLICY = "model-not-in-policy", Fault.REFUSED, "the release policy does not name this model"
    MODEL_REVOKED = "release-revoked", Fault.REFUSED, "this model was revoked"
    EPOCH_BELOW_POLICY = "epoch-below-policy", Fault.REFUSED, "the model is older than the policy's floor"
    EPOCH_BELOW_DELEGATION = "epoch-below-delegation", Fault.REFUSED, "the model is older than the delegation's floor"
    EPOCH_REVOKED = "epoch-revoked", Fault.REFUSED, "the model is older than a revocation's floor"
    EPOCH_SUPERSEDED = "epoch-superseded", Fault.REFUSED, "the broker holds a newer epoch of this model"
    EPOCH_BEHIND_ENCLAVE = (
        "epoch-behind-enclave",
        Fault.REFUSED,
        "the enclave holds a newer heartbeat of this very broker: the broker's state was rolled back",
    )
    DELEGATION_BROKER = "delegation-broker", Fault.REFUSED, "the delegation names another broker"
    DELEGATION_OWNER = "delegation-owner", Fault.REFUSED, "the delegation was not signed by the model's owner"
    DELEGATION_RIGHT = "delegation-right", Fault.REFUSED, "the delegation does not give this right"
    DELEGATION_MODEL = "delegation-model", Fault.REFUSED, "the delegation does not cover this model"
    ENCLAVES_EXHAUSTED = "enclaves-exhausted", Fault.REFUSED, "as many enclaves as the policy allows hold this model"
    SESSION_USED = "session-used", Fault.REFUSED, "this model was already released in this session"
    LEASE_UNKNOWN = "lease-unknown", Fault.REFUSED, "the enclave asks to renew a lease that it was never granted"

    ENCLAVE_UNEXPECTED = "enclave-unexpected", Fault.MALFORMED, "the enclave's answer is not what the broker asked for"


class BrokerError(StrongroomError):
    """Raised by `attestation.broker`."""
