"""`strongroom infer`: send tensors to an attested enclave, or list what it serves."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attestation.client.call import Timeouts
from attestation.client.display import SIMULATED, facts
from attestation.client.epochs import EpochMemory
from attestation.client.files import needs_model, read_inputs, write_outputs
from attestation.client.models import ModelInfo, ModelName, Prediction
from attestation.client.session import Session

MAX_SHOWN = 8
"""Rows of a tensor that are shown in the terminal; `--json` and `--output` hold all."""


@click.command()
@click.argument("address")
@click.argument("model", required=False)
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="Policy file with a [service] table.")
@click.option("--collateral", required=True, type=click.Path(path_type=Path), help="Directory that holds collateral.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE", help="Input tensor: a .npy or a JSON file.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the output tensors to this .npz file.")
@click.option("--list", "listing", is_flag=True, help="List the models that the enclave serves.")
@click.option("--route", default="default", show_default=True, help="Deployment at that address.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--state", type=click.Path(path_type=Path), help="File of the highest epochs seen (else the user's own).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def infer(
    *,
    address: str,
    model: str | None,
    policy: Path,
    collateral: Path,
    inputs: tuple[str, ...],
    output: Path | None,
    listing: bool,
    route: str,
    timeout: float,
    state: Path | None,
    as_json: bool,
) -> None:
    """Attest the enclave at ADDRESS, then ask MODEL.

    ADDRESS is unix:/path or tcp:HOST:PORT; MODEL a name, OWNER/NAME, or a digest.  Nothing is sent unless the
    enclave's evidence passes the policy.
    """
    if listing == (model is not None) or (listing and inputs):
        raise click.UsageError("give a model and its inputs, or --list")
    files = _files(inputs)
    with Session.connect(
        address,
        policy=policy,
        collateral=collateral,
        route=route,
        memory=EpochMemory(state or _state_file()),
        timeouts=Timeouts(request=timeout),
    ) as session:
        shown = facts(address, session.attested)
        if model is None:
            _print_models(shown, session.models(), as_json)
            return
        known = _find(session.models(), model) if needs_model(files) else None
        answer = session.infer(model, read_inputs(files, known))
    if output:
        write_outputs(output, answer)
    _print_answer(shown, answer, output, as_json)


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


def _state_file() -> Path:
    """Return where the user's programs keep state (XDG base directory specification)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "strongroom" / "epochs.json"


def _find(models: Sequence[ModelInfo], model: str) -> ModelInfo | None:
    name = ModelName.parse(model)
    found = [
        known
        for known in models
        if name.digest == known.digest or (name.name == known.name and name.owner in {None, known.owner})
    ]
    return max(found, key=lambda known: known.epoch, default=None)


def _print_models(shown: dict[str, str], models: Sequence[ModelInfo], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"enclave": shown, "models": [model.to_dict() for model in models]}, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    _print_enclave(shown)
    table = Table("model", "version", "epoch", "inputs", "outputs", "digest")
    for model in models:
        tensors = [escape("\n".join(str(tensor) for tensor in side)) for side in (model.inputs, model.outputs)]
        table.add_row(
            escape(model.name), escape(model.version), str(model.epoch), *tensors, f"{model.digest.hex()[:16]}…"
        )
    Console().print(table)


def _print_answer(shown: dict[str, str], answer: Prediction, output: Path | None, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_answer_dict(shown, answer, output), indent=2))
        return
    _print_enclave(shown)
    for name, value in answer.items():
        click.echo(f"{name}: {value.dtype.name}{list(value.shape)}")
        for row in value[:MAX_SHOWN] if value.ndim else [value]:
            click.echo(f"  {row}")
        if value.ndim and len(value) > MAX_SHOWN:
            click.echo(f"  … {len(value) - MAX_SHOWN} more")
    if output:
        click.echo(f"written to {output}")


def _answer_dict(shown: dict[str, str], answer: Prediction, output: Path | None) -> dict[str, Any]:
    tensors = {
        name: {"dtype": value.dtype.name, "shape": list(value.shape), "data": value.tolist()}
        for name, value in answer.items()
    }
    return {
        "enclave": shown,
        "model": answer.model.hex(),
        "epoch": answer.epoch,
        "output": str(output) if output else None,
        "tensors": tensors,
    }


def _print_enclave(shown: dict[str, str]) -> None:
    simulated = shown["platform"] == SIMULATED
    click.secho(
        f"{shown['platform']} enclave {shown['measurement'][:16]}…, TCB {shown['TCB status']},"
        f" {shown['checks passed']} checks passed",
        fg="yellow" if simulated else "green",
        err=True,
    )
