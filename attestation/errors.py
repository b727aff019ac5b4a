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
    KEY_UNWRAP_FAILED = "key-unwrap-failed", Fault.REFUSED, "a wrapped key does not belong to its owner and model"

    AUDIT_MALFORMED = "audit-malformed", Fault.MALFORMED, "an audit row or an exported log does not follow its format"
    AUDIT_ORDER = "audit-order", Fault.REFUSED, "an audit row is missing, moved or repeated"
    AUDIT_ALTERED = "audit-altered", Fault.REFUSED, "an audit row does not carry the broker's signature"
    AUDIT_FORKED = "audit-forked", Fault.REFUSED, "an audit row was signed for another history than this one"
    AUDIT_HEAD = "audit-head", Fault.REFUSED, "the log does not contain the head it is held against: its end was cut"

    MODEL_UNKNOWN = "model-unknown", Fault.USAGE, "the broker holds no such model"
    MODEL_HELD = "model-held", Fault.USAGE, "the broker already holds this model"
    POLICY_MISSING = "policy-missing", Fault.USAGE, "no release policy is set, so nothing is released"
    REVOCATION_VACUOUS = "revocation-vacuous", Fault.USAGE, "the revocation would change nothing"

    RELEASE_REFUSED = "release-refused", Fault.REFUSED, "an enclave does not meet what the policy expects"
    PLATFORM_MIXED = "platform-mixed", Fault.REFUSED, "the platform is of another class than the policy is for"
    EVIDENCE_EXPIRED = "evidence-expired", Fault.REFUSED, "the evidence or its collateral is no longer valid"
    OWNER_NOT_ADMITTED = "owner-not-admitted", Fault.REFUSED, "the enclave does not admit this model's owner"
    MODEL_NOT_IN_POLICY = "model-not-in-policy", Fault.REFUSED, "the release policy does not name this model"
    MODEL_REVOKED = "model-revoked", Fault.REFUSED, "this model was revoked"
    EPOCH_BELOW_POLICY = "epoch-below-policy", Fault.REFUSED, "the model is older than the policy's floor"
    EPOCH_BELOW_DELEGATION = "epoch-below-delegation", Fault.REFUSED, "the model is older than the delegation's floor"
    EPOCH_REVOKED = "epoch-revoked", Fault.REFUSED, "the model is older than a revocation's floor"
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
    ENCLAVE_REFUSED = "enclave-refused", Fault.REFUSED, "the enclave refused what the broker sent it"


class BrokerError(StrongroomError):
    """Raised by `attestation.broker`."""
