"""What an enclave answers a broker: read in full, or refused with `enclave-unexpected`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from attestation.binding import HASH_SIZE
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.types import BudgetState
from attestation.types.budgets import decode_states
from attestation.wire.messages import Body
from manifests import fields
from manifests.errors import ManifestError

MAX_LOADED = 4096
"""Models that an enclave may claim to hold of one owner."""


@dataclass(frozen=True)
class Challenge:
    """The enclave's answer to a challenge: a nonce (32 bytes), and what it holds of an owner, each model once.

    ending: None; or of an enclave that answers nothing more, for good, the models of which a run is stuck.  budgets:
    how its clients' budgets stand, for the model names that have any.
    """

    nonce: bytes
    loaded: tuple[bytes, ...]
    ending: tuple[bytes, ...] | None = None
    budgets: tuple[BudgetState, ...] = ()

    @classmethod
    def read(cls, body: Body, boot_id: bytes) -> Challenge:
        """Read an answer of the process with that boot id; raises BrokerError `enclave-unexpected`."""
        value = answer(body, ("nonce", "boot_id", "models", "epoch"), ("ending", "budgets"))
        try:
            if value["boot_id"] != boot_id:
                raise unexpected("another enclave process answers")
            ending = _digests(value["ending"], "ending") if "ending" in value else None
            nonce, loaded = fields.fixed_bytes(value["nonce"], "nonce", 32), _digests(value["models"], "models")
            return cls(nonce, loaded, ending, decode_states(value.get("budgets", [])))
        except ManifestError as error:
            raise unexpected(error.message) from None


def answer(body: Body, names: Iterable[str], optional: Iterable[str] = ()) -> Mapping[str, Any]:
    """Return the fields of an answer; raises BrokerError `enclave-unexpected` for any other shape."""
    try:
        return fields.closed_map(body.header, "answer", names, optional)
    except ManifestError as error:
        raise unexpected(error.message) from None


def unexpected(message: str) -> BrokerError:
    """Return the error for an enclave whose answers make no sense."""
    return BrokerError(
        BrokerCode.ENCLAVE_UNEXPECTED, message, remedy="compare the versions of broker and enclave; then attest anew"
    )


def _digests(value: object, what: str) -> tuple[bytes, ...]:
    found = [fields.fixed_bytes(item, what, HASH_SIZE) for item in fields.list_of(value, what, MAX_LOADED)]
    fields.ascending(found, what)
    return tuple(found)
