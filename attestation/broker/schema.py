"""The database's tables, and the rows of those that decide, as immutable values.

Every row of a sealed table carries `seal`, a MAC over its table and columns (seals.py); the audit log carries a MAC
over each whole table.  Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table

SCHEMA_VERSION = 1

metadata = MetaData()

schema_info = Table("schema_info", metadata, Column("version", Integer, primary_key=True))

audit_rows = Table(
    "audit",
    metadata,
    Column("index", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("previous", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

_models = Table(
    "models",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("owner", LargeBinary, nullable=False),
    Column("name", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("lineage", LargeBinary, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("delegation", LargeBinary, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

_policies = Table(
    "policies",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

_enclaves = Table(
    "enclaves",
    metadata,
    Column("boot_id", LargeBinary, primary_key=True),
    Column("platform", String, nullable=False),
    Column("measurement", LargeBinary, nullable=False),
    Column("address", String, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("sessions", BigInteger, nullable=False),
    Column("provisions", BigInteger, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

_leases = Table(
    "leases",
    metadata,
    Column("boot_id", LargeBinary, primary_key=True),
    Column("model", LargeBinary, primary_key=True),
    Column("serial", LargeBinary, nullable=False, unique=True),
    Column("handshake_hash", LargeBinary, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("released", BigInteger, nullable=False),
    Column("renewed", BigInteger, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

_revocations = Table(
    "revocations",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("owner", LargeBinary, nullable=False),
    Column("delegation", LargeBinary, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

_budgets = Table(
    "budgets",
    metadata,
    Column("owner", LargeBinary, primary_key=True),
    Column("name", String, primary_key=True),
    Column("identity", LargeBinary, primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column("granted", BigInteger, nullable=False),
    Column("settled", BigInteger, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)


@dataclass(frozen=True)
class SealedRow:
    """Base of the rows that are sealed; the fields are the table's columns without `seal`, in their order."""

    table: ClassVar[Table]
    key_columns: ClassVar[int] = 1

    def values(self) -> tuple[Any, ...]:
        """Return the columns' values."""
        return tuple(vars(self).values())

    def key(self) -> tuple[Any, ...]:
        """Return the primary key's values: the first columns."""
        return self.values()[: self.key_columns]


@dataclass(frozen=True)
class ModelRow(SealedRow):
    """A model whose key the broker holds.

    digest: 64 bytes.  owner: 32.  lineage: of the policies that may release it, 64.  wrapped: the data key, 60 bytes
    (keystore.py).  delegation: the owner's signed document.
    """

    table = _models

    digest: bytes
    owner: bytes
    name: str
    epoch: int
    lineage: bytes
    wrapped: bytes
    delegation: bytes
    added: int


@dataclass(frozen=True)
class PolicyRow(SealedRow):
    """A signed release policy (policy.py); epochs count from 1 and the highest is in force."""

    table = _policies

    epoch: int
    document: bytes


@dataclass(frozen=True)
class EnclaveRow(SealedRow):
    """An enclave process that was given a key: its boot id (16 bytes), and how often that happened.

    platform: "hardware" or "simulated".  measurement: MRENCLAVE, 32 bytes for SGX.  address: the host's, as dialled.
    sessions and provisions count the attested sessions, and the keys released in them.
    """

    table = _enclaves

    boot_id: bytes
    platform: str
    measurement: bytes
    address: str
    first_seen: int
    sessions: int
    provisions: int


@dataclass(frozen=True)
class LeaseRow(SealedRow):
    """What one enclave was last granted of one model.

    serial: 16 bytes, of the newest grant.  handshake_hash: of the session it was released in, 64.  requests: what the
    newest grant or heartbeat allows; 0 once refused.
    """

    table = _leases
    key_columns = 2

    boot_id: bytes
    model: bytes
    serial: bytes
    handshake_hash: bytes
    requests: int
    released: int
    renewed: int


@dataclass(frozen=True)
class RevocationRow(SealedRow):
    """A signed revocation and the owner's delegation under which enclaves are told of it."""

    table = _revocations

    number: int
    owner: bytes
    delegation: bytes
    document: bytes


@dataclass(frozen=True)
class BudgetRow(SealedRow):
    """What was granted on one model name in the period that ends at `until` (Unix seconds): charged, used or not.

    identity says to whom: 32 bytes, a client identity (attestation.types.budgets.identity_of); 16, an enclave process
    by its boot id, for the pool out of which it answers newcomers; none, all pools together, and this row's period is
    the model's.  settled: what of a pool was charged to identities since; 0 for identities.
    """

    table = _budgets
    key_columns = 3

    owner: bytes
    name: str
    identity: bytes
    until: int
    granted: int
    settled: int


Row: TypeAlias = ModelRow | PolicyRow | EnclaveRow | LeaseRow | RevocationRow | BudgetRow

KINDS: tuple[type[Row], ...] = (ModelRow, PolicyRow, EnclaveRow, LeaseRow, RevocationRow, BudgetRow)
NAMES = tuple(str(kind.table.name) for kind in KINDS)
LATER: tuple[type[Row], ...] = (BudgetRow,)
"""Tables that are made with their first row, so that a home without such rows stays as its first version made it."""
