"""The inference protocol over a conversation, without I/O: which request to make, and what its answer is worth."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from typing import Any

from attestation.client.errors import ClientCode, ClientError
from attestation.client.freshness import Beat, Freshness, parse_beat
from attestation.client.models import (
    ModelInfo,
    ModelName,
    Prediction,
    Reader,
    name_invalid,
    parse_listing,
    read_readers,
)
from attestation.types import OwnerState
from attestation.wire.messages import Body
from manifests import canonical, fields
from manifests.errors import ManifestError

TICKET_REQUEST: dict[str, canonical.Value] = {"op": "ticket"}
LISTING_REQUEST: dict[str, canonical.Value] = {"op": "models"}
_NAMED = ("model", "epoch", "beat")


@dataclass(frozen=True)
class Ask:
    """A request for a model: its header, and how the model was named (neither, for one named by digest)."""

    header: dict[str, canonical.Value]
    owner: bytes | None = None
    name: str = ""

    @property
    def digest(self) -> bytes | None:
        """The digest that must answer, if the request names one."""
        model = self.header["model"]
        digest = model.get("digest") if isinstance(model, dict) else None
        return digest if isinstance(digest, bytes) else None


@dataclass
class Service:
    """Resolves model names through the policy's owners and checks every answer.  `served`: from Freshness.admit.

    No input leaves before a fresh sign of life was seen of the owner that it is for: in the claims, in an answer,
    or in a listing that is asked for first.
    """

    freshness: Freshness
    served: tuple[OwnerState, ...]
    _listing: tuple[ModelInfo, ...] = field(default=(), init=False)
    _beats: dict[bytes, Beat] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Begin with what the claims have shown."""
        self._beats = self.freshness.shown(self.served)

    def needs_listing(self, model: str | bytes) -> bool:
        """Tell whether the enclave's models must be listed before inputs for this one may leave.

        That is so for a name where the policy pins digests, until it is resolved to one that is new enough, and
        where no sign of life is young enough.
        """
        name = ModelName.parse(model)
        if name.digest is None and self.freshness.service.models:
            found = self._newest(name)
            if found is None or found.epoch < self.freshness.memory.highest(found.owner, found.name):
                return True
        beats = [self._beats.get(owner) for owner in self._owners(name)]
        return not all(beat is not None and self.freshness.lasts(beat) for beat in beats)

    def learn(self, body: Body) -> tuple[ModelInfo, ...]:
        """Take note of the enclave's answer to LISTING_REQUEST and return its models."""
        self._listing, beats = parse_listing(body.header)
        self._beats.update(beats)
        return self._listing

    def infer_request(self, model: str | bytes, *, receipt: bool = False, reset: bool = False) -> Ask:
        """Return the request to this model; raises ClientError for a model or an owner that may get no inputs.

        receipt: whether the answer is to carry one.  reset: whether a stateful model begins anew.
        """
        ask = self._admitted(model)
        wanted = {name: True for name, value in (("receipt", receipt), ("reset", reset)) if value}
        return replace(ask, header={**ask.header, **wanted}) if wanted else ask

    def _admitted(self, model: str | bytes) -> Ask:
        name = ModelName.parse(model)
        ask = self._by_digest(name) if name.digest or self.freshness.service.models else self._by_name(name)
        for owner in self._owners(name) if ask.owner is None else (ask.owner,):
            self._check_alive(owner)
        return ask

    def prediction(self, ask: Ask, body: Body) -> Prediction:
        """Check the answer to an `infer_request` and return it; raises ClientError."""
        value = _fields(body, _NAMED, ("steps", "receipt", "stages"))
        model, epoch, beat = self._checked(ask, value)
        stages = _stages(value)
        for reader in stages:
            self._check_reader(beat.owner, reader)
        return Prediction(body.arrays(), model, epoch, beat, _steps(value), stages=stages)

    def _check_reader(self, owner: bytes, reader: Reader) -> None:
        """Refuse a pipeline's further model that could not have been asked itself; raises ClientError."""
        self._check_pin(reader.digest)
        self.freshness.check_model(owner, reader.name, reader.epoch)

    def part(self, ask: Ask, body: Body) -> dict[str, Any]:
        """Check one part of the answer to a `generate_request`; return its fields, `beat` read; raises ClientError."""
        value = _fields(body, (*_NAMED, "text", "tokens"), ("reason", "seed", "receipt"))
        model, epoch, beat = self._checked(ask, value)
        return {**value, "model": model, "epoch": epoch, "beat": beat}

    def generate_request(self, model: str | bytes, *, receipt: bool = False) -> Ask:
        """Return the request to this language model, without what is asked of it; raises as `infer_request`."""
        ask = self._admitted(model)
        wanted: dict[str, canonical.Value] = {"receipt": True} if receipt else {}
        return Ask({**ask.header, "op": "generate", **wanted}, ask.owner, ask.name)

    def _checked(self, ask: Ask, value: dict[str, Any]) -> tuple[bytes, int, Beat]:
        """Return model, epoch and beat of an answer, if they are what was asked for and fresh."""
        model, epoch, beat = _read(value)
        if ask.digest is not None and not hmac.compare_digest(model, ask.digest):
            raise ClientError(
                ClientCode.RESPONSE_UNEXPECTED,
                "another model answered than the one that was asked",
                expected=ask.digest.hex(),
                found=model.hex(),
            )
        if ask.owner is not None and beat.owner != ask.owner:
            raise ClientError(
                ClientCode.OWNER_NOT_ACCEPTED,
                "the response comes under another owner than the one that was asked",
                expected=ask.owner.hex(),
                found=beat.owner.hex(),
            )
        self.freshness.check(beat)
        self.freshness.check_model(beat.owner, ask.name, epoch)
        self._beats[beat.owner] = beat
        return model, epoch, beat

    def _by_name(self, name: ModelName) -> Ask:
        owner = self._owner(name)
        epoch = max(self.freshness.service.min_epoch, self.freshness.memory.highest(owner, name.name))
        reference = {"owner": owner, "name": name.name, "epoch": epoch}
        return Ask({"op": "infer", "model": reference}, owner, name.name)

    def _by_digest(self, name: ModelName) -> Ask:
        """Ask for a digest that the caller named, or for the one that the policy pins and the enclave lists."""
        if name.digest is not None:
            self._check_pin(name.digest)
            return Ask({"op": "infer", "model": {"digest": name.digest}})
        found = self._pinned(name)
        return Ask({"op": "infer", "model": {"digest": found.digest}}, found.owner, found.name)

    def _owners(self, name: ModelName) -> tuple[bytes, ...]:
        """Return the owners of whom one may be meant: all that are served, where the name does not say."""
        if name.owner is not None:
            return (name.owner,)
        listed = tuple(model.owner for model in self._listing if model.digest == name.digest)
        return listed or tuple(state.owner for state in self.served)

    def _check_alive(self, owner: bytes) -> None:
        beat = self._beats.get(owner)
        if beat is None:
            raise ClientError(
                ClientCode.RESPONSE_UNEXPECTED,
                "the enclave's listing has no sign of life of an owner that it serves",
                expected=owner.hex(),
            )
        self.freshness.check(beat)

    def _owner(self, name: ModelName) -> bytes:
        if name.owner is not None:
            if not self.freshness.accepts(name.owner):
                raise ClientError(
                    ClientCode.OWNER_NOT_ACCEPTED, "the policy does not name this owner", found=name.owner.hex()
                )
            return name.owner
        if len(self.served) == 1:
            return self.served[0].owner
        raise name_invalid(
            "several accepted owners are served, so a bare name is ambiguous",
            [state.owner.hex() for state in self.served],
            "write <owner>/<name> with the owner's key in hex",
        )

    def _newest(self, name: ModelName) -> ModelInfo | None:
        """Return the newest listed model of that name that the policy pins."""
        service = self.freshness.service
        found = (
            model
            for model in self._listing
            if model.name == name.name
            and model.digest in service.models
            and self.freshness.accepts(model.owner)
            and name.owner in {None, model.owner}
        )
        return max(found, key=lambda model: model.epoch, default=None)

    def _pinned(self, name: ModelName) -> ModelInfo:
        """Resolve a name to the newest listed model that the policy pins; raises ClientError."""
        found = self._newest(name)
        if found is None:
            raise ClientError(
                ClientCode.MODEL_NOT_ALLOWED,
                f"the enclave serves no model {name.name!r} that the policy names",
                expected=[digest.hex() for digest in self.freshness.service.models],
                found=[model.digest.hex() for model in self._listing if model.name == name.name],
            )
        self.freshness.check_model(found.owner, found.name, found.epoch)
        return found

    def _check_pin(self, digest: bytes) -> None:
        allowed = self.freshness.service.models
        if allowed and digest not in allowed:
            raise ClientError(
                ClientCode.MODEL_NOT_ALLOWED,
                "the policy does not name this model",
                expected=[model.hex() for model in allowed],
                found=digest.hex(),
            )


