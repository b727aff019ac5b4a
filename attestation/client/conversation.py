"""One client's conversation with an enclave, without any I/O.

    bytes from the socket --receive--> events          requests --request--> bytes for the socket

The order is enforced: `start`, then the event `Attest` whose evidence the caller appraises, then `accept`, and only
then `request`.  Nothing of the caller's can be encoded before `accept`.  A resumed conversation skips to `Ready`.
Any exception but StrongroomError is a bug; after an error the conversation is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from attestation.client.errors import ClientCode, ClientError
from attestation.client.refusals import RemoteError, check_texts, closed, host_error, remote_error
from attestation.errors import WireError
from attestation.types import ClientAuthentication, EvidenceRecord
from attestation.wire.frames import ROUTE_ERROR, Frame, FrameDecoder, encode_frame
from attestation.wire.messages import Body, MessageType, decode_body, encode_body
from attestation.wire.session import ClientSession, Closed, Evidence, Message, Resumed
from attestation.wire.stream import Buffer
from attestation.wire.tickets import Ticket
from manifests import canonical
from manifests.errors import StrongroomError
from manifests.signing import Signer

SID = 1
"""A connection of ours carries one session; the host binds the number to the connection."""


@dataclass(frozen=True)
class Attest:
    """The enclave has sent its evidence: appraise it, then call `accept`, or give the conversation up."""

    record: EvidenceRecord


@dataclass(frozen=True)
class Ready:
    """A ticket was taken: this is the enclave process that was attested when the ticket was issued."""


@dataclass(frozen=True)
class Answer:
    """The response to the request numbered `id`, or one part of it: `final` says that no more comes."""

    id: int
    body: Body
    final: bool = True


@dataclass(frozen=True)
class Refused:
    """The enclave refused the request numbered `id` (0: it could not tell which); the conversation goes on."""

    id: int
    error: RemoteError


@dataclass(frozen=True)
class Ended:
    """The enclave has closed its direction in order."""


Event = Attest | Ready | Answer | Refused | Ended


@dataclass(frozen=True)
class Identity:
    """Who the client says it is: its key, and the credential that an owner or broker signed for it."""

    key: Signer
    credential: bytes = b""


@dataclass
class _Parts:
    """An answer that comes in parts: the number of the next one, and how many may come before more are asked for."""

    credit: int
    next: int = 0

    def place(self, header: dict[str, Any]) -> bool:
        """Take the fields of a part's place off its header; return whether it is the last.  Raises ClientError."""
        part, final = header.pop("part", None), header.pop("final", None)
        if (part, final) == (None, None) and self.next == 0:
            return True
        if type(part) is not int or part != self.next or type(final) is not bool:
            raise ClientError(ClientCode.RESPONSE_UNEXPECTED, "a part of an answer is not the next one")
        if self.credit <= 0:
            raise ClientError(ClientCode.RESPONSE_UNEXPECTED, "more parts come than were asked for")
        self.next, self.credit = part + 1, self.credit - 1
        return final


