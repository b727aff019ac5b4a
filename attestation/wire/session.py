"""The attested session, without I/O: bytes in, events out; calls in, bytes out.

    hello   = u32 length || u8 version || u8 mode || [ticket id, 16 bytes, if mode is 1] || Noise message 1
    answer  = u32 length || u8 version || u8 mode || Noise message 2
    then records in both directions (attestation/wire/records.py)

Mode 0 is `Noise_NNhfs_25519+MLKEM768_AESGCM_SHA512`, mode 1 the same with psk0.  docs/wire.md specifies it all.
Any exception but WireError is a bug.  After any error the session is dead and its keys are dropped.
"""

from __future__ import annotations

import struct

from attestation.errors import WireCode, WireError
from attestation.types.claims import MAX_EVIDENCE, EvidenceRecord
from attestation.wire.messages import MessageType
from attestation.wire.noise import HandshakeState
from attestation.wire.records import DEFAULT_MAX_MESSAGE, Received
from attestation.wire.session_core import FixedKeys, SessionCore
from attestation.wire.session_states import (
    CLIENT,
    SERVER,
    ClientEvent,
    Closed,
    Evidence,
    HandshakeDone,
    Message,
    Move,
    Resumed,
    ServerEvent,
    State,
)
from attestation.wire.tickets import TICKET_ID_SIZE, ServerTicket, Ticket, TicketLookup
from manifests.errors import ManifestCode, ManifestError

__all__ = [
    "ClientSession",
    "Closed",
    "Evidence",
    "FixedKeys",
    "HandshakeDone",
    "Message",
    "Resumed",
    "ServerSession",
]

VERSION = 1
MODE_FULL = 0
MODE_RESUMED = 1


class ClientSession(SessionCore[ClientEvent]):
    """A relying party's side: start, receive evidence, accept it, then send and receive."""

    _table = CLIENT

    def __init__(
        self,
        *,
        ticket: Ticket | None = None,
        max_message: int = DEFAULT_MAX_MESSAGE,
        dangerous_fixed_keys: FixedKeys | None = None,
    ) -> None:
        """Prepare a session, resumed if a ticket is given.  `max_message` bounds the content of what is received."""
        super().__init__(State.START, max_message, dangerous_fixed_keys)
        self._ticket = ticket
        self._handshake: HandshakeState | None = None

    @property
    def resumed(self) -> bool:
        """Whether this session stands on a ticket instead of evidence."""
        return self._ticket is not None

    def start(self) -> bytes:
        """Return the hello."""
        self._move(Move.START)
        self._handshake = self._begin(self._ticket, initiator=True)
        ticket_id = b"" if self._ticket is None else self._ticket.id
        return _prefixed(bytes((VERSION, self._mode)) + ticket_id + self._handshake.write_message())

    def accept(self) -> None:
        """State that the evidence was appraised and is accepted; only now anything can be sent."""
        self._move(Move.ACCEPT)
        if self._reader is not None:
            self._reader.max_message = self._max_message

    def drop(self) -> None:
        """End the session at once and drop its keys; only the handshake hash stays."""
        self._handshake = None
        super().drop()

    @property
    def _mode(self) -> int:
        return MODE_FULL if self._ticket is None else MODE_RESUMED

    def _greet(self, item: memoryview) -> ClientEvent | None:
        """Take the server's answer."""
        handshake, self._handshake = self._handshake, None
        if handshake is None:
            self._refuse("an answer before the hello")
        _check_version(item[0])
        if item[1] != self._mode:
            raise _failed("the answer is to another kind of hello")
        if handshake.read_message(bytes(item[2:])):
            raise _failed("the answer carries a payload")
        self._establish(handshake, initiator=True)
        if self._ticket is not None:
            self._move(Move.ANSWER_RESUMED)
            return Resumed()
        self._move(Move.ANSWER)
        if self._reader is not None:
            self._reader.max_message = MAX_EVIDENCE
        return None

    def _event(self, message: Received) -> ClientEvent:
        if message.type is MessageType.CLOSE:
            return _closed(message)
        if message.type is not MessageType.EVIDENCE:
            return Message(*message)
        try:
            return Evidence(EvidenceRecord.decode(bytes(message.content)))
        except ManifestError as error:
            if error.code is ManifestCode.VERSION_UNSUPPORTED:
                raise WireError(
                    error.code, error.message, expected=error.expected, found=error.found, remedy=error.remedy
                ) from None
            raise WireError(WireCode.MESSAGE_MALFORMED, f"the evidence record is malformed: {error.message}") from None


