"""Locked memory of at most 1 MiB for keys: memfd_secret(2) where the kernel has it, else locked anonymous memory.

Pages of memfd_secret are in no one's page tables but this process's: the kernel cannot copy them by accident, no
other process can map them, and they are never swapped.  Python objects that pass by (a decoded message, a key object
of a library) are outside it; LIMITATIONS.md says so.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from enum import StrEnum

from enclave.errors import EnclaveCode, EnclaveError

MAX_ARENA = 1 << 20
"""The design's bound: RLIMIT_MEMLOCK is 8 MiB on common systems, and the keys of thousands of sessions fit."""
SLOT = 64
"""One cache line; a DEK, a PSK or a seed takes one slot."""

_SYS_MEMFD_SECRET = 447
"""Same number on every architecture (Linux 5.14)."""
_CLOEXEC = os.O_CLOEXEC


class ArenaKind(StrEnum):
    """What the arena's pages are."""

    MEMFD = "memfd-secret"
    LOCKED = "locked"
    """Anonymous memory under mlock(2)."""
    UNLOCKED = "unlocked"
    """Anonymous memory that may be swapped: the limit on locked memory is too low."""


class Arena:
    """Allocator of secret memory; thread-safe.  `kind` tells what protects it."""

    def __init__(self, size: int = MAX_ARENA) -> None:
        """Map the arena.  `size` is a multiple of the page size, at most 1 MiB."""
        if not 0 < size <= MAX_ARENA or size % mmap.PAGESIZE:
            raise ValueError("an arena is whole pages of at most 1 MiB")
        self.kind, self._map = _map(size)
        self._view = memoryview(self._map)
        self._used = bytearray(size // SLOT)
        self._lock = threading.RLock()  # a collection within `allocate` may wipe a forgotten secret

    def __repr__(self) -> str:
        return f"Arena({self.kind}, {self.free} bytes free)"

    @property
    def free(self) -> int:
        """Bytes that are not allocated."""
        return self._used.count(0) * SLOT

    def allocate(self, size: int) -> Secret:
        """Return `size` zero bytes; raises EnclaveError `arena-full`."""
        slots = max(1, -(-size // SLOT))
        with self._lock:
            start = self._used.find(bytes(slots))
            if start < 0:
                raise EnclaveError(EnclaveCode.ARENA_FULL, "the locked memory for secrets is used up")
            self._used[start : start + slots] = b"\x01" * slots
        return Secret(self, start, self._view[start * SLOT : start * SLOT + size])

    def store(self, data: bytes | bytearray | memoryview) -> Secret:
        """Return an allocation that holds a copy of `data`; raises EnclaveError `arena-full`."""
        secret = self.allocate(len(data))
        secret.view[:] = data
        return secret

    def _release(self, start: int, size: int) -> None:
        slots = max(1, -(-size // SLOT))
        with self._lock:
            self._view[start * SLOT : (start + slots) * SLOT] = bytes(slots * SLOT)
            self._used[start : start + slots] = bytes(slots)


class Secret:
    """One allocation.  `view` is writable until `wipe`, which zeroes and frees it."""

    def __init__(self, arena: Arena, start: int, view: memoryview) -> None:
        """Belongs to `Arena.allocate`."""
        self.view = view
        self._arena = arena
        self._start = start
        self._live = True

    def __repr__(self) -> str:
        return "Secret()"

    def wipe(self) -> None:
        """Zero and free the memory; a second call does nothing."""
        if self._live:
            self._live = False
            self._arena._release(self._start, len(self.view))  # noqa: SLF001 - the arena's other half
            self.view = memoryview(b"")

    def __del__(self) -> None:
        if self.__dict__.get("_live"):
            self.wipe()


def _map(size: int) -> tuple[ArenaKind, mmap.mmap]:
    secret = _map_secret(size)
    if secret is not None:
        return ArenaKind.MEMFD, secret
    plain = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    _keep_out(plain)
    return (ArenaKind.LOCKED if _mlock(plain, size) else ArenaKind.UNLOCKED), plain


def _map_secret(size: int) -> mmap.mmap | None:
    """Return a memfd_secret mapping, or None where the kernel or its limits do not offer one."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.syscall(_SYS_MEMFD_SECRET, _CLOEXEC))
    if descriptor < 0:
        return None
    try:
        os.ftruncate(descriptor, size)
        mapped = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED)
        _keep_out(mapped)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
    return mapped


def _keep_out(mapped: mmap.mmap) -> None:
    """Leave the pages out of core dumps and of children."""
    mapped.madvise(mmap.MADV_DONTDUMP)
    mapped.madvise(mmap.MADV_DONTFORK)


def _mlock(mapped: mmap.mmap, size: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    return int(libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size))) == 0
