"""One client's session: the handshake, its evidence, and the requests inside.

Sans-IO: bytes in, bytes out, and now and then a `Park`: work that another thread does while this session waits.
No exception leaves a session: what a peer may cause becomes an ERROR message or the session's end, and what is a
defect of ours ends the session and nothing else.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial

from attestation.binding import session_leaf
from attestation.errors import WireCode, WireError
from attestation.types import EvidenceRecord
from attestation.wire.messages import MAX_HEADER, Body, MessageType, decode_body, encode_body
from attestation.wire.session import Closed, HandshakeDone, Message, ServerSession
from attestation.wire.session_states import ServerEvent, State
from enclave.errors import EnclaveCode, EnclaveError
from enclave.gate import Turns
from enclave.identity import Identity, authenticate
from enclave.log import Event, log
from enclave.operations import Caller, Deferred, Operations, Queued, Reply
from enclave.park import Continuation, Park, Resume
from enclave.provision import Job
from enclave.quoter import Quoted
from enclave.service import Service
from enclave.streams import Stream
from enclave.worker import Worker
from manifests import canonical, fields
from manifests.errors import ErrorCode, StrongroomError

HELLO = b"handshakes"
CONTROL = b"brokers"
"""Kinds of sessions for whose turns no client's flood matters; no key of a client is as short."""
MAX_ID = (1 << 32) - 1
MAX_CONTAINERS = 4096
"""Maps and lists in a request's header: two for each of 1,024 tensors, and as many again."""


