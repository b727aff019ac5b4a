"""Addresses of host agents: `unix:/path/to/socket` and `tcp:HOST:PORT`."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import WireCode, WireError

MAX_UNIX_PATH = 107
"""`sun_path` has 108 bytes, and the last one is zero (unix(7))."""
MAX_HOST = 253
"""The longest name of the domain name system (RFC 1035, without the final dot)."""


@dataclass(frozen=True)
class UnixAddress:
    """A Unix stream socket by its path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True)
class TcpAddress:
    """A TCP endpoint; `host` is a name or an address (IPv6 without brackets), port 0 asks for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"


Address = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """Parse an address; raises WireError `address-invalid`.  `str(parse_address(text))` names the same place."""
    scheme, _, rest = text.partition(":")
    if scheme == "unix":
        return _unix(rest)
    if scheme == "tcp":
        return _tcp(rest)
    raise _refuse("an address starts with 'unix:' or 'tcp:'", text)


def _unix(path: str) -> UnixAddress:
    if not 0 < len(path.encode("utf-8", "surrogatepass")) <= MAX_UNIX_PATH or "\0" in path:
        raise _refuse(f"a socket's path has 1 to {MAX_UNIX_PATH} bytes and none is zero", path)
    return UnixAddress(path)


def _tcp(rest: str) -> TcpAddress:
    host, separator, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise _refuse("brackets are for IPv6 addresses", rest)
    elif ":" in host:
        raise _refuse("an IPv6 address stands in brackets", rest)
    if not separator or not 0 < len(host) <= MAX_HOST or not host.isprintable() or set(host) & set("[]/@ "):
        raise _refuse("a TCP address is tcp:HOST:PORT", rest)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 0xFFFF):
        raise _refuse("a port is a number up to 65535", port)
    return TcpAddress(host, int(port))


def _refuse(message: str, found: str) -> WireError:
    return WireError(
        WireCode.ADDRESS_INVALID, message, found=found[:300], remedy="write unix:/run/strongroom.sock or tcp:host:7400"
    )
