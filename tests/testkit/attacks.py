"""What a hostile host does to one session's traffic, each attack with one thing in mind.

Items of a direction are numbered from 0: the hello and its answer, then sealed records.  Towards the client, record
1 is the evidence and record 2 the first response; towards the enclave, record 1 is the first request.
"""

from __future__ import annotations

import threading
import time

from attestation.errors import WireError
from attestation.types import EvidenceRecord
from attestation.wire.session import ClientSession, Evidence, ServerSession
from tests.testkit.relay import Attack

HELLO, FIRST_REQUEST = 0, 1
ANSWER, EVIDENCE, FIRST_RESPONSE = 0, 1, 2

__all__ = ["ANSWER", "EVIDENCE", "FIRST_REQUEST", "FIRST_RESPONSE", "HELLO"]


def flipped(item: bytes, byte: int = -1) -> bytes:
    """Flip one bit of an item, by default in its last byte."""
    changed = bytearray(item)
    changed[byte] ^= 1
    return bytes(changed)


class At(Attack):
    """Acts on the item of one number in one direction, and passes all else on."""

    def __init__(self, index: int, *, towards: str) -> None:
        super().__init__()
        self._index, self._towards = index, towards

    def act(self, item: bytes) -> list[bytes]:
        raise AssertionError("an attack says what it does")

    def to_enclave(self, item: bytes, index: int) -> list[bytes]:
        return self.act(item) if self._towards == "enclave" and index == self._index else [item]

    def to_client(self, item: bytes, index: int) -> list[bytes]:
        return self.act(item) if self._towards == "client" and index == self._index else [item]


class Drop(At):
    """The item never arrives."""

    def act(self, item: bytes) -> list[bytes]:
        return []


class Delay(At):
    """The item arrives late, but whole."""

    seconds = 0.3

    def act(self, item: bytes) -> list[bytes]:
        time.sleep(self.seconds)
        return [item]


class Repeat(At):
    """The item arrives twice."""

    def act(self, item: bytes) -> list[bytes]:
        return [item, item]


class Flip(At):
    """One bit of the item is changed."""

    def act(self, item: bytes) -> list[bytes]:
        return [flipped(item)]


class Lengthen(At):
    """The item claims four gigabytes."""

    def act(self, item: bytes) -> list[bytes]:
        return [b"\xff\xff\xff\xff" + item[4:]]


class Reorder(At):
    """The item arrives after the one that follows it."""

    def __init__(self, index: int, *, towards: str) -> None:
        super().__init__(index, towards=towards)
        self._held: bytes | None = None

    def _swap(self, item: bytes, index: int, towards: str) -> list[bytes]:
        if towards != self._towards:
            return [item]
        if index == self._index:
            self._held = item
            return []
        if index == self._index + 1 and self._held is not None:
            return [item, self._held]
        return [item]

    def to_enclave(self, item: bytes, index: int) -> list[bytes]:
        return self._swap(item, index, "enclave")

    def to_client(self, item: bytes, index: int) -> list[bytes]:
        return self._swap(item, index, "client")


class Truncate(At):
    """The item arrives but for its end, and then the stream ends, as an orderly end would."""

    def __init__(self, index: int, *, towards: str) -> None:
        super().__init__(index, towards=towards)
        self._cut = False

    def act(self, item: bytes) -> list[bytes]:
        self._cut = True
        return [item[:-5], b""]


class EndEarly(At):
    """The stream ends before the item, without a close record."""

    def act(self, item: bytes) -> list[bytes]:
        return [b""]


class Reflect(Attack):
    """The client's own record comes back to it."""

    def reply(self, item: bytes, index: int) -> list[bytes]:
        return [item] if index == FIRST_REQUEST else []

    def to_enclave(self, item: bytes, index: int) -> list[bytes]:
        return [] if index == FIRST_REQUEST else [item]


class Splice(At):
    """The item is replaced by the one of the same number from another session."""

    def __init__(self, index: int, *, towards: str, other: bytes) -> None:
        super().__init__(index, towards=towards)
        self._other = other

    def act(self, item: bytes) -> list[bytes]:
        return [self._other]


class ReplaySession(Attack):
    """The client meets the recorded answers of an earlier session instead of the enclave."""

    def __init__(self, received: list[bytes]) -> None:
        super().__init__()
        self._received = received

    def to_enclave(self, item: bytes, index: int) -> list[bytes]:
        return []

    def reply(self, item: bytes, index: int) -> list[bytes]:
        return self._received if index == HELLO else []


class ManInTheMiddle(Attack):
    """The host ends the client's session itself and shows it the genuine evidence of a session of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._outer = ServerSession()
        self._inner = ClientSession()
        self._genuine: EvidenceRecord | None = None
        self._ready = threading.Event()
        self._pending: list[bytes] = []
        self.read: list[bytes] = []

    def to_enclave(self, item: bytes, index: int) -> list[bytes]:
        """Send the host's own hello to the enclave; the client's goes no further."""
        try:
            self.read += [bytes(item) for _ in self._outer.receive(item) if index > HELLO]
        except WireError:
            return []
        return [self._inner.start()] if index == HELLO else []

    def to_client(self, item: bytes, index: int) -> list[bytes]:
        """Pass the genuine evidence on, under the keys of the host's session with the client."""
        for event in self._inner.receive(item):
            if isinstance(event, Evidence):
                return [self._outer.send_evidence(event.record)]
        return []


class Starve(Attack):
    """The broker's first requests pass; every later one, and so every heartbeat, is dropped."""

    def __init__(self, requests: int) -> None:
        super().__init__()
        self._requests = requests
        self.dropped = 0

    def to_enclave(self, item: bytes, index: int) -> list[bytes]:
        if index <= self._requests:
            return [item]
        self.dropped += 1
        return []
