"""`strongroom infer`: send tensors to an attested enclave, or list what it serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from attestation.client import display
from attestation.client.call import Timeouts
from attestation.client.content import answers_of, find, inputs_of, newest
from attestation.client.epochs import EpochMemory
from attestation.client.files import needs_model, read_inputs, write_outputs
from attestation.client.options import credential_of, signer, state_file
from attestation.client.printing import print_answer, print_models
from attestation.client.session import Session
from manifests.command import Command
from manifests.files import require_free, require_writable
from manifests.keyfile import passphrase_option

_FILE = click.Path(path_type=Path)


@click.command(cls=Command)
@click.argument("address")
@click.argument("model", required=False)
@click.option("--policy", required=True, type=_FILE, help="Policy file with a [service] table.")
@click.option("--collateral", required=True, type=_FILE, help="Directory that holds collateral.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE", help="Input tensor: a .npy or a JSON file.")
@click.option("--text", metavar="TEXT", help="Ask of this text, and print labels.")
@click.option("--image", type=_FILE, help="Ask of this picture, and print labels.")
@click.option("--audio", type=_FILE, help="Ask of this recording, and print labels.")
@click.option("--output", type=_FILE, help="Write the output tensors to this .npz file.")
@click.option("--force", is_flag=True, help="Replace the output file if there is one.")
@click.option("--list", "listing", is_flag=True, help="List the models that the enclave serves.")
@click.option("--receipt", type=_FILE, help="Ask for a receipt and save it in this new file; its salts are yours.")
@click.option("--receipt-content", is_flag=True, help="Keep inputs and outputs in the receipt's file, too.")
@click.option("--route", default="default", show_default=True, help="Deployment at that address.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--state", type=_FILE, help="File of the highest epochs seen (else the user's own).")
@click.option("--client-key", type=_FILE, help="Key file of `owner client`, to say who asks; else anonymous.")
@click.option("--credential", type=_FILE, help="A broker's credential that names the client's key.")
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def infer(
    *,
    address: str,
    model: str | None,
    policy: Path,
    collateral: Path,
    inputs: tuple[str, ...],
    text: str | None,
    image: Path | None,
    audio: Path | None,
    output: Path | None,
    force: bool,
    listing: bool,
    receipt: Path | None,
    receipt_content: bool,
    route: str,
    timeout: float,
    state: Path | None,
    client_key: Path | None,
    credential: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Attest the enclave at ADDRESS, then ask MODEL.

    ADDRESS is unix:/path or tcp:HOST:PORT; MODEL a name, OWNER/NAME, or a digest.  Nothing is sent unless the
    enclave's evidence passes the policy.
    """
    named = {"text": text, "image": image, "audio": audio}
    contents = {kind: value for kind, value in named.items() if value is not None}
    if listing == (model is not None) or (listing and (inputs or contents)):
        raise click.UsageError("give a model and its inputs, or --list")
    if len(contents) + bool(inputs) > 1:
        raise click.UsageError("give one of --input, --text, --image and --audio")
    proof = credential_of(credential, client_key)
    if (receipt and listing) or (receipt_content and not receipt):
        raise click.UsageError("--receipt goes with a model, and --receipt-content with --receipt")
    files = _files(inputs)
    for path, overwrite in ((output, force), (receipt, False)):
        if path:
            require_writable(path)  # or the answer would be lost, and a request of the lease with it
            require_free(path, overwrite=overwrite)
    with Session.connect(
        address,
        policy=policy,
        collateral=collateral,
        route=route,
        key=signer(client_key, passphrase_file),
        credential=proof,
        memory=EpochMemory(state or state_file()),
        timeouts=Timeouts(request=timeout),
    ) as session:
        enclave, asked = display.data(address, session.attested), None
        if model is None:
            print_models(enclave, session.models(), as_json=as_json)
            return
        if contents:
            ((kind, content),) = contents.items()
            asked = newest(session.models(), model)
            tensors = inputs_of(asked, content, kind)
        else:
            tensors = read_inputs(files, find(session.models(), model) if needs_model(files) else None)
        answer = session.infer(model, tensors, receipt=receipt is not None)
    if receipt and answer.receipt:
        answer.receipt.save(receipt, content=receipt_content)
        click.echo(f"receipt: {receipt}", err=True)
    if output:
        write_outputs(output, answer, overwrite=force)
    labels = answers_of(answer, asked) if asked else None
    print_answer(enclave, answer, output, labels, as_json=as_json)


def _files(inputs: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for name, path in map(_pair, inputs):
        if name in files:
            raise click.UsageError(f"--input names {name!r} more than once")
        files[name] = path
    return files


def _pair(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise click.UsageError(f"--input takes NAME=FILE, not {text!r}")
    return name, Path(path)
