"""The inference protocol over a conversation, without I/O: which request to make, and what its answer is worth."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attestation.client.freshness import Beat, Freshness, parse_beat
from attestation.client.models import ModelInfo, ModelName, Prediction, name_invalid, parse_listing
from attestation.errors import ClientCode, ClientError
from attestation.types import OwnerState
from attestation.wire.messages import Body
from manifests import canonical, fields
from manifests.errors import ManifestError

TICKET_REQUEST: dict[str, canonical.Value] = {"op": "ticket"}
LISTING_REQUEST: dict[str, canonical.Value] = {"op": "models"}


@dataclass
class Service:
    """Resolves model names through the policy's owners and checks every answer.  `served`: from Freshness.admit."""

    freshness: Freshness
    served: tuple[OwnerState, ...]
    _listing: tuple[ModelInfo, ...] | None = field(default=None, init=False)

    def needs_listing(self, model: str | bytes) -> bool:
        """Tell whether the enclave's models must be listed before this one can be asked for.

        A policy that pins digests is held before any input leaves, so a name has to be resolved first.
        """
        return self._listing is None and bool(self.freshness.service.models) and ModelName.parse(model).digest is None

    def learn(self, body: Body) -> tuple[ModelInfo, ...]:
        """Take note of the enclave's answer to LISTING_REQUEST and return it."""
        self._listing = parse_listing(body.header)
        return self._listing

    def infer_request(self, model: str | bytes) -> dict[str, canonical.Value]:
        """Return the header of a request to this model; raises ClientError."""
        name = ModelName.parse(model)
        if name.digest is None and self.freshness.service.models:
            name = self._pinned(name)
        if name.digest is not None:
            self._check_pin(name.digest)
            return {"op": "infer", "model": {"digest": name.digest}}
        owner = self._owner(name)
        seen = self.freshness.memory.highest(owner, name.name)
        epoch = max(self.freshness.service.min_epoch, seen)
        return {"op": "infer", "model": {"owner": owner, "name": name.name, "epoch": epoch}}

    def prediction(self, request: Mapping[str, Any], body: Body) -> Prediction:
        """Check the answer to an `infer_request` and return it; raises ClientError."""
        model, epoch, beat = _read(body)
        asked = request["model"]
        if "digest" in asked and not hmac.compare_digest(model, asked["digest"]):
            raise ClientError(
                ClientCode.RESPONSE_UNEXPECTED,
                "another model answered than the one that was asked",
                expected=asked["digest"].hex(),
                found=model.hex(),
            )
        if "owner" in asked and beat.owner != asked["owner"]:
            raise ClientError(
                ClientCode.OWNER_NOT_ACCEPTED,
                "the response comes under another owner than the one that was asked",
                expected=asked["owner"].hex(),
                found=beat.owner.hex(),
            )
        self.freshness.check(beat)
        self.freshness.check_model(beat.owner, asked.get("name", ""), epoch)
        return Prediction(body.arrays(), model, epoch, beat)

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

    def _pinned(self, name: ModelName) -> ModelName:
        """Resolve a name to the one listed digest that the policy pins."""
        allowed = self.freshness.service.models
        found = [
            model
            for model in self._listing or ()
            if model.name == name.name and model.digest in allowed and name.owner in {None, model.owner}
        ]
        if not found:
            raise ClientError(
                ClientCode.MODEL_NOT_ALLOWED,
                f"the enclave serves no model {name.name!r} that the policy names",
                expected=[digest.hex() for digest in allowed],
                found=[model.digest.hex() for model in self._listing or () if model.name == name.name],
            )
        return ModelName(digest=max(found, key=lambda model: model.epoch).digest)

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


def _read(body: Body) -> tuple[bytes, int, Beat]:
    try:
        value = fields.closed_map(body.header, "response", ("model", "epoch", "beat"))
        model = fields.fixed_bytes(value["model"], "model", 64)
        return model, fields.number(value["epoch"], "epoch", 0), parse_beat(value["beat"])
    except ManifestError as error:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"the response is malformed: {error.message}") from None
