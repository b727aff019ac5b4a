"""Landlock: a process gives up, for good, every right to files that it was not given by name.

The three system calls, as landlock(7) and the kernel's Documentation/userspace-api/landlock.rst have them:

    landlock_create_ruleset(2)   which rights are to be governed: those that are and are not allowed later are gone
    landlock_add_rule(2)         allows rights on one inode, and where it is a folder on all that lies below it
    landlock_restrict_self(2)    confines the calling thread and whatever it starts or becomes

A rule holds on to the inode, not to the name: a file that is put in the place of an allowed one is not allowed.
What Landlock does not govern at all, in any version: names and metadata (stat(2), chdir(2), readlink(2), chmod(2),
chown(2), utime(2), setxattr(2)), and descriptors that are open already.
"""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntFlag
from types import TracebackType
from typing import Final, Self

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System call numbers, the same on all architectures (include/uapi/asm-generic/unistd.h)."""
_VERSION_FLAG: Final = 1
"""LANDLOCK_CREATE_RULESET_VERSION: return the version of the interface and make no ruleset."""
_PATH_BENEATH: Final = 1
"""LANDLOCK_RULE_PATH_BENEATH."""
_RULESET_ATTR = struct.Struct("=QQQ")
"""struct landlock_ruleset_attr: handled_access_fs, handled_access_net (version 4), scoped (version 6).

A kernel that knows fewer fields takes the longer structure as long as they are zero.
"""
_PATH_BENEATH_ATTR = struct.Struct("=Qi")
"""struct landlock_path_beneath_attr, which is packed: allowed_access, parent_fd."""


class Access(IntFlag):
    """LANDLOCK_ACCESS_FS_*: rights on files and folders (landlock(7), "Filesystem actions")."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_FIRST = Access((1 << 13) - 1)
_ADDED = {2: Access.REFER, 3: Access.TRUNCATE, 5: Access.IOCTL_DEV}
"""Rights that a version of the interface brought (landlock(7), "VERSIONS")."""
_TCP: Final = 0b11
"""LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP, since version 4."""
_SCOPES: Final = 0b11
"""LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL, since version 6: neither reaches a process outside."""


def version() -> int:
    """Return the version of the kernel's Landlock, 0 where it is missing, switched off or filtered."""
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def governed(version: int) -> Access:
    """Return the rights on files that a version of the interface can take away."""
    rights = _FIRST
    for since, right in _ADDED.items():
        rights |= right if version >= since else Access(0)
    return rights


class Ruleset:
    """Rules that allow; everything else that the kernel's Landlock governs is refused once `restrict` is called."""

    def __init__(self) -> None:
        """Govern all that this kernel can; raises OSError where it has no Landlock."""
        self.version = version()
        tcp, scopes = (_TCP if self.version >= 4 else 0), (_SCOPES if self.version >= 6 else 0)
        attributes = _RULESET_ATTR.pack(governed(self.version), tcp, scopes)
        self._descriptor = _call(_CREATE_RULESET, attributes, len(attributes), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def allow(self, descriptor: int, access: Access) -> None:
        """Allow rights on the inode that is open as `descriptor`; raises OSError.

        The descriptor may be closed afterwards.  Rights that only folders have are an error on anything else.
        """
        rule = _PATH_BENEATH_ATTR.pack(access, descriptor)
        _call(_ADD_RULE, self._descriptor, _PATH_BENEATH, rule, 0)

    def restrict(self) -> None:
        """Confine the calling thread, which must have given up new privileges (prctl(2)); raises OSError."""
        _call(_RESTRICT_SELF, self._descriptor, 0)


def _call(number: int, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
