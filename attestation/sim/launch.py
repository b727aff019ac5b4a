"""Starting the enclave process: exactly the manifest's program, arguments and variables, and two descriptors.

    0  /dev/null       1, 2  the simulator's own (the host's log)
    3  stream to the host     4  attestation: 64 bytes of report data in, u32 big-endian length || quote out

The process dies with the simulator, gains no privileges, leaves no core dump, inherits nothing else, and is confined.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
from pathlib import Path
from typing import NoReturn

from attestation.errors import EvidenceCode, EvidenceError
from attestation.sim.confine import Confinement
from manifests.gramine.manifest import EnclaveManifest

HOST_DESCRIPTOR = 3
ATTESTATION_DESCRIPTOR = 4

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_ABOVE_FIXED = 16
"""Where descriptors wait while 3 and 4 are filled; whatever they are numbered, none is overwritten."""


def die_with_parent() -> None:
    """Have the kernel kill this process as soon as the thread that started it ends (prctl(2))."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start_enclave(manifest: EnclaveManifest, host: int, attestation: int, confinement: Confinement) -> int:
    """Start the manifest's program, confined, with these descriptors as 3 and 4; returns its process id.

    The caller must have no other thread.  Raises EvidenceError `simulator-launch` if the program cannot be run.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become(manifest, (host, attestation, writer), parent, confinement)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        reason = pipe.read(256)  # ends without a byte when the program has taken over
    if reason:
        os.waitpid(child, 0)
        raise EvidenceError(
            EvidenceCode.SIMULATOR_LAUNCH,
            f"the enclave's program cannot be started: {reason.decode('utf-8', 'replace')}",
            expected=manifest.entrypoint,
            remedy="render the manifest anew on this machine",
        )
    return child


def _become(
    manifest: EnclaveManifest, descriptors: tuple[int, int, int], parent: int, confinement: Confinement
) -> NoReturn:
    """Turn this process into the enclave; a failure is written to the third descriptor."""
    writer = descriptors[2]
    try:
        null = os.open(os.devnull, os.O_RDWR)
        inherited = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
        _give_up_privileges(parent)
        confinement.enter()
        writer = _arrange(null, *descriptors, inherited)
        _limit(manifest)
        os.execve(manifest.entrypoint, manifest.argv, dict(manifest.env))  # noqa: S606 - no shell is wanted
    except BaseException as error:  # noqa: BLE001 - a forked child must not run on as a second simulator
        os.write(writer, f"{type(error).__name__}: {error}".encode()[:256])
    os._exit(127)


def _give_up_privileges(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError("the simulator has ended")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _arrange(null: int, host: int, attestation: int, writer: int, inherited: list[int]) -> int:
    """Put the descriptors in their places, close all others, and return where `writer` is now.

    inherited: what was open before, also above a limit that was lowered since.  Copies made here close with the exec.
    """
    null, host, attestation, writer = (
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_FIXED) for fd in (null, host, attestation, writer)
    )
    os.dup2(null, 0)
    os.dup2(host, HOST_DESCRIPTOR)
    os.dup2(attestation, ATTESTATION_DESCRIPTOR)
    for descriptor in inherited:
        if descriptor > ATTESTATION_DESCRIPTOR:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(descriptor)
    return writer


def _limit(manifest: EnclaveManifest) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = manifest.max_descriptors if most == resource.RLIM_INFINITY else min(manifest.max_descriptors, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.umask(0o077)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(manifest.start_dir)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
