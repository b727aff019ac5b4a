"""A vendor's service on this machine: it answers as it is told, well or badly, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import http.server
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer.  length: what Content-Length claims; None: the truth; "": no such header.

    drip: seconds between single bytes of the body.  slam: close without a word.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: str | None = None
    drip: float = 0
    slam: bool = False
    media: str = "application/octet-stream"


Behaviour = Reply | list[Reply] | Callable[[Mapping[str, str]], Reply]


class Service:
    """What is served, by path and query; a list is used up from its beginning, and its last entry stays."""

    def __init__(self) -> None:
        self.replies: dict[str, Behaviour] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.tunnels: list[str] = []
        self.stopping = threading.Event()
        self.url = ""
        self.tunnel_to: tuple[str, int] | None = None

    def reply(self, path: str, headers: dict[str, str]) -> Reply:
        self.asked.append((path, headers))
        found = self.replies.get(path, Reply(b"no such document", 404))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found(headers) if callable(found) else found

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        service: Service = self.server.service
        reply = service.reply(self.path, dict(self.headers.items()))
        if reply.slam:
            return
        with contextlib.suppress(OSError):  # the client may have had enough
            self.send_response(reply.status)
            for name, value in ({"Content-Type": reply.media} | dict(reply.headers)).items():
                self.send_header(name, value)
            if reply.length != "":
                self.send_header("Content-Length", reply.length or str(len(reply.body)))
            self.end_headers()
            self._send(reply, service)

    def _send(self, reply: Reply, service: Service) -> None:
        if not reply.drip:
            self.wfile.write(reply.body)
            return
        for byte in reply.body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if service.stopping.wait(reply.drip):
                return

    def do_CONNECT(self) -> None:
        service: Service = self.server.service
        service.tunnels.append(self.path)
        if service.tunnel_to is None:
            self.send_error(403)
            return
        with socket.create_connection(service.tunnel_to, 5) as there:
            self.send_response(200)
            self.end_headers()
            _relay(self.connection, there, service.stopping)

    def log_message(self, *_: object) -> None:
        pass


def _relay(here: socket.socket, there: socket.socket, stopping: threading.Event) -> None:
    while not stopping.is_set():
        ready, _, _ = select.select([here, there], [], [], 0.1)
        for end in ready:
            block = end.recv(65536)
            if not block:
                return
            (there if end is here else here).sendall(block)


class _Server(http.server.ThreadingHTTPServer):
    service: Service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or that refuses our certificate, is no error of the test."""


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Service]:
    """Run a service until the block ends; `context` makes it speak TLS."""
    service = Service()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.service = service
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        service.url = f"{'http' if context is None else 'https'}://localhost:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield service
        finally:
            service.stopping.set()
            server.shutdown()
            thread.join()


@dataclass
class Time:
    """Time that passes only in sleep; what was slept is remembered."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
