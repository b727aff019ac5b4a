"""Spans of time in which a document counts, each with the codes of being outside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from attestation.errors import EvidenceCode, EvidenceError
from manifests.errors import ErrorCode


class DateError(EvidenceError):
    """A document is not valid at the time of verification; `nearest` is the nearest second at which it is."""

    def __init__(self, code: ErrorCode, message: str, *, nearest: int, **details: Any) -> None:
        """Keep the second, for reports that say how everything else stands."""
        super().__init__(code, message, **details)
        self.nearest = nearest


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
            raise self._refusal(self.early, now, f"from {rfc3339(self.start)}", self.start)
        if now >= self.end:
            raise self._refusal(self.late, now, f"before {rfc3339(self.end)}", self.end - 1)

    def to_dict(self) -> dict[str, Any]:
        """Return what it is and its dates, for programs; times as RFC 3339, and null for no end."""
        return {"what": self.what, "from": rfc3339(self.start), "until_before": ending(self.end)}

    def _refusal(self, code: EvidenceCode, now: int, expected: str, nearest: int) -> DateError:
        remedy = "fetch fresh collateral, and check this machine's clock"
        if code is self.early:
            remedy = "check this machine's clock; a document from the future is not accepted"
        return DateError(
            code,
            f"{self.what}: {code.meaning}",
            nearest=nearest,
            expected=expected,
            found=rfc3339(now),
            remedy=remedy,
        )


def rfc3339(seconds: int) -> str:
    """Return a time for people; numbers outside year 1 to 9999 stay numbers."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


NO_END: Final = 253_402_300_800
"""The first second of the year 10000: what ends there, or later, does not end (RFC 5280, 4.1.2.5)."""


def ending(seconds: int) -> str | None:
    """Return the first second at which something no longer counts, for people; None where it always does."""
    return None if seconds >= NO_END else rfc3339(seconds)


_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def parse_rfc3339(text: str) -> int:
    """Return the Unix seconds of "YYYY-MM-DDTHH:MM:SSZ", exactly that form; raises ValueError."""
    if _MOMENT.fullmatch(text) is None:
        raise ValueError("not the one form of its time")
    return int(datetime.fromisoformat(text).timestamp())
