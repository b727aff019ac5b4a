"""Budgets of client identities: what a grant says of them, what an enclave asks for, and what a broker allots.

An identity is named by a digest of its client key; all anonymous sessions on a model are one.  Counts are requests.  A
period is named by its end in Unix seconds, by the broker's clock, and ends only grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from attestation.binding import HASH_SIZE
from manifests import fields, signing
from manifests.errors import ManifestCode, ManifestError

MAX_NAME = 128
MAX_ASKS = 64
"""Identities that one heartbeat allots to: each is a row or two in the broker's ledger."""
MAX_BUDGETS = 1024
"""Model names of one owner that an enclave keeps floors for."""
MAX_COUNT = 1 << 40
"""Of any count on the wire: sums of a whole period stay within 63 bits."""
IDENTITY_SIZE = 32

ALLOTMENT = signing.label("allotment")
_IDENTITY = signing.label("budget identity")


def identity_of(principal: bytes) -> bytes:
    """Return the 32 bytes by which budgets name a client key, or with b"" all anonymous sessions together."""
    return signing.digest(_IDENTITY, principal)[:IDENTITY_SIZE]


ANONYMOUS = identity_of(b"")


@dataclass(frozen=True)
class BudgetTerms:
    """What a grant says of the budgets on its model's name.

    until: end of the period.  pool: requests of it that this enclave process may answer, in all, for identities that
    have no slice yet.  slice: most requests that it holds for one identity.  client, anonymous: the budget of each
    named identity and of the anonymous one; None where they have none, 0 where nothing is answered.  rate, burst:
    requests per minute of one identity, and at once; 0 without such a limit.
    """

    until: int
    pool: int
    slice: int
    client: int | None
    anonymous: int | None
    rate: int
    burst: int

    def to_map(self) -> dict[str, int]:
        """Return the map that a grant carries."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_map(cls, value: object) -> Self:
        """Read what a grant carries; raises ManifestError."""
        optional = ("client", "anonymous")
        table = fields.closed_map(value, "budget", set(cls.__dataclass_fields__).difference(optional), optional)
        limits = {name: fields.U63 if name == "until" else MAX_COUNT for name in table}
        read = {name: fields.number(item, name, 0, limits[name]) for name, item in table.items()}
        client, anonymous = (read.pop(name, None) for name in optional)
        return cls(**read, client=client, anonymous=anonymous)

    def budget(self, identity: bytes) -> int | None:
        """Return the budget of one identity; None where it has none."""
        return self.anonymous if identity == ANONYMOUS else self.client


@dataclass(frozen=True)
class Ask:
    """One identity that an enclave wants a slice for.

    want: requests.  drawn: those that it was answered from the pool, and that were not charged to it yet.
    """

    identity: bytes
    want: int
    drawn: int

    @classmethod
    def decode(cls, value: object) -> Self:
        """Read one of the challenge's list; raises ManifestError."""
        identity, want, drawn = _items(value, "an ask", 3)
        return cls(_identity(identity), _count(want, "want"), _count(drawn, "drawn"))


@dataclass(frozen=True)
class BudgetState:
    """How budgets stand in one enclave process for one model name, as it answers its broker's challenge.

    settled: requests of the pool that were charged to identities in this period, as far as the enclave was told.
    """

    name: str
    until: int
    settled: int
    asks: tuple[Ask, ...]

    def encode(self) -> list[Any]:
        """Return the list that the answer carries."""
        return [self.name, self.until, self.settled, [[ask.identity, ask.want, ask.drawn] for ask in self.asks]]

    @classmethod
    def decode(cls, value: object) -> Self:
        """Read one of the answer's list; raises ManifestError."""
        name, until, settled, asks = _items(value, "a budget", 4)
        found = tuple(map(Ask.decode, fields.list_of(asks, "asks", MAX_ASKS)))
        _distinct([ask.identity for ask in found], "asks")
        return cls(
            fields.text(name, "name", MAX_NAME), fields.number(until, "until", 0), _count(settled, "settled"), found
        )


