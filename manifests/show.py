"""Facts on a screen or in a pipe: one name and one value to a line, never wrapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import click


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values in two columns; a value of several lines continues below itself.

    A line is as long as its value, so that what is copied or cut out of the output is whole.
    """
    width = max(map(len, facts), default=0) + 2
    for name, value in facts.items():
        first, *rest = str(value).split("\n")
        click.echo(click.style(name, bold=True) + " " * (width - len(name)) + first)
        for line in rest:
            click.echo(" " * width + line)


def print_rows(rows: Iterable[Sequence[str]], colors: Mapping[str, str]) -> None:
    """Print rows of equal length in columns; `colors` are those of certain words of the first column."""
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column)) + 2 for column in zip(*table, strict=True)]
    for first, *rest in table:
        padded = [cell.ljust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        start = click.style(first, fg=colors.get(first)) + " " * (widths[0] - len(first))
        click.echo((start + "".join(padded)).rstrip())
