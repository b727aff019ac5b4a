"""Spans of time in which a document counts, each with the codes of being outside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509

from attestation.errors import EvidenceError
from manifests.errors import ErrorCode

FETCH: Final = "fetch fresh collateral, and check this machine's clock"
"""What to do about a document that the vendor's service renews."""

NO_END: Final = 253_402_300_800
"""The first second of the year 10000: what ends there, or later, does not end (RFC 5280, 4.1.2.5)."""


class DateError(EvidenceError):
    """Documents are not valid at the time of verification.  It is worded for one of them; see `check_dates`.

    now: Unix seconds of the verification.  nearest: the nearest second at which that one is valid.  failing: every
    document that is not valid at `now`, that one first.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, now: int, nearest: int, failing: tuple[Validity, ...], **details: Any
    ) -> None:
        """Keep the seconds, for reports that say how everything else stands."""
        super().__init__(code, message, **details)
        self.now = now
        self.nearest = nearest
        self.failing = failing


@dataclass(frozen=True)
class Validity:
    """The half-open span [start, end) of Unix seconds in which `what` is valid.

    Vendors count differently: a certificate and a JSON document are still valid in the second of their last date,
    a revocation list no longer is.  Whoever makes a Validity has already translated that.  renewal: what to do when it
    has ended.
    """

    what: str
    start: int
    end: int
    early: ErrorCode
    late: ErrorCode
    renewal: str = FETCH

    def holds(self, now: int) -> bool:
        """Tell whether `now` (Unix seconds) is inside the span."""
        return self.start <= now < self.end

    def check(self, now: int) -> None:
        """Raise DateError `early` before the span and `late` after it."""
        check_dates((self,), now)

    def nearest(self, now: int) -> int:
        """Return the second inside the span that is nearest to `now`."""
        return max(self.start, min(now, self.end - 1))

    def distance(self, now: int) -> int:
        """Return by how many seconds `now` is outside the span."""
        return abs(self.nearest(now) - now)

    def code(self, now: int) -> ErrorCode:
        """Return the code of a time outside the span."""
        return self.early if now < self.start else self.late

    def to_dict(self) -> dict[str, Any]:
        """Return what it is and its dates, for programs; times as RFC 3339, and null for no end."""
        return {"what": self.what, "from": rfc3339(self.start), "until_before": ending(self.end)}

    def refusal(self, now: int, failing: tuple[Validity, ...] = ()) -> DateError:
        """Return the error for a time outside the span; `failing`: all that fail with this one."""
        early, code = now < self.start, self.code(now)
        bound = f"from {rfc3339(self.start)}" if early else f"before {rfc3339(self.end)}"
        return DateError(
            code,
            f"{self.what}: {code.meaning}",
            now=now,
            nearest=self.nearest(now),
            failing=failing or (self,),
            expected=f"{bound} ({self.what})",
            found=rfc3339(now),
            remedy=_CLOCK if early else self.renewal,
        )


def certificate_dates(certificate: x509.Certificate) -> tuple[int, int]:
    """Return the Unix seconds from which and until which a certificate is valid, both inclusive (RFC 5280, 4.1.2.5).

    Raises ValueError: a GeneralizedTime may be of the year 0, which is DER, and no date of a calendar.  Dates are
    parsed when they are first asked for, so this belongs beside the parsing and under the same `except`.
    """
    return int(certificate.not_valid_before_utc.timestamp()), int(certificate.not_valid_after_utc.timestamp())


def crl_dates(crl: x509.CertificateRevocationList) -> tuple[int, int | None]:
    """Return the Unix seconds of a list's last update, and of the next one if it names it (RFC 5280, 5.1.2).

    Raises ValueError, as `certificate_dates` does.
    """
    end = crl.next_update_utc
    return int(crl.last_update_utc.timestamp()), None if end is None else int(end.timestamp())


_CLOCK = "check this machine's clock; a document from the future is not accepted"


def check_dates(validities: Iterable[Validity], now: int) -> None:
    """Raise DateError unless all of these hold at `now` (Unix seconds); it names every one that does not.

    The code is that of the first that fails, in the order of the steps of verification; of all that fail with that
    code, the error is about the one that is furthest from `now`.
    """
    failing = tuple(each for each in validities if not each.holds(now))
    if failing:
        failing = tuple(dict.fromkeys(failing))
        code = failing[0].code(now)
        failing = tuple(sorted(failing, key=lambda each: (each.code(now) is not code, -each.distance(now))))
        raise failing[0].refusal(now, failing)


def rfc3339(seconds: int) -> str:
    """Return a time for people; numbers outside year 1 to 9999 stay numbers."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def ending(seconds: int) -> str | None:
    """Return the first second at which something no longer counts, for people; None where it always does."""
    return None if seconds >= NO_END else rfc3339(seconds)


_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def parse_rfc3339(text: str) -> int:
    """Return the Unix seconds of "YYYY-MM-DDTHH:MM:SSZ", exactly that form; raises ValueError."""
    if _MOMENT.fullmatch(text) is None:
        raise ValueError("not the one form of its time")
    return int(datetime.fromisoformat(text).timestamp())
