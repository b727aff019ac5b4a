"""`strongroom sim`: make a simulated platform, look at it, put it into any state, and run an enclave on it."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from attestation.errors import EvidenceCode, EvidenceError
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.service import run as run_enclave
from attestation.sim.state import DOCUMENTS, QE_STATUSES, REVOCABLE, TCB_STATUSES, State
from manifests.files import exists

_PATH = click.Path(path_type=Path, readable=False)
"""What cannot be read is an error of ours, with its code and exit status, and not one of the command line."""
_home = click.option("--home", type=_PATH, required=True, help="The platform's folder.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
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
@click.option("--manifest", type=_PATH, required=True, help="The rendered enclave manifest.")
@click.option("--host-fd", type=int, required=True, help="Inherited descriptor of the stream to the host.")
@click.option("--ready-fd", type=int, help="Inherited descriptor that gets one JSON line once the enclave runs.")
@click.option("--dangerously-unconfined", is_flag=True, help="Let the enclave read and write what its user may.")
def run(home: Path, manifest: Path, host_fd: int, ready_fd: int | None, *, dangerously_unconfined: bool) -> None:
    """Run one enclave on the platform until it ends; the host agent calls this."""
    sys.exit(run_enclave(home, manifest, host_fd, ready_fd, unconfined=dangerously_unconfined))


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
    state = description.pop("state")
    rows = description | {name: value for name, value in state.items() if value}
    for name, value in rows.items():
        click.echo(f"{name.replace('_', ' '):<18} {', '.join(value) if isinstance(value, list | tuple) else value}")
