"""Answers in parts: what a session holds of the streams that its client has asked for.

A stream is a generator that does one step of work each time it is asked: it gives a `Piece`, or None where a step has
nothing to show yet.  A session takes one step and lets others have their turn, so that a long answer holds up nobody.
The client says how many parts it is ready to take (docs/wire.md, section 9): without credit a stream rests, and the
enclave keeps no part for it.  A stream ends with its final piece, an error, or its session; its generator is closed
then, which frees what it holds.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy.typing as npt

from enclave.errors import EnclaveCode, EnclaveError
from manifests import canonical

MAX_STREAMS = 4
"""Streams of one session at once: each may hold a cache, and a client that wants more opens another session."""
MAX_WINDOW = 1024
"""Parts that a client may be ready for at once: with 256 bytes for most of them, a quarter of a MiB on the way."""


@dataclass(frozen=True)
class Piece:
    """One part of an answer: header fields besides `id`, `part` and `final`, and tensors where there are any.

    charged: of a final part, whether a budget of the client's identity paid for any of the answer.
    """

    header: Mapping[str, canonical.Value] = field(repr=False)
    final: bool = False
    tensors: Mapping[str, npt.NDArray[Any]] | None = field(default=None, repr=False)
    charged: bool = False


Source: TypeAlias = Generator[Piece | None, None, None]


class Timed:
    """A source, and the seconds that its steps have taken: not those in which it waits for its client or its turn."""

    def __init__(self, source: Source) -> None:
        """Begin at nothing."""
        self._source = source
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Piece | None]:
        """Take the source's steps."""
        return self

    def __next__(self) -> Piece | None:
        """Take one."""
        began = time.perf_counter()
        try:
            return next(self._source)
        finally:
            self.seconds += time.perf_counter() - began


@dataclass(frozen=True)
class Stream:
    """The outcome of an operation that answers in parts.  window: parts that the client takes before it says more."""

    source: Source
    window: int


@dataclass
class _Open:
    """A stream that has not ended.  failure: why it ends at its next step, whatever its credit.

    rests: since when it waits for its client, in seconds of the monotonic clock, or infinity.
    """

    source: Source
    credit: int
    rests: float = math.inf
    part: int = 0
    failure: EnclaveError | None = None

    @property
    def ready(self) -> bool:
        return self.credit > 0 or self.failure is not None

    def take(self) -> Piece | None:
        if self.failure is not None:
            raise self.failure
        return next(self.source)

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # it is running, in a thread that is given up
            self.source.close()


class Streams:
    """The open streams of one session, which take turns."""

    def __init__(self) -> None:
        """Start without any."""
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def ready(self) -> bool:
        """Whether a step can be taken."""
        return any(stream.ready for stream in self._open.values())

    def check_number(self, number: int) -> None:
        """Refuse a request under the number of a stream that is open; raises EnclaveError `request-malformed`."""
        if number in self._open:
            raise EnclaveError(EnclaveCode.REQUEST_MALFORMED, "the number is that of an open stream", field="id")

    def check_room(self) -> None:
        """Refuse another stream where there can be none; raises EnclaveError `enclave-busy`."""
        if len(self._open) >= MAX_STREAMS:
            raise EnclaveError(EnclaveCode.BUSY, f"a session may have {MAX_STREAMS} streams at once", retry_after=1.0)

    def begin(self, number: int, stream: Stream) -> None:
        """Take up a stream; `check_room` was called before."""
        self._open[number] = _Open(stream.source, stream.window)

    @property
    def rest_since(self) -> float:
        """Since when the stream rests that has waited longest for its client; infinity if none does."""
        return min((stream.rests for stream in self._open.values()), default=math.inf)

    def more(self, number: int, parts: int) -> None:
        """Let a stream give further parts; one that has ended meanwhile is passed over."""
        stream = self._open.get(number)
        if stream is not None:
            stream.credit, stream.rests = min(stream.credit + parts, MAX_WINDOW), math.inf

    def cancel(self, number: int) -> None:
        """Have a stream end with `stream-cancelled`; one that has ended meanwhile is passed over."""
        self._fail(number, EnclaveError(EnclaveCode.STREAM_CANCELLED, "the client has given up the stream"))

    def expire(self, since: float) -> None:
        """Have every stream that has waited for its client since then, or longer, end with `stream-stalled`."""
        for number in [number for number, stream in self._open.items() if stream.rests <= since]:
            self._fail(number, EnclaveError(EnclaveCode.STREAM_STALLED, "the client has not taken the stream's parts"))

    def turn(self) -> int:
        """Return the number of the stream whose turn it is, and put it behind the others; `ready` must hold."""
        number = next(number for number, stream in self._open.items() if stream.ready)
        self._open.move_to_end(number)
        return number

    def step(self, number: int) -> tuple[Piece, int] | None:
        """Take one step of a stream; return a piece and its place in the answer, or None if there is none yet.

        Raises what the stream raises, with which it has ended.
        """
        stream = self._open[number]
        try:
            piece = stream.take()
        except BaseException:
            self.end(number)
            raise
        if piece is None:
            return None
        part, stream.part = stream.part, stream.part + 1
        stream.credit -= 1
        if stream.credit == 0:
            stream.rests = time.monotonic()
        if piece.final:
            self.end(number)
        return piece, part

    def end(self, number: int) -> None:
        """End a stream and free what it holds."""
        stream = self._open.pop(number, None)
        if stream is not None:
            stream.close()

    def end_all(self) -> list[int]:
        """End all streams; return their numbers."""
        numbers = list(self._open)
        for number in numbers:
            self.end(number)
        return numbers

    def _fail(self, number: int, error: EnclaveError) -> None:
        stream = self._open.get(number)
        if stream is not None:
            stream.close()
            stream.failure, stream.rests = error, math.inf
