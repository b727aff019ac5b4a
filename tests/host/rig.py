"""A relay with a listener and an enclave's end of the stream, all in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attestation.wire.frames import Frame, FrameDecoder, encode_frame, parse_error
from host.limits import Limits
from host.link import EnclaveLink
from host.listeners import open_unix
from host.relay import Relay

PATIENCE = 10.0


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario in a loop of its own, with a limit on its time."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(limited())


@dataclass
class Wire:
    """Either end of a connection that carries frames."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    decoder: FrameDecoder = field(default_factory=FrameDecoder)
    arrived: list[Frame] = field(default_factory=list)

    async def send(self, route: str, sid: int, body: bytes) -> None:
        await self.send_raw(encode_frame(Frame(route, sid, body)))

    async def send_raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def frame(self) -> Frame:
        """Return the next frame, its body as bytes; raises EOFError at the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            while not self.arrived:
                data = await self.reader.read(1 << 18)
                if not data:
                    raise EOFError
                self.arrived += [Frame(one.route, one.sid, bytes(one.body)) for one in self.decoder.feed(data)]
        return self.arrived.pop(0)

    async def error(self) -> tuple[int, str]:
        """Return (sid, code) of the next frame, which must be an error."""
        frame = await self.frame()
        assert frame.route == "!error", frame
        return frame.sid, parse_error(frame.body)[0]

    async def refusal(self, sid: int) -> str:
        """Return the code of an error for that sid that is followed by the end of its stream."""
        found, code = await self.error()
        assert found == sid
        end = await self.frame()
        assert (end.sid, end.body) == (sid, b"")
        return code

    async def nothing_more(self) -> None:
        """Wait for the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(EOFError, ConnectionResetError):
                while True:
                    await self.frame()

    async def quiet(self, seconds: float = 0.05) -> None:
        """Check that nothing arrives for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                raise AssertionError(await self.frame())

    def close(self) -> None:
        self.writer.close()


@dataclass
class Rig:
    relay: Relay
    path: Path
    enclave: Wire
    link: EnclaveLink
    controls: list[Frame]
    wires: list[Wire] = field(default_factory=list)

    async def client(self) -> Wire:
        wire = Wire(*await asyncio.open_unix_connection(str(self.path), limit=1 << 22))
        self.wires.append(wire)
        return wire

    async def attach(self, route: str) -> Wire:
        """Attach another enclave."""
        wire, link = await connect_enclave(self.relay, self.controls)
        self.relay.add_route(route)
        self.relay.attach(route, link)
        self.wires.append(wire)
        return wire


async def connect_enclave(relay: Relay, controls: list[Frame]) -> tuple[Wire, EnclaveLink]:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()

    def control(_: EnclaveLink, frame: Frame) -> None:
        controls.append(Frame(frame.route, frame.sid, bytes(frame.body)))

    _, link = await loop.create_connection(lambda: relay.make_link(control), sock=ours)
    return Wire(*await asyncio.open_connection(sock=theirs, limit=1 << 22)), link


@contextlib.asynccontextmanager
async def rig(folder: Path, limits: Limits | None = None) -> AsyncIterator[Rig]:
    """Give a relay whose route "default" leads to the enclave's end that the test holds."""
    relay = Relay(limits)
    relay.add_route("default")
    path = folder / "relay.sock"
    listener = open_unix(path, 0o600)
    server = await asyncio.get_running_loop().create_server(relay.make_client, sock=listener)
    controls: list[Frame] = []
    enclave, link = await connect_enclave(relay, controls)
    relay.attach("default", link)
    relay.start()
    made = Rig(relay, path, enclave, link, controls)
    try:
        yield made
    finally:
        relay.stop()
        link.abort()
        server.close()
        for wire in (enclave, *made.wires):
            wire.close()
        await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something has come about."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the code under test has no event for most of what tests wait for
            await asyncio.sleep(0.002)


async def echo(enclave: Wire) -> None:
    """Send every frame back, until cancelled or cut off."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            frame = await enclave.frame()
            await enclave.send(*frame)
