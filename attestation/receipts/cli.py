"""`strongroom receipt`: verify receipts offline, show them, and disclose parts of what they commit to."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from attestation.collateral import open_source
from attestation.moment import Moment
from attestation.policy import load_policy
from attestation.receipts import show as shown
from attestation.receipts.bundle import MAX_BUNDLE, Opening, ReceiptBundle, looks_like_bundle
from attestation.receipts.checks import Expected, Held, NoSource
from attestation.receipts.contents import read_contents
from attestation.receipts.verify import examine
from attestation.types import EvidenceRecord
from attestation.types.claims import MAX_EVIDENCE
from attestation.types.receipt import Receipt, SignedReceipt
from attestation.types.receipt_errors import ReceiptCode, ReceiptError
from attestation.wire.commitments import Direction
from manifests.command import Group
from manifests.errors import StrongroomError, configuring
from manifests.files import read_bounded, write_atomically

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Hex(click.ParamType["bytes"]):
    """So many bytes in hexadecimal."""

    name = "hex"

    def __init__(self, size: int) -> None:
        """Take exactly `size` bytes."""
        self.size = size

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes."""
        try:
            data = value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            data = b""
        if len(data) != self.size:
            self.fail(f"it has {self.size} bytes, in hexadecimal", param, ctx)
        return data


@click.group(cls=Group)
def receipt() -> None:
    """Verify and show receipts, and disclose parts of what they commit to."""


@receipt.command()
@click.argument("file", metavar="RECEIPT", type=_PATH)
@click.option("--policy", required=True, type=_PATH, help="The policy (TOML) to hold evidence and receipt against.")
@click.option("--evidence", type=_PATH, help="Evidence record; only for a bare receipt, which has none.")
@click.option("--collateral", type=_PATH, help="Collateral, a file or a folder, instead of the bundle's own.")
@click.option("--salts", type=_PATH, help="Another bundle of this receipt, whose openings to use.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE", help="Compare an input: a .npy or a JSON file.")
@click.option("--output", type=_PATH, help="Compare outputs: the .npz file that `infer --output` wrote.")
@click.option("--model", type=Hex(64), help="Digest of the model that must have answered.")
@click.option(
    "--stage", "stages", type=Hex(64), multiple=True, help="Digest of a further model, in a pipeline's order."
)
@click.option("--owner", type=Hex(32), help="Key of the owner whose model it must be, instead of the policy's.")
@click.option("--session", type=Hex(64), help="Handshake hash of the session that it must be of.")
@click.option("--at", type=Moment(), help="Verify as of this time instead of now.")
@_json
def verify(
    *,
    file: Path,
    policy: Path,
    evidence: Path | None,
    collateral: Path | None,
    salts: Path | None,
    inputs: tuple[str, ...],
    output: Path | None,
    model: bytes | None,
    stages: tuple[bytes, ...],
    owner: bytes | None,
    session: bytes | None,
    at: int | None,
    as_json: bool,
) -> None:
    """Verify a receipt without any network: its evidence, its signature, and every field that it binds.

    RECEIPT is a bundle that a client saved, or a bare COSE message.  Ends with 0 if it is accepted, 10 if it is
    refused, 20 if it is of a kind that is not handled, 30 if it is malformed, 40 if collateral is missing, and 2 if
    the command line or a file of the verifier's own is wrong.
    """
    with configuring("--policy", policy):
        loaded = load_policy(policy)
    held = _held(file, evidence, collateral, salts)
    held = read_contents(held, inputs, output)
    now = int(time.time()) if at is None else at
    report = examine(held, loaded, now, expected=Expected(model, owner, session, stages or None))
    if as_json:
        shown.print_json(shown.report_map(report, held))
    else:
        shown.print_report(report, held)
    sys.exit(report.exit_code)


