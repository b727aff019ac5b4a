"""Checks of the machine: interpreter, memory, disk, swap, limits, clock, packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from host.errors import GuardCode
from host.guard.finding import Finding, Severity
from host.guard.probe import Probe

PYTHON_FLOOR = (3, 11)
MEMORY_BASE = 384 * 1024 * 1024
"""Agent, simulated platform, and an enclave without models: interpreter, onnxruntime, buffers."""
MEMORY_PER_SPARE = 192 * 1024 * 1024
"""Each further enclave process without models: interpreter, onnxruntime, buffers."""
MEMORY_PER_MODEL_BYTE = 2
"""A model is held once as the runtime has it, and passes through memory once while it is loaded."""
DISK_FLOOR = 256 * 1024 * 1024
DESCRIPTOR_FLOOR = 2048
"""1,024 connections, open models, and room for the rest."""
PACKAGES = ("attestation", "enclave", "evaluation", "host", "manifests")
DISTRIBUTION = "strongroom"

MIB = 1024 * 1024


def machine_findings(probe: Probe, home: Path, model_bytes: int, processes: int = 1) -> Iterator[Finding]:
    """Check what the machine has.

    model_bytes: of all sealed models together.  processes: enclave processes, each of which holds all of them.
    """
    yield _python(probe)
    yield _memory(probe, model_bytes, processes)
    yield _disk(probe, home)
    yield _swap(probe)
    yield _core_dumps(probe)
    yield _descriptors(probe)
    yield _clock(probe)
    yield _packages(probe)


def _python(probe: Probe) -> Finding:
    version = probe.python_version()
    return Finding(
        GuardCode.PYTHON,
        Severity.BLOCKING,
        version[:2] >= PYTHON_FLOOR,
        found=".".join(map(str, version)),
        needed="3.11 or newer",
        remedy="install a newer Python and make the environment anew",
    )


def _memory(probe: Probe, model_bytes: int, processes: int) -> Finding:
    available = probe.memory_available()
    spares = MEMORY_PER_SPARE * (processes - 1)
    needed = MEMORY_BASE + spares + MEMORY_PER_MODEL_BYTE * model_bytes * processes
    whose = f", in each of {processes} processes" if processes > 1 else ""
    return Finding(
        GuardCode.MEMORY,
        Severity.BLOCKING,
        available is not None and available >= needed,
        found="unknown" if available is None else f"{available // MIB} MiB available",
        needed=f"{needed // MIB} MiB for the sealed models of the folder{whose}",
        remedy="free memory, use a larger machine, or serve fewer models or with fewer processes",
    )


def _disk(probe: Probe, home: Path) -> Finding:
    free = probe.disk_free(home)
    return Finding(
        GuardCode.DISK,
        Severity.BLOCKING,
        free is not None and free >= DISK_FLOOR,
        found="unknown" if free is None else f"{free // MIB} MiB free below {home}",
        needed=f"{DISK_FLOOR // MIB} MiB",
        remedy="free some space, or put the home folder on another file system",
    )


def _swap(probe: Probe) -> Finding:
    devices = [line.split()[0] for line in (probe.text("proc/swaps") or "").splitlines()[1:] if line.strip()]
    return Finding(
        GuardCode.SWAP,
        Severity.WARNING,
        not devices,
        found=", ".join(devices) or "no swap",
        needed="no swap; keys rest in memfd_secret or locked memory, but weights and requests do not",
        remedy="swapoff -a, or swap to a device that is encrypted under a key of this boot",
    )


def _core_dumps(probe: Probe) -> Finding:
    limit, pattern = probe.core_limit(), (probe.text("proc/sys/kernel/core_pattern") or "").strip()
    return Finding(
        GuardCode.CORE_DUMPS,
        Severity.WARNING,
        limit == 0 and not pattern.startswith("|"),  # a pipe takes the image whatever the limit is (core(5))
        found=f"limit {'none' if limit < 0 else limit}, pattern {pattern or 'unknown'!r}",
        needed="limit 0 and no pipe; the enclave forbids its own dumps, other processes of this user do not",
        remedy="ulimit -c 0, or LimitCORE=0 in the unit; sysctl kernel.core_pattern=/dev/null",
    )


def _descriptors(probe: Probe) -> Finding:
    limit = probe.descriptor_limit()
    return Finding(
        GuardCode.DESCRIPTORS,
        Severity.WARNING,
        limit < 0 or limit >= DESCRIPTOR_FLOOR,
        found="no limit" if limit < 0 else str(limit),
        needed=f"{DESCRIPTOR_FLOOR} descriptors",
        remedy="raise the hard limit: ulimit -Hn, or LimitNOFILE= in the unit",
    )


def _clock(probe: Probe) -> Finding:
    synchronised = probe.clock_synchronised()
    return Finding(
        GuardCode.CLOCK,
        Severity.WARNING,
        synchronised is True,
        found={True: "synchronised", False: "not synchronised", None: "unknown"}[synchronised],
        needed="a clock that a time service keeps; wrong time makes valid collateral look stale, or stale valid",
        remedy="start chrony, ntpd or systemd-timesyncd",
    )


def _packages(probe: Probe) -> Finding:
    owners = probe.distributions()
    foreign = {name: [one for one in owners.get(name, ()) if one != DISTRIBUTION] for name in PACKAGES}
    collisions = [f"{name} from {', '.join(others)}" for name, others in foreign.items() if others]
    return Finding(
        GuardCode.PACKAGES,
        Severity.BLOCKING,
        not collisions,
        found="; ".join(collisions) or "no other provider",
        needed=f"{', '.join(PACKAGES)} from {DISTRIBUTION} alone",
        remedy="uninstall the other distribution, or use an environment of its own",
    )
