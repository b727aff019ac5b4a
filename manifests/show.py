"""Facts on a screen or in a pipe: one name and one value to a line, never wrapped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import click

from manifests.plain import printable
from manifests.sealed.header import SealedInfo


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values in two columns; a value of several lines continues below itself.

    A line is as long as its value, so that what is copied or cut out of the output is whole.  What is not printable is
    escaped.
    """
    shown = {printable(name): [printable(line) for line in str(value).split("\n")] for name, value in facts.items()}
    width = max(map(len, shown), default=0) + 2
    for name, (first, *rest) in shown.items():
        click.echo(click.style(name, bold=True) + " " * (width - len(name)) + first)
        for line in rest:
            click.echo(" " * width + line)


def print_sealed(info: SealedInfo, *, as_json: bool) -> None:
    """Print what a sealed model shows to anybody; whoever made `info` has verified the owner's signature."""
    if as_json:
        click.echo(json.dumps({**info.to_dict(), "signature_verified": True}, indent=2))
        return
    core = info.core
    print_facts(
        {
            "model": f"{core.name} (epoch {core.epoch})",
            "digest": info.digest.hex(),
            "owner": core.owner.hex(),
            "signature": "verified",
            "parts": "\n".join(f"{part.name}  {part.size:,} bytes" for part in core.parts),
            "chunks": f"{core.chunk_count} of {core.chunk_size:,} bytes",
            "recipients": "\n".join(key_id.hex() for key_id in info.recipients),
            "file": f"{info.file_size:,} bytes",
        }
    )


def print_rows(rows: Iterable[Sequence[str]], colors: Mapping[str, str]) -> None:
    """Print rows of equal length in columns; `colors` are those of certain words of the first column.

    What is not printable is escaped.
    """
    table = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) + 2 for column in zip(*table, strict=True)]
    for first, *rest in table:
        padded = [cell.ljust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        start = click.style(first, fg=colors.get(first)) + " " * (widths[0] - len(first))
        click.echo((start + "".join(padded)).rstrip())
