"""The operations inside a session: what each request asks for, and what it is answered.

An operation gives a `Reply`; or a `Job` whose result is the reply, work that waits for the host and is done elsewhere;
or `Deferred` work that waits for other requests; or a `Stream` of parts; or nothing, where it is not answered.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy.typing as npt

from attestation.wire import stateful
from attestation.wire.commitments import Tensor, received, sent
from attestation.wire.messages import Body
from enclave.coarsening import Answered
from enclave.errors import EnclaveCode, EnclaveError
from enclave.gate import Gate, Turns, crowded
from enclave.identity import Identity
from enclave.loaded import LoadedModel
from enclave.provision import ControlState, Header, Job
from enclave.receipts import verdict_of
from enclave.service import Service, listing
from enclave.state import Held, Memory
from enclave.streams import MAX_WINDOW, Piece, Source, Stream, Streams, Timed
from enclave.told import Told
from manifests import canonical, fields
from manifests.receipts import Receipts


@dataclass(frozen=True)
class Reply:
    """A response: header fields besides `id`, and tensors where there are any."""

    header: Header = field(repr=False)
    tensors: Mapping[str, npt.NDArray[Any]] | None = field(default=None, repr=False)
    held: Held | None = field(default=None, repr=False)
    """The state that moves on when the response leaves, and stays where it cannot."""


@dataclass(frozen=True)
class Queued:
    """A reply that waits for a turn at each of its models; `run` gives it, and is called while all are held."""

    turn: Turns
    run: Callable[[], Reply]


@dataclass(frozen=True)
class Deferred:
    """Work that waits for other requests: it is done elsewhere, and its result is the reply."""

    work: Callable[[], Reply]


@dataclass
class Caller:
    """What a session's operations know of it.

    began: the generation of revocations at its start.  resumed: it has no evidence of its own.  origin: handshake hash
    of the session that has it, which is another one in a resumed session.  touched: owners whose models it has used,
    and the one that its client is known to.
    """

    began: int = 0

    resumed: bool = False
    evidence_digest: bytes = b""
    origin: bytes = b""
    identity: Identity | None = None
    touched: set[bytes] = field(default_factory=set)
    control: ControlState = field(default_factory=ControlState)
    streams: Streams = field(default_factory=Streams)
    memory: Memory = field(default_factory=Memory)

    def end(self) -> None:
        """Free what the session holds."""
        self.streams.end_all()
        self.memory.free()

    @property
    def client(self) -> bytes:
        """The client's key, 32 bytes, whichever owner knows it; or empty, for all anonymous sessions together."""
        return b"" if self.identity is None else self.identity.client

    def principal(self, owner: bytes) -> bytes:
        """Return the client's key, 32 bytes, where it is known to this owner's models; else b"", as if anonymous.

        Who is known to another owner alone may be as many clients as that one pleases.
        """
        return self.identity.client if self.identity is not None and self.identity.owner == owner else b""


