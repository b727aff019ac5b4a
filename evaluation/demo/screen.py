"""How the demonstration tells its story: in the terminal, or silently where a program asked for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


class Narrator(Protocol):
    """What the steps of the demonstration tell."""

    def step(self, text: str) -> None:
        """Begin a step with one line that explains it."""

    def command(self, text: str) -> None:
        """Show a command that is being run."""

    def fact(self, text: str) -> None:
        """State something that was found."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows."""

    def side_by_side(self, panels: Sequence[tuple[str, str]]) -> None:
        """Show titled texts beside each other."""

    def refusal(self, text: str, code: str, *, as_expected: bool) -> None:
        """Tell that an attack was refused, or that it was not."""


class Silent:
    """Tells nothing."""

    def step(self, text: str) -> None:
        """Tell nothing."""

    command = fact = step

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show nothing."""

    def side_by_side(self, panels: Sequence[tuple[str, str]]) -> None:
        """Show nothing."""

    def refusal(self, text: str, code: str, *, as_expected: bool) -> None:
        """Tell nothing."""


class Screen:
    """Tells the story in the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to `console`, or to standard output."""
        self._console = console or Console(highlight=False)
        self._steps = 0

    def step(self, text: str) -> None:
        """Begin a numbered step."""
        self._steps += 1
        self._console.print()
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text(f"{self._steps:2}", "bold cyan"), Text(text, "bold"))
        self._console.print(grid)

    def command(self, text: str) -> None:
        """Show a command in grey, on one line."""
        self._console.print(Text(f"   $ {text}", style="bright_black"), no_wrap=True, overflow="ellipsis")

    def fact(self, text: str) -> None:
        """State something."""
        self._console.print(_indented(Text(text)))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows."""
        table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
        for row in rows:
            table.add_row(*(Text(cell, overflow="ellipsis", no_wrap=True) for cell in row))
        self._console.print(_indented(table))

    def side_by_side(self, panels: Sequence[tuple[str, str]]) -> None:
        """Show titled texts beside each other, as far as the terminal is wide enough."""
        self._console.print(_indented(Columns([Panel(Text(text), title=title) for title, text in panels])))

    def refusal(self, text: str, code: str, *, as_expected: bool) -> None:
        """Tell how an attack ended."""
        mark = ("refused ", "bold green") if as_expected else ("NOT AS CLAIMED ", "bold red")
        self._console.print(_indented(Text.assemble(mark, f"{text} ", (f"[{code}]", "yellow"))))


def _indented(shown: RenderableType) -> Padding:
    return Padding(shown, (0, 0, 0, 3))
