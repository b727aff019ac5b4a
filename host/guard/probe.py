"""Where the guard looks: the files and calls through which the kernel tells about itself.

A test gives another root folder and other answers; nothing else of the guard knows where a fact comes from.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

MAX_TEXT = 1 << 20
_MEMFD_SECRET = 447
"""System call number of memfd_secret(2), the same on all architectures that have it."""
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION = 1
"""Flag that asks for the interface's version instead of a ruleset (landlock_create_ruleset(2))."""
_TIMEX_SIZE = 256
"""struct timex takes 208 bytes (adjtimex(2))."""
_TIME_ERROR = 5


class Probe:
    """Facts about this machine.  Everything that cannot be found out is reported as absent, never as an error."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Look below `root`."""
        self.root = root

    def text(self, path: str) -> str | None:
        """Return the text of a file below the root, or None."""
        with contextlib.suppress(OSError):
            return (self.root / path).read_bytes()[:MAX_TEXT].decode("utf-8", "replace")
        return None

    def exists(self, path: str) -> bool:
        """Tell whether a file or device is there."""
        return (self.root / path).exists()

    def memory_available(self) -> int | None:
        """Return the bytes that can be used without swapping (MemAvailable of proc(5))."""
        for line in (self.text("proc/meminfo") or "").splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable" and rest.split()[:1]:
                return int(rest.split()[0]) * 1024
        return None

    def disk_free(self, path: Path) -> int | None:
        """Return the free bytes of the file system that `path`, or its nearest existing parent, is on."""
        for place in (path, *path.parents):
            if place.exists():
                with contextlib.suppress(OSError):
                    return shutil.disk_usage(place).free
        return None

    def python_version(self) -> tuple[int, int, int]:
        """Return the version of the running interpreter."""
        return sys.version_info[:3]

    def core_limit(self) -> int:
        """Return the largest core file that this process may leave, in bytes; -1 is without limit."""
        return resource.getrlimit(resource.RLIMIT_CORE)[0]

    def descriptor_limit(self) -> int:
        """Return how many descriptors the agent may raise its limit to."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def has_memfd_secret(self) -> bool:
        """Tell whether memfd_secret(2) works here."""
        descriptor = ctypes.CDLL(None, use_errno=True).syscall(_MEMFD_SECRET, 0)
        if descriptor < 0:
            return False
        os.close(descriptor)
        return True

    def landlock_version(self) -> int:
        """Return the version of Landlock's interface, 0 where it is missing or switched off."""
        return max(0, int(ctypes.CDLL(None).syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)))

    def clock_synchronised(self) -> bool | None:
        """Tell whether the kernel's clock is disciplined (adjtimex(2)); None where that cannot be asked."""
        with contextlib.suppress(AttributeError):
            state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))
            return None if state < 0 else bool(state != _TIME_ERROR)
        return None

    def distributions(self) -> Mapping[str, Sequence[str]]:
        """Return the distributions that provide each top-level package."""
        return importlib.metadata.packages_distributions()
