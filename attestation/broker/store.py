"""The SQLite database behind the broker: connections, durability, and plain reading and writing of rows.

Nothing here is trusted or decides anything; ledger.py checks what it reads.  Every commit is durable when it returns
(write-ahead log, synchronous=FULL), and writers take the database's one write lock at their start, so that what a
transaction has read stays true until it commits.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Insert,
    Table,
    Update,
    bindparam,
    create_engine,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from attestation.broker.audit import AuditRow
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.schema import LATER, SCHEMA_VERSION, Row, audit_rows, metadata, schema_info
from attestation.broker.seals import Sealer, altered

BUSY_TIMEOUT_MS = 10_000
"""A transaction of ours takes about a millisecond; somebody who holds the lock for ten seconds is stuck."""
_WRITES = "strongroom_writes"
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_SCHEMA")
"""With SQLITE_ERROR (a table is missing) and nameless errors (text that is no UTF-8): another hand was at work."""
_FOREIGN = "SELECT type || ' ' || quote(name) FROM sqlite_master WHERE type NOT IN ('table', 'index')"
_AUDIT_COLUMNS = (audit_rows.c.index, audit_rows.c.previous, audit_rows.c.body, audit_rows.c.signature)
_INSERT_AUDIT = insert(audit_rows)
_LAST_AUDIT = select(*_AUDIT_COLUMNS).order_by(audit_rows.c.index.desc()).limit(1)


class Store:
    """One database file."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened with the first transaction."""
        self._path = path
        self._engine = _engine(path)

    @classmethod
    def create(cls, path: Path) -> Store:
        """Make a new database, readable by its user alone; raises BrokerError."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise BrokerError(BrokerCode.STORE_UNAVAILABLE, f"{path}: {error.strerror}") from None
        store = cls(path)
        with store.write() as connection:
            later = {kind.table for kind in LATER}
            metadata.create_all(connection, tables=[table for table in metadata.sorted_tables if table not in later])
            connection.execute(insert(schema_info).values(version=SCHEMA_VERSION))
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open an existing database; raises BrokerError `store-unavailable`, `store-version` or `store-altered`."""
        if not path.is_file():
            raise BrokerError(
                BrokerCode.STORE_UNAVAILABLE, f"{path} does not exist", remedy="restore the database from a backup"
            )
        store = cls(path)
        with store.read() as connection:
            foreign = list(connection.exec_driver_sql(_FOREIGN).scalars())
            versions = list(connection.execute(select(schema_info.c.version)).scalars())
        if versions != [SCHEMA_VERSION]:
            store.close()
            raise BrokerError(
                BrokerCode.STORE_VERSION,
                "the database was made by another version of the program",
                expected=SCHEMA_VERSION,
                found=versions,
                remedy="use the release that made it, or a newer one",
            )
        if foreign:
            store.close()
            raise altered("the database holds what the broker never makes: triggers or views", ", ".join(foreign))
        return store

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Hold the write lock for the body, then commit durably; an exception rolls back.

        Raises BrokerError `store-full`, `store-busy`, `store-altered` (no longer a database) or `store-unavailable`.
        """
        with (
            self._translated(),
            self._engine.connect() as connection,
            connection.execution_options(**{_WRITES: True}).begin(),
        ):
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """See one state of the database for the body; raises as `write`."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    def last_audit(self) -> AuditRow | None:
        """Return the audit row with the highest index; raises as `read`."""
        with self.read() as connection:
            return last_audit(connection)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise _store_error(self._path, error) from None


def insert_row(connection: Connection, row: Row, sealer: Sealer) -> None:
    """Insert a sealed row."""
    connection.execute(_insert(row.table), _columns(row, sealer))


def update_row(connection: Connection, row: Row, sealer: Sealer) -> None:
    """Replace the sealed row of the same key; raises BrokerError `store-altered` if it has vanished."""
    keys = {f"key_{name}": value for name, value in zip(_key_names(row.table), row.key(), strict=True)}
    if connection.execute(_update(row.table), {**_columns(row, sealer), **keys}).rowcount != 1:
        raise altered(f"a row of the table {row.table.name!r} has vanished", row.table.name)


def load_rows(connection: Connection, kind: type[Row]) -> Iterator[tuple[Row, Any]]:
    """Yield the rows of a table with the seal that each carries; nothing is checked, types included."""
    for columns in connection.execute(select(kind.table)):
        *values, seal = columns
        yield kind(*values), seal


def make_table(connection: Connection, kind: type[Row]) -> None:
    """Make a table that came later, unless it is there."""
    kind.table.create(connection, checkfirst=True)


def has_table(connection: Connection, kind: type[Row]) -> bool:
    """Tell whether a table is there."""
    return inspect(connection).has_table(str(kind.table.name))


def append_audit(connection: Connection, row: AuditRow) -> None:
    """Insert one audit row."""
    connection.execute(
        _INSERT_AUDIT,
        {"index": row.index, "previous": row.previous, "body": row.body, "signature": row.signature},
    )


def last_audit(connection: Connection) -> AuditRow | None:
    """Return the audit row with the highest index."""
    found = connection.execute(_LAST_AUDIT).first()
    return None if found is None else _audit_row(found)


def read_audit(connection: Connection, start: int = 0) -> Iterator[AuditRow]:
    """Yield the audit rows from an index on, in the order of their indices."""
    statement = select(*_AUDIT_COLUMNS).where(audit_rows.c.index >= start).order_by(audit_rows.c.index)
    for found in connection.execute(statement.execution_options(yield_per=1000)):
        yield _audit_row(found)


@functools.cache
def _insert(table: Table) -> Insert:
    """Return the statement for a table; built once, since building costs more than running it."""
    return insert(table)


@functools.cache
def _update(table: Table) -> Update:
    keys = (table.columns[name] == bindparam(f"key_{name}") for name in _key_names(table))
    return update(table).where(*keys).values({column.name: bindparam(column.name) for column in table.columns})


def _key_names(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


def _audit_row(found: Any) -> AuditRow:
    index, *parts = found
    if type(index) is not int or not all(type(part) is bytes for part in parts):
        raise altered("an audit row holds columns of another type", f"audit {index!r}")
    return AuditRow(index, *parts)


def _columns(row: Row, sealer: Sealer) -> dict[str, Any]:
    names = [column.name for column in row.table.columns]
    return dict(zip(names, (*row.values(), sealer.seal(row)), strict=True))


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"check_same_thread": False, "timeout": 0}
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own; `_begin` does
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "trusted_schema=OFF",
        "cell_size_check=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _free_space(path: Path) -> int:
    """Return the bytes that this process may still write beside the database; SQLite calls their lack an I/O error."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 1


def _store_error(path: Path, error: SQLAlchemyError) -> BrokerError:
    """Translate an error of the database; the driver's text names no values."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", "")
    reason = f"{path}: {name or type(cause).__name__}"
    if name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and not _free_space(path)):
        return BrokerError(
            BrokerCode.STORE_FULL, f"{path}: no space is left", remedy="free some space; nothing was released"
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return BrokerError(
            BrokerCode.STORE_BUSY, f"{path}: another process holds it", remedy="end the process that does, try again"
        )
    if name in {"", "SQLITE_ERROR"} or name.startswith(_DAMAGE):
        return altered(f"{path} is damaged, or was written to by another program", name)
    return BrokerError(BrokerCode.STORE_UNAVAILABLE, reason, remedy="check the disk and the folder's permissions")
