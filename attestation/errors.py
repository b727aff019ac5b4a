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
