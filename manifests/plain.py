"""Text of strangers on a terminal: whatever is not printable is shown, and not done.

A terminal takes some characters as commands: to colour, to overwrite what stands above, to rename its window.  What
evidence, files and peers say goes through here before it is printed for people; JSON escapes by itself.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable


def printable(text: str) -> str:
    """Return a text in one line, with escapes as Python writes them for all that is no printable character."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def printable_lines(text: str) -> str:
    """Return a text whose line feeds stay; everything else is as in `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def shell_command(words: Iterable[str]) -> str:
    """Return a command line that a shell takes apart into exactly these words, all of it printable.

    What is not printable is written as `$'...'`, which POSIX has since 2024 and every usual shell before.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _in_escapes(word) for word in words)


def _in_escapes(word: str) -> str:
    safe = "".join(
        chr(byte) if chr(byte) not in "'\\" and 0x20 <= byte < 0x7F else f"\\{byte:03o}" for byte in os.fsencode(word)
    )
    return f"$'{safe}'"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
