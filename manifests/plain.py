"""Text of strangers on a terminal: whatever is not printable is shown, and not done.

A terminal takes some characters as commands: to colour, to overwrite what stands above, to rename its window.  What
evidence, files and peers say goes through here before it is printed for people; JSON escapes by itself.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text in one line, with escapes as Python writes them for all that is no printable character."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def printable_lines(text: str) -> str:
    """Return a text whose line feeds stay; everything else is as in `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
