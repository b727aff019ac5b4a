"""What `strongroom infer` and `generate` print: tables for people, and data for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from attestation.client.content import Found, Label, Labels
from attestation.client.display import SIMULATED
from attestation.client.generation import Generation
from attestation.client.models import ModelInfo, Prediction
from manifests.plain import printable, printable_lines
from manifests.show import print_facts

MAX_SHOWN = 8
"""Rows of a tensor that are shown in the terminal; `--json` and `--output` hold all."""


def print_models(enclave: Mapping[str, Any], models: Sequence[ModelInfo], *, as_json: bool) -> None:
    """Print what an enclave lists."""
    if as_json:
        _print_json({"enclave": enclave, "models": [model.to_dict() for model in models]})
        return
    _print_enclave(enclave)
    for model in models:
        click.echo()
        print_facts(_facts_of(model))


def _facts_of(model: ModelInfo) -> dict[str, str]:
    """Return one model in a block of its own, which a narrow screen shows whole."""
    facts = {"model": f"{model.name} {model.version} (epoch {model.epoch})"}
    facts |= {"inputs": "\n".join(map(str, model.inputs)), "outputs": "\n".join(map(str, model.outputs))}
    if model.generates:
        facts |= {"inputs": "generates text: strongroom generate"}
    facts |= {"then": "\n".join(f"→ {stage}" for stage in model.stages), "digest": f"{model.digest.hex()[:16]}…"}
    return {name: value for name, value in facts.items() if value}


def print_answer(
    enclave: Mapping[str, Any],
    answer: Prediction,
    output: Path | None,
    labels: Labels | None = None,
    *,
    as_json: bool,
) -> None:
    """Print a model's answer; its labels alone where there are any, for people."""
    if as_json:
        spelt = {} if labels is None else {"labels": [label._asdict() for label in labels]}
        _print_json(_answer_data(enclave, answer, output) | spelt)
        return
    _print_enclave(enclave)
    if labels is None:
        _print_tensors(answer)
    for label in labels or ():
        score = "" if label.score is None else f"  {label.score:.4g}"
        click.echo(f"{printable(label.name)}{score}{_place(label)}")
    if labels == ():
        click.echo("nothing found")
    if output:
        click.echo(f"written to {printable(str(output))}")


def _place(label: Label | Found) -> str:
    """Return where a label was found, in hundredths of the picture's width and height."""
    if isinstance(label, Label):
        return ""
    left, top, right, bottom = (round(100 * edge) for edge in label.box)
    return f"  from {left}, {top} to {right}, {bottom} %"


def print_generated(enclave: Mapping[str, Any], answer: Generation, receipt: Path | None) -> None:
    """Print a whole generated answer as data for programs."""
    _print_json(
        {
            "enclave": enclave,
            "text": answer.text,
            "tokens": list(answer.tokens),
            "reason": answer.reason,
            "seed": answer.seed,
            "receipt": str(receipt) if receipt else None,
        }
    )


def stream_generated(enclave: Mapping[str, Any], answer: Generation) -> None:
    """Print a generated answer as it comes, and on standard error why it ended.

    What a terminal would do rather than show is spelt out; a file or a pipe gets the text as it is.
    """
    _print_enclave(enclave)
    on_terminal = sys.stdout.isatty()
    for piece in answer:
        click.echo(printable_lines(piece.text) if on_terminal else piece.text, nl=False)
    click.echo()
    seed = "" if answer.seed is None else f", seed {answer.seed}"
    click.echo(f"[{len(answer.tokens)} tokens, {answer.reason}{seed}]", err=True)


def _print_tensors(answer: Prediction) -> None:
    for name, value in answer.items():
        click.echo(f"{printable(name)}: {_dtype(value)}{list(value.shape)}")
        for row in value[:MAX_SHOWN] if value.ndim else [value]:
            click.echo(f"  {printable_lines(str(row))}")
        if value.ndim and len(value) > MAX_SHOWN:
            click.echo(f"  … {len(value) - MAX_SHOWN} more")


def _answer_data(enclave: Mapping[str, Any], answer: Prediction, output: Path | None) -> dict[str, Any]:
    tensors = {
        name: {"dtype": _dtype(value), "shape": list(value.shape), "data": _plain(value)}
        for name, value in answer.items()
    }
    return {
        "enclave": enclave,
        "model": answer.model.hex(),
        "epoch": answer.epoch,
        "output": str(output) if output else None,
        "tensors": tensors,
    }


def _dtype(value: npt.NDArray[Any]) -> str:
    """Return the dtype by the name that manifests and listings have for it."""
    return "string" if value.dtype.kind in "UO" else value.dtype.name


def _plain(value: npt.NDArray[Any]) -> Any:
    """Return nested lists; JSON has no NaN and no infinities, so those become "NaN", "Infinity" and "-Infinity"."""
    if value.dtype.kind != "f" or np.isfinite(value).all():
        return value.tolist()
    spelt = value.astype(object)
    spelt[np.isnan(value)] = "NaN"
    spelt[np.isposinf(value)] = "Infinity"
    spelt[np.isneginf(value)] = "-Infinity"
    return spelt.tolist()


def _print_json(value: Mapping[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def _print_enclave(enclave: Mapping[str, Any]) -> None:
    click.secho(
        f"{enclave['platform']} enclave {enclave['measurement'][:16]}…, TCB {enclave['tcb_status'] or 'not published'},"
        f" {enclave['checks_passed']} checks passed",
        fg="yellow" if enclave["platform"] == SIMULATED else "green",
        err=True,
    )
