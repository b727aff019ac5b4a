"""`strongroom attest`: verify evidence of any TEE, explain the verdict, and show what evidence says."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from attestation import evidence
from attestation.composite import SessionClaims
from attestation.ear.cli import nonce_bytes, verifier_key, verify_token
from attestation.eventlog.log import MAX_LOG
from attestation.given_roots import simulated_roots
from attestation.moment import Moment
from attestation.report import Report, examine
from attestation.tpm.cli import pack_tpm
from attestation.types import EvidenceRecord
from attestation.types.claims import MAX_EVIDENCE
from attestation.wrapping import MAX_INPUT, parse_alone, unwrap
from manifests import keyfile
from manifests.command import Group
from manifests.errors import StrongroomError, configuring
from manifests.files import read_bounded, require_writable, write_atomically

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_REPORT_DATA = 64
_DEFAULT_ROUTE = "default"
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Group)
def attest() -> None:
    """Verify, explain and show attestation evidence."""


attest.add_command(pack_tpm)
attest.add_command(verifier_key)
attest.add_command(verify_token)


@dataclass(frozen=True)
class Request:
    """What the options of `verify` and `explain` ask for."""

    evidence: Path
    collateral: tuple[Path, ...]
    policy: Path | None
    at: int | None
    simulated_root: tuple[Path, ...]
    report_data: str | None
    claims: Path | None
    handshake_hash: str | None
    event_log: Path | None

    def examine(self) -> Report:
        """Read the files, and examine the evidence; raises ManifestError, PolicyError, or EvidenceError for a root."""
        from attestation.loose import open_collateral
        from attestation.policy import load_policy, roots_for
        from attestation.roots import Roots

        if self.policy is not None and self.simulated_root:
            raise click.UsageError("a policy names its simulated root itself: leave out --simulated-root")
        session = self._session()
        with configuring("--policy", self.policy):
            policy = None if self.policy is None else load_policy(self.policy)
            roots = Roots.vendor() if policy is None else roots_for(policy)
        if self.simulated_root:
            roots = simulated_roots(self.simulated_root)
        return examine(
            _read(self.evidence),
            now=int(time.time()) if self.at is None else self.at,
            collateral=open_collateral(self.collateral, roots) if self.collateral else None,
            policy=policy,
            report_data=_bytes_64(self.report_data, "--report-data"),
            roots=roots,
            session=session,
            event_log=None if self.event_log is None else read_bounded(self.event_log, MAX_LOG),
        )

    def _session(self) -> SessionClaims | None:
        """Read the claims of the session, if they are given; raises ManifestError."""
        handshake = _bytes_64(self.handshake_hash, "--handshake-hash")
        if (self.claims is None) is not (handshake is None):
            raise click.UsageError("--claims and --handshake-hash need each other")
        if self.claims is None or handshake is None:
            return None
        if self.report_data is not None:
            raise click.UsageError("the claims say what the evidence must be bound to: leave out --report-data")
        return SessionClaims.of(EvidenceRecord.decode(read_bounded(self.claims, MAX_EVIDENCE)), handshake)


def _examined(options: dict[str, Any], *, as_json: bool) -> Report:
    """Examine what the options ask for; for programs, what prevents it is no acceptance either."""
    try:
        return Request(**options).examine()
    except StrongroomError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"accepted": False, "exit_code": error.exit_code, "error": error.to_dict()}, indent=2))
        sys.exit(error.exit_code)


def _requesting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what to examine."""
    for option in (
        click.option(
            "--event-log",
            type=_PATH,
            help="Log of measured boot (CCEL, or of a TPM's firmware) that must replay to the evidence's registers.",
        ),
        click.option("--handshake-hash", metavar="HEX", help="Hash of the handshake of that session, 64 bytes."),
        click.option(
            "--claims", type=_PATH, help="Evidence record of a session, whose claims the evidence must cover."
        ),
        click.option("--report-data", metavar="HEX", help="64 bytes that the evidence must be bound to."),
        click.option(
            "--simulated-root",
            type=_PATH,
            multiple=True,
            help="Without a policy: root of a SIMULATED platform, instead of the vendors'.",
        ),
        click.option("--at", type=Moment(), help="Verify as of this time instead of now."),
        click.option("--policy", type=_PATH, help="The policy (TOML); without one, only genuineness is judged."),
        click.option(
            "--collateral", type=_PATH, multiple=True, help="Collateral: a file, or a folder of them; several times."
        ),
        click.option(
            "--evidence", type=_PATH, required=True, help="The evidence, raw or wrapped; - for standard input."
        ),
    ):
        command = option(command)
    return command


