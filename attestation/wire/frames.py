"""Frames: how bytes of sessions travel between clients, the host agent and enclaves.

    frame = u32 length || canonical msgpack map {"body": bin, "route": str, "sid": int, "v": 1}

The host reads `route` and `sid` and never `body`; nothing in a frame is secret or trusted.  A session's bytes may
be cut into frames anywhere, and an empty body ends the stream of that sid.  Routes that start with "!" are the
host's own control channel.
"""

from __future__ import annotations

import contextlib
import functools
import re
import struct
from typing import NamedTuple

from attestation.errors import WireCode, WireError
from attestation.wire.stream import Bounds, Buffer, PrefixedStream
from manifests import canonical, fields
from manifests.errors import ManifestError

VERSION = 1
MAX_BODY = (1 << 20) + 1024
"""A record of 1 MiB with its header and tag, or a fetched MiB with its status byte, fits into one frame."""
MAX_ROUTE = 64
MAX_SID = fields.U63

ROUTE_ERROR = "!error"
ROUTE_READY = "!ready"
ROUTE_FETCH = "!fetch"
ROUTE_STOP = "!stop"
ROUTE_STATS = "!stats"

_OVERHEAD = 128
"""Keys, markers, a route of 64 bytes and a sid of 8 take 98 bytes at most."""
_BOUNDS = Bounds(1, MAX_BODY + _OVERHEAD, WireCode.FRAME_TOO_LARGE)
_HEAD = b"\x84\xa4body"
_BIN_WIDTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_ROUTE = re.compile(r"!?[A-Za-z0-9._-]{1,63}")
_MAX_ERROR = 4096
_MAX_CONTAINERS = 16
"""Maps and lists that are looked at in a frame of another version."""
_CACHED_TAILS = 4096


class Frame(NamedTuple):
    """One frame.  `route` names a deployment; `sid` a session of this connection; `body` is opaque.

    A named tuple, because a relay makes one for every piece that it forwards.
    """

    route: str
    sid: int
    body: Buffer


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame; raises WireError `frame-malformed` or `frame-too-large` for fields out of bounds."""
    size = len(frame.body)
    if size > MAX_BODY:
        raise WireError(WireCode.FRAME_TOO_LARGE, "the body of a frame is too long", expected=MAX_BODY, found=size)
    tail = _encode_tail(frame.route, frame.sid)
    head = _HEAD + _bin_header(size)
    return b"".join([struct.pack(">I", len(head) + size + len(tail)), head, frame.body, tail])


class FrameDecoder:
    """Incremental decoder of one connection.  Holds at most one incomplete frame.

    Any exception but WireError is a bug.  After an error the connection has lost its place: the decoder refuses
    everything that follows.
    """

    def __init__(self) -> None:
        """Start at the beginning of a connection."""
        self._stream = PrefixedStream(_BOUNDS)
        self._failed: WireError | None = None

    @property
    def held(self) -> int:
        """Bytes of a frame that has not arrived completely; not 0 at the end of a connection means it was cut."""
        return self._stream.held

    def feed(self, data: Buffer) -> list[Frame]:
        """Return the frames that `data` completes; raises WireError `frame-...`.

        Bodies are views; of `data` itself where that is `bytes`.
        """
        if self._failed is not None:
            raise WireError(self._failed.code, self._failed.message)
        try:
            return [_decode(item) for item in self._stream.items(data)]
        except WireError as error:
            self._stream.clear()
            self._failed = error
            raise


def error_frame(sid: int, code: str, message: str) -> Frame:
    """Return the host's "!error" frame for one sid: advice to the client, never trusted."""
    return Frame(ROUTE_ERROR, sid, canonical.encode({"code": code[:64], "message": message[:512]}))


def parse_error(body: Buffer) -> tuple[str, str]:
    """Return (code, message) of an "!error" frame's body; raises WireError `frame-malformed`."""
    try:
        value = fields.closed_map(canonical.decode(body, max_size=_MAX_ERROR), "error", ("code", "message"))
        return fields.text(value["code"], "code", 64), fields.text(value["message"], "message", 512)
    except ManifestError as error:
        raise WireError(WireCode.FRAME_MALFORMED, f"an error frame is malformed: {error.message}") from None


def _decode(item: memoryview) -> Frame:
    try:
        return _frame(item)
    except WireError:
        _check_version(item)
        raise


def _check_version(item: memoryview) -> None:
    """Name the version of a frame that cannot be read: of another version nothing is known, not even its fields."""
    with contextlib.suppress(ManifestError):
        value = canonical.decode(item, max_size=len(item), max_containers=_MAX_CONTAINERS)
        version = value.get("v") if isinstance(value, dict) else VERSION
        if type(version) is int and version != VERSION:
            raise WireError(
                WireCode.FRAME_VERSION,
                "a frame is of another version",
                expected=VERSION,
                found=version,
                remedy="use a client and a host of the same release",
            )


def _frame(item: memoryview) -> Frame:
    """Read one frame: the canonical order puts the body first, so that its place follows from its own header."""
    head = bytes(item[: len(_HEAD) + 5])
    width = _BIN_WIDTHS.get(head[len(_HEAD)]) if len(head) > len(_HEAD) else None
    if width is None or not head.startswith(_HEAD):
        raise WireError(WireCode.FRAME_MALFORMED, "a frame is not a canonical map that starts with its body")
    start = len(_HEAD) + 1 + width
    length = int.from_bytes(head[len(_HEAD) + 1 : start], "big")
    if length > MAX_BODY:
        raise WireError(WireCode.FRAME_TOO_LARGE, "the body of a frame is too long", expected=MAX_BODY, found=length)
    end = start + length
    if head[len(_HEAD) : start] != _bin_header(length) or not 0 < len(item) - end <= _OVERHEAD:
        raise WireError(WireCode.FRAME_MALFORMED, "a frame's body is not as long as its header says")
    return Frame(*_decode_tail(bytes(item[end:])), item[start:end])


def _bin_header(size: int) -> bytes:
    if size < 1 << 8:
        return struct.pack(">BB", 0xC4, size)
    if size < 1 << 16:
        return struct.pack(">BH", 0xC5, size)
    return struct.pack(">BI", 0xC6, size)


@functools.lru_cache(maxsize=_CACHED_TAILS)
def _encode_tail(route: str, sid: int) -> bytes:
    """Return what follows the body; it is the same for all frames of a session."""
    if not _ROUTE.fullmatch(route) or not 0 <= sid <= MAX_SID:
        raise WireError(WireCode.FRAME_MALFORMED, "a frame's route or sid is out of bounds")
    return canonical.encode({"route": route, "sid": sid, "v": VERSION})[1:]


@functools.lru_cache(maxsize=_CACHED_TAILS)
def _decode_tail(tail: bytes) -> tuple[str, int]:
    try:
        value = canonical.decode(b"\x83" + tail, max_size=_OVERHEAD + 1)
        value = fields.closed_map(value, "frame", ("route", "sid", "v"))
        fields.number(value["v"], "v", VERSION, VERSION)
        route = fields.text(value["route"], "route", MAX_ROUTE)
        sid = fields.number(value["sid"], "sid", 0, MAX_SID)
    except ManifestError as error:
        raise WireError(WireCode.FRAME_MALFORMED, f"a frame is malformed: {error.message}") from None
    if not _ROUTE.fullmatch(route):
        raise WireError(WireCode.FRAME_MALFORMED, "a frame's route has characters that no route has")
    return route, sid
