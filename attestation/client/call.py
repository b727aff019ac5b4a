"""What a blocking and an asynchronous connection share: how to open one, and how its failures read."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from attestation.appraise import SessionAppraisal
from attestation.client.conversation import Answer, Attest, Conversation, Ended, Event, Identity, Refused
from attestation.client.errors import ClientCode, ClientError
from attestation.client.refusals import closed
from attestation.client.trust import Decision, RelyingParty, require
from attestation.wire.messages import Body
from attestation.wire.tickets import Ticket

RECEIVE_SIZE = 256 * 1024
"""A quarter of the largest record: few calls for a long answer, little memory for a short one."""
MAX_TIMEOUT = 86400
"""Seconds in a day."""
CLOSE_SECONDS = 1.0
"""How long saying goodbye may take; the session is over either way."""


@dataclass(frozen=True)
class Timeouts:
    """How long to wait, in seconds: for the socket, for handshake and evidence, for one request's answer."""

    connect: float = 5.0
    handshake: float = 30.0
    request: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what is no time to wait; raises ClientError `timeout-invalid`."""
        for name, seconds in (("connect", self.connect), ("handshake", self.handshake), ("request", self.request)):
            if not 0 < seconds <= MAX_TIMEOUT:
                raise ClientError(
                    ClientCode.TIMEOUT_INVALID,
                    f"{seconds!r} is no time to wait for {name}",
                    expected=f"seconds above 0, and at most {MAX_TIMEOUT}",
                    found=seconds,
                )


PATIENT = Timeouts()
"""The default: long enough for a slow quoting enclave and a large model, and never for ever."""


@dataclass(frozen=True)
class Call:
    """How to open a connection: where to, on which terms, and as whom."""

    address: str
    party: RelyingParty
    route: str = "default"
    decide: Decision = require
    identity: Identity | None = None
    ticket: Ticket | None = None
    timeouts: Timeouts = PATIENT

    def conversation(self) -> Conversation:
        """Return a fresh conversation for this call."""
        return Conversation(route=self.route, identity=self.identity, ticket=self.ticket)


def judge(call: Call, attest: Attest, conversation: Conversation) -> SessionAppraisal:
    """Appraise and decide; raises StrongroomError for an enclave that is not accepted."""
    attested = call.party.appraise(attest.record, conversation.handshake_hash)
    call.decide(attested)
    return attested


def answer_to(event: Event, number: int) -> Body:
    """Return the body that answers request `number`; raises RemoteError or ClientError."""
    match event:
        case Answer(id=found, body=body) if found == number:
            return body
        case Refused(error=error):
            raise error
        case Ended():
            raise closed()
    raise ClientError(ClientCode.RESPONSE_UNEXPECTED, "the enclave's message does not answer the request")


def part_of(event: Event, number: int) -> Answer:
    """Return a part of the answer to request `number`; raises RemoteError or ClientError."""
    match event:
        case Answer(id=found) if found == number:
            return event
        case Refused(error=error):
            raise error
        case Ended():
            raise truncated()
    raise ClientError(ClientCode.RESPONSE_UNEXPECTED, "the enclave's message does not answer the request")


def truncated() -> ClientError:
    """Return the error for an answer whose last part never came."""
    return ClientError(ClientCode.ANSWER_TRUNCATED, "the session ended before the answer's last part")


def other_stream(event: Event, number: int, streams: Collection[int]) -> int | None:
    """Return the open answer that an event is for, if that is not the one to request `number`."""
    if isinstance(event, Answer | Refused) and event.id != number and event.id in streams:
        return event.id
    return None


def is_last(event: Event) -> bool:
    """Tell whether nothing more of an answer comes behind this event."""
    return not isinstance(event, Answer) or event.final


def timed_out(address: str, doing: str) -> ClientError:
    return ClientError(
        ClientCode.TIMED_OUT,
        f"no answer from {address} while {doing}",
        remedy="look at `strongroom host status` on the machine, or allow more time",
    )


def unreachable(address: str, error: OSError) -> ClientError:
    return ClientError(
        ClientCode.ADDRESS_UNREACHABLE,
        f"cannot reach {address}: {_reason(error)}",
        remedy="check the address, and on that machine `strongroom host status`",
    )


def _reason(error: OSError) -> str:
    """Return the system's words: asyncio has its own, and a resolver's negative numbers are none of the system's."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def no_evidence() -> ClientError:
    """Return the error for a peer that sent something else than its evidence."""
    return ClientError(ClientCode.RESPONSE_UNEXPECTED, "the enclave sent something else than evidence")
