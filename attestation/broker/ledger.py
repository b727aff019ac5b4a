"""The ledger: state, database and audit log moving together, one durable step at a time.

`record` is the only way to change anything.  It takes the database's write lock, makes sure that this process knows
the log's end, lets the caller plan one event on the authenticated state, writes rows and audit row, and commits
durably, and remembers the log's new head in the anchor before it returns.  Whatever leaves the broker afterwards - a
key, a heartbeat - is in the log already, and the log cannot be put back to before it by the database alone.

What another process wrote meanwhile (`broker revoke` beside a running `broker serve`) is verified and taken in: its
audit rows must continue ours, and the tables must be what the newest of them says.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from attestation.broker.anchor import Anchor
from attestation.broker.audit import AuditError, AuditRow, Entry, EventKind, Head, genesis, next_row, verify_row
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.home import Home
from attestation.broker.keystore import BrokerKeys
from attestation.broker.schema import KINDS, LATER, NAMES, Row
from attestation.broker.seals import Sealer, TableSum, altered
from attestation.broker.state import State, table_sums
from attestation.broker.store import (
    Store,
    append_audit,
    has_table,
    insert_row,
    last_audit,
    load_rows,
    make_table,
    read_audit,
    update_row,
)
from manifests.errors import StrongroomError

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """One event to record, with the rows that it adds or changes."""

    kind: EventKind
    event: Mapping[str, Any]
    rows: tuple[Row, ...] = ()


@dataclass
class _View:
    """What this process knows of the database: state, sums of its tables, and the log's head."""

    state: State
    head: Head
    sums: dict[str, TableSum]
    macs: dict[str, bytes] = field(default_factory=dict)


