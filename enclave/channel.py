"""The stream to the host: frames in, frames out, and sealed bytes fetched over it.

The host is trusted with nothing: what it answers is checked for length here and for content by the sealed reader.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from attestation.errors import WireError
from attestation.wire.frames import MAX_BODY, ROUTE_FETCH, Frame, FrameDecoder, encode_frame
from enclave.errors import EnclaveCode, EnclaveError
from manifests import canonical

BLOCK = 1 << 20
"""Largest fetch, as the protocol has it."""
READ_AHEAD = 3
"""Blocks that are under way while one is being decrypted."""
KEPT_BLOCKS = 8
"""Blocks of one file that are held at once: header, tail, the current one and those ahead."""
FETCH_TIMEOUT = 60.0
"""Seconds that the host has for one block, by the host's own clock: best effort."""
_LEAST_READ, _MOST_READ = 16 * 1024, 256 * 1024
"""A read that was filled is followed by a larger one: small requests should not pay for large buffers."""
_FAILED = b"\x01"


@dataclass
class _Fetch:
    """A block that was asked for: its length, and what came back."""

    length: int
    data: memoryview | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Channel:
    """One byte stream to the host.  One thread reads at a time; any thread may send or fetch."""

    def __init__(self, stream: socket.socket) -> None:
        """Use a connected stream socket, which the channel then owns."""
        self._stream = stream
        self._decoder = FrameDecoder()
        self._writing = threading.Lock()
        self._fetches: dict[int, _Fetch] = {}
        self._ids = itertools.count(1)
        self._broken = False
        self._room = _LEAST_READ

    def fileno(self) -> int:
        """Return the stream's descriptor, to wait for it."""
        return self._stream.fileno()

    def read(self) -> list[Frame]:
        """Return the frames that the bytes which are there complete; fetch replies are kept back.

        Raises EnclaveError `host-stream-broken` when the stream has ended or lost its place.
        """
        try:
            data = self._stream.recv(self._room, socket.MSG_DONTWAIT)
            if not data:
                raise EnclaveError(EnclaveCode.HOST_STREAM, "the host has closed the stream")
            self._room = _MOST_READ if len(data) == self._room else _LEAST_READ
            frames = self._decoder.feed(data)
        except BlockingIOError:
            return []
        except (OSError, WireError):
            raise EnclaveError(EnclaveCode.HOST_STREAM, "the stream to the host is broken") from None
        return [frame for frame in frames if not self._is_reply(frame)]

    def send(self, frames: Iterable[Frame]) -> None:
        """Send frames in one piece; raises EnclaveError `host-stream-broken`."""
        data = b"".join([encode_frame(frame) for frame in frames])
        try:
            with self._writing:
                self._stream.sendall(data)
        except OSError:
            raise EnclaveError(EnclaveCode.HOST_STREAM, "the stream to the host is broken") from None

    def send_stream(self, route: str, sid: int, data: bytes) -> None:
        """Send bytes of one session, cut into frames."""
        for start in range(0, len(data), MAX_BODY):
            self.send([Frame(route, sid, data[start : start + MAX_BODY])])

    def shut(self) -> None:
        """Wake the reading thread and every waiting fetch for good."""
        self._broken = True
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        for fetch in list(self._fetches.values()):
            fetch.done.set()

    def close(self) -> None:
        """Release the descriptor."""
        self._stream.close()

    # ------------------------------------------------------------------------------------ fetches

    def request(self, digest: bytes, offset: int, length: int) -> int:
        """Ask the host for bytes of a sealed file and return the fetch's id; length 0 asks for the file's size."""
        number = next(self._ids)
        self._fetches[number] = _Fetch(length or 8)
        body = canonical.encode({"digest": digest, "offset": offset, "length": length})
        self.send([Frame(ROUTE_FETCH, number, body)])
        return number

    def wait(self, number: int) -> memoryview:
        """Return what a fetch brought, of exactly the length asked for; raises EnclaveError `fetch-failed`."""
        fetch = self._fetches[number]
        arrived = not self._broken and fetch.done.wait(FETCH_TIMEOUT)
        self.forget(number)
        if not arrived or fetch.data is None:
            raise EnclaveError(EnclaveCode.FETCH_FAILED, "the host did not deliver the sealed model")
        return fetch.data

    def forget(self, number: int) -> None:
        """Drop a fetch; its reply, if it ever comes, is ignored."""
        self._fetches.pop(number, None)

    def _is_reply(self, frame: Frame) -> bool:
        if frame.route != ROUTE_FETCH:
            return False
        fetch = self._fetches.get(frame.sid)
        if fetch is not None and not fetch.done.is_set():
            body = memoryview(frame.body)
            if len(body) == 1 + fetch.length and body[:1] != _FAILED:
                fetch.data = body[1:]
            fetch.done.set()
        return True


class ChannelSource:
    """A sealed file that the host serves: a ByteSource over the channel, for one thread.

    Reads ahead in blocks; keeps at most eight of them.
    """

    def __init__(self, channel: Channel, digest: bytes) -> None:
        """Ask for the file's size; raises EnclaveError `fetch-failed`."""
        self._channel = channel
        self._digest = digest
        self._blocks: OrderedDict[int, memoryview] = OrderedDict()
        self._ahead: OrderedDict[int, int] = OrderedDict()
        self._last = -2
        self.size = int.from_bytes(channel.wait(channel.request(digest, 0, 0)), "big")

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """Return exactly `length` bytes at `offset`; raises EnclaveError `fetch-failed`."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise EnclaveError(EnclaveCode.FETCH_FAILED, "the sealed model is shorter than its header says")
        index, start = divmod(offset, BLOCK)
        if start + length <= BLOCK:
            return self._block(index)[start : start + length] if length else b""
        data = bytearray()
        while len(data) < length:
            data += self._block(index)[start : start + length - len(data)]
            index, start = index + 1, 0
        return bytes(data)

    def close(self) -> None:
        """Give up what is still under way."""
        for number in self._ahead.values():
            self._channel.forget(number)
        self._ahead.clear()
        self._blocks.clear()

    def _block(self, index: int) -> memoryview:
        self._ask(index)
        if index in self._ahead:
            self._blocks[index] = self._channel.wait(self._ahead.pop(index))
            while len(self._blocks) > KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        return self._blocks[index]

    def _ask(self, index: int) -> None:
        """Have this block under way, and where reading goes forward those after it; else give up what was ahead."""
        if index == self._last and index in self._blocks:
            return
        is_forward, self._last = index == self._last + 1, index
        wanted = range(index, min(index + (READ_AHEAD if is_forward else 0), (self.size - 1) // BLOCK) + 1)
        for number in [number for number in self._ahead if number not in wanted]:
            self._channel.forget(self._ahead.pop(number))
        for number in wanted:
            if number not in self._ahead and number not in self._blocks:
                offset = number * BLOCK
                self._ahead[number] = self._channel.request(self._digest, offset, min(BLOCK, self.size - offset))
