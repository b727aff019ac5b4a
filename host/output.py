"""What a platform's process writes: lines for the log, and one line about the enclave it has started."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import deque
from typing import Any

_log = logging.getLogger(__name__)

KEPT_LINES = 40
"""Lines of output that are kept to be shown when the process has ended."""
MAX_LINE = 2000
"""Characters of a line that are kept and logged."""
LAST_WORDS = 2.0
"""Seconds to read what an ended process has left."""
MAX_INTRODUCTION = 4096
"""Bytes that a platform may say of its enclave; it takes about 300."""


class ChildOutput:
    """Reads what a process writes, logs it line by line, and keeps the last lines."""

    def __init__(self, name: str, stream: asyncio.StreamReader) -> None:
        """Start to read; `name` precedes each line in the log."""
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._name = name
        self._task = asyncio.ensure_future(self._read(stream))

    async def finish(self) -> None:
        """Read what is left of an ended process, though not for long: another may hold the pipe."""
        await asyncio.wait({self._task}, timeout=LAST_WORDS)
        self._task.cancel()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        rest = ""
        while data := await stream.read(1 << 14):
            *lines, rest = (rest + data.decode("utf-8", "replace")).split("\n")
            for line in lines:
                self._keep(line)
            rest = rest[:MAX_LINE]
        self._keep(rest)

    def _keep(self, line: str) -> None:
        text = "".join(letter if letter.isprintable() else " " for letter in line[:MAX_LINE]).rstrip()
        if text:
            self.lines.append(text)
            _log.info("%s| %s", self._name, text)


class Introduction:
    """One line of JSON on a pipe: measurement and process id of the enclave.  Shown, and believed by nobody."""

    def __init__(self, pipe: int) -> None:
        """Take over the reading end of a non-blocking pipe."""
        self.facts: dict[str, Any] = {}
        self._text = bytearray()
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pipe, self._read)

    def close(self) -> None:
        """Stop reading."""
        if self._pipe >= 0:
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _read(self) -> None:
        data = os.read(self._pipe, MAX_INTRODUCTION)
        self._text += data
        if data and len(self._text) < MAX_INTRODUCTION and not self._text.endswith(b"\n"):
            return
        self.close()
        try:
            value = json.loads(self._text)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            self.facts = value
