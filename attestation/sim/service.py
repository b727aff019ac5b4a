"""The simulator's process: measure the manifest, start the enclave from it, and quote until it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from attestation.intel.abi import ReportBody
from attestation.sim.confine import Confinement
from attestation.sim.launch import die_with_parent, start_enclave
from attestation.sim.platform import SimulatedPlatform
from manifests.files import read_bounded
from manifests.gramine.manifest import MAX_MANIFEST, EnclaveManifest, parse_manifest
from manifests.gramine.measure import check_trusted_files, measure, resolve

REPORT_DATA_SIZE = 64
GRACE = 2.0
"""Seconds that an enclave has to end by itself once the host's end of its stream is closed."""

Quoter = Callable[[bytes], bytes]


def run(home: Path, manifest_path: Path, host: int, ready: int | None = None, *, unconfined: bool = False) -> int:
    """Run one enclave to its end and return its exit status (128 + n where signal n killed it).

    `host` is the descriptor of the stream that the enclave will speak to the host on.  `ready` gets one JSON line
    once the enclave runs.  `unconfined` starts it without what keeps it to its trusted files.  Raises StrongroomError
    if platform, manifest or trusted files are not usable, or the kernel cannot confine the enclave.
    """
    die_with_parent()
    now = int(time.time())
    confinement = Confinement(dangerously_unconfined=unconfined)
    platform = SimulatedPlatform.open(home, now)
    platform.publish(home, now)
    manifest, body = measured_report(platform, manifest_path, confinement)
    ours, theirs = socket.socketpair()
    with ours:
        child = start_enclave(manifest, host, theirs.fileno(), confinement)
        theirs.close()
        _log_confinement(confinement)
        watch = Watch(child, ours, host, lambda report_data: platform.quote(body, report_data))
        if ready is not None:
            _announce(ready, platform, body, child, confinement)
        return watch.run()


def measured_report(
    platform: SimulatedPlatform, path: Path, confinement: Confinement
) -> tuple[EnclaveManifest, ReportBody]:
    """Measure a manifest, hold its trusted files against it, and admit them; returns it with its enclave's report."""
    data = read_bounded(path, MAX_MANIFEST)
    manifest = parse_manifest(data)
    check_trusted_files(manifest, base=path.parent, admit=confinement.admit)
    confinement.admit_modules(resolve(file, path.parent) for file in manifest.trusted_files)
    body = platform.report_body(measure(data), isv_prod_id=manifest.isv_prod_id, isv_svn=manifest.isv_svn)
    return manifest, body


def _log_confinement(confinement: Confinement) -> None:
    """Write one line in the form of the enclave's own log."""
    event = "confined" if all(confinement.layers.values()) else "DANGEROUSLY-UNCONFINED"
    sys.stderr.write(json.dumps({"event": event, "platform": "SIMULATED", **confinement.layers}) + "\n")
    sys.stderr.flush()


def _announce(ready: int, platform: SimulatedPlatform, body: ReportBody, child: int, confinement: Confinement) -> None:
    line = {
        "enclave_pid": child,
        "mrenclave": body.mr_enclave.hex(),
        "mrsigner": body.mr_signer.hex(),
        "simulated_root": platform.root_fingerprint.hex(),
        "confinement": confinement.layers,
    }
    with os.fdopen(ready, "w", encoding="ascii") as pipe:
        pipe.write(json.dumps(line) + "\n")


class Watch:
    """Serves the attestation socket, and ends with the enclave; signals to end are passed on to it."""

    def __init__(self, child: int, attestation: socket.socket, host: int, quote: Quoter) -> None:
        """Watch the process `child`; `host` is looked at only for its hang-up."""
        self._child = child
        self._pidfd = os.pidfd_open(child)
        self._attestation = attestation
        self._host = host
        self._quote = quote
        self._request = bytearray()
        self._deadline: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._send(signal.SIGTERM))

    def run(self) -> int:
        """Serve until the enclave has ended; returns its exit status."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.register(self._attestation, select.POLLIN)
        poll.register(self._host, 0)
        while True:
            events = dict(poll.poll(self._patience()))
            if self._pidfd in events:
                return self._reap()
            if self._attestation.fileno() in events and not self._serve():
                poll.unregister(self._attestation)
            if self._host in events:
                poll.unregister(self._host)
                self._deadline = time.monotonic() + GRACE
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._send(signal.SIGKILL)

    def _patience(self) -> float | None:
        """Milliseconds until the grace ends, or None."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) * 1000

    def _serve(self) -> bool:
        """Read from the attestation socket and answer a whole request; False once the enclave has closed it."""
        try:
            data = self._attestation.recv(REPORT_DATA_SIZE - len(self._request))
            self._request += data
            if len(self._request) == REPORT_DATA_SIZE:
                quote = self._quote(bytes(self._request))
                self._request.clear()
                self._attestation.sendall(struct.pack(">I", len(quote)) + quote)
        except OSError:  # the enclave ended in the middle of a request
            return False
        return bool(data)

    def _send(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    def _reap(self) -> int:
        _, status = os.waitpid(self._child, 0)
        os.close(self._pidfd)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code
