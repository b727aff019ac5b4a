"""A character device in front of the software TPM: commands written to it and answers read from it, as of /dev/tpmrm0.

The kernel's own proxy for software TPMs (vtpm_proxy) needs a module that few machines have.  Here a pseudo-terminal in
raw mode is the device, and a thread carries its bytes to swtpm's data channel and back.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

_HEAD = 10
"""Tag, size and code of a command, or of an answer."""


@contextlib.contextmanager
def device(channel: Path, *, alter: Callable[[bytes], bytes] = bytes) -> Iterator[Path]:
    """Give the path of a device whose other end is swtpm; `alter` changes its answers on the way."""
    near, far = os.openpty()
    tty.setraw(far)
    with socket.socket(socket.AF_UNIX) as tpm:
        tpm.connect(str(channel))
        thread = threading.Thread(target=_carry, args=(near, tpm, alter), daemon=True)
        thread.start()
        try:
            yield Path(os.ttyname(far))
        finally:
            os.close(far)  # the last of its ends: reading the other one now fails, which ends the thread
            thread.join(10)
            os.close(near)
            assert not thread.is_alive()


def _carry(near: int, tpm: socket.socket, alter: Callable[[bytes], bytes]) -> None:
    """Carry whole commands and answers until the device is closed."""
    with contextlib.suppress(OSError):
        while command := _whole(lambda size: os.read(near, size)):
            tpm.sendall(command)
            answer = alter(_whole(tpm.recv))
            while answer:
                answer = answer[os.write(near, answer) :]


def _whole(read: Callable[[int], bytes]) -> bytes:
    """Read as many bytes as the head says."""
    data = b""
    while len(data) < _HEAD or len(data) < int.from_bytes(data[2:6], "big"):
        wanted = int.from_bytes(data[2:6], "big") if len(data) >= _HEAD else _HEAD
        piece = read(wanted - len(data))
        if not piece:
            return b""
        data += piece
    return data
