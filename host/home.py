"""The agent's home folder: one agent at a time, its admin socket and its log."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from attestation.wire.address import MAX_UNIX_PATH
from host.errors import HostCode, HostError

MODE = 0o700


class Home:
    """A folder that belongs to one running agent.

    host.pid     process id; locked while the agent runs, so a killed agent leaves no stale lock
    admin.sock   the admin interface
    host.log     the log of a detached agent
    """

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is touched."""
        self.path = Path(path)
        self._lock = -1

    @property
    def pid_file(self) -> Path:
        """The locked file with the process id."""
        return self.path / "host.pid"

    @property
    def admin_socket(self) -> Path:
        """The Unix socket of the admin interface."""
        return self.path / "admin.sock"

    @property
    def log(self) -> Path:
        """The log of a detached agent."""
        return self.path / "host.log"

    def acquire(self) -> None:
        """Make the folder and lock it for this process.

        Raises HostError `home-running`, `home-unusable` or `socket-path-too-long`.
        """
        self._check_length()
        try:
            self.path.mkdir(mode=MODE, parents=True, exist_ok=True)
            self._lock = os.open(self.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._lock, 0)
            os.write(self._lock, b"%d\n" % os.getpid())
        except BlockingIOError:
            self._close()
            raise HostError(
                HostCode.HOME_RUNNING,
                f"a host agent already runs in {self.path}",
                found=f"process {self.pid() or 'unknown'}",
                remedy="strongroom host status --home DIR shows it; strongroom host down --home DIR ends it",
            ) from None
        except OSError as error:
            self._close()
            raise HostError(
                HostCode.HOME_UNUSABLE,
                f"the home folder {self.path} cannot be used: {error.strerror}",
                remedy="choose a folder that this user may write to",
            ) from None

    def release(self) -> None:
        """Unlock the folder and remove what names a running agent."""
        if self._lock < 0:
            return
        with contextlib.suppress(OSError):
            self.admin_socket.unlink(missing_ok=True)
            os.ftruncate(self._lock, 0)  # the file itself stays: whoever waits for its lock must wait for the same one
        self._close()

    def is_locked(self) -> bool:
        """Tell whether an agent runs in the folder."""
        try:
            probe = os.open(self.pid_file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(probe)
        return False

    def pid(self) -> int | None:
        """Return the process id that the agent has written, if it is one."""
        with contextlib.suppress(OSError, ValueError):
            return int(self.pid_file.read_bytes()[:16])
        return None

    def _check_length(self) -> None:
        length = len(os.fsencode(self.admin_socket))
        if length > MAX_UNIX_PATH:
            raise HostError(
                HostCode.SOCKET_PATH_TOO_LONG,
                f"the path of the home folder {self.path} is too long for the admin socket",
                expected=f"at most {MAX_UNIX_PATH} bytes with /admin.sock",
                found=length,
                remedy="use a folder with a shorter path",
            )

    def _close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