class Operations:
    """The table of operations.  They raise StrongroomError for what they refuse."""

    def __init__(self, service: Service) -> None:
        """Operate on one enclave's service."""
        self._service = service
        self._plain: dict[str, Callable[[Caller, Header], Reply | None]] = {
            "models": self._models,
            "ticket": self._ticket,
            "continue": self._continue,
            "cancel": self._cancel,
        }
        self._controls: dict[str, Callable[[Caller, Header], Reply | Job]] = {
            "provision": self._provision,
            "challenge": self._challenge,
            "heartbeat": self._heartbeat,
            "revoke": self._revoke,
        }

    def perform(self, caller: Caller, body: Body) -> Reply | Job | Queued | Deferred | Stream | None:
        """Perform the operation that a request names; None is for what is not answered."""
        name = fields.of_type(body.header.get("op"), "op", str)
        if name == "infer":
            return self._infer(caller, body)
        if name == "generate":
            return self._generate(caller, body)
        if body.specs:
            raise EnclaveError(EnclaveCode.REQUEST_MALFORMED, "the operation takes no tensors", field="tensors")
        if name in self._plain:
            return self._plain[name](caller, body.header)
        if name not in self._controls:
            raise EnclaveError(EnclaveCode.OPERATION_UNKNOWN, "the operation is not known", field="op")
        if caller.resumed:
            raise EnclaveError(EnclaveCode.SESSION_UNATTESTED, "a broker attests the enclave in the same session")
        return self._controls[name](caller, body.header)

    def check_revoked(self, caller: Caller) -> None:
        """Refuse a session that a revocation has ended; raises EnclaveError `session-revoked`."""
        if not caller.control.in_control and self._service.is_revoked(caller.began, caller.touched):
            raise EnclaveError(EnclaveCode.SESSION_REVOKED, "a revocation ended this session; attest anew")

    def _infer(self, caller: Caller, body: Body) -> Reply | Queued | Deferred:
        value = fields.closed_map(body.header, "request", ("op", "id", "model"), ("receipt", "reset"))
        fields.of_type(value.get("receipt", False), "receipt", bool)
        model = self._resolve(caller, value["model"])
        turns = Turns(self._gates(model), caller.principal(model.owner))
        answer = partial(self._run, caller, model, body, self._held(caller, model, value), turns)
        if model.batcher is not None:
            return Deferred(answer)
        return answer() if turns.none else Queued(turns, answer)

    def _readers(self, model: LoadedModel) -> tuple[LoadedModel, ...]:
        return () if model.pipeline is None else model.pipeline.readers(self._service.owners, model)

    def _gates(self, model: LoadedModel) -> list[Gate]:
        """Return the gates of all models that a request runs, in an order that is the same for every request."""
        models = sorted((model, *self._readers(model)), key=lambda each: each.digest)
        return [each.gate for each in models if each.gate is not None]

    def _run(self, caller: Caller, model: LoadedModel, body: Body, held: Held | None, turns: Turns) -> Reply:
        with contextlib.ExitStack() as refused:
            if held is not None:
                refused.callback(held.undo)
            reply = self._answered(caller, model, body, held, turns)
            refused.pop_all()
        return reply

    def _answered(self, caller: Caller, model: LoadedModel, body: Body, held: Held | None, turns: Turns) -> Reply:
        self._service.condemned.check()
        began = time.perf_counter()
        readers = self._readers(model)
        used = (model, *readers)
        turns.check(each.gate for each in used)
        answered = self._answer(caller, model, readers, body, held)
        self._count(used, time.perf_counter() - began)
        header = self._named(*used)
        if held is not None:
            header["steps"] = held.told
        if body.header.get("receipt", False) or any(each.manifest.receipts is Receipts.ALWAYS for each in used):
            facts = self._facts(caller, used, body, header["beat"])
            verdict = verdict_of(answered, *(each.manifest for each in used))
            tensors = _committed(body, answered, held)
            header["receipt"] = self._service.receipts.issue(facts, verdict, *tensors)
        return Reply(header, answered.outputs, held)

    @staticmethod
    def _answer(
        caller: Caller, model: LoadedModel, readers: Sequence[LoadedModel], body: Body, held: Held | None
    ) -> Answered:
        principal = caller.principal(model.owner)
        if model.pipeline is None:
            return model.answer(body, principal, held)
        return model.pipeline.answer(model, readers, body, principal)

    @staticmethod
    def _facts(caller: Caller, models: Sequence[LoadedModel], body: Body, beat: Any) -> dict[str, Any]:
        """Return what a receipt says of session, request and models."""
        model, *readers = models
        return {
            "evidence": caller.evidence_digest,
            "session": caller.control.handshake_hash,
            "origin": caller.origin,
            "request": body.header["id"],
            "model": model.digest,
            "owner": model.owner,
            "epoch": model.epoch,
            "broker_time": beat[0],
            "broker_epoch": beat[1],
            "stages": tuple(reader.digest for reader in readers),
        }

    def _generate(self, caller: Caller, body: Body) -> Stream:
        caller.streams.check_room()
        model = self._resolve(caller, body.header.get("model"))
        self._service.condemned.check()
        source = model.generate(body, caller.principal(model.owner))
        told = Told() if body.header.get("receipt", False) or model.manifest.receipts is Receipts.ALWAYS else None
        return Stream(self._pieces(caller, model, body, source, told), body.header["window"])

    def _count(self, used: Sequence[LoadedModel], seconds: float) -> None:
        """Count one answered request, and the time of a thread that it took."""
        self._service.metrics.observe("request_seconds", seconds)
        if self._service.settings.limits.telemetry_models:
            for each in used:
                self._service.metrics.count_model("model_requests", each.digest)

    def _pieces(self, caller: Caller, model: LoadedModel, body: Body, source: Source, told: Told | None) -> Source:
        """Say in each part which model it comes from, give the newest sign of its broker, and a receipt at the end."""
        timed = Timed(source)
        with contextlib.closing(source):
            for piece in timed:
                if piece is None:
                    yield None
                    continue
                if piece.final:
                    self._count((model,), timed.seconds)
                header = {**self._named(model), **piece.header}
                if told is not None and told.add(piece):
                    facts = self._facts(caller, (model,), body, header["beat"])
                    header["receipt"] = self._service.receipts.issue(
                        facts, told.verdict(), told.request(body), told.answer()
                    )
                yield Piece(header, piece.final)

    def _resolve(self, caller: Caller, reference: object) -> LoadedModel:
        model = self._service.resolve(reference)
        waiting = self._service.crowd(caller.client)
        if waiting is not None:
            raise crowded(waiting)
        caller.touched.add(model.owner)
        return model

    def _named(self, model: LoadedModel, *readers: LoadedModel) -> Header:
        """Say which models have answered, with the sign of life that is the oldest of theirs."""
        beat, epoch = min(self._service.owners.beat(used) for used in (model, *readers))
        header: Header = {"model": model.digest, "epoch": model.epoch, "beat": [beat, epoch, model.owner]}
        if readers:
            header["stages"] = [[reader.name, reader.epoch, reader.digest] for reader in readers]
        return header

    @staticmethod
    def _held(caller: Caller, model: LoadedModel, value: Header) -> Held | None:
        """Return the session's state of a model that has one; the others take no reset."""
        if model.generation is not None:
            raise EnclaveError(EnclaveCode.OPERATION_UNFIT, "the model generates: ask it by `generate`")
        if model.state is None:
            if "reset" in value:
                raise EnclaveError(EnclaveCode.OPERATION_UNFIT, "the model has no state", field="reset")
            return None
        reset = fields.of_type(value.get("reset", False), "reset", bool)
        return caller.memory.of(model.digest, model.state, reset=reset)

    def _models(self, caller: Caller, header: Header) -> Reply:
        del caller  # the listing is the same for everybody
        fields.closed_map(header, "request", ("op", "id"))
        owners = self._service.owners
        beats: list[canonical.Value] = [list(beat) for beat in owners.beats()]
        return Reply({"models": listing(owners.models()), "class": str(self._service.platform), "beats": beats})

    def _ticket(self, caller: Caller, header: Header) -> Reply:
        fields.closed_map(header, "request", ("op", "id"))
        identity = b"" if caller.identity is None else caller.identity.encode()
        with self._service.owners.lock:  # no revocation comes between the question and the ticket
            self.check_revoked(caller)
            ticket, psk = self._service.tickets.issue(identity, caller.evidence_digest, caller.origin)
        return Reply({"ticket": ticket, "psk": psk})

    def _continue(self, caller: Caller, header: Header) -> None:
        value = fields.closed_map(header, "request", ("op", "id", "stream", "parts"))
        number = fields.number(value["stream"], "stream", 1)
        caller.streams.more(number, fields.number(value["parts"], "parts", 1, MAX_WINDOW))

    def _cancel(self, caller: Caller, header: Header) -> None:
        value = fields.closed_map(header, "request", ("op", "id", "stream"))
        caller.streams.cancel(fields.number(value["stream"], "stream", 1))

    def _provision(self, caller: Caller, header: Header) -> Job:
        return self._service.control.provision(caller.control, header)

    def _challenge(self, caller: Caller, header: Header) -> Reply:
        return Reply(self._service.control.challenge(caller.control, header))

    def _heartbeat(self, caller: Caller, header: Header) -> Reply:
        return Reply(self._service.control.heartbeat(caller.control, header))

    def _revoke(self, caller: Caller, header: Header) -> Reply:
        return Reply(self._service.control.revoke(caller.control, header))


def _committed(body: Body, answered: Answered, held: Held | None) -> tuple[list[Tensor], list[Tensor]]:
    """Return what a receipt commits to of a request and of its answer."""
    given, told = received(body), sent(answered.outputs)
    if held is None:
        return given, told
    return stateful.asked(given, reset=held.fresh), stateful.answered(told, held.told)
