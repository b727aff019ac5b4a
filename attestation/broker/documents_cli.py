"""`strongroom broker card`, `delegate` and `credential`: the documents by which others know a broker."""

from __future__ import annotations

from pathlib import Path

import click

from attestation.broker import admin, reports
from attestation.broker.console import FILE, home_option, json_option, now, open_ledger, show_facts, unlocking
from attestation.broker.home import Home
from attestation.types import Right
from manifests.command import Command
from manifests.files import require_free, write_atomically
from manifests.keyfile import passphrase_option, read_key_file, read_passphrase
from manifests.signing import Signer

ALL_RIGHTS = (Right.PROVISION, Right.HEARTBEAT, Right.REVOKE)

force_option = click.option("--force", is_flag=True, help="Replace the file that is there.")


@click.command(cls=Command)
@home_option
@click.option("-o", "--output", type=FILE, help="Write the card here.")
@force_option
@json_option
def card(*, home: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Show the broker's card, which owners need for `delegate` and `seal --recipient`."""
    text = reports.card_text(Home(home))
    if output is not None:
        require_free(output, overwrite=force)
        write_atomically(output, text.encode("ascii"), replace=force)
    if as_json:
        show_facts(reports.card_facts(Home(home)), as_json=True)
    elif output is None:
        click.echo(text, nl=False)


@click.command(cls=Command)
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
@force_option
@passphrase_option
@json_option
def delegate(
    *,
    owner_key: Path,
    card_file: Path,
    models: tuple[str, ...],
    rights: tuple[str, ...],
    epoch_floor: int,
    output: Path,
    force: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Sign, as the owner, what a broker may do with which models."""
    require_free(output, overwrite=force)
    owner = Signer.from_seed(read_key_file(owner_key, "owner", read_passphrase(passphrase_file)))
    chosen = [Right(right) for right in rights] or list(ALL_RIGHTS)
    document = admin.delegate(owner, card_file, models=models, rights=chosen, epoch_floor=epoch_floor)
    write_atomically(output, document, replace=force)
    show_facts({"file": str(output), **reports.delegation_facts(document, owner.public)}, as_json=as_json)


@click.command(cls=Command)
@click.option("--client", required=True, metavar="KEY", help="The client's public key: 64 hex digits, or its card.")
@click.option("--name", required=True, help="Name of the identity.")
@click.option("-o", "--output", type=FILE, required=True, help="The credential to write.")
@force_option
@unlocking
@json_option
def credential(
    *, client: str, name: str, output: Path, force: bool, home: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Sign a credential that names a client's key as an identity."""
    require_free(output, overwrite=force)
    key = admin.client_key(client)
    with open_ledger(home, passphrase_file) as ledger:
        write_atomically(output, admin.issue_credential(ledger, key, name, now()), replace=force)
        issuer = ledger.keys.signer.public
    facts = {"file": str(output), "client": key.hex(), "name": name, "issuer": issuer.hex()}
    show_facts(facts, as_json=as_json)
