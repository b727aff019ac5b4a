"""A lane: one session and what waits for it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from enclave.errors import EnclaveError
from enclave.park import Continuation, Park
from enclave.session import Session

PIECE = 256
"""Bytes that a waiting piece takes besides its own: the objects around it, with room to spare."""
END = b""
"""The body that ends a stream."""

Step = Callable[[], Park | None]


@dataclass(eq=False)
class Lane:
    """One session and what waits for it; all but `session` belongs to `Lanes` and its lock.

    waiting: bytes in the inbox, and PIECE for each piece.  charged: bytes that count against the bound over all lanes,
    those that the session has taken in for an unfinished message among them.  moved: when bytes came or a step was
    done last.  since: when its unfinished message began, or infinity.  half_open: its hello is whole, and its evidence
    is not sent.  serving: the key under which a thread has it, None while none has.  stalled: since when one of its
    streams waits for its client, or infinity.  expired: they have to end.
    """

    sid: int
    route: str
    session: Session
    moved: float
    inbox: deque[memoryview | bytes] = field(default_factory=deque)
    waiting: int = 0
    charged: int = 0
    busy: bool = False
    half_open: bool = False
    since: float = math.inf
    stalled: float = math.inf
    expired: bool = False
    continuation: Continuation | None = None
    failure: EnclaveError | None = None
    closing: bool = False
    serving: bytes | None = None


def kept(body: memoryview | bytes | bytearray) -> memoryview | bytes:
    """Return what to keep of a body: itself, or a copy where it would keep a larger read of the stream in memory."""
    if isinstance(body, memoryview) and 2 * body.nbytes >= memoryview(body.obj).nbytes:
        return body
    return bytes(body)