@attest.command()
@_requesting
@click.option("--token-key", type=_PATH, help="Sign the verdict as a token (EAR) with this verifier's key.")
@click.option("--token-out", type=_PATH, help="Where to write the token; an existing file is kept.")
@click.option("--nonce", metavar="HEX", help="The nonce that the token answers: 8 to 64 bytes.")
@click.option("--audience", help="For whom alone the token is.")
@keyfile.passphrase_option
@_json
def verify(
    *,
    token_key: Path | None,
    token_out: Path | None,
    nonce: str | None,
    audience: str | None,
    passphrase_file: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Verify evidence of any TEE, hold it against a policy, and report every check.

    The evidence may be raw, hex, base64, armoured or inside JSON.  Ends with 0 if it is accepted, 10 if it is refused,
    20 if it is of a kind that is not handled, 30 if it is malformed, 40 if collateral is missing, and 2 if the command
    line is wrong, or a file of the verifier's own: policy, simulated root, token key.
    """
    if (token_key is None) is not (token_out is None):
        raise click.UsageError("--token-key and --token-out need each other")
    if token_key is None and not (nonce is None and audience is None):
        raise click.UsageError("--nonce and --audience are for a token: give --token-key, too")
    asked = {"nonce": nonce_bytes(nonce), "audience": audience}
    if token_out is not None:
        with configuring("--token-out", token_out, "name a file in a folder that is there and can be written to"):
            require_writable(token_out)  # or all the work would be for nothing
    report = _examined(options, as_json=as_json)
    problem, token = None, {}
    if token_key is not None and token_out is not None:
        problem = _issued(report, token_key, token_out, passphrase_file, asked)
        token = {"token": {"file": str(token_out), "error": None if problem is None else problem.to_dict()}}
    if as_json:
        click.echo(json.dumps(report.to_dict() | token, indent=2))
        sys.exit(report.exit_code or (0 if problem is None else problem.exit_code))
    from attestation.report_text import print_report

    print_report(report)
    if problem is not None:
        raise problem
    if token:
        click.echo(f"token: {token_out}", err=True)
    sys.exit(report.exit_code)


@attest.command()
@_requesting
@_json
def explain(*, as_json: bool, **options: Any) -> None:
    """Say in words what evidence is, who made it, what was checked, what would change the verdict, and what to do next.

    Ends as `attest verify` does.
    """
    from attestation.explain import explanation

    report = _examined(options, as_json=as_json)
    told = explanation(report)
    click.echo(json.dumps(told.to_dict(), indent=2) if as_json else told.text())
    if report.exit_code:
        sys.exit(report.exit_code)


@attest.command()
@click.argument("target", metavar="FILE|-|ADDRESS")
@click.option("--route", help="Deployment to ask, where TARGET is an address.  [default: default]")
@click.option("-o", "--output", type=_PATH, help="Save the evidence's raw bytes, for `attest verify --evidence`.")
@click.option("--claims", type=_PATH, help="Save the session's evidence record, for `attest verify --claims`.")
@_json
def show(target: str, route: str | None, output: Path | None, claims: Path | None, as_json: bool) -> None:
    """Decode evidence from a file or of a running deployment (unix:... or tcp:...), verifying nothing.

    An existing output file is kept.
    """
    data, session = _obtain(target, route)
    if claims is not None and session is None:
        raise click.UsageError("--claims is of a session: TARGET must be an address")
    unwrapped = unwrap(data)
    quote = parse_alone(unwrapped.evidence)
    if output is not None:
        write_atomically(output, unwrapped.evidence, replace=False)
    if claims is not None and session is not None:
        write_atomically(claims, session[0].encode(), replace=False)
    key = evidence.collateral_key(quote)
    shown = {
        "verified": False,
        "tee": quote.tee,
        "version": quote.version,
        "wrapping": list(unwrapped.steps),
        "collateral": None if key is None else str(key),
        "handshake_hash": None if session is None else session[1].hex(),
        "quote": quote.to_dict(),
    }
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    from attestation.report_text import flatten

    click.secho("Nothing here is verified: use `strongroom attest verify`.", fg="yellow", err=True)
    for name, value in flatten("", shown):
        click.echo(f"{name:<34} {value}")


def _obtain(target: str, route: str | None) -> tuple[bytes, tuple[EvidenceRecord, bytes] | None]:
    """Return evidence; and of a deployment, the record that it came in, with the hash of the session's handshake."""
    if not target.startswith(("unix:", "tcp:")):
        if route is not None:
            raise click.UsageError("--route is of a deployment: TARGET must be an address")
        return _read(Path(target)), None
    from attestation.client.connection import collect_evidence

    session = collect_evidence(target, route=route or _DEFAULT_ROUTE)
    return session[0].quote, session


def _read(path: Path) -> bytes:
    return sys.stdin.buffer.read(MAX_INPUT + 1) if str(path) == "-" else read_bounded(path, MAX_INPUT)


def _bytes_64(text: str | None, option: str) -> bytes | None:
    try:
        data = None if text is None else bytes.fromhex(text)
    except ValueError:
        data = b""
    if data is not None and len(data) != _REPORT_DATA:
        raise click.BadParameter(f"it has {_REPORT_DATA} bytes, in hexadecimal", param_hint=option)
    return data


def _issued(report: Report, *how: Any) -> StrongroomError | None:
    """Write the token; returns why there is none, because the report is told in both cases."""
    try:
        _issue(report, *how)
    except StrongroomError as problem:
        return problem
    return None


def _issue(report: Report, key: Path, output: Path, passphrase_file: Path | None, asked: dict[str, Any]) -> None:
    """Write the verdict as a token with the nonce and audience in `asked`, into a new file.

    Raises EarError `ear-unissuable` where there is no verdict under a policy, or `ear-request`; and ManifestError.
    """
    from attestation.ear.errors import EarCode, EarError
    from attestation.ear.issue import issue_token
    from attestation.ear.keys import read_verifier_key

    appraisal = report.appraisal
    if appraisal is None or report.verified is None or report.policy is None:
        raise EarError(
            EarCode.UNISSUABLE,
            "a token says how genuine evidence stands to a policy",
            expected="evidence that verifies, and a policy",
            found="no policy" if report.policy is None else "evidence that does not verify",
            remedy="give a policy with --policy; evidence that does not verify gets no token",
        )
    with configuring("--token-key", key):
        signer = read_verifier_key(key, keyfile.read_passphrase(passphrase_file))
    asked |= {"policy": report.policy, "devices": report.devices}
    token = issue_token(appraisal, report.verified, signer, report.now, **asked)
    write_atomically(output, f"{token}\n".encode(), replace=False)
