"""The points in time that commands take."""

from __future__ import annotations

from typing import Any

import click

from attestation.validity import parse_rfc3339


class Moment(click.ParamType["int"]):
    """A point in time: RFC 3339 in UTC ("2025-07-01T00:00:00Z") or Unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return Unix seconds."""
        text = str(value)
        try:
            return int(text) if text.isascii() and text.isdigit() else parse_rfc3339(text)
        except ValueError:
            self.fail(f"{text!r} is neither 2025-07-01T00:00:00Z nor Unix seconds", param, ctx)