def read_ticket(body: Body) -> tuple[bytes, bytes]:
    """Return (ticket id, PSK) of the answer to TICKET_REQUEST; raises ClientError."""
    try:
        value = fields.closed_map(body.header, "ticket", ("ticket", "psk"))
        return fields.fixed_bytes(value["ticket"], "ticket", 16), fields.fixed_bytes(value["psk"], "psk", 32)
    except ManifestError as error:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"the ticket is malformed: {error.message}") from None


def _fields(body: Body, names: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    try:
        return fields.closed_map(body.header, "response", names, optional)
    except ManifestError as error:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"the response is malformed: {error.message}") from None


def _steps(value: dict[str, Any]) -> int | None:
    try:
        return fields.number(value["steps"], "steps", 1) if "steps" in value else None
    except ManifestError as error:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"the response is malformed: {error.message}") from None


def _stages(value: dict[str, Any]) -> tuple[Reader, ...]:
    try:
        return read_readers(value["stages"]) if "stages" in value else ()
    except ManifestError as error:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"the response is malformed: {error.message}") from None


def _read(value: dict[str, Any]) -> tuple[bytes, int, Beat]:
    try:
        model = fields.fixed_bytes(value["model"], "model", 64)
        return model, fields.number(value["epoch"], "epoch", 0), parse_beat(value["beat"])
    except ManifestError as error:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"the response is malformed: {error.message}") from None
