"""`strongroom collateral feed`: sign and show lists of broken hardware."""

from __future__ import annotations

import json
from pathlib import Path

import click

from attestation.ear.keys import read_verifier_card, read_verifier_key
from attestation.errors import PolicyCode
from attestation.policy.feed import MAX_FEED, HardwareFeed, describe, open_feed, sign_feed
from attestation.policy.toml import parse_toml
from attestation.validity import rfc3339
from manifests import keyfile
from manifests.command import Group
from manifests.files import concerning, read_bounded, write_atomically
from manifests.show import print_facts

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Group)
def feed() -> None:
    """Sign and show lists of broken hardware."""


@feed.command()
@click.argument("source", metavar="TOML", type=_PATH)
@click.option("--key", type=_PATH, required=True, help="The verifier's key file (`attest verifier-key`).")
@click.option("--output", type=_PATH, required=True, help="The list to write; an older one is replaced.")
@keyfile.passphrase_option
@_json
def sign(*, source: Path, key: Path, output: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Sign a list that is written in TOML; docs/policy.md describes it."""
    with concerning(source, "correct the list; docs/policy.md describes it"):
        body = parse_toml(read_bounded(source, MAX_FEED), MAX_FEED, PolicyCode.FEED_MALFORMED, "the list")
        signer = read_verifier_key(key, keyfile.read_passphrase(passphrase_file))
        text = sign_feed(body, signer)
    write_atomically(output, text.encode("utf-8"))
    _print(open_feed(text, signer.public), as_json=as_json)


@feed.command()
@click.argument("path", metavar="FILE", type=_PATH)
@click.option("--key", "card", type=_PATH, required=True, help="Card of the verifier who signs the list.")
@_json
def show(*, path: Path, card: Path, as_json: bool) -> None:
    """Verify a list's signature and show what it says."""
    with concerning(path):
        text = read_bounded(path, 2 * MAX_FEED).decode("utf-8", "replace")
        opened = open_feed(text, read_verifier_card(card))
    _print(opened, as_json=as_json)


def _print(opened: HardwareFeed, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(describe(opened), indent=2))
        return
    facts: dict[str, object] = {
        "serial": opened.serial,
        "issued": rfc3339(opened.issued),
        "expires": rfc3339(opened.expires),
        "entries": len(opened.entries),
    }
    entries = {item.id: f"{', '.join(item.tees)} since {rfc3339(item.date)}: {item.reason}" for item in opened.entries}
    print_facts(facts | entries)
