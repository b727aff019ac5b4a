"""A conversation over asyncio streams, with the same rules as the blocking one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import numpy.typing as npt

from attestation.appraise import SessionAppraisal
from attestation.client.call import (
    CLOSE_SECONDS,
    RECEIVE_SIZE,
    Call,
    answer_to,
    is_last,
    judge,
    no_evidence,
    other_stream,
    part_of,
    timed_out,
    truncated,
    unreachable,
)
from attestation.client.conversation import Answer, Attest, Event, Ready
from attestation.client.errors import ClientError
from attestation.client.receipts import Origin
from attestation.client.refusals import closed
from attestation.errors import WireCode, WireError
from attestation.wire.address import TcpAddress, parse_address
from attestation.wire.messages import Body
from manifests import canonical


class AsyncConnection:
    """An attested session over asyncio streams.  Made by `AsyncConnection.open` alone."""

    def __init__(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wrap connected streams; `open` does the rest."""
        self._call = call
        self._reader = reader
        self._writer = writer
        self._conversation = call.conversation()
        self._events: deque[Event] = deque()
        self._attested: SessionAppraisal | None = None
        self._aside: dict[int, deque[Event]] = {}
        """What came of each open answer while something else was waited for."""

    @classmethod
    async def open(cls, call: Call) -> Self:
        """Connect, let the enclave prove itself, and decide; raises StrongroomError and leaves nothing open."""
        connection = cls(call, *await _dial(call.address, call.timeouts.connect))
        try:
            async with asyncio.timeout(call.timeouts.handshake):
                await connection._handshake()
        except TimeoutError:
            connection._drop()
            raise timed_out(call.address, "waiting for its evidence") from None
        except BaseException:
            connection._drop()
            raise
        return connection

    @property
    def attested(self) -> SessionAppraisal:
        """The appraisal that was accepted; raises WireError `session-state` in a resumed session, which has none."""
        if self._attested is None:
            raise WireError(WireCode.SESSION_STATE, "a resumed session carries no evidence of its own")
        return self._attested

    @property
    def handshake_hash(self) -> bytes:
        """The session's h, 64 bytes."""
        return self._conversation.handshake_hash

    @property
    def last_id(self) -> int:
        """The number of the newest request in this session."""
        return self._conversation.last_id

    @property
    def origin(self) -> Origin:
        """The evidence that came in this session; raises WireError `session-state` in a resumed one."""
        record = self._conversation.record
        if record is None:
            raise WireError(WireCode.SESSION_STATE, "a resumed session carries no evidence of its own")
        return Origin(record, self.handshake_hash, self._call.party.source)

    @property
    def over(self) -> bool:
        """Whether an error or a close has ended the session."""
        return self._conversation.over

    async def request(
        self, header: Mapping[str, canonical.Value], tensors: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> Body:
        """Make one request and wait for its answer; raises RemoteError, ClientError or WireError."""
        number, data = self._conversation.request(header, tensors)
        return answer_to(await self._wait(number, data), number)

    async def stream(
        self, header: Mapping[str, canonical.Value], tensors: Mapping[str, npt.NDArray[Any]] | None, window: int
    ) -> int:
        """Make a request whose answer comes in parts, so many of them before `more`; return its number."""
        number, data = self._conversation.request(header, tensors, window=window)
        self._aside[number] = deque()
        await self._tell(data)
        return number

    async def part(self, number: int) -> Answer:
        """Wait for the next part of an answer; raises RemoteError, ClientError or WireError."""
        kept = self._aside.get(number)
        if kept is None or (self.over and not kept and not self._events):
            raise truncated()
        event = kept.popleft() if kept else await self._wait(number, b"")
        if is_last(event):
            del self._aside[number]
        return part_of(event, number)

    async def more(self, number: int, parts: int) -> None:
        """Ask for further parts of an answer, unless it has ended."""
        if not self.over:
            await self._tell(self._conversation.more(number, parts))

    async def cancel(self, number: int) -> None:
        """Give up an answer, and wait until the enclave has taken note."""
        kept = self._aside.pop(number, None)
        if kept is None or self.over or any(map(is_last, kept)):
            return
        data = self._conversation.cancel(number)
        while not is_last(await self._wait(number, data)):
            data = b""

    async def _wait(self, number: int, data: bytes) -> Event:
        """Send, and wait for what concerns request `number`; parts of other answers are put aside, as many as asked."""
        async with self._dropping():
            if data:
                await self._send(data)
            while (other := other_stream(event := await self._next(), number, self._aside)) is not None:
                self._aside[other].append(event)
            return event

    async def _tell(self, data: bytes) -> None:
        async with self._dropping():
            await self._send(data)

    @contextlib.asynccontextmanager
    async def _dropping(self) -> AsyncIterator[None]:
        """Give the session up where something goes wrong, or takes longer than a request may."""
        try:
            async with asyncio.timeout(self._call.timeouts.request):
                yield
        except TimeoutError:
            self._drop()
            raise timed_out(self._call.address, "waiting for its answer") from None
        except BaseException:
            self._drop()
            raise

    async def close(self) -> None:
        """End the session in order, without waiting for the other side; safe to call twice."""
        with contextlib.suppress(OSError, TimeoutError, ClientError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send(self._conversation.close())
        self._drop()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()

    async def _handshake(self) -> None:
        await self._send(self._conversation.start())
        event = await self._next()
        if isinstance(event, Attest):
            self._attested = await asyncio.to_thread(judge, self._call, event, self._conversation)
            self._conversation.accept()
        elif not isinstance(event, Ready):
            raise no_evidence()

    async def _send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise unreachable(self._call.address, error) from None

    async def _next(self) -> Event:
        while not self._events:
            data = await self._read()
            if not data:
                self._conversation.end_of_stream()
                raise closed()
            self._events.extend(self._conversation.receive(data))
        return self._events.popleft()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(RECEIVE_SIZE)
        except OSError as error:
            raise unreachable(self._call.address, error) from None

    def _drop(self) -> None:
        self._conversation.abandon()
        self._writer.close()


async def _dial(address: str, seconds: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    target = parse_address(address)
    try:
        async with asyncio.timeout(seconds):
            if isinstance(target, TcpAddress):
                return await asyncio.open_connection(target.host, target.port)
            return await asyncio.open_unix_connection(str(target.path))
    except TimeoutError:
        raise timed_out(address, "connecting") from None
    except OSError as error:
        raise unreachable(address, error) from None
