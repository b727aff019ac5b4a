"""The session's state machines as tables, and the events that sessions give.

A move that the table does not have is refused: `session-state` if it is the caller's, `record-malformed` if it is
the peer's.  docs/wire.md prints the same tables, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from attestation.types.claims import EvidenceRecord
from attestation.wire.messages import MessageType
from attestation.wire.tickets import ServerTicket


class State(IntEnum):
    """Where a session stands.  DEAD is reached from every other state, by any error."""

    START = 0
    """The client has not sent its hello."""
    HELLO = 1
    """The server waits for the hello."""
    ANSWER = 2
    """The client waits for the server's answer."""
    EVIDENCE = 3
    """The keys are made; the evidence is due."""
    APPRAISAL = 4
    """The client's program appraises the evidence."""
    FIRST = 5
    """The evidence has passed; the client may still authenticate itself."""
    OPEN = 6
    """Requests and responses."""
    CLOSING = 7
    """This side has closed; the peer has not."""
    PEER_CLOSED = 8
    """The peer has closed; this side has not."""
    CLOSED = 9
    """Both have closed."""
    DEAD = 10
    """An error ended the session; its keys are gone."""


class Move(IntEnum):
    """What can happen to a session: a message sent (16 + type) or received (32 + type), or a step besides."""

    START = 0
    ANSWER = 1
    ANSWER_RESUMED = 2
    ACCEPT = 3
    HELLO = 4
    HELLO_RESUMED = 5
    SEND_EVIDENCE = 17
    SEND_AUTHENTICATE = 18
    SEND_REQUEST = 19
    SEND_RESPONSE = 20
    SEND_ERROR = 21
    SEND_CLOSE = 22
    RECEIVE_EVIDENCE = 33
    RECEIVE_AUTHENTICATE = 34
    RECEIVE_REQUEST = 35
    RECEIVE_RESPONSE = 36
    RECEIVE_ERROR = 37
    RECEIVE_CLOSE = 38


SEND = 16
RECEIVE = 32

Table: TypeAlias = Mapping[State, Mapping[int, State]]

CLIENT: Table = {
    State.START: {Move.START: State.ANSWER},
    State.ANSWER: {Move.ANSWER: State.EVIDENCE, Move.ANSWER_RESUMED: State.OPEN},
    State.EVIDENCE: {Move.RECEIVE_EVIDENCE: State.APPRAISAL},
    State.APPRAISAL: {
        Move.ACCEPT: State.FIRST,
        Move.SEND_CLOSE: State.CLOSING,
        Move.RECEIVE_CLOSE: State.PEER_CLOSED,
    },
    State.FIRST: {
        Move.SEND_AUTHENTICATE: State.OPEN,
        Move.SEND_REQUEST: State.OPEN,
        Move.SEND_CLOSE: State.CLOSING,
        Move.RECEIVE_CLOSE: State.PEER_CLOSED,
    },
    State.OPEN: {
        Move.SEND_REQUEST: State.OPEN,
        Move.SEND_CLOSE: State.CLOSING,
        Move.RECEIVE_RESPONSE: State.OPEN,
        Move.RECEIVE_ERROR: State.OPEN,
        Move.RECEIVE_CLOSE: State.PEER_CLOSED,
    },
    State.CLOSING: {
        Move.RECEIVE_RESPONSE: State.CLOSING,
        Move.RECEIVE_ERROR: State.CLOSING,
        Move.RECEIVE_CLOSE: State.CLOSED,
    },
    State.PEER_CLOSED: {Move.SEND_CLOSE: State.CLOSED},
    State.CLOSED: {},
    State.DEAD: {},
}

SERVER: Table = {
    State.HELLO: {Move.HELLO: State.EVIDENCE, Move.HELLO_RESUMED: State.OPEN},
    State.EVIDENCE: {Move.SEND_EVIDENCE: State.FIRST},
    State.FIRST: {
        Move.RECEIVE_AUTHENTICATE: State.OPEN,
        Move.RECEIVE_REQUEST: State.OPEN,
        Move.RECEIVE_CLOSE: State.PEER_CLOSED,
        Move.SEND_CLOSE: State.CLOSING,
    },
    State.OPEN: {
        Move.RECEIVE_REQUEST: State.OPEN,
        Move.RECEIVE_CLOSE: State.PEER_CLOSED,
        Move.SEND_RESPONSE: State.OPEN,
        Move.SEND_ERROR: State.OPEN,
        Move.SEND_CLOSE: State.CLOSING,
    },
    State.CLOSING: {
        Move.RECEIVE_AUTHENTICATE: State.CLOSING,
        Move.RECEIVE_REQUEST: State.CLOSING,
        Move.RECEIVE_CLOSE: State.CLOSED,
    },
    State.PEER_CLOSED: {
        Move.SEND_RESPONSE: State.PEER_CLOSED,
        Move.SEND_ERROR: State.PEER_CLOSED,
        Move.SEND_CLOSE: State.CLOSED,
    },
    State.CLOSED: {},
    State.DEAD: {},
}


@dataclass(frozen=True)
class Evidence:
    """Client: the enclave's evidence.  Appraise it against the handshake hash, then call `accept`, or drop all."""

    record: EvidenceRecord


@dataclass(frozen=True)
class Resumed:
    """Client: the peer holds the ticket's key, so it is the process that was attested when the ticket was issued."""


@dataclass(frozen=True)
class HandshakeDone:
    """Server: the keys are made.  Without a ticket, evidence over this handshake hash is due."""

    handshake_hash: bytes
    ticket: ServerTicket | None


class Message(NamedTuple):
    """A whole message.  `content` is a read-only view of memory that nothing else touches.

    A named tuple, because every request makes one.
    """

    type: MessageType
    content: memoryview


@dataclass(frozen=True)
class Closed:
    """The peer has ended its direction in order."""


ClientEvent: TypeAlias = Evidence | Resumed | Message | Closed
ServerEvent: TypeAlias = HandshakeDone | Message | Closed
