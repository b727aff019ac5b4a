"""`strongroom broker`: the model owner's commands.  Bodies parse, make one call, and print."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click

from attestation.broker import admin, reports, revoking
from attestation.broker.audit_cli import audit
from attestation.broker.console import (
    FILE,
    FOLDER,
    home_option,
    json_option,
    now,
    open_ledger,
    show_facts,
    show_table,
    unlocking,
    when,
)
from attestation.broker.events import TROUBLE, Event
from attestation.broker.home import Home
from attestation.broker.policy_cli import policy
from attestation.types import Right
from manifests.files import write_atomically
from manifests.keyfile import passphrase_option, read_key_file, read_passphrase
from manifests.signing import Signer

ALL_RIGHTS = (Right.PROVISION, Right.HEARTBEAT, Right.REVOKE)


@click.group()
def broker() -> None:
    """Hold model keys and release them to attested enclaves."""


broker.add_command(policy)
broker.add_command(audit)


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


@broker.command()
@home_option
@click.option("-o", "--output", type=FILE, help="Write the card here.")
@json_option
def card(*, home: Path, output: Path | None, as_json: bool) -> None:
    """Show the broker's card, which owners need for `delegate` and `seal --recipient`."""
    text = reports.card_text(Home(home))
    if output is not None:
        write_atomically(output, text.encode("ascii"))
    if as_json:
        show_facts(reports.card_facts(Home(home)), as_json=True)
    elif output is None:
        click.echo(text, nl=False)


@broker.command()
@click.option("--owner-key", type=FILE, required=True, help="The owner's key file.")
@click.option("--broker", "card_file", type=FILE, required=True, help="The broker's card.")
@click.option("--model", "models", multiple=True, required=True, help='Name of a model, or "*" for every one.')
@click.option(
    "--right",
    "rights",
    multiple=True,
    type=click.Choice([str(right) for right in Right]),
    help="What the broker may do; without any: provision, heartbeat and revoke.",
)
@click.option("--epoch-floor", type=click.IntRange(min=0), default=0, show_default=True, help="Lowest epoch covered.")
@click.option("-o", "--output", type=FILE, required=True, help="The delegation to write.")
@passphrase_option
def delegate(
    *,
    owner_key: Path,
    card_file: Path,
    models: tuple[str, ...],
    rights: tuple[str, ...],
    epoch_floor: int,
    output: Path,
    passphrase_file: Path | None,
) -> None:
    """Sign, as the owner, what a broker may do with which models."""
    owner = Signer.from_seed(read_key_file(owner_key, "owner", read_passphrase(passphrase_file)))
    chosen = [Right(right) for right in rights] or list(ALL_RIGHTS)
    document = admin.delegate(owner, card_file, models=models, rights=chosen, epoch_floor=epoch_floor)
    write_atomically(output, document)
    click.echo(f"{output}: {', '.join(sorted(chosen))} for {', '.join(sorted(models))}")


@broker.command()
@click.argument("sealed", type=FILE)
@click.option("--delegation", type=FILE, required=True, help="The owner's delegation to this broker.")
@unlocking
@json_option
def add(*, sealed: Path, delegation: Path, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Take in the key of a sealed model that names this broker as a recipient."""
    with open_ledger(home, passphrase_file) as ledger:
        row = admin.add_model(ledger, sealed, delegation, now())
    facts = {"model": row.name, "epoch": row.epoch, "digest": row.digest.hex(), "owner": row.owner.hex()}
    show_facts(facts, as_json=as_json)


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
@click.option("--once", is_flag=True, help="Provision every enclave once and end; the exit status tells how it went.")
@unlocking
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line.")
def serve(
    *,
    addresses: tuple[str, ...],
    collateral: Path,
    route: str,
    once: bool,
    home: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Attest the enclaves of hosts, release keys to them, and keep their leases alive."""
    from attestation.broker.running import make_service

    with open_ledger(home, passphrase_file) as ledger:
        service = make_service(ledger, addresses, collateral, route, _json_line if as_json else _text_line)
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


@broker.command()
@click.option("--client", required=True, metavar="KEY", help="The client's public key: 64 hex digits, or its card.")
@click.option("--name", required=True, help="Name of the identity.")
@click.option("-o", "--output", type=FILE, required=True, help="The credential to write.")
@unlocking
def credential(*, client: str, name: str, output: Path, home: Path, passphrase_file: Path | None) -> None:
    """Sign a credential that names a client's key as an identity."""
    key = admin.client_key(client)
    with open_ledger(home, passphrase_file) as ledger:
        write_atomically(output, admin.issue_credential(ledger, key, name, now()))


def _json_line(event: Event) -> None:
    click.echo(json.dumps({"time": now(), **event.to_dict()}))


def _text_line(event: Event) -> None:
    line = f"{when(now())} {event.to_text()}"
    click.secho(line, fg="yellow" if event.name in TROUBLE else None)
