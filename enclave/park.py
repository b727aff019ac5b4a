"""A session that waits: what it hands on, and how it goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

Continuation = Callable[[], None]
"""What is left to do in a session when the work that it waited for is done."""


class Resume(Protocol):
    """Has a session that waits go on: called once, from any thread, with the rest of what was asked."""

    def __call__(self, continuation: Continuation, /) -> None:
        """Go on, in a thread that serves."""

    def working(self) -> AbstractContextManager[None]:
        """Note that this thread works for the session: if it gets stuck, the session's client is answered."""


@dataclass(frozen=True)
class Park:
    """The session waits: `start` hands the work on, with what has the session go on."""

    start: Callable[[Resume], None]
