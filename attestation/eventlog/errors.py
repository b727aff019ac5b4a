"""Codes of event logs."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class EventLogCode(ErrorCode):
    """Codes of logs of measured boot (TCG event log, CCEL)."""

    MALFORMED = "eventlog-malformed", Fault.MALFORMED, "the bytes are not an event log of the crypto-agile format"
    TOO_LARGE = "eventlog-too-large", Fault.MALFORMED, "the event log is larger than any that firmware keeps"
    FORMAT = "eventlog-format", Fault.UNSUPPORTED, "the event log is of the SHA-1 format, or of another version"
    BANK = "eventlog-bank", Fault.REFUSED, "the event log has no digests for this bank"
    REGISTER = "eventlog-register", Fault.MALFORMED, "an event is for a register that does not exist"
