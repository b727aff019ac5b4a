"""The enclave process, which `enclave.start` runs: `--settings FILE`, or `--closure` to record which files it loads.

Steps, in this order: harden the process; import everything and run a model once; refuse further imports; map the
arena; open attester and host stream; draw keys; serve until the host's stream ends.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
from pathlib import Path

from enclave.errors import EnclaveCode, EnclaveError
from enclave.hardening import harden, silence_telemetry
from enclave.log import Event, log, show_platform, silence_libraries
from manifests.errors import StrongroomError

HOST_DESCRIPTOR = 3
"""The descriptor under which the launcher hands the host's stream down."""


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit status: 0 in order, else the fault of the error that ended it."""
    parser = argparse.ArgumentParser(prog="enclave", description="The Strongroom enclave process.")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--settings", type=Path, help="serve under this settings file")
    task.add_argument("--closure", action="store_true", help="print the files that the enclave loads, as JSON")
    parser.add_argument("--component", action="append", default=[], help="with --closure: an optional part, loaded too")
    options = parser.parse_args(arguments)
    silence_telemetry()
    try:
        if options.closure:
            _record(options.component)
        else:
            _serve(options.settings)
    except StrongroomError as error:
        log(Event.STOPPED if error.code is EnclaveCode.QUOTE_UNAVAILABLE else Event.START_FAILED, error.code)
        if error.code is EnclaveCode.START_FAILED:  # nobody has sent anything yet: these words are ours alone
            sys.stderr.write(f"error: {error.message}\nnext: {error.remedy or 'see docs/enclave.md'}\n")
        return error.exit_code
    return 0


def _record(components: list[str]) -> None:
    from enclave.closure import loaded_files, warm_up, watch_opens

    watch_opens()
    warm_up(components)
    json.dump(loaded_files(), sys.stdout)


def _serve(path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the launcher, which then ends us
    hardening = harden()
    log(Event.HARDENED, **hardening.counts())
    from enclave.closure import freeze_imports, warm_up
    from manifests.gramine.settings import load_settings

    settings = load_settings(path)
    warm_up(settings.components)
    from enclave.arena import Arena
    from enclave.attesters import open_attester, open_devices
    from enclave.channel import Channel
    from enclave.memory import bound_address_space
    from enclave.server import Server
    from enclave.service import Service

    bound_address_space(settings.limits.address_space)
    attester, devices = open_attester(settings), open_devices(settings)
    show_platform(attester.platform)
    channel = Channel(_host_stream())
    freeze_imports()
    if settings.components:
        silence_libraries()
    arena = Arena()
    service = Service(settings, attester, channel, arena, devices)
    log(Event.STARTED, **{f"arena_{arena.kind}": 1}, threads=settings.limits.threads)
    Server(channel, service).serve()
    if attester.lost:
        raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the platform gives no more quotes; start another process")
    log(Event.STOPPED)


def _host_stream() -> socket.socket:
    try:
        return socket.socket(fileno=HOST_DESCRIPTOR)
    except OSError:
        raise EnclaveError(EnclaveCode.START_FAILED, f"descriptor {HOST_DESCRIPTOR} is not the host's stream") from None
