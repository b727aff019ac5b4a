"""What the process does to itself before anything else: no dumps, no tracing, no new privileges, locked memory.

The sandbox around the process is the launcher's business; this is what remains when there is none.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4

_CAP_IPC_LOCK = 14
_CAPABILITY_HEADER = struct.pack("=Ii", 0x20080522, 0)
"""_LINUX_CAPABILITY_VERSION_3, this process (capget(2)): proc(5) is out of the confined enclave's reach."""
_CAPABILITIES = struct.Struct("=6I")
"""Twice effective, permitted and inheritable: capabilities 0 to 31, and those above."""

TELEMETRY = "ORT_DISABLE_TELEMETRY"


@dataclass(frozen=True)
class Hardening:
    """What holds.  `memory_locked` is best effort; the others are refused by no ordinary kernel."""

    undumpable: bool
    no_core: bool
    no_new_privileges: bool
    memory_locked: bool

    def counts(self) -> Mapping[str, int]:
        """Return the layers as 0 and 1, for the log."""
        return {name: int(value) for name, value in vars(self).items()}


def harden() -> Hardening:
    """Harden this process, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return Hardening(
        undumpable=_prctl(libc, _PR_SET_DUMPABLE, 0),
        no_core=resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),
        no_new_privileges=_prctl(libc, _PR_SET_NO_NEW_PRIVS, 1),
        memory_locked=_may_lock(libc) and libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0,
    )


def silence_telemetry(environment: MutableMapping[str, str] = os.environ) -> None:
    """Switch ONNX Runtime's telemetry off; it reads the variable when it is first imported."""
    environment[TELEMETRY] = "1"


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> bool:
    zero = ctypes.c_ulong(0)
    return int(libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero)) == 0


def _may_lock(libc: ctypes.CDLL) -> bool:
    """Tell whether all memory may be locked; under a limit, later allocations would fail instead."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    data = ctypes.create_string_buffer(_CAPABILITIES.size)
    if libc.capget(_CAPABILITY_HEADER, data) != 0:
        return False
    (effective, *_) = _CAPABILITIES.unpack(data.raw)
    return bool(effective >> _CAP_IPC_LOCK & 1)
