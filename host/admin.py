"""The admin interface: JSON lines on a Unix socket that only the agent's user and root may use.

    {"op": "status"}                    ->  {"ok": true, "result": {...}}
    anything that is refused            ->  {"ok": false, "error": {"code": ..., "message": ...}}

Operations are status, models, drain and down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from host.errors import HostCode, HostError
from host.listeners import open_unix, peer_uid

SOCKET_MODE = 0o600
MAX_REQUEST = 4096
"""Bytes of a request line; the longest request takes 20."""
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer: a thousand models take 1 MiB."""
MAX_CALLERS = 8
PATIENCE = 30.0
"""Seconds a caller may take between two requests."""

Operation = Callable[[], Mapping[str, Any]]


class AdminServer:
    """Serves `operations` by name on a Unix socket while the context is open."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        """Name socket and operations; entering the context opens the socket."""
        self._path = path
        self._operations = operations
        self._callers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen; raises HostError like `open_unix`."""
        listener = open_unix(self._path, SOCKET_MODE)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=MAX_REQUEST)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, and give answers on their way a moment."""
        if self._server is not None:
            self._server.close()
        if self._callers:
            await asyncio.wait(self._callers, timeout=0.2)
        for caller in self._callers:
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._callers.add(task)
        task.add_done_callback(self._callers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal = self._refusal(writer)
        try:
            with contextlib.suppress(TimeoutError, ConnectionError):
                while line := await asyncio.wait_for(_line(reader), 1.0 if refusal else PATIENCE):
                    writer.write(self._answer(line) if refusal is None else _refused(refusal))
                    await writer.drain()
                    if refusal is not None:
                        return
        finally:
            writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> HostError | None:
        if len(self._callers) > MAX_CALLERS:
            return HostError(HostCode.HOST_BUSY, "too many callers use the admin interface")
        if peer_uid(writer.get_extra_info("socket")) not in {0, os.geteuid()}:
            return HostError(HostCode.ADMIN_REFUSED, "the caller is neither the agent's user nor root")
        return None

    def _answer(self, line: bytes) -> bytes:
        try:
            operation = self._operations[json.loads(line)["op"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            return _refused(HostError(HostCode.ADMIN_MALFORMED, "the request names no operation of this agent"))
        return json.dumps({"ok": True, "result": operation()}).encode() + b"\n"


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line; empty at the end, and for a line that is too long."""
    try:
        return await reader.readline()
    except ValueError:
        return b""


def _refused(error: HostError) -> bytes:
    return json.dumps({"ok": False, "error": {"code": error.code, "message": error.message}}).encode() + b"\n"


def ask(path: Path, operation: str, *, timeout: float = 10.0) -> dict[str, Any]:
    """Ask the agent behind an admin socket.

    Raises HostError `host-not-running` if none answers, `admin-malformed`, or what the agent refuses with.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(os.fspath(path))
            connection.sendall(json.dumps({"op": operation}).encode() + b"\n")
            with connection.makefile("rb") as answer:
                line = answer.readline(MAX_ANSWER)
    except OSError:
        raise HostError(
            HostCode.HOST_NOT_RUNNING,
            f"no host agent answers at {path}",
            remedy="start one: strongroom host up --home DIR ...",
        ) from None
    return _result(line)


def _result(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
        if answer["ok"] is True:
            return dict(answer["result"])
        code, message = str(answer["error"]["code"]), str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HostError(HostCode.ADMIN_MALFORMED, "the agent's answer does not follow its format") from None
    known = {str(member): member for member in HostCode}
    raise HostError(known.get(code, HostCode.ADMIN_REFUSED), message)