class Session:
    """State of one session.  One thread at a time may call it; the server sees to that."""

    def __init__(self, service: Service) -> None:
        """Wait for a hello."""
        self._service = service
        self._operations = Operations(service)
        self._wire = ServerSession(tickets=service.tickets, max_message=service.settings.limits.max_message)
        self._events: deque[ServerEvent] = deque()
        self._output: list[bytes] = []
        self._claims = b""
        self._caller = Caller(began=service.present())
        self._is_open = False
        self._answering = 0
        self._turn: Turns | None = None
        self.over = False

    @property
    def attested(self) -> bool:
        """Whether the handshake and its evidence are done."""
        return self._is_open

    @property
    def greeted(self) -> bool:
        """Whether the client's whole hello has come."""
        return self._wire.state is not State.HELLO

    @property
    def streaming(self) -> bool:
        """Whether `step` has a part of an answer to make."""
        return not self.over and self._caller.streams.ready

    @property
    def stalled(self) -> float:
        """Since when, by the monotonic clock, a stream waits for the client to take its parts; infinity if none."""
        return self._caller.streams.rest_since

    @property
    def held(self) -> int:
        """Bytes kept of a message that has not arrived completely."""
        return self._wire.held

    def receive(self, data: bytes | memoryview) -> Park | None:
        """Take bytes of the client."""
        try:
            self._events.extend(self._wire.receive(data))
        except WireError as error:
            self._end(error.code)
            return None
        return self._advance()

    def proceed(self, continuation: Continuation) -> Park | None:
        """Go on after a Park."""
        self._guarded(0, continuation)
        return self._advance()

    def step(self) -> Park | None:
        """Make the next part of an answer, of the stream whose turn it is; only while `streaming`."""
        if self._check_revoked():
            number = self._answering = self._caller.streams.turn()
            self._guarded(number, lambda: self._send_part(number))
        return self._advance()

    def expire_streams(self, since: float) -> Park | None:
        """Have the streams end that have waited for their client since then or longer."""
        self._caller.streams.expire(since)
        return None

    def end_of_stream(self) -> None:
        """Take note that the client's stream has ended."""
        try:
            self._wire.end_of_stream()
        except WireError as error:
            self._end(error.code)
        else:
            self._end(None)

    def abort(self, error: StrongroomError) -> None:
        """End the session with a word to the client, where there is a key to say it under."""
        if self._is_open and not self.over:
            if self._wire.state is not State.FIRST:  # before its first message a client may only be closed
                self._refuse(0, error)
            self._close()
        self._end(error.code)

    def give_up(self, error: StrongroomError) -> None:
        """Refuse the request that is being answered, and end the session: the thread that answers it is stuck.

        The one call that another thread makes while one is inside: that one holds nothing, and comes back with
        AbandonedError, which passes through here untouched.
        """
        self._refuse(self._answering, error)
        self._close()
        self._end(error.code)

    @property
    def kind(self) -> bytes:
        """With whom it shares its turns: the client's key, or b"", HELLO or CONTROL, each for all of theirs."""
        if not self._is_open:
            return HELLO
        if self._caller.control.in_control:
            return CONTROL
        return self._caller.client

    @property
    def in_control(self) -> bool:
        """Whether a broker's message was accepted in it."""
        return self._caller.control.in_control

    def close(self) -> None:
        """End the session in order: the enclave is being drained, or the client has closed."""
        if self._is_open and not self.over:
            stopping = EnclaveError(EnclaveCode.STOPPING, "the session ends before the answer's last part")
            for number in self._caller.streams.end_all():
                self._refuse(number, stopping)
            self._close()
        self._end(None)

    def take_output(self) -> bytes:
        """Return the bytes that are to be sent."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    # ------------------------------------------------------------------------------------ events

    def _advance(self) -> Park | None:
        """Handle events until one of them has to wait."""
        while self._events and not self.over:
            park = self._handle(self._events.popleft())
            if park is not None:
                return park
        return None

    def _handle(self, event: ServerEvent) -> Park | None:
        match event:
            case HandshakeDone():
                return self._attest(event)
            case Closed():
                self.close()
            case Message(MessageType.AUTHENTICATE, content):
                self._authenticate(bytes(content))
            case Message(MessageType.REQUEST, content):
                return self._request(content)
            case _:
                self._end(WireCode.RECORD_MALFORMED)
        return None

    def _attest(self, done: HandshakeDone) -> Park | None:
        self._output.append(self._wire.data_to_send())
        self._caller.control.handshake_hash = done.handshake_hash
        if done.ticket is not None:
            self._caller.resumed = True
            self._know(Identity.decode(done.ticket.identity))
            self._caller.evidence_digest = done.ticket.evidence_digest
            self._caller.origin = done.ticket.origin
            self._is_open = True
            return None
        self._caller.origin = done.handshake_hash
        self._claims = self._service.claims()
        leaf = session_leaf(done.handshake_hash, self._claims)
        return Park(partial(self._ask_quote, leaf))

    def _ask_quote(self, leaf: bytes, resume: Resume) -> None:
        try:
            self._service.quoter.submit(leaf, lambda result: resume(partial(self._send_evidence, result)))
        except EnclaveError as error:
            resume(partial(self._end, error.code))

    def _send_evidence(self, result: Quoted | StrongroomError) -> None:
        if isinstance(result, StrongroomError):
            self._end(result.code)
            return
        service = self._service
        record = EvidenceRecord(self._claims, result.quote, result.proof, service.hint, service.devices)
        self._output.append(self._wire.send_evidence(record))
        self._caller.evidence_digest = record.digest()
        self._is_open = True

    def _authenticate(self, content: bytes) -> None:
        """Name the client; one that cannot prove what it says is not served at all."""
        try:
            if self._caller.resumed:
                raise EnclaveError(EnclaveCode.SESSION_UNATTESTED, "a resumed session has the identity of its ticket")
            self._know(authenticate(content, self._wire.handshake_hash, self._claims, self._service.owners))
        except StrongroomError as error:
            self.abort(error)

    def _know(self, identity: Identity | None) -> None:
        """Take note of the client; what its owner revokes concerns its session, whatever models it uses."""
        self._caller.identity = identity
        if identity is not None:
            self._caller.touched.add(identity.owner)

    # ------------------------------------------------------------------------------------ requests

    def _request(self, content: memoryview) -> Park | None:
        return self._guarded(0, lambda: self._decode(content)) if self._check_revoked() else None

    def _check_revoked(self) -> bool:
        """End a session that a revocation concerns; return whether it goes on."""
        try:
            self._operations.check_revoked(self._caller)
        except EnclaveError as error:
            self.abort(error)
        return not self.over

    def _decode(self, content: memoryview) -> Park | None:
        body = decode_body(content, max_containers=MAX_CONTAINERS)
        number = fields.number(body.header.get("id"), "id", 1, MAX_ID)
        return self._guarded(number, lambda: self._answer(number, body))

    def _answer(self, number: int, body: Body) -> Park | None:
        self._service.requests += 1
        self._answering = number
        self._caller.streams.check_number(number)
        outcome = self._operations.perform(self._caller, body)
        if outcome is None:
            return None
        if isinstance(outcome, Stream):
            self._caller.streams.begin(number, outcome)
            return None
        if isinstance(outcome, Reply):
            self._respond(number, outcome)
            return None
        if isinstance(outcome, Queued):
            self._turn = outcome.turn
            if outcome.turn.take():
                self._run_turn(number, outcome)
                return None
            return Park(partial(self._ask_turn, number, outcome))
        if isinstance(outcome, Deferred):
            return Park(partial(self._ask, self._service.crew(), number, outcome.work))
        return Park(partial(self._ask, self._service.worker, number, partial(_reply_of, outcome)))

    def _run_turn(self, number: int, queued: Queued) -> None:
        """Answer a request whose turn has come, and let the next one have it."""
        try:
            self._respond(number, queued.run())
        finally:
            queued.turn.end()

    def _ask_turn(self, number: int, queued: Queued, resume: Resume) -> None:
        try:
            queued.turn.wait(lambda: resume(partial(self._take_turn, number, queued)))
        except EnclaveError as error:
            resume(partial(self._refuse, number, error))

    def _take_turn(self, number: int, queued: Queued) -> None:
        if not queued.turn.over:
            self._guarded(number, partial(self._run_turn, number, queued))

    def _ask(self, worker: Worker, number: int, work: Callable[[], Reply], resume: Resume) -> None:
        try:
            worker.submit(partial(self._work, number, work, resume))
        except EnclaveError as error:
            resume(partial(self._refuse, number, error))

    def _work(self, number: int, work: Callable[[], Reply], resume: Resume) -> None:
        """Do the work, in a thread of the worker's; one that comes back with AbandonedError has nothing to say."""
        with resume.working():
            continuation = self._done(number, work)
        resume(continuation)

    def _done(self, number: int, work: Callable[[], Reply]) -> Continuation:
        """Do the work, and return what the session is to say of it."""
        try:
            return partial(self._respond, number, work())
        except StrongroomError as error:
            return partial(self._refuse, number, error)
        except Exception as error:  # noqa: BLE001 - a defect ends this session, not the process
            return partial(self._defect, number, type(error))

    # ------------------------------------------------------------------------------------ answers

    def _respond(self, number: int, reply: Reply) -> None:
        try:
            content = encode_body({**reply.header, "id": number}, reply.tensors)
            if int.from_bytes(content[:4], "big") > MAX_HEADER:
                raise EnclaveError(EnclaveCode.RESPONSE_TOO_LARGE, "the answer's header would be too long")
        except StrongroomError:
            if reply.held is not None:
                reply.held.undo()
            raise
        self._send(MessageType.RESPONSE, content)
        if reply.held is not None:
            reply.held.keep()

    def _send_part(self, number: int) -> None:
        """Take a stream's next step and send what it gives."""
        taken = self._caller.streams.step(number)
        if taken is not None:
            piece, part = taken
            self._respond(number, Reply({**piece.header, "part": part, "final": piece.final}, piece.tensors))

    def _refuse(self, number: int, error: StrongroomError) -> None:
        self._service.metrics.count_code("refused", error.code)
        header: dict[str, canonical.Value] = {
            "id": number,
            "code": str(error.code),
            "message": error.message,
            "field": getattr(error, "field", None),
            "retry_after": getattr(error, "retry_after", None),
        }
        self._send(MessageType.ERROR, encode_body(header))

    def _send(self, kind: MessageType, content: bytes) -> None:
        """Queue a message; a client that has closed meanwhile gets none, and its session is over."""
        try:
            self._output.append(self._wire.send(kind, content))
        except WireError as error:
            self._end(error.code)

    def _guarded(self, number: int, function: Callable[[], Park | None]) -> Park | None:
        """Call a function; what goes wrong refuses request `number`, and a defect ends the session."""
        try:
            return function()
        except StrongroomError as error:
            if not self.over:
                self._refuse(number, error)
        except Exception as error:  # noqa: BLE001 - a defect ends this session, not the process
            self._defect(number, type(error))
        return None

    def _defect(self, number: int, kind: type[Exception]) -> None:
        """Log a defect by the type of its exception alone, and end the session."""
        log(Event.DEFECT, EnclaveCode.INTERNAL, **{kind.__name__: 1})
        self.abort(EnclaveError(EnclaveCode.INTERNAL, f"request {number} met a defect of the enclave"))

    def _close(self) -> None:
        with contextlib.suppress(WireError):
            self._output.append(self._wire.close())

    def _end(self, code: ErrorCode | None) -> None:
        if not self.over:
            self.over = True
            if self._turn is not None:
                self._turn.end()
            self._events.clear()
            self._caller.end()
            self._wire.drop()
            if code is not None:
                self._service.metrics.count_code("sessions_ended", code)
                log(Event.SESSION_ENDED, code)


def _reply_of(job: Job) -> Reply:
    return Reply(job())
