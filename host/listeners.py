"""Listening sockets for clients, opened before anything else starts so that a taken address is noticed first."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from attestation.wire.address import MAX_UNIX_PATH, Address, TcpAddress, UnixAddress
from host.errors import HostCode, HostError

BACKLOG = 512
"""Connections that wait to be accepted; the kernel caps it at net.core.somaxconn."""
_CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)."""
CLIENT_SOCKET_MODE = 0o660
"""Owner and group may connect; confidentiality does not rest on it."""


def open_listener(address: Address) -> tuple[socket.socket, Address]:
    """Listen on an address; return the socket and the address as bound (a port of 0 is replaced by the real one).

    Raises HostError `address-in-use`, `address-unusable` or `socket-path-too-long`.
    """
    if isinstance(address, UnixAddress):
        return open_unix(Path(address.path), CLIENT_SOCKET_MODE), address
    return _open_tcp(address)


def open_unix(path: Path, mode: int) -> socket.socket:
    """Listen on a Unix socket with that file mode, replacing one that nobody listens on any more."""
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise HostError(
            HostCode.SOCKET_PATH_TOO_LONG,
            f"the path of the socket {path} is too long",
            expected=f"at most {MAX_UNIX_PATH} bytes",
            found=len(os.fsencode(path)),
            remedy="use a folder with a shorter path",
        )
    with _naming(f"unix:{path}"):
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with _closing_on_error(listener):
            os.fchmod(listener.fileno(), mode)  # on Linux the file takes the mode of the unbound socket: no race
            listener.bind(os.fspath(path))
            path.chmod(mode)  # what the umask has taken away
            listener.listen(BACKLOG)
    return listener


def close_unix(path: str) -> None:
    """Remove the socket file of a listener that is going away."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


def peer_uid(peer: socket.socket) -> int:
    """Return the user id of the process at the other end of a Unix socket, as it was when it connected."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


def peer_of(connection: socket.socket) -> str:
    """Say whose connection it is: a user's, on a Unix socket, or a network address's (in IPv6 its /64)."""
    if connection.family == socket.AF_UNIX:
        return f"uid {peer_uid(connection)}"
    try:
        address = ipaddress.ip_address(connection.getpeername()[0].partition("%")[0])
    except OSError:  # it is gone already
        return ""
    return str(ipaddress.ip_network((address, 64 if address.version == 6 else 32), strict=False))


def is_loopback(address: Address) -> bool:
    """Tell whether only this machine can reach the address; a host name is resolved."""
    if isinstance(address, UnixAddress):
        return True
    with contextlib.suppress(OSError):
        return all(numeric == "::1" or numeric.startswith("127.") for _, numeric in _resolve(address))
    return False


def _resolve(address: TcpAddress) -> list[tuple[int, str]]:
    """Return (address family, numeric address) of each way to listen; raises OSError."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(int(family), str(where[0])) for family, _, _, _, where in found]


def _open_tcp(address: TcpAddress) -> tuple[socket.socket, Address]:
    with _naming(str(address)):
        family, numeric = _resolve(address)[0]
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with _closing_on_error(listener):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((numeric, address.port))
            listener.listen(BACKLOG)
            return listener, TcpAddress(address.host, int(listener.getsockname()[1]))


def _remove_stale(path: Path) -> None:
    """Remove a socket that a killed agent has left; raise OSError EADDRINUSE for one that answers or is no socket."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "a file that is no socket has that name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another program listens")


@contextlib.contextmanager
def _closing_on_error(listener: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        listener.close()
        raise


@contextlib.contextmanager
def _naming(address: str) -> Iterator[None]:
    """Turn an OSError of the body into the HostError that names the address."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HostError(
                HostCode.ADDRESS_IN_USE,
                f"another program listens on {address}",
                remedy="stop it, or choose another address with --listen",
            ) from None
        raise HostError(
            HostCode.ADDRESS_UNUSABLE,
            f"{address} cannot be listened on: {error.strerror}",
            remedy="check the address, and the permissions of the socket's folder",
        ) from None
