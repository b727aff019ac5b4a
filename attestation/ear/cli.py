"""`strongroom attest verify-token` and `verifier-key`: check attestation result tokens, and make the key that signs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from attestation.ear.ar4si import Tier
from attestation.ear.check import open_token
from attestation.ear.errors import EarError
from attestation.ear.issue import check_nonce
from attestation.ear.jws import MAX_TOKEN
from attestation.ear.keys import read_verifier_card, write_verifier_key
from attestation.ear.token import Token
from attestation.moment import Moment
from attestation.validity import rfc3339
from manifests import keyfile
from manifests.command import Command
from manifests.errors import configuring
from manifests.files import read_bounded
from manifests.plain import printable
from manifests.show import print_facts

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_COLORS = {Tier.AFFIRMING: "green", Tier.WARNING: "yellow"}


@click.command("verify-token", cls=Command)
@click.argument("token", metavar="FILE|-", type=_PATH)
@click.option("--key", "cards", type=_PATH, multiple=True, required=True, help="Card of a verifier that you trust.")
@click.option("--audience", help="Who asks; a token that names somebody must name you.")
@click.option("--nonce", metavar="HEX", help="The nonce that the token must answer: 8 to 64 bytes.")
@click.option("--simulation", is_flag=True, help="Demand a SIMULATED platform instead of hardware.")
@click.option("--warnings", is_flag=True, help="Also accept what passed because its policy names something dangerous.")
@click.option("--leeway", type=click.IntRange(0, 300), default=0, show_default=True, help="Seconds clocks may differ.")
@click.option("--at", type=Moment(), help="Check as of this time instead of now.")
@_json
def verify_token(
    *,
    token: Path,
    cards: tuple[Path, ...],
    audience: str | None,
    nonce: str | None,
    simulation: bool,
    warnings: bool,
    leeway: int,
    at: int | None,
    as_json: bool,
) -> None:
    """Check an attestation result token (EAR), and whether it says that the evidence was accepted.

    Ends with 0 if it does and 10 if it is refused; what a genuine token says is printed in both cases.
    """
    now = int(time.time()) if at is None else at
    asked = nonce_bytes(nonce)
    keys = [_card(card) for card in cards]
    opened = open_token(_read(token), keys, now, audience=audience, nonce=asked, leeway=leeway)
    refusal = _refusal(opened, simulation, warnings)
    if as_json:
        shown = {"at": rfc3339(now), "accepted": refusal is None, "token": opened.to_dict()}
        click.echo(json.dumps(shown | {"error": None if refusal is None else refusal.to_dict()}, indent=2))
        sys.exit(0 if refusal is None else refusal.exit_code)
    _print(opened)
    if refusal is not None:
        raise refusal


@click.command("verifier-key", cls=Command)
@click.option("--key", type=_PATH, default="verifier.key", show_default=True, help="Key file to write.")
@keyfile.passphrase_option
@_json
def verifier_key(key: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make the key with which a verifier signs tokens and lists of broken hardware, and a card beside it."""
    passphrase = keyfile.read_passphrase(passphrase_file, confirm=True)
    public, card = write_verifier_key(key, passphrase)
    shown = {"key": str(key), "card": str(card), "public": public.hex()}
    if as_json:
        click.echo(json.dumps(shown, indent=2))
    else:
        print_facts(shown)


def _card(path: Path) -> bytes:
    remedy = "give the card of a verifier that you trust: the .pub file that `strongroom attest verifier-key` writes"
    with configuring("--key", path, remedy):
        return read_verifier_card(path)


def _read(path: Path) -> str:
    """Return a token's text without the line end that editors leave behind."""
    data = sys.stdin.buffer.read(MAX_TOKEN + 1) if str(path) == "-" else read_bounded(path, MAX_TOKEN)
    return data.decode("utf-8", "replace").removesuffix("\n")


def nonce_bytes(text: str | None) -> bytes | None:
    """Return the nonce of an option; raises click.BadParameter, and EarError for a size that no nonce has."""
    try:
        nonce = None if text is None else bytes.fromhex(text)
    except ValueError:
        raise click.BadParameter("a nonce is given in hexadecimal", param_hint="--nonce") from None
    check_nonce(nonce)
    return nonce


def _refusal(token: Token, simulation: bool, warnings: bool) -> EarError | None:
    try:
        token.require(simulation=simulation, warnings=warnings)
    except EarError as error:
        return error
    return None


def _print(token: Token) -> None:
    word = click.style(token.status.value.upper(), fg=_COLORS.get(token.status, "red"), bold=True)
    click.echo(f"{word}  {printable(f'{token.tee}, {token.platform}')} platform")
    print_facts(
        {
            "issued": rfc3339(token.issued),
            "expires": rfc3339(token.expires),
            "verifier": f"{token.verifier['build']} ({token.key.hex()})",
            "policy": token.policy,
            **{str(claim): f"{value} ({Tier.of(value).value})" for claim, value in token.vector.items()},
            **{name: ", ".join(token.appraisal[name]) or "none" for name in ("failed", "warned")},
            "measurement": token.appraisal["measurement"],
            "report data": token.appraisal["report_data"],
        }
    )
