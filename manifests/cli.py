"""The owner's commands: keys, drafts, sealing, looking, and changing recipients."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from manifests import draft, keyfile
from manifests.abuse.cli import calibrate_command
from manifests.check_cli import check_command
from manifests.command import Command, Group
from manifests.errors import ManifestCode, ManifestError
from manifests.files import concerning, exists, read_bounded, write_atomically
from manifests.model import MAX_MANIFEST, ModelManifest
from manifests.plain import printable
from manifests.rewrap_cli import change_options, read_change
from manifests.sealed import RecipientKey, SealedInfo, inspect_sealed, recipients
from manifests.sealed import rewrap as rewrap_model
from manifests.sealed import seal as seal_model
from manifests.show import print_facts, print_sealed
from manifests.signing import Signer

_FILE = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("seal", cls=Command)
@click.argument("model", type=_FILE)
@click.option("--manifest", type=_FILE, help="Model manifest in TOML; without one it is drafted from the graph.")
@click.option("--owner-key", type=_FILE, required=True, help="The owner's key file.")
@click.option("--recipient", type=_FILE, multiple=True, required=True, help="Card of a broker or recipient.")
@click.option("-o", "--output", type=_FILE, required=True, help="The sealed model to write.")
@click.option("--name", help="Name of the model, where no manifest gives it.")
@click.option("--part", "parts", multiple=True, metavar="NAME=FILE", help="A further part, such as a tokenizer.")
@click.option("--force", is_flag=True, help="Replace the sealed model that is there.")
@keyfile.passphrase_option
@_json
def seal_command(
    *,
    model: Path,
    manifest: Path | None,
    owner_key: Path,
    recipient: tuple[Path, ...],
    output: Path,
    name: str | None,
    parts: tuple[str, ...],
    force: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Seal an ONNX model for its recipients."""
    signer = _owner_key(owner_key, passphrase_file)
    described = _manifest(manifest, signer.public) if manifest else None
    publics = [keyfile.read_card_entry(card, recipients.CARD_ENTRY) for card in recipient]
    extra = dict(_named(part) for part in parts)
    with _progress(hidden=as_json) as progress:
        info = seal_model(
            model,
            output,
            manifest=described,
            name=name,
            owner_key=signer,
            recipients=publics,
            extra_parts=extra,
            progress=progress,
            overwrite=force,
        )
    print_sealed(info, as_json=as_json)
    if described is not None and described.components() and not as_json:
        words = " ".join(f"--component {name}" for name in described.components())
        click.echo(f"Only an enclave with its components serves it: strongroom manifest render {words}")


@click.command(cls=Command)
@click.argument("sealed", type=_FILE)
@click.option("--owner", type=_FILE, help="Card of the owner whose model it must be.")
@_json
def inspect(sealed: Path, owner: Path | None, as_json: bool) -> None:
    """Show a sealed model and verify its signature, chunks and digest; needs no key."""
    info = inspect_sealed(sealed)
    if owner is not None:
        _check_owner(info, keyfile.read_card_entry(owner, keyfile.OWNER_ENTRY))
    print_sealed(info, as_json=as_json)


@click.command(cls=Command)
@change_options
@click.option("--key", type=_FILE, required=True, help="Key file of a present recipient.")
@keyfile.passphrase_option
@_json
def rewrap(*, key: Path, passphrase_file: Path | None, as_json: bool, **words: Any) -> None:
    """Change the recipients of a sealed model without touching a chunk.

    Who is removed may have kept the data key: to shut somebody out, seal the model again.  Where the recipient is a
    broker, use `strongroom broker rewrap`.
    """
    change = read_change(**words)
    private = RecipientKey.from_bytes(keyfile.read_key_file(key, "recipient", keyfile.read_passphrase(passphrase_file)))
    print_sealed(rewrap_model(**change, private=private), as_json=as_json)


@click.group(cls=Group)
def model() -> None:
    """Describe and check ONNX models before they are sealed."""


model.add_command(calibrate_command)


@model.command("draft")
@click.argument("model_file", metavar="MODEL", type=_FILE)
@click.option("--name", help="Name of the model; else the file's.")
@click.option("-o", "--output", type=_FILE, help="Write here; an existing file is kept.")
@_json
def draft_command(model_file: Path, name: str | None, output: Path | None, as_json: bool) -> None:
    """Write a model manifest from an ONNX graph, for its owner to review.

    The owner's key is not named in it: sealing fills it in.
    """
    nobody = Signer.generate().public
    with concerning(model_file, "name an ONNX file"):
        graph = draft.load_graph(model_file)
    manifest = draft.draft_manifest(graph, owner=nobody, name=name, suggested=model_file.stem)
    text = draft.draft_toml(manifest, with_owner=False)
    if output is not None:
        write_atomically(output, text.encode("utf-8"), replace=False)
    if as_json:
        table = {key: value for key, value in manifest.to_map().items() if key != "owner"}
        click.echo(json.dumps(table, indent=2))
    elif output is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"Wrote {printable(str(output))}. Review it, then seal the model with it.")


