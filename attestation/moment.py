"""The points in time that commands take."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

import click

_RFC3339: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}):(?P<second>[0-9]{2})(?:\.[0-9]+)?"
    r"(?P<zone>[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
"""RFC 3339, section 5.6, with the blank and the lower case that it allows."""
_LEAP: Final = 60
_LAST: Final = 253_402_300_799
"""The end of the year 9999, after which RFC 3339 has no dates; what is greater is in milliseconds."""


def parse_moment(text: str) -> int:
    """Return the Unix second of a time in RFC 3339, its fraction cut off, or of Unix seconds; raises ValueError.

    Unix time has no leap seconds: one is taken for the second after it.
    """
    if text.isascii() and text.isdigit():
        return _within(int(text))
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("not a time of RFC 3339")
    second = int(found["second"])
    zone = found["zone"].replace("z", "Z")
    moment = datetime.fromisoformat(f"{found['date']}T{found['time']}:{min(second, _LEAP - 1):02}{zone}")
    if second > _LEAP:
        raise ValueError("not a second of a minute")
    return int(moment.timestamp()) + (second == _LEAP)


def _within(second: int) -> int:
    if second > _LAST:
        raise ValueError("not a time up to the year 9999")
    return second


class Moment(click.ParamType["int"]):
    """A point in time: RFC 3339 ("2025-07-01T02:00:00+02:00") or Unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return Unix seconds."""
        text = str(value)
        try:
            return parse_moment(text)
        except ValueError:
            self.fail(
                f"{text!r} is neither RFC 3339, such as 2025-07-01T00:00:00Z, nor Unix seconds up to the year 9999",
                param,
                ctx,
            )