class Conversation:
    """The protocol of one connection; see the module's text for the order of calls."""

    def __init__(
        self,
        *,
        route: str,
        identity: Identity | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        """Prepare a conversation; with a ticket it resumes one, under the identity that the ticket carries."""
        self._session = ClientSession(ticket=ticket)
        self._decoder = FrameDecoder()
        self._route = route
        self._identity = identity
        self._record: EvidenceRecord | None = None
        self._last_id = 0
        self._waiting: set[int] = set()
        self._parts: dict[int, _Parts] = {}
        self._over = False
        self._authenticated = identity is None

    @property
    def handshake_hash(self) -> bytes:
        """The 64 bytes h that the quote, a grant and the client's signature are bound to."""
        return self._session.handshake_hash

    @property
    def record(self) -> EvidenceRecord | None:
        """The evidence that was sent in this conversation; None before that, and where it was resumed."""
        return self._record

    @property
    def last_id(self) -> int:
        """The number of the newest request; 0 before the first."""
        return self._last_id

    @property
    def over(self) -> bool:
        """Whether an error or a close has ended the conversation."""
        return self._over

    def start(self) -> bytes:
        """Return the first bytes to send."""
        return self._frame(self._session.start())

    def accept(self) -> None:
        """State that the evidence of the `Attest` event was appraised and is accepted."""
        self._session.accept()

    def request(
        self,
        header: Mapping[str, canonical.Value],
        tensors: Mapping[str, npt.NDArray[Any]] | None = None,
        *,
        window: int | None = None,
    ) -> tuple[int, bytes]:
        """Return the number of a request and the bytes to send for it.

        The first request is preceded by the client's authentication, where it has an identity.  window: the answer
        may come in parts, and so many of them before `more`.
        """
        if self._over:
            raise closed()
        check_texts(tensors or {})
        number = self._last_id + 1
        content = encode_body({**header, "id": number}, tensors)
        sent = self._authentication() + self._message_frames(MessageType.REQUEST, content)
        self._last_id = number
        self._waiting.add(number)
        if window is not None:
            self._parts[number] = _Parts(window)
        return number, sent

    def more(self, number: int, parts: int) -> bytes:
        """Return the bytes that ask for further parts of an answer; nothing if it has ended."""
        if number not in self._parts:
            return b""
        self._parts[number].credit += parts
        return self._note({"op": "continue", "stream": number, "parts": parts})

    def cancel(self, number: int) -> bytes:
        """Return the bytes that give up an answer, whose end then comes; nothing if it has ended."""
        return self._note({"op": "cancel", "stream": number}) if number in self._parts else b""

    @property
    def streams(self) -> frozenset[int]:
        """The numbers of requests whose answers come in parts and have not ended."""
        return frozenset(self._parts)

    def _note(self, header: dict[str, canonical.Value]) -> bytes:
        """Encode a request that is not answered."""
        if self._over:
            raise closed()
        self._last_id += 1
        return self._message_frames(MessageType.REQUEST, encode_body({**header, "id": self._last_id}))

    def _authentication(self) -> bytes:
        if self._authenticated or self._identity is None:
            return b""
        claims = b"" if self._record is None else self._record.claims
        record = ClientAuthentication.sign(self._identity.key, self._identity.credential, self.handshake_hash, claims)
        self._authenticated = True
        return self._message_frames(MessageType.AUTHENTICATE, record.encode())

    def close(self) -> bytes:
        """Return the bytes that end our direction in order; nothing if an error has ended the conversation."""
        if self._over:
            return b""
        self._over = True
        try:
            return self._frame(self._session.close()) + self._end()
        except WireError:  # the handshake is not finished: there is no key to close with
            return self._end()

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the socket and return what they mean; raises StrongroomError."""
        try:
            return [event for frame in self._decoder.feed(data) for event in self._take(frame)]
        except StrongroomError:
            self._over = True
            raise

    def abandon(self) -> None:
        """State that the connection is gone, whatever the reason; the keys go, only the handshake hash stays."""
        self._over = True
        self._session.drop()

    def end_of_stream(self) -> None:
        """State that the socket reached its end; raises WireError `session-truncated` unless closed in order."""
        self._over = True
        self._session.end_of_stream()

    def _message_frames(self, kind: MessageType, content: bytes) -> bytes:
        return b"".join(self._frame(record) for record in self._session.send_records(kind, content))

    def _frame(self, data: Buffer) -> bytes:
        return encode_frame(Frame(self._route, SID, data))

    def _end(self) -> bytes:
        return self._frame(b"")

    def _take(self, frame: Frame) -> list[Event]:
        if frame.route == ROUTE_ERROR:
            raise host_error(frame.body)
        if frame.route != self._route or frame.sid != SID:
            raise ClientError(ClientCode.FRAME_UNEXPECTED, "the host sent a frame of another session")
        if not frame.body:
            self.end_of_stream()
            return []
        return [self._event(event) for event in self._session.receive(frame.body)]

    def _event(self, event: Evidence | Resumed | Message | Closed) -> Event:
        match event:
            case Evidence(record=record):
                self._record = record
                return Attest(record)
            case Resumed():
                self._authenticated = True  # the ticket carries the identity it was issued to
                return Ready()
            case Closed():
                self._over = True
                return Ended()
        return self._message(event.type, event.content)

    def _message(self, kind: MessageType, content: memoryview) -> Event:
        body = decode_body(content)
        number = body.header.pop("id", None)
        if kind is MessageType.ERROR:
            return self._refused(number, body.header)
        if kind is not MessageType.RESPONSE or type(number) is not int or number not in self._waiting:
            raise ClientError(ClientCode.RESPONSE_UNEXPECTED, "the enclave answered a request that was not made")
        parts = self._parts.get(number)
        final = True if parts is None else parts.place(body.header)
        if final:
            self._forget(number)
        return Answer(number, body, final)

    def _forget(self, number: int) -> None:
        self._waiting.discard(number)
        self._parts.pop(number, None)

    def _refused(self, number: object, header: dict[str, Any]) -> Refused:
        if type(number) is not int or (number and number not in self._waiting):
            raise ClientError(ClientCode.RESPONSE_UNEXPECTED, "the enclave refused a request that was not made")
        self._forget(number)
        return Refused(number, remote_error(header))
