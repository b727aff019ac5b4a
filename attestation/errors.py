"""Codes of evidence, session, broker and client.  `host` may import this module: keep it free of anything else."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError


class WireCode(ErrorCode):
    """Codes of frames, handshake, records and messages."""

    FRAME_MALFORMED = "frame-malformed", Fault.MALFORMED, "a frame on the host's side of the wire is not one"
    FRAME_TOO_LARGE = "frame-too-large", Fault.MALFORMED, "a frame claims more bytes than the protocol allows"
    HANDSHAKE_FAILED = (
        "handshake-failed",
        Fault.REFUSED,
        "a handshake message is malformed or does not authenticate",
    )
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
