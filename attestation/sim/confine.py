"""What an enclave on the simulated platform can reach: its manifest's trusted files, and nothing else.

Prepared by the simulator while it hashes the files, and entered by its child right before that becomes the enclave.
Landlock is the one layer so far.  What changes the world that it looks at (namespaces) belongs before it in `enter`;
what forbids the launcher's own calls (a system-call filter) comes last, before the program takes over; `layers` names
each.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from attestation.errors import EvidenceCode, EvidenceError
from attestation.sim.landlock import Access, Ruleset, version

SYSTEM: Mapping[str, Access] = {
    "/etc/ld.so.cache": Access.READ_FILE,
    "/proc/cpuinfo": Access.READ_FILE,
    "/sys/devices/system/cpu": Access.READ_FILE | Access.READ_DIR,
    "/sys/bus/pci/devices": Access.READ_DIR,
    "/sys/class/drm": Access.READ_DIR,
}
"""What there is besides trusted files, none of it hashed.

The dynamic linker's cache tells where libraries are; those that it can lead to are trusted files.  ONNX Runtime asks
for processor and devices when it is imported: it chooses its fastest code by the processor, which Gramine emulates, and
complains in the log if it may not see the names of the devices.
"""

_MODULES = (".py", ".so")
"""Trusted files that the interpreter finds by their names in a folder."""


class Confinement:
    """The layers around one enclave; `admit` what it may have, and `enter` them in the process that becomes it."""

    def __init__(self, *, dangerously_unconfined: bool = False) -> None:
        """Prepare the layers, none of them if so told.

        Raises EvidenceError `simulator-confinement` where the kernel has no Landlock.
        """
        self._ruleset: Ruleset | None = None
        if dangerously_unconfined:
            return
        if not version():
            raise EvidenceError(
                EvidenceCode.SIMULATOR_CONFINEMENT,
                "the enclave cannot be confined: this kernel has no Landlock, or a filter forbids it",
                expected="Linux 5.13 or newer with lsm=landlock,..., and a container that passes its system calls",
                remedy="provide it; or start with --dangerously-unconfined, and the enclave reads what its user reads",
            )
        self._ruleset = Ruleset()
        self._admit_system()

    @property
    def layers(self) -> dict[str, int]:
        """What there is of each layer: the version of Landlock's interface, 0 for none."""
        return {"landlock": 0 if self._ruleset is None else self._ruleset.version}

    def admit(self, descriptor: int) -> None:
        """Let the enclave read and execute the file that is open here; raises EvidenceError `simulator-launch`."""
        self._allow(descriptor, Access.READ_FILE | Access.EXECUTE)

    def admit_modules(self, files: Iterable[Path]) -> None:
        """Let the enclave list the folders that its interpreter finds these modules in: names alone, at any depth."""
        for folder in sorted({_listed(path) for path in files if path.suffix in _MODULES}):
            with _failing():
                descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            self._allow(descriptor, Access.READ_DIR)
            os.close(descriptor)

    def enter(self) -> None:
        """Confine this process, which has given up new privileges, for good; raises OSError."""
        if self._ruleset is not None:
            self._ruleset.restrict()

    def _admit_system(self) -> None:
        """Admit the pseudo-files, and keep them open: proc(5) forgets an inode that nobody uses, and its rule goes."""
        for path, access in SYSTEM.items():
            with contextlib.suppress(OSError):
                self._allow(os.open(path, os.O_PATH | os.O_CLOEXEC), access)

    def _allow(self, descriptor: int, access: Access) -> None:
        if self._ruleset is not None:
            with _failing():
                self._ruleset.allow(descriptor, access)


def _listed(module: Path) -> Path:
    """Return the folder in which the interpreter sees a module: a package's is the one above it."""
    return module.parent.parent if module.stem == "__init__" else module.parent


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EvidenceError(
            EvidenceCode.SIMULATOR_LAUNCH,
            "the enclave's files cannot be admitted",
            found=error.strerror,
            remedy="start it again; if it stays so, render the manifest anew on this machine",
        ) from None
