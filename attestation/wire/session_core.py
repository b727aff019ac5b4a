"""What both sides of an attested session share: the state table, the handshake's set-up, records, and dying."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from attestation.errors import WireCode, WireError
from attestation.wire.messages import MessageType
from attestation.wire.noise import HandshakeState, Keys, Suite
from attestation.wire.noise_primitives import Kem
from attestation.wire.records import RECORD_BOUNDS, Received, RecordReader, RecordWriter
from attestation.wire.session_states import RECEIVE, SEND, Move, State, Table
from attestation.wire.stream import Bounds, Buffer, PrefixedStream
from attestation.wire.tickets import ServerTicket, Ticket

Event = TypeVar("Event")

FULL = Suite.parse("Noise_NNhfs_25519+MLKEM768_AESGCM_SHA512")
RESUMED = Suite.parse("Noise_NNhfs+psk0_25519+MLKEM768_AESGCM_SHA512")
PROLOGUE = b"strongroom session v1"

HANDSHAKE_BOUNDS = Bounds(2, 4096, WireCode.HANDSHAKE_FAILED)
"""The longest hello of this version has 1,266 bytes; the rest lets a longer one of another be named as such."""


@dataclass(frozen=True)
class FixedKeys:
    """Ephemeral keys that are given instead of drawn, to replay recorded handshakes.  Never use them otherwise."""

    ephemeral: X25519PrivateKey
    kem: Kem


class SessionCore(ABC, Generic[Event]):
    """What both sides share: the table, the streams, the record layer, and dying."""

    _table: Table
    """The side's state machine."""

    def __init__(self, state: State, max_message: int, fixed: FixedKeys | None) -> None:
        """Wait for the handshake in the side's first state."""
        self.state = state
        self._stream = PrefixedStream(HANDSHAKE_BOUNDS)
        self._max_message = max_message
        self._fixed = fixed
        self._hash: bytes | None = None
        self._reader: RecordReader | None = None
        self._writer: RecordWriter | None = None

    @property
    def handshake_hash(self) -> bytes:
        """The 64 bytes h that name this session; raises WireError `session-state` before the handshake is done."""
        if self._hash is None:
            raise WireError(WireCode.SESSION_STATE, "the handshake has not finished")
        return self._hash

    @property
    def held(self) -> int:
        """Bytes kept of a message or a record that has not arrived completely."""
        return self._stream.held + (0 if self._reader is None else self._reader.held)

    def receive(self, data: Buffer) -> list[Event]:
        """Take bytes of the peer, cut anywhere, and return what they mean; raises WireError."""
        if self.state is State.DEAD:
            self._refuse("an error has ended the session")
        events: list[Event] = []
        try:
            for item in self._stream.items(data):
                event = self._greet(item) if self._reader is None else self._open(self._reader, item)
                if event is not None:
                    events.append(event)
        except BaseException:
            self.drop()
            raise
        return events

    def send(self, kind: MessageType, content: Buffer) -> bytes:
        """Return the records of one message; raises WireError `session-state` or `session-closed`."""
        return b"".join(self.send_records(kind, content))

    def send_records(self, kind: MessageType, content: Buffer) -> list[bytearray]:
        """Return the same record by record; one record with its prefix fits into one frame."""
        if kind is MessageType.CLOSE or kind is MessageType.EVIDENCE:
            self._refuse("closing and sending evidence have calls of their own")
        return self._send(kind, content)

    def close(self) -> bytes:
        """Return the bytes that end this direction; raises WireError `session-state` if that is impossible."""
        return b"".join(self._send(MessageType.CLOSE, b""))

    def end_of_stream(self) -> None:
        """State that the transport has ended; raises WireError `session-truncated` unless the peer had closed."""
        if self.state in {State.PEER_CLOSED, State.CLOSED} and not self._stream.held:
            return
        self.drop()
        raise WireError(WireCode.SESSION_TRUNCATED, "the stream ended without a close record")

    def drop(self) -> None:
        """End the session at once and drop its keys; only the handshake hash stays."""
        self.state = State.DEAD
        for direction in (self._reader, self._writer):
            if direction is not None:
                direction.drop()
        self._reader = self._writer = None
        self._stream.clear()

    @abstractmethod
    def _greet(self, item: memoryview) -> Event | None:
        """Take the peer's hello or answer."""

    @abstractmethod
    def _event(self, message: Received) -> Event:
        """Return the event of a message that the table allows."""

    def _open(self, reader: RecordReader, item: memoryview) -> Event | None:
        message = reader.open(item)
        if message is None:
            return None
        after = self._table[self.state].get(RECEIVE + message.type)
        if after is None:
            raise WireError(
                WireCode.RECORD_MALFORMED, "a message of this type does not come here", found=message.type.name
            )
        self.state = after
        return self._event(message)

    def _send(self, kind: MessageType, content: Buffer) -> list[bytearray]:
        self._move(SEND + kind)
        if self._writer is None:
            self._refuse("there is no key to send with")
        try:
            return self._writer.seal(kind, content)
        except BaseException:
            self.drop()
            raise

    def _move(self, move: int) -> None:
        """Make a move of the caller's; one that the table does not have ends the session."""
        after = self._table[self.state].get(move)
        if after is None:
            closed = self.state in {State.PEER_CLOSED, State.CLOSED}
            self._refuse(
                f"{Move(move).name} is impossible in state {self.state.name}",
                WireCode.SESSION_CLOSED if closed else WireCode.SESSION_STATE,
            )
        self.state = after

    def _refuse(self, message: str, code: WireCode = WireCode.SESSION_STATE) -> NoReturn:
        self.drop()
        raise WireError(code, message)

    def _establish(self, handshake: HandshakeState, *, initiator: bool) -> None:
        """Keep the handshake hash and go over to records."""
        self._hash = handshake.handshake_hash
        first, second = handshake.split()
        mine, theirs = (first, second) if initiator else (second, first)
        self._writer = RecordWriter(mine.take_key())
        self._reader = RecordReader(theirs.take_key(), self._max_message)
        self._stream.bounds = RECORD_BOUNDS

    def _begin(self, ticket: Ticket | ServerTicket | None, *, initiator: bool) -> HandshakeState:
        """Return a fresh handshake, full or resumed."""
        keys = Keys(psks=() if ticket is None else (ticket.psk,))
        kem = None
        if self._fixed is not None:
            keys.ephemeral, kem = self._fixed.ephemeral, self._fixed.kem
        prologue = PROLOGUE if ticket is None else PROLOGUE + ticket.id
        suite = FULL if ticket is None else RESUMED
        return HandshakeState(suite, keys, initiator=initiator, prologue=prologue, kem=kem)
