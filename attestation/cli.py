"""`strongroom attest`: verify evidence against collateral and policy, and show what evidence says."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from attestation import evidence
from attestation.appraise import Appraisal, appraise
from attestation.collateral import open_source
from attestation.ear.cli import verifier_key, verify_token
from attestation.intel.abi import MAX_QUOTE
from attestation.moment import Moment
from attestation.policy import load_policy, roots_for
from attestation.validity import rfc3339
from attestation.verified import Verified
from manifests.errors import Fault
from manifests.files import read_bounded, write_atomically
from manifests.show import print_rows

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_MARKS = {"ok": "ok", "warning": "permitted", "refusal": "refused"}
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def attest() -> None:
    """Verify and show attestation evidence."""


attest.add_command(verifier_key)
attest.add_command(verify_token)


@attest.command()
@click.option("--evidence", "path", type=_PATH, required=True, help="The quote, as raw bytes.")
@click.option("--collateral", type=_PATH, required=True, help="A collateral file, or a folder of them.")
@click.option("--policy", "policy_path", type=_PATH, required=True, help="The policy (TOML).")
@click.option("--at", type=Moment(), help="Verify as of this time instead of now.")
@_json
def verify(path: Path, collateral: Path, policy_path: Path, at: int | None, as_json: bool) -> None:
    """Verify evidence, hold it against a policy, and report every check.

    Ends with 0 if it is accepted and 10 if it is refused.
    """
    now = int(time.time()) if at is None else at
    policy = load_policy(policy_path)
    quote = evidence.parse(read_bounded(path, 2 * MAX_QUOTE))
    held = evidence.collateral_for(quote, open_source(collateral))
    verified = evidence.verify(quote, held, roots_for(policy), now)
    appraisal = appraise(verified, policy, now)
    if as_json:
        click.echo(json.dumps(appraisal.to_dict() | {"at": rfc3339(now)} | verified.to_dict(), indent=2))
    else:
        _print_verdict(verified, appraisal)
    if not appraisal.accepted:
        sys.exit(int(Fault.REFUSED))


@attest.command()
@click.argument("target", metavar="FILE|ADDRESS")
@click.option("--route", default="default", show_default=True, help="Deployment to ask, where TARGET is an address.")
@click.option("-o", "--output", type=_PATH, help="Save the quote's raw bytes, for `attest verify --evidence`.")
@_json
def show(target: str, route: str, output: Path | None, as_json: bool) -> None:
    """Decode a quote from a file or of a running deployment (unix:... or tcp:...), verifying nothing.

    An existing output file is kept.
    """
    data = _obtain(target, route)
    quote = evidence.parse(data)
    if output is not None:
        write_atomically(output, data, replace=False)
    shown = {
        "verified": False,
        "tee": quote.tee,
        "version": quote.version,
        "collateral": str(evidence.collateral_key(quote)),
        "quote": quote.to_dict(),
    }
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    click.secho("Nothing here is verified: use `strongroom attest verify`.", fg="yellow", err=True)
    for name, value in _flatten("", shown):
        click.echo(f"{name:<34} {value}")


def _obtain(target: str, route: str) -> bytes:
    if not target.startswith(("unix:", "tcp:")):
        return read_bounded(Path(target), 2 * MAX_QUOTE)
    from attestation.client.connection import collect_evidence

    record, _ = collect_evidence(target, route=route)
    return record.quote


def _flatten(prefix: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flatten(f"{prefix}{name}.", value)
        elif "\n" not in str(value):
            rows.append((prefix + name, str(value)))
    return rows


def _print_verdict(verified: Verified, appraisal: Appraisal) -> None:
    word, color = ("ACCEPTED", "green") if appraisal.accepted else ("REFUSED", "red")
    platform = f"{verified.tee} v{verified.version}, {appraisal.platform} platform"
    click.echo(f"{click.style(word, fg=color, bold=True)}  {platform}")
    click.echo(f"TCB {verified.tcb_status}; the collateral expires at {rfc3339(verified.expires)}")
    rows = [
        (_MARKS[finding.severity], str(finding.code), _short(finding.expected), _short(finding.found))
        for finding in appraisal.findings
    ]
    print_rows([("", "check", "expected", "found"), *rows], {"ok": "green", "permitted": "yellow", "refused": "red"})
    for finding in appraisal.failed:
        click.echo(f"{click.style(str(finding.code), fg='red')}: {finding.remedy}")


def _short(text: str) -> str:
    """Shorten a long value where a person looks at a table; a file, a pipe and `--json` get all of it."""
    return text if len(text) <= 40 or not sys.stdout.isatty() else f"{text[:12]}...{text[-12:]}"