class ServerSession(SessionCore[ServerEvent]):
    """An enclave's side: receive a hello, send evidence unless it was resumed, then receive and send."""

    _table = SERVER

    def __init__(
        self,
        *,
        tickets: TicketLookup | None = None,
        max_message: int = DEFAULT_MAX_MESSAGE,
        dangerous_fixed_keys: FixedKeys | None = None,
    ) -> None:
        """Wait for a hello.  Without `tickets` every ticket is refused; `max_message` bounds received content."""
        super().__init__(State.HELLO, max_message, dangerous_fixed_keys)
        self._tickets = tickets
        self._outgoing = b""
        self.ticket: ServerTicket | None = None

    @property
    def resumed(self) -> bool:
        """Whether the client came with a ticket; `ticket` then says whose it is."""
        return self.ticket is not None

    def data_to_send(self) -> bytes:
        """Return the handshake's answer once; it should leave before the evidence is ready."""
        data, self._outgoing = self._outgoing, b""
        return data

    def send_evidence(self, record: EvidenceRecord) -> bytes:
        """Return the evidence record, behind the answer if that has not left yet."""
        return self.data_to_send() + b"".join(self._send(MessageType.EVIDENCE, record.encode()))

    def drop(self) -> None:
        """End the session at once and drop its keys; only the handshake hash stays."""
        self._outgoing = b""
        super().drop()

    def _greet(self, item: memoryview) -> ServerEvent:
        """Take the client's hello."""
        _check_version(item[0])
        ticket, message = self._redeem(item)
        handshake = self._begin(ticket, initiator=False)
        if handshake.read_message(message):
            raise _failed("the hello carries a payload")
        self._outgoing = _prefixed(bytes(item[:2]) + handshake.write_message())
        self._establish(handshake, initiator=False)
        self._move(Move.HELLO if ticket is None else Move.HELLO_RESUMED)
        self.ticket = ticket
        return HandshakeDone(self.handshake_hash, ticket)

    def _redeem(self, item: memoryview) -> tuple[ServerTicket | None, bytes]:
        """Return the ticket that a hello names, spent by now, and its Noise message."""
        if item[1] == MODE_FULL:
            return None, bytes(item[2:])
        end = 2 + TICKET_ID_SIZE
        if item[1] != MODE_RESUMED or len(item) < end:
            raise _failed("the hello is of no known kind")
        ticket = None if self._tickets is None else self._tickets.take(bytes(item[2:end]))
        if ticket is None:
            raise WireError(
                WireCode.TICKET_REFUSED, "the ticket is unknown, used or dropped", remedy="connect without a ticket"
            )
        return ticket, bytes(item[end:])

    def _event(self, message: Received) -> ServerEvent:
        return _closed(message) if message.type is MessageType.CLOSE else Message(*message)


def _closed(message: Received) -> Closed:
    if len(message.content):
        raise WireError(WireCode.RECORD_MALFORMED, "a close record has content")
    return Closed()


def _check_version(version: int) -> None:
    if version != VERSION:
        raise WireError(
            WireCode.HANDSHAKE_VERSION,
            "the peer speaks another version of the session",
            expected=VERSION,
            found=version,
            remedy="use a client and an enclave of the same release",
        )


def _failed(reason: str) -> WireError:
    return WireError(WireCode.HANDSHAKE_FAILED, f"the handshake is refused: {reason}")


def _prefixed(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message
