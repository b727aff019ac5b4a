"""The page that Prometheus reads: GET /metrics over HTTP/1.1, on a Unix socket or on a loopback address alone.

A reader gets one answer and the connection ends.  Everything is bounded: bytes of a request, readers, their time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable

from attestation.wire.address import Address, TcpAddress, UnixAddress, parse_address
from host.errors import HostCode, HostError
from host.listeners import close_unix, open_listener
from host.prometheus import CONTENT_TYPE

MAX_HEAD = 8192
"""Bytes of a request line with its headers; Prometheus sends about 300."""
MAX_READERS = 8
PATIENCE = 5.0
"""Seconds that a reader may take to say what it wants, and to take the answer."""


def check_address(text: str) -> Address:
    """Return the address of a page; raises HostError `metrics-exposed` for one that other machines reach."""
    address = parse_address(text)
    if isinstance(address, TcpAddress) and not _is_loopback(address.host):
        raise HostError(
            HostCode.METRICS_EXPOSED,
            f"{text} can be reached by other machines, and the page asks nobody who they are",
            expected="unix:/path, or tcp: with a loopback address",
            found=text,
            remedy="have a proxy that authenticates its readers in front of it",
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Page:
    """Serves one text at one address; `text` is called for each reader."""

    def __init__(self, address: Address, text: Callable[[], str]) -> None:
        """Prepare; `serving` opens the address."""
        self._address = address
        self._text = text
        self._readers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Address]:
        """Serve while the context is open; gives the address as bound.  Raises HostError as `open_listener`."""
        listener, bound = open_listener(self._address)
        server = await asyncio.start_server(self._answer, sock=_owned(listener), limit=MAX_HEAD)
        try:
            yield bound
        finally:
            server.close()
            for reader in self._readers:
                reader.transport.abort()
            await asyncio.sleep(0)  # the transports close in the loop's next turn
            if isinstance(bound, UnixAddress):
                close_unix(bound.path)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._readers.add(writer)
        try:
            with contextlib.suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
                async with asyncio.timeout(PATIENCE):
                    writer.write(await self._reply(reader))
                    await writer.drain()
        finally:
            self._readers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response("431 Request Header Fields Too Large", "the request is too long\n")
        if len(self._readers) > MAX_READERS:
            return _response("503 Service Unavailable", "too many readers\n")
        match head.split(b"\r\n", 1)[0].split(b" "):
            case [b"GET", path, version] if version.startswith(b"HTTP/1."):
                if path.split(b"?")[0] == b"/metrics":
                    return _response("200 OK", self._text(), CONTENT_TYPE)
                return _response("404 Not Found", "the page is /metrics\n")
            case [_, _, version] if version.startswith(b"HTTP/1."):
                return _response("405 Method Not Allowed", "only GET\n")
        return _response("400 Bad Request", "not HTTP/1.1\n")


def _response(status: str, text: str, content_type: str = "text/plain; charset=utf-8") -> bytes:
    body = text.encode("utf-8")
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def _owned(listener: socket.socket) -> socket.socket:
    listener.setblocking(False)
    return listener
