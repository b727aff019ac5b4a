"""`strongroom demo`."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from manifests.command import Command


@click.command(cls=Command)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work in this folder and leave it, with all keys, policies and logs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else.")
def demo(*, keep: Path | None, as_json: bool) -> None:
    """Seal two real models, attest, infer, and watch five attacks fail.

    Everything runs on this machine, on a simulated platform, and is cleaned up at the end.
    """
    from enclave.hardening import silence_telemetry

    silence_telemetry()  # of the plain onnxruntime beside the enclave's; before it is imported
    from evaluation.demo import story
    from evaluation.demo.deployment import temporary_home
    from evaluation.demo.screen import Screen, Silent

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job begins with it ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # so that parts and files are cleaned up as after Ctrl-C
    with temporary_home(keep) as home:
        report = story.run(home, Silent() if as_json else Screen())
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
