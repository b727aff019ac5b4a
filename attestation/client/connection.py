"""A conversation over a blocking socket.  Every wait has an end.

A connection lets the enclave be appraised before anything is sent, and answers one request at a time.  After an
error other than a typed refusal it is closed: half an answer is of no use to anyone.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from attestation.appraise import SessionAppraisal
from attestation.client.call import (
    CLOSE_SECONDS,
    PATIENT,
    RECEIVE_SIZE,
    Call,
    Timeouts,
    answer_to,
    is_last,
    judge,
    no_evidence,
    other_stream,
    part_of,
    timed_out,
    truncated,
    unreachable,
)
from attestation.client.conversation import Answer, Attest, Conversation, Event, Ready
from attestation.client.errors import ClientError
from attestation.client.receipts import Origin
from attestation.client.refusals import closed
from attestation.client.trust import Decision, RelyingParty, require
from attestation.collateral import CollateralSource
from attestation.errors import WireCode, WireError
from attestation.evidence import Roots
from attestation.policy import Policy
from attestation.types import EvidenceRecord
from attestation.wire.address import UnixAddress, parse_address
from attestation.wire.messages import Body
from manifests import canonical


class Line:
    """A blocking socket and the conversation over it."""

    def __init__(self, address: str, conversation: Conversation, seconds: float) -> None:
        """Connect within so many seconds; raises ClientError or WireError `address-invalid`."""
        self.conversation = conversation
        self._address = address
        self._events: deque[Event] = deque()
        self._socket = _dial(address, seconds)

    def exchange(self, data: bytes, seconds: float, doing: str) -> Event:
        """Send and wait for one event, within so many seconds; raises StrongroomError, and drops the line."""
        deadline = time.monotonic() + seconds
        try:
            if data:
                self._send(data, deadline)
            return self._next(deadline, doing)
        except BaseException:
            self.drop()
            raise

    @property
    def pending(self) -> bool:
        """Whether an event has come that nobody has taken yet."""
        return bool(self._events)

    def send(self, data: bytes, seconds: float) -> None:
        """Send without waiting for an answer; raises StrongroomError, and drops the line."""
        try:
            self._send(data, time.monotonic() + seconds)
        except BaseException:
            self.drop()
            raise

    def say_goodbye(self, data: bytes) -> None:
        """Send the last bytes, whether they arrive or not, and drop the line."""
        with contextlib.suppress(ClientError):
            self._send(data, time.monotonic() + CLOSE_SECONDS)
        self.drop()

    def fileno(self) -> int:
        """Return the socket's descriptor, or -1 once it is closed."""
        return self._socket.fileno()

    def drop(self) -> None:
        """Close the socket; the conversation is over."""
        self.conversation.abandon()
        self._socket.close()

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            self._socket.sendall(data)
        except TimeoutError:
            raise timed_out(self._address, "sending") from None
        except OSError as error:
            raise unreachable(self._address, error) from None

    def _next(self, deadline: float, doing: str) -> Event:
        while not self._events:
            data = self._read(deadline, doing)
            if not data:
                self.conversation.end_of_stream()
                raise closed()
            self._events.extend(self.conversation.receive(data))
        return self._events.popleft()

    def _read(self, deadline: float, doing: str) -> bytes:
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            return self._socket.recv(RECEIVE_SIZE)
        except TimeoutError:
            raise timed_out(self._address, doing) from None
        except OSError as error:
            raise unreachable(self._address, error) from None


