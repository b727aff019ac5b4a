"""Spans of time in which a document counts, each with the codes of being outside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from attestation.errors import EvidenceCode, EvidenceError


@dataclass(frozen=True)
class Validity:
    """The half-open span [start, end) of Unix seconds in which `what` is valid.

    Vendors count differently: a certificate and a JSON document are still valid in the second of their last date,
    a revocation list no longer is.  Whoever makes a Validity has already translated that.
    """

    what: str
    start: int
    end: int
    early: EvidenceCode
    late: EvidenceCode

    def check(self, now: int) -> None:
        """Raise EvidenceError `early` before the span and `late` after it."""
        if now < self.start:
            raise self._refusal(self.early, now, f"from {rfc3339(self.start)}")
        if now >= self.end:
            raise self._refusal(self.late, now, f"before {rfc3339(self.end)}")

    def _refusal(self, code: EvidenceCode, now: int, expected: str) -> EvidenceError:
        remedy = "fetch fresh collateral, and check this machine's clock"
        if code is self.early:
            remedy = "check this machine's clock; a document from the future is not accepted"
        return EvidenceError(code, f"{self.what}: {code.meaning}", expected=expected, found=rfc3339(now), remedy=remedy)


def rfc3339(seconds: int) -> str:
    """Return a time for people; numbers outside year 1 to 9999 stay numbers."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def parse_rfc3339(text: str) -> int:
    """Return the Unix seconds of "YYYY-MM-DDTHH:MM:SSZ", exactly that form; raises ValueError."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    seconds = int(moment.timestamp())
    if rfc3339(seconds) != text:
        raise ValueError("not the one form of its time")
    return seconds
