"""Codes of event logs."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault


class EventLogCode(ErrorCode):
    """Codes of logs of measured boot (TCG event log, CCEL)."""

    MALFORMED = (
        "eventlog-malformed",
        Fault.MALFORMED,
        "the bytes are not an event log of the crypto-agile format",
        "carry the log whole, as the kernel or the firmware's table has it",
    )
    TOO_LARGE = (
        "eventlog-too-large",
        Fault.MALFORMED,
        "the event log is larger than any that firmware keeps",
        "carry the firmware's log alone, without that of the kernel's own measurements",
    )
    FORMAT = (
        "eventlog-format",
        Fault.UNSUPPORTED,
        "the event log is of the SHA-1 format, or of another version",
        "have the firmware keep the log in the crypto-agile format (TCG 2.0)",
    )
    BANK = (
        "eventlog-bank",
        Fault.REFUSED,
        "the event log has no digests for this bank",
        "quote a bank that the log has digests for",
    )
    REGISTER = (
        "eventlog-register",
        Fault.MALFORMED,
        "an event is for a register that does not exist",
        "carry the log of the machine that made the quote",
    )


class EventLogFinding(ErrorCode):
    """Codes of the checks of an event log that is given beside evidence; each shows as passed or failed."""

    REPLAY = "eventlog-replay", Fault.REFUSED, "the event log replays to a register of the evidence"
    REGISTERS = "eventlog-registers", Fault.REFUSED, "the evidence has registers that the event log extends"