class Connection:
    """An attested session over a blocking socket.  Made by `Connection.open` alone."""

    def __init__(self, call: Call, line: Line) -> None:
        """Take a fresh line; `open` does the rest."""
        self._call = call
        self._line = line
        self._attested: SessionAppraisal | None = None
        self._aside: dict[int, deque[Event]] = {}
        """What came of each open answer while something else was waited for."""

    @classmethod
    def open(cls, call: Call) -> Self:
        """Connect, let the enclave prove itself, and decide; raises StrongroomError and leaves nothing open."""
        connection = cls(call, Line(call.address, call.conversation(), call.timeouts.connect))
        try:
            connection._handshake()
        except BaseException:
            connection._line.drop()
            raise
        return connection

    @property
    def attested(self) -> SessionAppraisal:
        """The appraisal that was accepted; raises WireError `session-state` in a resumed session, which has none."""
        if self._attested is None:
            raise WireError(WireCode.SESSION_STATE, "a resumed session carries no evidence of its own")
        return self._attested

    @property
    def handshake_hash(self) -> bytes:
        """The session's h, 64 bytes."""
        return self._line.conversation.handshake_hash

    @property
    def last_id(self) -> int:
        """The number of the newest request in this session."""
        return self._line.conversation.last_id

    @property
    def origin(self) -> Origin:
        """The evidence that came in this session; raises WireError `session-state` in a resumed one."""
        record = self._line.conversation.record
        if record is None:
            raise WireError(WireCode.SESSION_STATE, "a resumed session carries no evidence of its own")
        return Origin(record, self.handshake_hash, self._call.party.source)

    @property
    def over(self) -> bool:
        """Whether an error or a close has ended the session."""
        return self._line.conversation.over

    def fileno(self) -> int:
        """Return a descriptor to wait on: a session without a request that can be read from has been ended."""
        return self._line.fileno()

    def request(
        self, header: Mapping[str, canonical.Value], tensors: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> Body:
        """Make one request and wait for its answer; raises RemoteError, ClientError or WireError."""
        number, data = self._line.conversation.request(header, tensors)
        return answer_to(self._wait(number, data), number)

    def stream(
        self, header: Mapping[str, canonical.Value], tensors: Mapping[str, npt.NDArray[Any]] | None, window: int
    ) -> int:
        """Make a request whose answer comes in parts, so many of them before `more`; return its number."""
        number, data = self._line.conversation.request(header, tensors, window=window)
        self._aside[number] = deque()
        self._send(data)
        return number

    def part(self, number: int) -> Answer:
        """Wait for the next part of an answer; raises RemoteError, ClientError or WireError."""
        kept = self._aside.get(number)
        if kept is None or (self.over and not kept and not self._line.pending):
            raise truncated()
        event = kept.popleft() if kept else self._wait(number, b"")
        if is_last(event):
            del self._aside[number]
        return part_of(event, number)

    def more(self, number: int, parts: int) -> None:
        """Ask for further parts of an answer, unless it has ended."""
        if not self.over:
            self._send(self._line.conversation.more(number, parts))

    def cancel(self, number: int) -> None:
        """Give up an answer, and wait until the enclave has taken note."""
        kept = self._aside.pop(number, None)
        if kept is None or self.over or any(map(is_last, kept)):
            return
        data = self._line.conversation.cancel(number)
        while not is_last(self._wait(number, data)):
            data = b""

    def _wait(self, number: int, data: bytes) -> Event:
        """Send, and wait for what concerns request `number`; parts of other answers are put aside, as many as asked."""
        deadline = time.monotonic() + self._call.timeouts.request
        while True:
            seconds = max(deadline - time.monotonic(), 0.001)
            event = self._line.exchange(data, seconds, "waiting for its answer")
            other = other_stream(event, number, self._aside)
            if other is None:
                return event
            self._aside[other].append(event)
            data = b""

    def _send(self, data: bytes) -> None:
        self._line.send(data, self._call.timeouts.request)

    def close(self) -> None:
        """End the session in order, without waiting for the other side; safe to call twice."""
        self._line.say_goodbye(self._line.conversation.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _handshake(self) -> None:
        line = self._line
        event = line.exchange(line.conversation.start(), self._call.timeouts.handshake, "waiting for its evidence")
        if isinstance(event, Attest):
            self._attested = judge(self._call, event, line.conversation)
            line.conversation.accept()
        elif not isinstance(event, Ready):
            raise no_evidence()


def _dial(address: str, timeout: float) -> socket.socket:
    target = parse_address(address)
    try:
        if isinstance(target, UnixAddress):
            return _dial_unix(str(target.path), timeout)
        sock = socket.create_connection((target.host, target.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except TimeoutError:
        raise timed_out(address, "connecting") from None
    except OSError as error:
        raise unreachable(address, error) from None
    return sock


def _dial_unix(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def open_session(
    address: str,
    *,
    route: str,
    policy: Policy,
    source: CollateralSource,
    roots: Roots,
    now: int,
    decide: Decision = require,
    timeouts: Timeouts = PATIENT,
) -> Connection:
    """Open an attested session for a relying party that makes requests of its own, such as a key broker.

    `decide` is given the appraisal before anything is sent, and refuses by raising.  The connection has `attested`
    (the SessionAppraisal), `handshake_hash`, `request(header, tensors) -> Body`, `close()`; it is a context manager.
    """
    party = RelyingParty(policy, source, roots, lambda: now)
    return Connection.open(Call(address, party, route=route, decide=decide, timeouts=timeouts))


def collect_evidence(
    address: str, *, route: str = "default", timeouts: Timeouts = PATIENT
) -> tuple[EvidenceRecord, bytes]:
    """Return an enclave's evidence and the handshake hash it is bound to, UNVERIFIED, and hang up."""
    line = Line(address, Conversation(route=route), timeouts.connect)
    event = line.exchange(line.conversation.start(), timeouts.handshake, "waiting for its evidence")
    handshake_hash = line.conversation.handshake_hash
    line.say_goodbye(line.conversation.close())
    if not isinstance(event, Attest):
        raise no_evidence()
    return event.record, handshake_hash
