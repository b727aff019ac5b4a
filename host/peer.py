"""What both ends of the relay share: receiving frames, and sending them in as few system calls as possible.

The path of a frame is: one receive into a buffer that all connections share, one decode, a look-up, one encode,
one send.  No task, no queue and no timer is made for a frame.  Frames that one receive brings for the same peer
leave in one send.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from attestation.errors import WireError
from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from host.limits import SCRATCH, Limits

Holder: TypeAlias = tuple[str, str, int]
"""Listener, peer (host.listeners.peer_of) and connection: each prefix of it is one who holds sessions."""


@dataclass(slots=True)
class Traffic:
    """Counters of one peer since it was connected."""

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, other: Traffic) -> None:
        """Add the counts of another peer."""
        self.frames_in += other.frames_in
        self.frames_out += other.frames_out
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out


@dataclass(slots=True)
class Exchange:
    """What the peers of one event loop share."""

    limits: Limits = field(default_factory=Limits)
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(SCRATCH)), repr=False)
    """The loop fills it for one peer and calls that peer before it reads the next socket, so one is enough."""
    waiting: list[FramePeer] = field(default_factory=list)
    """Peers with frames to send when the present receive has been worked off."""

    def flush(self) -> None:
        """Send what the present receive has brought."""
        while self.waiting:
            self.waiting.pop().flush()


@dataclass(slots=True, eq=False)
class Stream:
    """One session: a sid of one connection, tied to a sid that is unique on the enclave's connection."""

    route: str
    client: FramePeer
    client_sid: int
    link: FramePeer
    sid: int
    holder: Holder
    """Whose it is."""
    opened_at: float
    """When it was opened, by the loop's clock."""
    moved_at: float
    """When its last frame passed, in either direction."""
    ended_at: float = 0.0
    """When the client ended its direction, by the loop's clock; 0 while it has not."""
    unanswered: bool = False
    """Whether the last frame went to the enclave; a host that drains waits for these."""
    greeted: bool = False
    """Whether the enclave has sent anything for it."""

    def unlink(self) -> None:
        """Forget the stream on both sides."""
        self.client.streams.pop(self.client_sid, None)
        self.link.streams.pop(self.sid, None)

    def end_towards_enclave(self) -> None:
        """Tell the enclave that the client will send no more, unless it knows."""
        if not self.ended_at:
            self.link.post(encode_frame(Frame(self.route, self.sid, b"")))

    def end_towards_client(self) -> None:
        """Tell the client that nothing more will come."""
        self.client.post(encode_frame(Frame(self.route, self.client_sid, b"")))


class FramePeer(asyncio.BufferedProtocol, ABC):
    """A connection that carries frames.  Subclasses say what a frame, a broken frame and the end mean."""

    def __init__(self, exchange: Exchange) -> None:
        """Make the protocol of one connection."""
        self.exchange = exchange
        self.traffic = Traffic()
        self.congested = False
        self.closed = False
        self.streams: dict[int, Stream] = {}
        self._sources: set[FramePeer] = set()
        self._held_by: set[FramePeer] = set()
        self._decoder = FrameDecoder()
        self._outbox: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @property
    def queued(self) -> int:
        """Bytes that wait for the peer to read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def held(self) -> int:
        """Bytes of a frame that has not arrived completely."""
        return self._decoder.held

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and set its high-water mark."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.exchange.limits.high_water)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Lend the shared buffer for one receive."""
        return self.exchange.scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Work off one receive."""
        traffic = self.traffic
        traffic.bytes_in += nbytes
        try:
            frames = self._decoder.feed(self.exchange.scratch[:nbytes])
        except WireError as error:
            self.on_malformed(error)
        else:
            traffic.frames_in += len(frames)
            for frame in frames:
                if self.closed:
                    break
                self.on_frame(frame)
        self.exchange.flush()

    def post(self, data: bytes) -> None:
        """Send an encoded frame when the present receive has been worked off; `Exchange.flush` sends it."""
        if self.closed:
            return
        if not self._outbox:
            self.exchange.waiting.append(self)
        self._outbox.append(data)

    def flush(self) -> None:
        """Hand what was posted to the transport, in one piece."""
        outbox, self._outbox = self._outbox, []
        if self.closed or self._transport is None or not outbox:
            return
        data = outbox[0] if len(outbox) == 1 else b"".join(outbox)
        self.traffic.frames_out += len(outbox)
        self.traffic.bytes_out += len(data)
        self._transport.write(data)

    def pause_writing(self) -> None:
        """Note that the peer reads more slowly than it is sent to."""
        self.congested = True

    def resume_writing(self) -> None:
        """Note that the peer has caught up, and let those that feed it go on."""
        self.congested = False
        for source in list(self._sources):
            source.go_on(self)

    def wait_for(self, peer: FramePeer) -> None:
        """Read no more until `peer` has caught up."""
        if not self._held_by and self._transport is not None and not self.closed:
            self._transport.pause_reading()
        self._held_by.add(peer)
        peer._sources.add(self)

    def go_on(self, peer: FramePeer) -> None:
        """Undo `wait_for`; reading goes on when no other peer holds it up."""
        self._held_by.discard(peer)
        peer._sources.discard(self)
        if not self._held_by and self._transport is not None and not self.closed:
            self._transport.resume_reading()

    @property
    def waits(self) -> bool:
        """Whether reading from this peer is paused, through no fault of its own."""
        return bool(self._held_by)

    def let_go(self) -> None:
        """Forget every peer that this one waits for, at its end."""
        for peer in list(self._held_by):
            self.go_on(peer)

    def abort(self) -> None:
        """Close at once, dropping what is queued."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    @abstractmethod
    def on_frame(self, frame: Frame) -> None:
        """Take one frame; its body is a view that is valid during the call."""

    @abstractmethod
    def on_malformed(self, error: WireError) -> None:
        """Take the news that the connection has lost its place."""