@receipt.command()
@click.argument("file", metavar="RECEIPT", type=_PATH)
@click.option("-o", "--output", type=_PATH, help="Save the bare receipt (COSE), for other programs.")
@click.option("--evidence", type=_PATH, help="Save the evidence record, for `receipt verify --evidence`.")
@_json
def show(file: Path, output: Path | None, evidence: Path | None, as_json: bool) -> None:
    """Show what a receipt says, verifying nothing.  Existing files are kept."""
    data = read_bounded(file, MAX_BUNDLE)
    if not looks_like_bundle(data):
        if output is not None or evidence is not None:
            raise click.UsageError("a bare receipt has nothing to be taken out of it")
        bare = SignedReceipt.parse(data).receipt
        _print({"verified": False, "receipt": shown.receipt_map(bare)}, bare, {}, as_json=as_json)
        return
    bundle = ReceiptBundle.decode(data)
    if output is not None:
        write_atomically(output, bundle.receipt, replace=False)
    if evidence is not None:
        write_atomically(evidence, bundle.evidence.encode(), replace=False)
    _print(shown.bundle_map(bundle), bundle.signed().receipt, bundle.openings, as_json=as_json)


@receipt.command()
@click.argument("file", metavar="RECEIPT", type=_PATH)
@click.option("-o", "--output", "target", type=_PATH, required=True, help="The new bundle; an existing file is kept.")
@click.option("--input", "inputs", multiple=True, metavar="NAME", help="Disclose this input.")
@click.option("--answer", "answers", multiple=True, metavar="NAME", help="Disclose this output.")
def disclose(file: Path, target: Path, inputs: tuple[str, ...], answers: tuple[str, ...]) -> None:
    """Write a bundle that shows the receipt, and of its content the named tensors alone: by default none.

    What is withheld cannot be guessed from the new file: its salts are not there.  A named tensor is there with its
    content, or, where the client saved none, such that it can be compared.
    """
    names = {Direction.INPUT: frozenset(inputs), Direction.OUTPUT: frozenset(answers)}
    ReceiptBundle.load(file).disclosing(names).save(target, content=True)
    click.echo(f"written to {target}")


def _print(
    value: Mapping[str, Any], found: Receipt, openings: Mapping[Direction, tuple[Opening, ...]], *, as_json: bool
) -> None:
    if as_json:
        shown.print_json(value)
        return
    click.secho("Nothing here is verified: use `strongroom receipt verify`.", fg="yellow", err=True)
    shown.print_receipt(found, openings)


def _held(file: Path, evidence: Path | None, collateral: Path | None, salts: Path | None) -> Held:
    """Read a receipt and what belongs to it; raises ReceiptError or ManifestError."""
    data = read_bounded(file, MAX_BUNDLE)
    if looks_like_bundle(data):
        if evidence is not None:
            raise click.UsageError("a bundle has its evidence: --evidence is for a bare receipt")
        held = Held.of(ReceiptBundle.decode(data))
        return _completed(held, collateral, salts)
    try:
        bare = SignedReceipt.parse(data)
    except StrongroomError as error:
        error.message = f"{file} is no receipt: {error.message}"
        raise
    if evidence is None:
        raise click.UsageError("a bare receipt needs its --evidence")
    record = EvidenceRecord.decode(read_bounded(evidence, MAX_EVIDENCE))
    return _completed(Held(bare, record, NoSource()), collateral, salts)


def _completed(held: Held, collateral: Path | None, salts: Path | None) -> Held:
    """Return what is held with collateral and openings that come from elsewhere."""
    if collateral is not None:
        held = replace(held, source=open_source(collateral))
    return held if salts is None else replace(held, openings=_openings(salts, held))


def _openings(path: Path, held: Held) -> Mapping[Direction, tuple[Opening, ...]]:
    """Return the openings of another bundle of the same receipt; raises ReceiptError `receipt-withheld`."""
    bundle = ReceiptBundle.load(path)
    if bundle.receipt != held.signed.serialize():
        raise ReceiptError(ReceiptCode.WITHHELD, f"{path} opens another receipt than the one that is verified")
    return bundle.openings
