"""`strongroom broker budgets`: what clients were granted, and setting it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from attestation.broker import budgets_report as reporting
from attestation.broker.console import json_option, now, open_ledger, show_facts, show_table, unlocking, when
from attestation.broker.reports import SHORT
from manifests.command import Command

_CLIENTS = ("client", "model", "granted", "budget", "until")
_NEWCOMERS = ("model", "granted", "settled", "until")


@click.command(cls=Command)
@click.argument("action", type=click.Choice(["show", "reset"]), default="show")
@click.option(
    "--client", metavar="KEY|NAME", help='A client: its name in a credential, its key or card, or "anonymous".'
)
@click.option("--model", metavar="NAME", help="One model by its name; without it, all.")
@click.option("--all", "everybody", is_flag=True, help="Reset all clients.")
@unlocking
@json_option
def budgets(
    *,
    action: str,
    client: str | None,
    model: str | None,
    everybody: bool,
    home: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Show what each client was granted of each model in the present period; `reset` grants it anew, on the record."""
    if (client is None) != everybody if action == "reset" else everybody:
        raise click.UsageError("reset takes --client KEY|NAME, or --all, which shows nothing")
    with open_ledger(home, passphrase_file) as ledger:
        meant = reporting.Meant(reporting.chosen(ledger, client), model)
        if action == "reset":
            show_facts({"reset": reporting.reset(ledger, meant, now())}, as_json=as_json)
            return
        report = reporting.report(ledger, meant, now())
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    rows = [{**row, "client": row["client"] or row["identity"][:SHORT]} for row in report["clients"]]
    show_table("Clients", _CLIENTS, _shown(rows, _CLIENTS))
    if client is None:
        show_table("Newcomers", _NEWCOMERS, _shown(report["newcomers"], _NEWCOMERS))


def _shown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[list[object]]:
    timed = [{**row, "until": when(row["until"])} for row in rows]
    return [["-" if row[name] is None else row[name] for name in columns] for row in timed]
