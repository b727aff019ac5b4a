"""`strongroom sim`: make a simulated platform, look at it, put it into any state, and run an enclave on it."""

from __future__ import annotations

import dataclasses
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import click
import tomli_w

from attestation.errors import EvidenceCode, EvidenceError
from attestation.sim.kinds import TEES, Made, make
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.service import run as run_enclave
from attestation.sim.state import DOCUMENTS, QE_STATUSES, REVOCABLE, TCB_STATUSES, State
from manifests.command import Group
from manifests.files import exists, make_folder, write_atomically
from manifests.plain import printable, shell_command

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_home = click.option("--home", type=_PATH, required=True, help="The platform's folder.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Group)
def sim() -> None:
    """Make and inspect a simulated platform."""


@sim.command()
@_home
@_json
def init(home: Path, as_json: bool) -> None:
    """Make the platform, if there is none yet, and publish its collateral."""
    _print(_publish(home, None), as_json)


@sim.command()
@_home
@_json
def show(home: Path, as_json: bool) -> None:
    """Show root, identifiers and state; publishes nothing."""
    _print(_describe(home, SimulatedPlatform.load(home)), as_json)


@sim.command()
@_home
@click.option("--tcb-status", type=click.Choice(TCB_STATUSES), help="Status of the platform's TCB.")
@click.option("--qe-status", type=click.Choice(QE_STATUSES), help="Status of the quoting enclave.")
@click.option("--advisory", "advisories", multiple=True, help="An advisory that applies; may be repeated.")
@click.option("--expired", multiple=True, type=click.Choice(DOCUMENTS), help="A document past its dates.")
@click.option("--early", multiple=True, type=click.Choice(DOCUMENTS), help="A document from the future.")
@click.option("--revoke", "revoked", multiple=True, type=click.Choice(REVOCABLE), help="A revoked certificate.")
@click.option("--debug/--no-debug", default=None, help="Enclaves started from now on run in debug mode.")
@click.option("--evaluation-number", type=click.IntRange(min=0), help="tcbEvaluationDataNumber.")
@click.option("--reset", is_flag=True, help="Begin from the healthy state instead of the present one.")
@_json
def reissue(home: Path, reset: bool, as_json: bool, **changes: Any) -> None:
    """Change the platform's state and publish collateral in it.

    What is not given stays as it is; `--reset` makes the platform healthy first.
    """
    _require_platform(home)
    before = State() if reset else SimulatedPlatform.load(home).state
    given = {name: value for name, value in changes.items() if value not in {None, ()}}
    _print(_publish(home, dataclasses.replace(before, **given)), as_json)


@sim.command()
@_home
@click.option("--tee", type=click.Choice(TEES), required=True, help="Whose evidence to make.")
@click.option("--report-data", metavar="HEX", help="64 bytes to bind it to; fresh random ones without it.")
@click.option("--output", type=_PATH, help="Folder for the files; HOME/evidence/TEE without it.")
@_json
def evidence(home: Path, tee: str, report_data: str | None, output: Path | None, as_json: bool) -> None:
    """Make SIMULATED evidence of a TEE, with its root, its collateral, and a policy that accepts it.

    The platform is made where there is none.  What is printed last verifies the evidence.
    """
    data = secrets.token_bytes(64) if report_data is None else _bytes_64(report_data)
    made = make(home, tee, data, int(time.time()))
    if report_data is not None and not made.bound:
        raise click.UsageError(f"{tee} is bound to a key of its own: leave out --report-data")
    _print(_written(made, output or home / "evidence" / tee, tee, data), as_json)


@sim.command()
@_home
@click.option("--manifest", type=_PATH, required=True, help="The rendered enclave manifest.")
@click.option("--host-fd", type=int, required=True, help="Inherited descriptor of the stream to the host.")
@click.option("--ready-fd", type=int, help="Inherited descriptor that gets one JSON line once the enclave runs.")
@click.option("--dangerously-unconfined", is_flag=True, help="Let the enclave read and write what its user may.")
def run(home: Path, manifest: Path, host_fd: int, ready_fd: int | None, *, dangerously_unconfined: bool) -> None:
    """Run one enclave on the platform until it ends; the host agent calls this."""
    sys.exit(run_enclave(home, manifest, host_fd, ready_fd, unconfined=dangerously_unconfined))


def _bytes_64(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 64:
        raise click.UsageError("--report-data takes 64 bytes as 128 hex digits")
    return data


def _written(made: Made, folder: Path, tee: str, report_data: bytes) -> dict[str, Any]:
    """Write evidence and what belongs to it, and return where it lies and the command that verifies it."""
    make_folder(folder)
    files = {"evidence": (made.name, made.evidence), "root": ("root.pem", made.root)}
    files["policy"] = ("policy.toml", tomli_w.dumps(made.policy()).encode("utf-8"))
    if made.collateral is not None:
        files["collateral"] = ("collateral.json", made.collateral.encode("utf-8"))
    for name, data in files.values():
        write_atomically(folder / name, data)
    paths = {word: str(folder / name) for word, (name, _) in files.items()}
    words = ["strongroom", "attest", "verify"]
    for option in ("evidence", "collateral", "policy"):
        words += [f"--{option}", paths[option]] if option in paths else []
    words += ["--report-data", report_data.hex()] if made.bound else []
    return {"platform": "SIMULATED", "tee": tee, **paths, "verify": shell_command(words)}


def _require_platform(home: Path) -> None:
    """Refuse a folder without a platform, which would else be made; raises EvidenceError `simulator-state`."""
    if not exists(home / "platform.key"):
        raise EvidenceError(
            EvidenceCode.SIMULATOR_STATE,
            f"there is no simulated platform in {home}",
            remedy="name its folder, or make one with `strongroom sim init --home DIR`",
        )


def _publish(home: Path, state: State | None) -> dict[str, Any]:
    now = int(time.time())
    platform = SimulatedPlatform.open(home, now)
    if state is not None:
        platform.save_state(home, state)
    platform.publish(home, now)
    return _describe(home, platform)


def _describe(home: Path, platform: SimulatedPlatform) -> dict[str, Any]:
    return {
        "platform": "SIMULATED",
        "root": str(home / "root.pem"),
        "root_sha256": platform.root_fingerprint.hex(),
        "fmspc": platform.pki.extension.fmspc.hex(),
        "ppid": platform.pki.extension.ppid.hex(),
        "mrsigner": platform.mr_signer.hex(),
        "collateral": str(home / "collateral"),
        "state": dataclasses.asdict(platform.state),
    }


def _print(description: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    state = description.pop("state", {})
    rows = description | {name: value for name, value in state.items() if value}
    for name, value in rows.items():
        click.echo(f"{name.replace('_', ' '):<18} {_shown(value)}")


def _shown(value: object) -> str:
    return printable(", ".join(value) if isinstance(value, list | tuple) else str(value))
