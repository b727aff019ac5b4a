"""The client's end of the relay."""

from __future__ import annotations

import asyncio
from typing import Protocol

from attestation.wire.frames import Frame, encode_frame, error_frame
from host.errors import HostCode, HostError
from host.listeners import peer_of
from host.peer import Exchange, FramePeer, Holder, Stream
from manifests.errors import StrongroomError


class Switch(Protocol):
    """What a client's connection needs of the relay."""

    def joined(self, client: ClientPeer) -> None:
        """Count the connection, or raise HostError if there are too many."""

    def left(self, client: ClientPeer) -> None:
        """Forget the connection."""

    def open(self, client: ClientPeer, route: str, client_sid: int) -> Stream:
        """Tie a new stream to an enclave; raises HostError for whatever stands in the way."""

    def congested(self, client: ClientPeer) -> None:
        """Look at the queue of a client that reads slowly."""

    def refused(self, error: StrongroomError) -> None:
        """Count a refusal."""


class ClientPeer(FramePeer):
    """A connection from a client: maps its sids to streams and passes bodies on unread.

    Sids of one connection only grow: a sid below the newest that is not open is over, and is never opened again.
    """

    def __init__(self, exchange: Exchange, switch: Switch, listener: str = "") -> None:
        """Make the protocol of a connection that a listener has accepted; the relay learns of it when it is made."""
        super().__init__(exchange)
        self._switch = switch
        self._newest = -1
        self._clock = asyncio.get_running_loop().time
        self._began = self._moved = self._whole = self._clock()
        self._seen = self._seen_in = 0
        self._has_opened = False
        self.holder: Holder = (listener, "", id(self))
        """Whose connection it is; the peer is known once it is made."""

    @property
    def idle_since(self) -> float:
        """When something last moved, by the loop's clock and to within a sweep."""
        return self._moved

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the relay, or say why not."""
        super().connection_made(transport)
        self.holder = (self.holder[0], peer_of(transport.get_extra_info("socket")), id(self))
        try:
            self._switch.joined(self)
        except HostError as error:
            self.expel(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End every stream of the connection towards its enclave."""
        self.closed = True
        self.let_go()
        self._end_streams()
        self.exchange.flush()
        self._switch.left(self)

    def on_frame(self, frame: Frame) -> None:
        """Pass a body on under the enclave's sid."""
        route, client_sid, body = frame
        stream = self.streams.get(client_sid)
        if stream is None:
            stream = self._open(route, client_sid, over=not body)
            if stream is None:
                return
        elif stream.ended_at or stream.route != route:
            self.refuse(route, client_sid, HostError(HostCode.STREAM_ENDED, "the stream is over, or of another route"))
            return
        link = stream.link
        link.post(encode_frame(Frame(route, stream.sid, body)))
        stream.unanswered, stream.moved_at = True, self._clock()
        if not body:
            stream.ended_at = stream.moved_at
        if link.congested:
            self.wait_for(link)

    def on_malformed(self, error: StrongroomError) -> None:
        """Drop a connection that has lost its place."""
        self.expel(error)

    def _open(self, route: str, client_sid: int, *, over: bool) -> Stream | None:
        """Open a stream; None after a refusal, or where the client ends what is over already."""
        if client_sid <= self._newest:
            if not over:
                ended = HostError(HostCode.STREAM_ENDED, "the stream is over; open one with a higher sid")
                self.refuse(route, client_sid, ended)
            return None
        self._newest = client_sid
        try:
            stream = self._switch.open(self, route, client_sid)
        except HostError as error:
            self.refuse(route, client_sid, error)
            return None
        self._has_opened = True
        return stream

    def refuse(self, route: str, client_sid: int, error: StrongroomError) -> None:
        """Tell the client why a stream is not served, and end it."""
        self._switch.refused(error)
        self.post(encode_frame(error_frame(client_sid, error.code, error.message)))
        self.post(encode_frame(Frame(route, client_sid, b"")))

    def drop(self, stream: Stream, error: StrongroomError) -> None:
        """End a stream on both sides, and tell the client why."""
        stream.end_towards_enclave()
        stream.unlink()
        self.refuse(stream.route, stream.client_sid, error)

    def expel(self, error: StrongroomError) -> None:
        """Tell the client why it is dropped, end its streams, and close once it has read that or had its time."""
        if self.closed:
            return
        self._switch.refused(error)
        for client_sid in list(self.streams) or [0]:
            self.post(encode_frame(error_frame(client_sid, error.code, error.message)))
        super().flush()
        self.closed = True
        self._end_streams()
        if self._transport is not None:
            self._transport.close()
            asyncio.get_running_loop().call_later(self.exchange.limits.linger, self._transport.abort)

    def flush(self) -> None:
        """Send what was posted, and have the queue looked at if the client does not keep up."""
        super().flush()
        if self.congested and not self.closed:
            self._switch.congested(self)

    def _end_streams(self) -> None:
        for stream in list(self.streams.values()):
            stream.end_towards_enclave()
            stream.unlink()

    def tick(self, now: float) -> None:
        """Hold the connection to its time limits; called about once a second."""
        if self.closed:
            return
        overdue = self._overdue(now)
        if overdue is not None:
            self.expel(HostError(HostCode.CLIENT_IDLE, overdue))
            return
        for stream in list(self.streams.values()):
            if stream.ended_at and now - stream.ended_at > self.exchange.limits.linger:
                stream.end_towards_client()
                stream.unlink()
            elif not stream.greeted and now - stream.opened_at > self.exchange.limits.first_answer:
                self.drop(stream, HostError(HostCode.HOST_BUSY, "the enclave has sent nothing for the stream in time"))
            elif now - stream.moved_at > self.exchange.limits.idle_stream:
                self.drop(stream, HostError(HostCode.CLIENT_IDLE, "nothing has moved on the stream for too long"))

    def _overdue(self, now: float) -> str | None:
        limits, traffic = self.exchange.limits, self.traffic
        seen = traffic.frames_in + traffic.frames_out
        if seen != self._seen or self.waits:
            self._seen, self._moved = seen, now
        if traffic.frames_in != self._seen_in or not self.held or self.waits:
            self._seen_in, self._whole = traffic.frames_in, now
        if not self._has_opened and now - self._began > limits.first_frame:
            return "no stream was opened in time after the connection was made"
        if now - self._whole > limits.unfinished_frame:
            return "a frame was not finished in time"
        if now - self._moved > (limits.idle_stream if self.streams else limits.idle_connection):
            return "nothing has moved on the connection for too long"
        return None
