"""The broker's state in memory: the rows of the sealed tables, and the answers that decisions need.

Rows enter through `put` alone, after they were authenticated (loading) or committed (recording).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attestation.broker.schema import (
    KINDS,
    NAMES,
    BudgetRow,
    EnclaveRow,
    LeaseRow,
    ModelRow,
    PolicyRow,
    RevocationRow,
    Row,
)
from attestation.broker.seals import Sealer, TableSum
from attestation.types import Revocation


@dataclass(frozen=True)
class Revoked:
    """A revocation as its owner's models feel it."""

    number: int
    row: RevocationRow
    document: Revocation

    def covers(self, model: ModelRow) -> bool:
        """Tell whether it ends this model: by digest, or by name and epoch."""
        return model.owner == self.document.owner and self.document.ends(model.name, model.epoch, model.digest)


class _Holders:
    """The leases on one model, counted without looking at each."""

    def __init__(self) -> None:
        self._unspent: set[bytes] = set()

    def put(self, row: LeaseRow) -> None:
        if row.requests:
            self._unspent.add(row.boot_id)
        else:
            self._unspent.discard(row.boot_id)

    def count(self, besides: bytes) -> int:
        return len(self._unspent) - (besides in self._unspent)


_NOBODY = _Holders()


class State:
    """What a broker knows.  Reading needs no lock where the caller holds the ledger's."""

    def __init__(self, broker: bytes) -> None:
        """Start empty; `broker` is the public key that revocations were signed with."""
        self._broker = broker
        self._rows: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in NAMES}
        self._holders: dict[bytes, _Holders] = {}
        self._held: dict[bytes, dict[bytes, LeaseRow]] = {}
        self._revoked: list[Revoked] = []
        self._epochs: dict[bytes, int] = {}
        self._named: dict[tuple[bytes, str], set[int]] = {}

    @property
    def broker(self) -> bytes:
        """The broker's public key."""
        return self._broker

    def put(self, row: Row) -> None:
        """Take a new row, or a new version of one; raises ManifestError for a revocation that does not verify."""
        self._rows[row.table.name][row.key()] = row
        if isinstance(row, LeaseRow):
            self._holders.setdefault(row.model, _Holders()).put(row)
            self._held.setdefault(row.boot_id, {})[row.model] = row
        elif isinstance(row, ModelRow):
            self._raise_epoch(row.owner, row.epoch)
            self._named.setdefault((row.owner, row.name), set()).add(row.epoch)
        elif isinstance(row, RevocationRow):
            revocation = Revocation.open(row.document, self._broker)
            self._revoked.append(Revoked(row.number, row, revocation))
            self._raise_epoch(row.owner, revocation.epoch)

    def previous(self, row: Row) -> Row | None:
        """Return the version of a row that is known under the same key."""
        return self._rows[row.table.name].get(row.key())

    def models(self) -> list[ModelRow]:
        """Return every model, in the order of owner, name and epoch."""
        rows = [row for row in self._rows["models"].values() if isinstance(row, ModelRow)]
        return sorted(rows, key=lambda row: (row.owner, row.name, row.epoch, row.digest))

    def model(self, digest: bytes) -> ModelRow | None:
        """Return one model by its digest."""
        row = self._rows["models"].get((digest,))
        return row if isinstance(row, ModelRow) else None

    def newer_epochs(self, model: ModelRow) -> tuple[int, ...]:
        """Return the epochs above a model's that are held of its owner and name, in ascending order."""
        return tuple(sorted(e for e in self._named.get((model.owner, model.name), ()) if e > model.epoch))

    def policy(self) -> PolicyRow | None:
        """Return the policy in force: the one of the highest epoch."""
        rows = self._rows["policies"]
        row = rows.get((len(rows),))
        return row if isinstance(row, PolicyRow) else None

    def enclave(self, boot_id: bytes) -> EnclaveRow | None:
        """Return what is known of one enclave process."""
        row = self._rows["enclaves"].get((boot_id,))
        return row if isinstance(row, EnclaveRow) else None

    def enclaves(self) -> list[EnclaveRow]:
        """Return every enclave that was ever given a key, in the order they were first seen."""
        rows = [row for row in self._rows["enclaves"].values() if isinstance(row, EnclaveRow)]
        return sorted(rows, key=lambda row: (row.first_seen, row.boot_id))

    def lease(self, boot_id: bytes, model: bytes) -> LeaseRow | None:
        """Return what an enclave was last granted of a model."""
        return self._held.get(boot_id, {}).get(model)

    def budget(self, owner: bytes, name: str, identity: bytes) -> BudgetRow | None:
        """Return what was last granted on a model name to an identity, an enclave, or all enclaves (BudgetRow)."""
        row = self._rows["budgets"].get((owner, name, identity))
        return row if isinstance(row, BudgetRow) else None

    def budgets(self) -> list[BudgetRow]:
        """Return every row of budgets, in the order of owner, name and identity."""
        rows = [row for row in self._rows["budgets"].values() if isinstance(row, BudgetRow)]
        return sorted(rows, key=BudgetRow.key)

    def leases(self) -> list[LeaseRow]:
        """Return every lease."""
        return [lease for held in self._held.values() for lease in held.values()]

    def leases_of(self, boot_id: bytes) -> list[LeaseRow]:
        """Return the leases of one enclave."""
        return list(self._held.get(boot_id, {}).values())

    def holders(self, model: bytes, *, besides: bytes = b"") -> int:
        """Count the enclaves whose lease on a model may be unspent, however long they are silent; without `besides`."""
        return self._holders.get(model, _NOBODY).count(besides)

    def revocations(self) -> tuple[Revoked, ...]:
        """Return the revocations in the order they were made."""
        return tuple(self._revoked)

    def revoked(self, model: ModelRow) -> Revoked | None:
        """Return the newest revocation that covers a model."""
        return next((item for item in reversed(self._revoked) if item.covers(model)), None)

    def owner_epoch(self, owner: bytes) -> int:
        """Return the owner's epoch, which heartbeats carry: the highest of its models and revocations."""
        return self._epochs.get(owner, 0)

    def _raise_epoch(self, owner: bytes, epoch: int) -> None:
        self._epochs[owner] = max(epoch, self._epochs.get(owner, 0))


def table_sums(sealer: Sealer, rows: Mapping[str, list[Row]]) -> dict[str, TableSum]:
    """Return the multiset hash of each table's rows."""
    sums = {}
    for kind in KINDS:
        table = TableSum()
        for row in rows[kind.table.name]:
            table = table.add(sealer.element(row))
        sums[str(kind.table.name)] = table
    return sums