class Ledger:
    """One broker's ledger, shared by the threads of a process.  Open it with `Ledger.open`."""

    def __init__(self, store: Store, keys: BrokerKeys, anchor: Anchor, view: _View) -> None:
        """Take what `open` or `create` has prepared."""
        self._store = store
        self._keys = keys
        self._anchor = anchor
        self._view = view
        self._sealer = Sealer(keys.store)
        self._lock = threading.RLock()
        self._anchored = view.head.count
        """Rows that the anchor covers."""
        self._is_restored = False

    @classmethod
    def create(cls, home: Home, keys: BrokerKeys, now: int) -> Self:
        """Make the database and the log of a new home."""
        view = _View(State(keys.signer.public), genesis(keys.signer.public), {name: TableSum() for name in NAMES})
        ledger = cls(Store.create(home.database), keys, Anchor(home.anchor, keys.signer), view)
        ledger._refresh_macs([str(kind.table.name) for kind in KINDS if kind not in LATER])
        ledger.record(now, lambda _state: Plan(EventKind.CREATED, {"broker": keys.signer.public}))
        return ledger

    @classmethod
    def open(cls, home: Home, keys: BrokerKeys, *, dangerously_accept_rollback: bool = False) -> Self:
        """Open the database of a home and authenticate what it holds.

        Raises BrokerError `store-rolled-back` if it lacks the anchor's head, `store-altered` if its tables are not
        what the newest audit row says, AuditError if the log's end does not verify, and as `Store.open`.
        `dangerously_accept_rollback` believes the whole log, verified, instead of the anchor.
        """
        store, anchor = Store.open(home.database), Anchor(home.anchor, keys.signer)
        try:
            start = genesis(keys.signer.public) if dangerously_accept_rollback else anchor.read()
            ledger = cls(store, keys, anchor, _View(State(keys.signer.public), start, {}))
            with store.read() as connection:
                ledger._require_head(connection)
                ledger._reload(connection)
            ledger._is_restored = dangerously_accept_rollback
            ledger._anchored = ledger.head.count if dangerously_accept_rollback else start.count
        except BaseException:
            store.close()
            raise
        return ledger

    def look(self, question: Callable[[State], T]) -> T:
        """Return the answer of `question` on the state as this process last saw it; `refresh` looks again."""
        with self._lock:
            return question(self._view.state)

    @property
    def head(self) -> Head:
        """Where the log stood when this process last saw it."""
        return self._view.head

    @property
    def keys(self) -> BrokerKeys:
        """The broker's keys."""
        return self._keys

    @property
    def version(self) -> tuple[bytes, ...]:
        """What changes when an administrator changes models, policies or revocations, and at no release."""
        with self._lock:
            return tuple(self._view.macs.get(name, b"") for name in ("models", "policies", "revocations"))

    def record(self, now: int, plan: Callable[[State], Plan]) -> Entry:
        """Record the event that `plan` makes of the newest state, durably; returns its audit entry.

        What `plan` raises passes through.  Raises BrokerError as `Store.write` and `open`, and ManifestError where an
        earlier head cannot be anchored: then nothing is recorded.  Raises BrokerError `anchor-behind` after the event
        was recorded and before its head is anchored: it is in force, and nothing may leave the broker for it.
        """
        with self._lock:
            if self._anchored != self._view.head.count:
                self.write_anchor()
            entry = self._record(now, plan)
            self._anchor_recorded()
            return entry

    def refresh(self) -> bool:
        """Take in what other processes have recorded; returns whether there was anything.  Raises as `open`."""
        with self._lock, self._store.read() as connection:
            return self._catch_up(connection)

    def audit_rows(self, start: int = 0) -> Iterator[AuditRow]:
        """Yield the audit rows from an index on, unverified."""
        with self._store.read() as connection:
            yield from read_audit(connection, start)

    def write_anchor(self) -> None:
        """Remember the log's head outside the database; raises as `Anchor.write`."""
        with self._lock:
            self._anchor.write(self._view.head, dangerously_lower=self._is_restored)
            self._anchored, self._is_restored = self._view.head.count, False

    def close(self) -> None:
        """Remember the head, and close the database."""
        with self._lock:
            if self._anchored != self._view.head.count:
                with contextlib.suppress(StrongroomError):  # the next opening verifies from the older anchor on
                    self.write_anchor()
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ recording

    def _record(self, now: int, make: Callable[[State], Plan]) -> Entry:
        with self._store.write() as connection:
            self._catch_up(connection)
            plan = make(self._view.state)
            sums = self._write_rows(connection, plan.rows)
            changed = {name: self._sealer.table_mac(name, table) for name, table in sums.items()}
            macs = {**self._view.macs, **changed}
            row = next_row(self._view.head, self._keys.signer, time=now, kind=plan.kind, tables=macs, event=plan.event)
            append_audit(connection, row)
            if last_audit(connection) != row:  # before the commit: a trigger may undo what was written
                raise altered("the database does not keep the audit row that was written to it", "audit")
        self._adopt(plan, row, sums, macs)
        return Entry(row.index, now, plan.kind, macs, plan.event, row.head().digest)

    def _write_rows(self, connection: Connection, rows: tuple[Row, ...]) -> dict[str, TableSum]:
        """Write a plan's rows; returns the new sums of the tables that they touch.

        Raises ValueError for a key that comes twice: the sums would take its row for two.
        """
        if len({(row.table.name, row.key()) for row in rows}) != len(rows):
            raise ValueError("a plan names each row once")
        sums: dict[str, TableSum] = {}
        for row in rows:
            name, previous = str(row.table.name), self._view.state.previous(row)
            if name not in self._view.macs:  # its first row
                make_table(connection, type(row))
            table = sums.get(name, self._view.sums[name])
            if previous is None:
                insert_row(connection, row, self._sealer)
            else:
                update_row(connection, row, self._sealer)
                table = table.remove(self._sealer.element(previous))
            sums[name] = table.add(self._sealer.element(row))
        return sums

    def _adopt(self, plan: Plan, row: AuditRow, sums: dict[str, TableSum], macs: dict[str, bytes]) -> None:
        """Take over what was committed."""
        for changed in plan.rows:
            self._view.state.put(changed)
        self._view.sums.update(sums)
        self._view.macs = macs
        self._view.head = row.head()

    def _anchor_recorded(self) -> None:
        try:
            self.write_anchor()
        except StrongroomError as error:
            raise BrokerError(
                BrokerCode.ANCHOR_BEHIND,
                f"audit row {self._view.head.count - 1} is recorded and in force, but not anchored: {error.message}",
                remedy="mend the disk or the anchor's permissions; the anchor is written before the next row",
            ) from None

    # ------------------------------------------------------------------------------------------ authenticating

    def _catch_up(self, connection: Connection) -> bool:
        """Make sure that the view is the database's newest state."""
        newest = last_audit(connection)
        known = (
            newest is None if self._view.head.count == 0 else newest is not None and newest.head() == self._view.head
        )
        if known:
            return False
        self._require_head(connection)
        self._reload(connection)
        return True

    def _require_head(self, connection: Connection) -> None:
        """Refuse a database whose log does not contain the head that we remember."""
        known = self._view.head
        if known.count == 0:
            return
        row = next(read_audit(connection, known.count - 1), None)
        if row is None or row.head() != known:
            raise BrokerError(
                BrokerCode.STORE_ROLLED_BACK,
                "the database does not contain the newest audit row that the broker remembers",
                expected=f"row {known.count - 1} with head {known.digest.hex()}",
                found="no such row" if row is None else f"row {row.index} with head {row.head().digest.hex()}",
                remedy="restore the newest database; after a restore from a backup, `strongroom broker audit accept`",
            )

    def _reload(self, connection: Connection) -> None:
        """Verify the log from the known head to its end, then the tables against its newest row."""
        public = self._keys.signer.public
        head, newest = self._view.head, None
        for row in read_audit(connection, max(head.count - 1, 0)):
            if row.index < head.count:
                newest = verify_row(row, Head(row.index, row.previous), public)
            else:
                newest = verify_row(row, head, public)
                head = Head(head.count + 1, newest.head)
        if newest is None:
            raise AuditError(BrokerCode.AUDIT_ORDER, head.count, "the log is empty")
        self._view = self._load(connection, newest, head)

    def _load(self, connection: Connection, newest: Entry, head: Head) -> _View:
        state = State(self._keys.signer.public)
        rows = {str(kind.table.name): self._authentic_rows(connection, kind, newest) for kind in KINDS}
        sums = table_sums(self._sealer, rows)
        made = {str(kind.table.name) for kind in KINDS if kind not in LATER} | newest.tables.keys()
        for name, table in sums.items():
            if (newest.tables.get(name) != self._sealer.table_mac(name, table)) if name in made else table.count:
                raise altered(
                    f"rows of the table {name!r} were deleted, added, or put back as they once were", f"{name} table"
                )
        for row in (row for table_rows in rows.values() for row in table_rows):
            state.put(row)
        return _View(state, head, sums, dict(newest.tables))

    def _authentic_rows(self, connection: Connection, kind: type[Row], newest: Entry) -> list[Row]:
        rows: list[Row] = []
        if kind in LATER and kind.table.name not in newest.tables and not has_table(connection, kind):
            return rows
        for row, seal in load_rows(connection, kind):
            self._sealer.check(row, seal)
            rows.append(row)
        return sorted(rows, key=lambda row: row.key())

    def _refresh_macs(self, names: Sequence[str]) -> None:
        self._view.macs = {name: self._sealer.table_mac(name, self._view.sums[name]) for name in names}
