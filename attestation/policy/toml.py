"""TOML of policies and of lists of broken hardware, bounded before it is parsed."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from attestation.errors import PolicyCode, PolicyError

MAX_DOTS: Final = 16
"""In one key; the deepest of a policy, evidence.platforms_denied.ppid, has two.  The parser takes quadratic time."""

_NO_KEY: Final = re.compile(
    r'"""(?:[^\\]|\\(?:.|\Z))*?(?:"{3,5}|\Z)'
    r"|'''.*?(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]|\\[^\n])*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*",
    re.DOTALL,
)
"""Strings and comments (TOML 1.0).  One that does not end matches, too: no text is looked at twice.

A string of several lines may have up to two quotes of its own before the three that end it.  What is taken for a string
here must be one for the parser, or a key could hide in it: a test holds this against the parser.
"""

_BETWEEN_KEYS: Final = re.compile(r"[=,\n\[\]{}]")


def parse_toml(data: bytes, maximum: int, code: PolicyCode, what: str) -> dict[str, Any]:
    """Return the table of a text of at most `maximum` bytes, in UTF-8; raises PolicyError with `code`."""
    if len(data) > maximum:
        raise PolicyError(code, f"{what} is too long", expected=f"at most {maximum} bytes", found=f"{len(data)} bytes")
    try:
        text = data.decode("utf-8")
        _check_keys(text, code, what)
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(code, f"{what} is not TOML: {error}") from None


def _check_keys(text: str, code: PolicyCode, what: str) -> None:
    """Refuse a key of too many parts, in a line or in a table's header."""
    dots = count_dots(text)
    if dots > MAX_DOTS:
        raise PolicyError(
            code, f"{what} has a key of too many parts", expected=f"at most {MAX_DOTS} dots", found=f"{dots} dots"
        )


def count_dots(text: str) -> int:
    """Return the most dots that a key of a text may have; numbers count, too."""
    return max(part.count(".") for part in _BETWEEN_KEYS.split(_NO_KEY.sub("_", text)))