model.add_command(check_command)


@click.group(cls=Group)
def owner() -> None:
    """Make and show the keys of owners, recipients and clients."""


@owner.command("init")
@click.option("--key", type=_FILE, default="owner.key", show_default=True, help="Key file to write.")
@keyfile.passphrase_option
@_json
def owner_init(key: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make an owner's key: a key file under a passphrase, and a card with the public key beside it."""
    signer = Signer.generate()
    card = _write_pair(key, "owner", signer.seed(), {keyfile.OWNER_ENTRY: signer.public}, passphrase_file)
    _print_table({"owner": signer.public.hex(), "key": str(key), "card": str(card)}, as_json=as_json)


@owner.command("recipient")
@click.option("--key", type=_FILE, default="recipient.key", show_default=True, help="Key file to write.")
@keyfile.passphrase_option
@_json
def owner_recipient(key: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a recipient's key pair, for instance to be able to rewrap one's own models later."""
    private = RecipientKey.generate()
    card = _write_pair(key, "recipient", private.to_bytes(), {recipients.CARD_ENTRY: private.public}, passphrase_file)
    _print_table({"key_id": private.key_id.hex(), "key": str(key), "card": str(card)}, as_json=as_json)


@owner.command("client")
@click.option("--key", type=_FILE, default="client.key", show_default=True, help="Key file to write.")
@keyfile.passphrase_option
@_json
def owner_client(key: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a client's key pair, for `infer --client-key`; a broker names it with `broker credential --client CARD`."""
    signer = Signer.generate()
    card = _write_pair(key, "client", signer.seed(), {keyfile.CLIENT_ENTRY: signer.public}, passphrase_file)
    _print_table({"client": signer.public.hex(), "key": str(key), "card": str(card)}, as_json=as_json)


@owner.command("show")
@click.argument("card", type=_FILE)
@_json
def owner_show(card: Path, as_json: bool) -> None:
    """Show the public keys of a card: recipients by their key id, owners and others by their key."""
    entries = keyfile.read_card(card)
    table = {name: value.hex() for name, value in entries.items() if name != recipients.CARD_ENTRY}
    if recipients.CARD_ENTRY in entries:
        table["key_id"] = recipients.key_id(entries[recipients.CARD_ENTRY]).hex()
    _print_table(table, as_json=as_json)


def _owner_key(path: Path, passphrase_file: Path | None) -> Signer:
    return Signer.from_seed(keyfile.read_key_file(path, "owner", keyfile.read_passphrase(passphrase_file)))


def _manifest(path: Path, owner_public: bytes) -> ModelManifest:
    try:
        text = read_bounded(path, MAX_MANIFEST).decode("utf-8")
    except UnicodeDecodeError:
        raise ManifestError(ManifestCode.MANIFEST_INVALID, f"{path} is not UTF-8 text") from None
    with concerning(path, "correct the manifest; `strongroom model draft` writes one that fits"):
        return ModelManifest.from_toml(text, owner=owner_public)


def _named(part: str) -> tuple[str, Path]:
    name, equals, file = part.partition("=")
    if not (name and equals and file):
        raise click.BadParameter(f"{part!r} is not NAME=FILE", param_hint="--part")
    return name, Path(file)


def _check_owner(info: SealedInfo, expected: bytes) -> None:
    if info.core.owner != expected:
        raise ManifestError(
            ManifestCode.SEALED_OWNER,
            "the sealed model belongs to another owner",
            expected=expected.hex(),
            found=info.core.owner.hex(),
        )


def _write_pair(key: Path, kind: str, secret: bytes, public: dict[str, bytes], passphrase_file: Path | None) -> Path:
    """Write a key file and its card; neither replaces a file that is there."""
    card = key.with_suffix(".pub")
    if exists(card):
        raise ManifestError(ManifestCode.FILE_EXISTS, f"{card} already exists", remedy="choose another name with --key")
    passphrase = keyfile.read_passphrase(passphrase_file, confirm=True)
    keyfile.write_key_file(key, kind, secret, passphrase, public=public)
    keyfile.write_card(card, public)
    return card


@contextlib.contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on standard error while a model is sealed, where a person is watching."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("Sealing"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("seal", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_table(table: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(table, indent=2))
        return
    print_facts(table)
