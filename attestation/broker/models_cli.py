"""`strongroom broker add` and `rewrap`: the models of a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from attestation.broker import models
from attestation.broker.console import FILE, json_option, now, open_ledger, show_facts, unlocking
from attestation.broker.schema import ModelRow
from manifests.command import Command
from manifests.rewrap_cli import change_options, read_change
from manifests.show import print_sealed


@click.command(cls=Command)
@click.argument("sealed", type=FILE)
@click.option("--delegation", type=FILE, required=True, help="The owner's delegation to this broker.")
@unlocking
@json_option
def add(*, sealed: Path, delegation: Path, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Take in the key of a sealed model that names this broker as a recipient."""
    with open_ledger(home, passphrase_file) as ledger:
        row = models.add_model(ledger, sealed, delegation, now())
    show_facts(_facts(row), as_json=as_json)


@click.command(cls=Command)
@change_options
@unlocking
@json_option
def rewrap(*, home: Path, passphrase_file: Path | None, as_json: bool, **words: Any) -> None:
    """Change the recipients of a model that is sealed for this broker, without touching a chunk.

    Who is removed may have kept the data key: to shut somebody out, seal the model again.
    """
    change = read_change(**words)
    with open_ledger(home, passphrase_file) as ledger:
        info = models.rewrap_model(ledger, now=now(), **change)
    print_sealed(info, as_json=as_json)


def _facts(row: ModelRow) -> dict[str, object]:
    return {"model": row.name, "epoch": row.epoch, "digest": row.digest.hex(), "owner": row.owner.hex()}