def decode_states(value: object) -> tuple[BudgetState, ...]:
    """Read how an enclave's budgets stand: each name once, in ascending order; raises ManifestError."""
    states = tuple(map(BudgetState.decode, fields.list_of(value, "budgets", MAX_BUDGETS)))
    fields.ascending([state.name for state in states], "budgets")
    if sum(len(state.asks) for state in states) > MAX_ASKS:
        raise ManifestError(ManifestCode.FIELD_INVALID, "too many identities ask at once", expected=MAX_ASKS)
    return states


@dataclass(frozen=True)
class Slice:
    """What one identity gets in one enclave process: already charged, whether it is used or not.

    settled: requests of the pool that were charged to it besides.  last: whether its budget holds no more.
    """

    identity: bytes
    count: int
    settled: int
    last: bool

    @classmethod
    def decode(cls, value: object) -> Self:
        """Read one of an allotment's list; raises ManifestError."""
        identity, count, settled, last = _items(value, "a slice", 4)
        return cls(
            _identity(identity), _count(count, "count"), _count(settled, "settled"), fields.of_type(last, "last", bool)
        )


@dataclass(frozen=True)
class ModelSlices:
    """The slices on one model name in one period.  pool: as in BudgetTerms; it only grows within a period."""

    name: str
    until: int
    pool: int
    slices: tuple[Slice, ...]

    def encode(self) -> list[Any]:
        """Return the list that an allotment carries."""
        return [self.name, self.until, self.pool, [[*vars(item).values()] for item in self.slices]]

    @classmethod
    def decode(cls, value: object) -> Self:
        """Read one of an allotment's list; raises ManifestError."""
        name, until, pool, slices = _items(value, "slices", 4)
        found = tuple(map(Slice.decode, fields.list_of(slices, "slices", MAX_ASKS)))
        _distinct([item.identity for item in found], "slices")
        return cls(fields.text(name, "name", MAX_NAME), fields.number(until, "until", 0), _count(pool, "pool"), found)


@dataclass(frozen=True)
class Allotment:
    """Signed by a delegated broker key, and sent with the heartbeat that answers the same nonce.

    It is a document of its own, because the newest heartbeat shows in the claims to everybody, and which identities
    use a model, and how much, is nobody's business but the broker's.  nonce: 32 bytes.  models: by name, ascending.
    """

    owner: bytes
    delegation: bytes
    nonce: bytes
    boot_id: bytes
    time: int
    models: tuple[ModelSlices, ...]

    def sign(self, broker_key: signing.Signer) -> bytes:
        """Return the signed document."""
        body = {**self.__dict__, "version": 1, "models": [model.encode() for model in self.models]}
        return broker_key.sign_document(ALLOTMENT, body)

    @classmethod
    def open(cls, document: bytes, broker: bytes) -> Self:
        """Verify under the broker's key and decode; raises ManifestError."""
        value = signing.open_versioned(broker, ALLOTMENT, document, cls.__dataclass_fields__)
        models = tuple(map(ModelSlices.decode, fields.list_of(value["models"], "models", MAX_BUDGETS)))
        fields.ascending([model.name for model in models], "models")
        return cls(
            owner=signing.public_key_field(value["owner"], "owner"),
            delegation=fields.fixed_bytes(value["delegation"], "delegation", HASH_SIZE),
            nonce=fields.fixed_bytes(value["nonce"], "nonce", 32),
            boot_id=fields.fixed_bytes(value["boot_id"], "boot_id", 16),
            time=fields.number(value["time"], "time", 0),
            models=models,
        )


def optional_terms(value: Mapping[str, Any]) -> BudgetTerms | None:
    """Return the terms that a grant's body carries, if any; raises ManifestError."""
    return BudgetTerms.from_map(value["budget"]) if "budget" in value else None


def _items(value: object, name: str, count: int) -> list[Any]:
    items = fields.list_of(value, name, count)
    if len(items) != count:
        raise ManifestError(ManifestCode.FIELD_INVALID, f"{name} has {count} items", found=len(items))
    return items


def _identity(value: object) -> bytes:
    return fields.fixed_bytes(value, "identity", IDENTITY_SIZE)


def _count(value: object, name: str) -> int:
    return fields.number(value, name, 0, MAX_COUNT)


def _distinct(items: list[bytes], name: str) -> None:
    if len(set(items)) != len(items):
        raise ManifestError(ManifestCode.FIELD_INVALID, f"{name!r} names an identity twice")
