"""Fair queueing: who waits is served in the order of what their kind has had, not of how much they ask.

Start-time fair queueing (P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996), with costs that are known only afterwards.  Each
key has a clock of its own, in seconds of service: whoever's clock is lowest is next, and service moves the clock on.
One that was away begins at the present time of the queue, so nobody saves up.  A key with a thousand items waiting is
served as often as one with a single item.  Within a key, first come, first served.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

LEAST = 0.0001
"""Seconds that any service counts for at least, and before it is known."""
REMEMBERED = 4096
"""Keys without items whose clocks are ahead of the queue's; the one that was idle longest is forgotten."""


@dataclass(eq=False)
class _Kind(Generic[ItemT]):
    """What is known of one key.  clock: seconds.  entry: the number of its place in the heap, 0 without one."""

    clock: float
    items: deque[ItemT] = field(default_factory=deque)
    serving: int = 0
    entry: int = 0


class FairQueue(Generic[ItemT]):
    """A queue of items under keys.  Not thread-safe: whoever owns it has a lock."""

    def __init__(self, limit: int = 0, unlimited: frozenset[bytes] = frozenset()) -> None:
        """Start empty.  limit: items of one key in service at once, 0 for any number; keys `unlimited` have none."""
        self._limit = limit
        self._unlimited = unlimited
        self._kinds: OrderedDict[bytes, _Kind[ItemT]] = OrderedDict()
        self._heap: list[tuple[float, int, bytes]] = []
        self._entries = itertools.count(1)
        self._now = 0.0
        self._length = 0
        self._mean = LEAST
        self._active: set[bytes] = set()

    def __len__(self) -> int:
        """Return how many items wait, those of keys at their limit among them."""
        return self._length

    @property
    def keys(self) -> int:
        """How many keys have items that wait or are in service."""
        return len(self._active)

    def waiting(self, key: bytes) -> int:
        """Return how many items of a key wait."""
        kind = self._kinds.get(key)
        return 0 if kind is None else len(kind.items)

    def wait_seconds(self, key: bytes, servers: int) -> float:
        """Estimate how long a further item of a key would wait, where so many are served at once."""
        return (self.waiting(key) + 1) * self._mean * max(1, self.keys) / servers

    def push(self, key: bytes, item: ItemT) -> None:
        """Add an item behind those of its key."""
        kind = self._kind(key)
        kind.items.append(item)
        self._active.add(key)
        self._length += 1
        self._place(key, kind)

    def pop(self) -> tuple[bytes, ItemT] | None:
        """Take out the next item, which is in service until `done`; None if none waits or all are at their limit."""
        while self._heap:
            clock, entry, key = heapq.heappop(self._heap)
            kind = self._kinds.get(key)
            if kind is None or kind.entry != entry:
                continue
            kind.entry = 0
            self._now = max(self._now, clock)
            item = kind.items.popleft()
            self._length -= 1
            kind.serving += 1
            kind.clock = max(kind.clock, self._now) + LEAST
            self._place(key, kind)
            return key, item
        return None

    def charge(self, key: bytes, seconds: float) -> None:
        """Move a key's clock on by what its service took; `pop` has counted LEAST of it."""
        kind = self._kind(key)
        kind.clock += max(0.0, seconds - LEAST)
        self._mean += (max(seconds, LEAST) - self._mean) / 16
        if kind.entry:
            kind.entry = 0
            self._place(key, kind)

    def done(self, key: bytes) -> bool:
        """End the service of one item; True if that lets another of its key be served."""
        kind = self._kind(key)
        kind.serving = max(0, kind.serving - 1)
        waits = bool(kind.items) and not kind.entry
        self._place(key, kind)
        self._settle(key, kind)
        self._forget_idle()
        return waits and bool(kind.entry)

    def remove(self, key: bytes, item: ItemT) -> bool:
        """Take an item out that has not been served; False if it is not there."""
        kind = self._kinds.get(key)
        if kind is None or item not in kind.items:
            return False
        kind.items.remove(item)
        self._length -= 1
        if not kind.items:
            kind.entry = 0
        self._settle(key, kind)
        return True

    def _settle(self, key: bytes, kind: _Kind[ItemT]) -> None:
        if not kind.items and not kind.serving:
            self._active.discard(key)

    def _kind(self, key: bytes) -> _Kind[ItemT]:
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(self._now)
        return kind

    def _place(self, key: bytes, kind: _Kind[ItemT]) -> None:
        """Put a key into the heap if it has an item that may be served."""
        is_free = not self._limit or kind.serving < self._limit or key in self._unlimited
        if kind.items and not kind.entry and is_free:
            kind.clock = max(kind.clock, self._now)
            kind.entry = next(self._entries)
            heapq.heappush(self._heap, (kind.clock, kind.entry, key))

    def _forget_idle(self) -> None:
        """Forget the keys that have nothing to be remembered for; looks at two, so it costs the same at any size."""
        for _ in range(min(2, len(self._kinds))):
            key, kind = next(iter(self._kinds.items()))
            is_idle = not kind.items and not kind.serving
            if is_idle and (kind.clock <= self._now or len(self._kinds) > REMEMBERED):
                del self._kinds[key]
            else:
                self._kinds.move_to_end(key)
