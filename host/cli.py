"""`strongroom host`: the operator's commands."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from attestation.wire.address import parse_address
from host.admin import ask
from host.config import MAX_PROCESSES, Deployment, HostConfig
from host.errors import HostCode, HostError
from host.home import Home
from host.log import PlainFormatter
from manifests.command import Group

GRACE = 30.0
"""Seconds beyond the drain's time-out that `down` waits for an agent."""

SECONDS = click.FloatRange(min=0.0, max=86400.0, min_open=True)
SECONDS.name = "seconds"

home_option = click.option(
    "--home",
    required=True,
    type=click.Path(path_type=Path),
    envvar="STRONGROOM_HOST_HOME",
    help="Folder of this agent: lock, admin socket, log (or STRONGROOM_HOST_HOME).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
platform_option = click.option(
    "--platform-home", type=click.Path(path_type=Path), help="Simulated platform's folder [HOME/platform]."
)
unconfined_option = click.option(
    "--dangerously-unconfined", is_flag=True, help="Let the enclave read and write whatever this user may."
)


@click.group(cls=Group)
def host() -> None:
    """Check this machine; bring enclaves up, watch them, and take them down."""


@host.command()
@home_option
@platform_option
@click.option("--models", type=click.Path(path_type=Path), help="Folder of sealed models.")
@click.option("--manifest", type=click.Path(path_type=Path), help="Rendered manifest of the enclave.")
@click.option("--listen", multiple=True, metavar="ADDRESS", help="Address that `up` will be given.")
@click.option(
    "--processes",
    type=click.IntRange(1, MAX_PROCESSES),
    default=1,
    show_default=True,
    help="Enclave processes that `up` will be told; each holds all models.",
)
@unconfined_option
@json_option
def check(
    *,
    home: Path,
    platform_home: Path | None,
    models: Path | None,
    manifest: Path | None,
    listen: tuple[str, ...],
    processes: int,
    dangerously_unconfined: bool,
    as_json: bool,
) -> None:
    """Look whether this machine is fit to carry an enclave; ends with 10 if something blocks."""
    from host.guard.check import Plan, require
    from host.guard.check import check as run_checks

    addresses = tuple(parse_address(text) for text in listen)
    plan = Plan(home.absolute(), models, manifest, platform_home, addresses, dangerously_unconfined, processes)
    findings = run_checks(plan)
    if as_json:
        blocks = any(finding.blocks for finding in findings)
        _print_json({"fit": not blocks, "findings": [finding.to_dict() for finding in findings]})
        if blocks:
            raise click.exceptions.Exit(HostCode.CHECK_FAILED.fault)
        return
    from host.show import print_findings

    print_findings(_console(), findings)
    require(findings)


@host.command()
@home_option
@platform_option
@click.option("--manifest", required=True, type=click.Path(path_type=Path), help="Rendered manifest of the enclave.")
@click.option("--models", required=True, type=click.Path(path_type=Path), help="Folder of sealed models.")
@click.option("--listen", multiple=True, metavar="ADDRESS", help="unix:/path or tcp:HOST:PORT [unix:HOME/host.sock].")
@click.option("--route", default="default", show_default=True, help="Name under which clients reach the deployment.")
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1, MAX_PROCESSES),
    help="Enclave processes: one serves, the others are spares.",
)
@click.option("--ready-timeout", default=60.0, type=SECONDS, show_default=True, help="For each start of the enclave.")
@click.option("--drain-timeout", default=30.0, type=SECONDS, show_default=True, help="For the last requests.")
@click.option("--metrics", default="", metavar="ADDRESS", help="Serve /metrics for Prometheus on this machine.")
@click.option("--otlp", default="", metavar="URL", help="Push to an OpenTelemetry collector, by OTLP over HTTP.")
@click.option("--detach", is_flag=True, help="Return when everything is up, and leave the agent running.")
@unconfined_option
@json_option
def up(
    *,
    home: Path,
    platform_home: Path | None,
    manifest: Path,
    models: Path,
    listen: tuple[str, ...],
    route: str,
    processes: int,
    ready_timeout: float,
    drain_timeout: float,
    metrics: str,
    otlp: str,
    detach: bool,
    dangerously_unconfined: bool,
    as_json: bool,
) -> None:
    """Start the simulated platform with its enclave, and carry clients' sessions to it.

    Runs until SIGTERM, SIGINT or `host down`: the first drains and stops, a second stops at once.
    """
    from host import daemon

    home = home.absolute()
    platform = (platform_home or home / "platform").absolute()
    deployment = Deployment(route, manifest.absolute(), platform, dangerously_unconfined, processes)
    addresses = listen or (f"unix:{home / 'host.sock'}",)
    config = HostConfig(home, models.absolute(), addresses, (deployment,), ready_timeout, drain_timeout, metrics, otlp)
    if detach:
        _show_status(daemon.detach(config), as_json=as_json)
        return
    _log_to_terminal()
    daemon.serve(config, lambda status: _show_status(status, as_json=as_json))


