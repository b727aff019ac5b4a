"""The operations inside a session: what each request asks for, and what it is answered.

An operation gives a `Reply`, or a `Job` whose result is the reply: work that waits for the host and is done elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from attestation.wire.messages import Body
from enclave.errors import EnclaveCode, EnclaveError
from enclave.identity import Identity
from enclave.provision import ControlState, Header, Job
from enclave.receipts import verdict_of
from enclave.service import Service, listing
from manifests import canonical, fields
from manifests.receipts import Receipts


@dataclass(frozen=True)
class Reply:
    """A response: header fields besides `id`, and tensors where there are any."""

    header: Header
    tensors: Mapping[str, npt.NDArray[Any]] | None = None


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

    def principal(self, owner: bytes) -> bytes:
        """Return the client key (32 bytes) that counts towards an owner's models, or b"" for an anonymous client.

        A client that another owner has named is anonymous here: that owner could make up as many as it likes.
        """
        return self.identity.client if self.identity is not None and self.identity.owner == owner else b""


class Operations:
    """The table of operations.  They raise StrongroomError for what they refuse."""

    def __init__(self, service: Service) -> None:
        """Operate on one enclave's service."""
        self._service = service
        self._plain: dict[str, Callable[[Caller, Header], Reply]] = {"models": self._models, "ticket": self._ticket}
        self._controls: dict[str, Callable[[Caller, Header], Reply | Job]] = {
            "provision": self._provision,
            "challenge": self._challenge,
            "heartbeat": self._heartbeat,
            "revoke": self._revoke,
        }

    def perform(self, caller: Caller, body: Body) -> Reply | Job:
        """Perform the operation that a request names."""
        name = fields.of_type(body.header.get("op"), "op", str)
        if name == "infer":
            return self._infer(caller, body)
        if body.specs:
            raise EnclaveError(EnclaveCode.REQUEST_MALFORMED, "only inference takes tensors", field="tensors")
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

    def _infer(self, caller: Caller, body: Body) -> Reply:
        value = fields.closed_map(body.header, "request", ("op", "id", "model"), ("receipt",))
        wanted = fields.of_type(value.get("receipt", False), "receipt", bool)
        model = self._service.resolve(value["model"])
        caller.touched.add(model.owner)
        tensors = model.answer(body, caller.principal(model.owner))
        beat, epoch = self._service.owners.beat(model)
        header: Header = {"model": model.digest, "epoch": model.epoch, "beat": [beat, epoch, model.owner]}
        if wanted or model.manifest.receipts is Receipts.ALWAYS:
            facts = {
                "evidence": caller.evidence_digest,
                "session": caller.control.handshake_hash,
                "origin": caller.origin,
                "request": value["id"],
                "model": model.digest,
                "owner": model.owner,
                "epoch": model.epoch,
                "broker_time": beat,
                "broker_epoch": epoch,
            }
            header["receipt"] = self._service.receipts.issue(facts, verdict_of(model.manifest), body, tensors)
        return Reply(header, tensors)

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

    def _provision(self, caller: Caller, header: Header) -> Job:
        return self._service.control.provision(caller.control, header)

    def _challenge(self, caller: Caller, header: Header) -> Reply:
        return Reply(self._service.control.challenge(caller.control, header))

    def _heartbeat(self, caller: Caller, header: Header) -> Reply:
        return Reply(self._service.control.heartbeat(caller.control, header))

    def _revoke(self, caller: Caller, header: Header) -> Reply:
        return Reply(self._service.control.revoke(caller.control, header))
