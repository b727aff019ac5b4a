"""The enclave's end of the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from attestation.wire.frames import ROUTE_ERROR, Frame, encode_frame
from host.clients import ClientPeer
from host.errors import HostCode, HostError
from host.peer import Exchange, FramePeer, Stream
from host.shares import make_place, places_of
from manifests.errors import StrongroomError

ControlHandler = Callable[["EnclaveLink", Frame], None]
"""Takes a frame whose route begins with "!"; its body is a view that is valid during the call."""


class EnclaveLink(FramePeer):
    """The stream to one enclave process.  What it sends is passed on unread or handed to the control handler."""

    def __init__(self, exchange: Exchange, control: ControlHandler) -> None:
        """Make the protocol of one enclave's stream."""
        super().__init__(exchange)
        self._control = control
        self._clock = asyncio.get_running_loop().time
        self._next_sid = 1
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost: asyncio.Future[StrongroomError | None] = asyncio.get_running_loop().create_future()
        """Done when the stream has ended; its result says what was wrong with it, if anything."""
        self.places = exchange.limits.streams
        """Sessions that the host lets through at once."""
        self.sessions = 0
        """Streams opened since the enclave was started."""
        self.strays = 0
        """Frames for streams that are over, which crossed the end on their way; dropped."""

    def admits(self, max_sessions: object) -> None:
        """Take the enclave's word for how many sessions it admits; a wrong one costs itself alone."""
        if type(max_sessions) is int and max_sessions > 0:
            self.places = min(self.places, places_of(max_sessions))

    def open(self, client: ClientPeer, route: str, client_sid: int) -> Stream:
        """Make a stream under a sid that this enclave has never seen, if need be in the place of another.

        Raises HostError `enclave-down` or `host-busy`.
        """
        if self.closed:
            raise HostError(HostCode.ENCLAVE_DOWN, "the enclave is restarting")
        limits = self.exchange.limits
        if self.congested and self.queued > limits.enclave_queue:
            raise HostError(HostCode.HOST_BUSY, "the enclave has as many bytes to read as the host allows")
        now = self._clock()
        displaced = make_place(self.streams.values(), client.holder, self.places, limits, now)
        if displaced is not None:
            error = HostError(HostCode.STREAM_DISPLACED, "a client with fewer sessions needed this one's place")
            cast("ClientPeer", displaced.client).drop(displaced, error)
        stream = Stream(route, client, client_sid, self, self._next_sid, client.holder, now, now)
        self._next_sid += 1
        self.sessions += 1
        self.streams[stream.sid] = stream
        client.streams[client_sid] = stream
        return stream

    def on_frame(self, frame: Frame) -> None:
        """Pass a body on to the client that the sid belongs to."""
        route, sid, body = frame
        if route.startswith("!") and route != ROUTE_ERROR:
            self._control(self, frame)
            return
        stream = self.streams.get(sid)
        if stream is None:
            self.strays += 1
            return
        towards = ROUTE_ERROR if route == ROUTE_ERROR else stream.route
        stream.client.post(encode_frame(Frame(towards, stream.client_sid, body)))
        stream.unanswered, stream.greeted, stream.moved_at = False, True, self._clock()
        if not body:
            stream.unlink()

    def on_malformed(self, error: StrongroomError) -> None:
        """Give up an enclave whose stream has lost its place; the supervisor starts another."""
        self.fail(HostError(HostCode.ENCLAVE_PROTOCOL, f"the enclave's stream is malformed: {error.message}"))

    def fail(self, error: StrongroomError) -> None:
        """Close at once, with the reason for the operator."""
        if not self.lost.done():
            self.lost.set_result(error)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell every client whose session was open, and let paused clients go on."""
        self.closed = True
        self._writable.set()
        error = HostError(HostCode.ENCLAVE_LOST, "the enclave ended while the session was open")
        for stream in list(self.streams.values()):
            stream.unlink()
            cast("ClientPeer", stream.client).refuse(stream.route, stream.client_sid, error)
        self.resume_writing()
        self.exchange.flush()
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, route: str, sid: int, body: bytes | bytearray) -> None:
        """Send one control frame now."""
        self.post(encode_frame(Frame(route, sid, body)))
        self.exchange.flush()

    def pause_writing(self) -> None:
        """Note that the enclave reads more slowly than it is sent to."""
        super().pause_writing()
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that the enclave has caught up."""
        super().resume_writing()
        self._writable.set()

    async def writable(self) -> None:
        """Wait until the enclave has room for more."""
        await self._writable.wait()
