"""`strongroom generate`: have a language model in an attested enclave go on with a text."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from attestation.client import display
from attestation.client.call import Timeouts
from attestation.client.epochs import EpochMemory
from attestation.client.options import credential_of, signer, state_file
from attestation.client.printing import print_generated, stream_generated
from attestation.client.session import Session
from manifests.command import Command
from manifests.errors import ManifestCode, ManifestError
from manifests.keyfile import passphrase_option

MAX_PROMPT = 128 * 1024
"""UTF-8 bytes of a prompt, as many as a request takes."""
_FILE = click.Path(path_type=Path)


@click.command(cls=Command)
@click.argument("address")
@click.argument("model")
@click.option("--policy", required=True, type=_FILE, help="Policy file with a [service] table.")
@click.option("--collateral", required=True, type=_FILE, help="Directory that holds collateral.")
@click.option("--prompt", required=True, metavar="TEXT", help="Text to go on with; `-` reads it from standard input.")
@click.option("--max-tokens", default=64, show_default=True, help="Most tokens of the answer.")
@click.option("--stop", "stops", multiple=True, metavar="TEXT", help="End the answer before this text.")
@click.option("--temperature", type=float, help="Draw tokens; without it the likeliest is taken each time.")
@click.option("--top-k", type=int, help="Draw among so many of the likeliest tokens.")
@click.option("--top-p", type=float, help="Draw among the likeliest tokens that have this share together.")
@click.option("--seed", type=int, help="Draw as an earlier answer did, which told its seed.")
@click.option("--receipt", type=_FILE, help="Ask for a receipt and save it in this new file; its salts are yours.")
@click.option("--route", default="default", show_default=True, help="Deployment at that address.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for each part of the answer.")
@click.option("--state", type=_FILE, help="File of the highest epochs seen (else the user's own).")
@click.option("--client-key", type=_FILE, help="Key file of `owner client`, to say who asks; else anonymous.")
@click.option("--credential", type=_FILE, help="A broker's credential that names the client's key.")
@passphrase_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, once the whole answer has come.")
def generate(
    *,
    address: str,
    model: str,
    policy: Path,
    collateral: Path,
    prompt: str,
    max_tokens: int,
    stops: tuple[str, ...],
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    receipt: Path | None,
    route: str,
    timeout: float,
    state: Path | None,
    client_key: Path | None,
    credential: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Attest the enclave at ADDRESS, then have MODEL go on with a text.

    ADDRESS is unix:/path or tcp:HOST:PORT; MODEL a name, OWNER/NAME, or a digest.  The text is printed as it comes; an
    answer that breaks off ends with an error.  Nothing is sent unless the enclave's evidence passes the policy.
    """
    proof, text = credential_of(credential, client_key), _text(prompt)
    with (
        Session.connect(
            address,
            policy=policy,
            collateral=collateral,
            route=route,
            key=signer(client_key, passphrase_file),
            credential=proof,
            memory=EpochMemory(state or state_file()),
            timeouts=Timeouts(request=timeout),
        ) as session,
        session.generate(
            model,
            text,
            max_new_tokens=max_tokens,
            stop=stops,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            receipt=receipt or False,
        ) as answer,
    ):
        enclave = display.data(address, session.attested)
        if as_json:
            answer.read()
            print_generated(enclave, answer, receipt)
        else:
            stream_generated(enclave, answer)
    if receipt:
        click.echo(f"receipt: {receipt}", err=True)


def _text(prompt: str) -> str:
    """Return the prompt, from standard input for `-`; raises ManifestError for what is too long or no UTF-8."""
    if prompt != "-":
        return prompt
    data = sys.stdin.buffer.read(MAX_PROMPT + 1)
    try:
        if len(data) <= MAX_PROMPT:
            return data.decode()
    except UnicodeDecodeError:
        pass
    raise ManifestError(ManifestCode.FIELD_INVALID, f"the prompt is no UTF-8 text of at most {MAX_PROMPT} bytes")
