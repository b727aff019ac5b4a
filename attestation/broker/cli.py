"""`strongroom broker`: the model owner's commands.  Bodies parse, make one call, and print."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click

from attestation.broker import admin, reports, revoking
from attestation.broker.audit_cli import audit
from attestation.broker.budgets_cli import budgets
from attestation.broker.console import (
    FOLDER,
    json_option,
    now,
    open_ledger,
    show_facts,
    show_table,
    unlocking,
    when,
)
from attestation.broker.documents_cli import card, credential, delegate
from attestation.broker.events import TROUBLE, Event
from attestation.broker.home import Home
from attestation.broker.models_cli import add, rewrap
from attestation.broker.policy_cli import policy
from manifests.command import Group
from manifests.keyfile import read_passphrase
from manifests.plain import printable


@click.group(cls=Group)
def broker() -> None:
    """Hold model keys and release them to attested enclaves."""


for command in (policy, audit, add, rewrap, card, delegate, credential, budgets):
    broker.add_command(command)


@broker.command()
@unlocking
@json_option
def init(*, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a broker: its keys under a passphrase, its database, and its card."""
    place = Home(home)
    place.require_unused()
    keys = admin.init_home(home, read_passphrase(passphrase_file, confirm=True), now())
    facts = {"home": str(home), "card": str(place.card), "broker": keys.signer.public.hex()}
    show_facts({**facts, "recipient": keys.recipient.key_id.hex()}, as_json=as_json)


@broker.command("list")
@unlocking
@json_option
def list_command(*, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List models and the enclaves that were given their keys."""
    with open_ledger(home, passphrase_file) as ledger:
        listing = ledger.look(reports.listing)
    if as_json:
        click.echo(json.dumps(listing, indent=2))
        return
    columns = ("name", "epoch", "digest", "rights", "holders", "revoked")
    show_table("Models", columns, [[row[name] for name in columns] for row in reports.shortened(listing["models"])])
    columns = ("boot_id", "platform", "address", "first_seen", "sessions", "provisions")
    enclaves = [{**row, "first_seen": when(row["first_seen"])} for row in reports.shortened(listing["enclaves"])]
    show_table("Enclaves", columns, [[row[name] for name in columns] for row in enclaves])


@broker.command()
@click.option(
    "--host", "addresses", multiple=True, required=True, help="Address of a host: unix:PATH or tcp:HOST:PORT."
)
@click.option("--collateral", type=FOLDER, required=True, help="Folder with the platforms' collateral.")
@click.option("--route", default="default", show_default=True, help="Deployment on the hosts.")
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1, 16),
    help="Enclave processes of the deployment, as `host up --processes` has it.",
)
@click.option("--once", is_flag=True, help="Provision every enclave once and end; the exit status tells how it went.")
@unlocking
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line.")
def serve(
    *,
    addresses: tuple[str, ...],
    collateral: Path,
    route: str,
    processes: int,
    once: bool,
    home: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Attest the enclaves of hosts, release keys to them, and keep their leases alive."""
    from attestation.broker.running import make_service

    with open_ledger(home, passphrase_file) as ledger:
        service = make_service(
            ledger, addresses, collateral, route, _json_line if as_json else _text_line, processes=processes
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.stop())
        service.once() if once else service.serve()


@broker.command()
@click.option("--model", "digests", multiple=True, metavar="DIGEST", help="Digest of a model, or its first 16 digits.")
@click.option("--name", help="Name of the models to revoke below an epoch.")
@click.option("--below", type=click.IntRange(min=1), help="Revoke epochs below this one.")
@click.option("--owner", help="The owner's key in hexadecimal, where the broker serves several.")
@unlocking
@json_option
def revoke(
    *,
    digests: tuple[str, ...],
    name: str | None,
    below: int | None,
    owner: str | None,
    home: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Revoke models by digest, or all of a name below an epoch; a running `serve` tells the enclaves."""
    if bool(digests) == bool(name) or (name is None) != (below is None):
        raise click.UsageError("give --model DIGEST, or --name NAME with --below EPOCH")
    with open_ledger(home, passphrase_file) as ledger:
        made = revoking.revoke_named(ledger, digests=digests, name=name, below=below or 0, owner=owner, now=now())
        facts = reports.revocation_facts(made, ledger.keys.signer.public)
    show_facts(facts, as_json=as_json)


@broker.command()
@click.argument("boot_id")
@unlocking
@json_option
def forget(*, boot_id: str, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Give up the places that an ended enclave takes; BOOT_ID or its first 16 digits, as `list` shows them."""
    with open_ledger(home, passphrase_file) as ledger:
        row, leases = admin.forget_enclave(ledger, boot_id, now())
    show_facts({"forgotten": row.boot_id.hex(), "leases": leases}, as_json=as_json)


def _json_line(event: Event) -> None:
    click.echo(json.dumps({"time": now(), **event.to_dict()}))


def _text_line(event: Event) -> None:
    line = f"{when(now())} {printable(event.to_text())}"
    click.secho(line, fg="yellow" if event.name in TROUBLE else None)
