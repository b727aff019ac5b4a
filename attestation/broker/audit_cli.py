"""`strongroom broker audit`: read the log, verify it with public keys alone, export it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attestation.broker import inspection
from attestation.broker.audit import EventKind
from attestation.broker.console import FILE, home_option, json_option, now, show_facts, show_table, unlocking, when
from attestation.broker.home import Home
from manifests.command import Group
from manifests.keyfile import read_passphrase


@click.group(cls=Group)
def audit() -> None:
    """Show, verify and export the log of every decision."""


@audit.command()
@home_option
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, help="How many rows to show.")
@click.option("--kind", type=click.Choice([str(kind) for kind in EventKind]), help="Only rows of this kind.")
@json_option
def show(*, home: Path, last: int, kind: str | None, as_json: bool) -> None:
    """Show the newest rows of the log, each with its signature verified."""
    entries = inspection.newest(Home(home), last, kind)
    if as_json:
        click.echo(json.dumps([entry.to_dict() for entry in entries], indent=2))
        return
    rows = [(entry.index, when(entry.time), entry.kind, _brief(entry.to_dict()["event"])) for entry in entries]
    show_table("Audit log", ("row", "time", "kind", "event"), rows)


@audit.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="The broker's folder.")
@click.option("--export", "file", type=FILE, help="An exported log, in place of a home.")
@click.option("--broker", "card", type=FILE, help="The card of the broker whose log it must be.")
@click.option("--head", "heads", multiple=True, metavar="HEX", help="A head that the log must contain.")
@json_option
def verify(*, home: Path | None, file: Path | None, card: Path | None, heads: tuple[str, ...], as_json: bool) -> None:
    """Verify a whole log offline; a row that was cut, swapped, edited, forked or repeated is named.

    A log's end can only be missed by who knows a head of it: --head, or the anchor in the home.
    """
    if (home is None) == (file is None) or (file is not None and card is None):
        raise click.UsageError("give --home DIR, or --export FILE with --broker CARD")
    expected = [inspection.parse_head(head) for head in heads]
    if home is not None:
        result = inspection.verify_home(Home(home), card, expected)
    else:
        result = inspection.verify_export(file or Path(), card or Path(), expected)
    show_facts(result, as_json=as_json)


@audit.command()
@home_option
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@json_option
def export(*, home: Path, output: Path, as_json: bool) -> None:
    """Write the log to a file, as it is; verify it elsewhere with `audit verify --export`."""
    show_facts(inspection.export(Home(home), output), as_json=as_json)


@audit.command()
@unlocking
@click.option(
    "--dangerously-accept-rollback", is_flag=True, help="What was recorded after this database's end is given up."
)
@json_option
def accept(*, home: Path, passphrase_file: Path | None, dangerously_accept_rollback: bool, as_json: bool) -> None:
    """Take a database that was restored from a backup for the newest one."""
    if not dangerously_accept_rollback:
        raise click.UsageError("say --dangerously-accept-rollback: revocations and policies made since are lost")
    place = Home(home)
    place.check()
    show_facts(inspection.accept(place, read_passphrase(passphrase_file), now()), as_json=as_json)


def _brief(event: dict[str, Any]) -> str:
    """Return an event on one line, long byte strings cut."""
    return " ".join(f"{name}={_cut(value)}" for name, value in event.items())


def _cut(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(_cut(item) for item in value) + "]"
    text = str(value)
    return text[:16] + "…" if len(text) > 40 else text