@host.command()
@home_option
@json_option
def status(*, home: Path, as_json: bool) -> None:
    """Show what the agent of a home folder is doing."""
    _show_status(ask(Home(home).admin_socket, "status"), as_json=as_json)


@host.command()
@click.option(
    "--home", type=click.Path(path_type=Path), envvar="STRONGROOM_HOST_HOME", help="Folder of a running agent."
)
@click.option("--models", "folder", type=click.Path(path_type=Path), help="Look into this folder, without an agent.")
@json_option
def models(*, home: Path | None, folder: Path | None, as_json: bool) -> None:
    """List the sealed models that the agent serves, or that a folder holds."""
    answer = _models(home, folder)
    if as_json:
        _print_json(answer)
        return
    from host.show import print_models

    print_models(_console(), answer)


@host.command()
@home_option
def metrics(*, home: Path) -> None:
    """Print what monitoring is told, in Prometheus' text format."""
    click.echo(ask(Home(home).admin_socket, "metrics")["text"], nl=False)


@host.command()
@home_option
@json_option
def drain(*, home: Path, as_json: bool) -> None:
    """Take no new sessions; those that are open go on."""
    answer = ask(Home(home).admin_socket, "drain")
    if as_json:
        _print_json(answer)
    else:
        _console().print(f"draining: {answer['sessions']} sessions open, {answer['unanswered']} wait for an answer")


@host.command()
@home_option
@click.option("--now", is_flag=True, help="Do not wait for requests under way.")
@json_option
def down(*, home: Path, now: bool, as_json: bool) -> None:
    """Drain and stop the agent of a home folder, and wait until it is gone."""
    place = Home(home)
    answer = ask(place.admin_socket, "down")
    if now:
        ask(place.admin_socket, "down")
    _wait_until_gone(place, answer["drain_timeout"] + GRACE)
    if as_json:
        _print_json({"down": True, "pid": answer["pid"]})
    else:
        _console().print(f"down: process {answer['pid']} has ended")


def _models(home: Path | None, folder: Path | None) -> dict[str, Any]:
    if folder is not None:
        from host.models import ModelFolder

        found = ModelFolder(folder)
        found.scan()
        return found.to_dict()
    if home is None:
        raise click.UsageError("name the --home of a running agent, or a folder with --models")
    return ask(Home(home).admin_socket, "models")


def _wait_until_gone(place: Home, patience: float) -> None:
    deadline = time.monotonic() + patience
    while place.is_locked():
        if time.monotonic() > deadline:
            raise HostError(
                HostCode.HOME_RUNNING,
                "the agent has not ended in time",
                found=f"process {place.pid()}",
                remedy="run the command again with --now, or end the process",
            )
        time.sleep(0.05)


def _show_status(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
        return
    from host.show import print_status

    print_status(_console(), answer)


def _print_json(value: Mapping[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2))


def _console() -> Any:
    from rich.console import Console

    return Console()


def _log_to_terminal() -> None:
    """Show the agent's log on standard error: in colours on a terminal, else one plain line per event."""
    handler = _rich_handler() if sys.stderr.isatty() else _plain_handler()
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _plain_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    return handler


def _rich_handler() -> logging.Handler:
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
    handler.setFormatter(PlainFormatter("%(platform)s%(message)s"))
    return handler
