"""What the broker's commands share: opening a home, and printing for people and for programs."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from attestation.broker.home import Home
from attestation.broker.ledger import Ledger
from manifests.keyfile import passphrase_option, read_passphrase
from manifests.plain import printable_lines

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
home_option = click.option(
    "--home", type=FOLDER, required=True, envvar="STRONGROOM_BROKER_HOME", show_envvar=True, help="The broker's folder."
)


def unlocking(command: F) -> F:
    """Give a command the options that open a home: --home and --passphrase-file."""
    return home_option(passphrase_option(command))


@contextlib.contextmanager
def open_ledger(home: Path, passphrase_file: Path | None) -> Iterator[Ledger]:
    """Open the ledger of a home for the body; the home is checked before anybody is asked for a passphrase."""
    place = Home(home)
    place.check()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the keys
    with Ledger.open(place, place.unlock(read_passphrase(passphrase_file))) as ledger:
        yield ledger


def now() -> int:
    """Return the time in Unix seconds."""
    return int(time.time())


def when(seconds: int) -> str:
    """Return a time as people read it: UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def show_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print names and values, one a line."""
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        grid.add_row(Text(name, style="bold"), Text(_shown(value), overflow="fold"))
    Console().print(grid)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table for people; an empty one says so."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row))
    Console().print(table)


def _shown(value: Any) -> str:
    text = ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
    return printable_lines(text)
