r"""How a broker knows its own rows again in a database that anybody may have written to.

Each row carries a MAC over its table and values: an edited row, or two that were swapped, are found by name.  A row
that was deleted, or put back as it once was, carries a good MAC; it is found by the whole table's:

    element(row)  = HMAC-SHA-512(key, "strongroom row element v1\0" || canonical [table, values])
    table's MAC   = HMAC-SHA-512(key, "strongroom table v1\0" || table || count || sum of elements mod 2**512)[:32]

The sum is a keyed multiset hash (Clarke, Devadas, van Dijk, Gassend and Suh, "Incremental multiset hash functions",
2003: MSet-Add-Hash): one changed row costs two MACs, whatever the table's size.  The sum itself stays in memory, so
that nobody learns elements from differences; the newest audit row carries the table's MAC, and so binds the tables'
state to the log's end.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.keystore import KeyStore
from attestation.broker.schema import Row
from manifests import canonical, signing
from manifests.errors import ManifestError

SEAL_SIZE = 32
_MODULUS = 1 << 512
_SEAL = signing.label("row seal")
_ELEMENT = signing.label("row element")
_TABLE = signing.label("table")


@dataclass(frozen=True)
class TableSum:
    """The multiset hash of one table's rows.  Secret: hidden from `repr`."""

    count: int = 0
    total: int = 0

    def __repr__(self) -> str:
        return f"TableSum(count={self.count})"

    def add(self, element: int) -> TableSum:
        """Return the sum with one row more."""
        return TableSum(self.count + 1, (self.total + element) % _MODULUS)

    def remove(self, element: int) -> TableSum:
        """Return the sum with one row less."""
        return TableSum(self.count - 1, (self.total - element) % _MODULUS)


class Sealer:
    """Seals rows and tables under the key store's authentication key."""

    def __init__(self, store: KeyStore) -> None:
        """Use this key store."""
        self._store = store

    def seal(self, row: Row) -> bytes:
        """Return the 32 bytes that a row carries."""
        return self._store.authenticate(_SEAL + _encoding(row))[:SEAL_SIZE]

    def check(self, row: Row, seal: object) -> None:
        """Refuse a row that does not carry its seal; raises BrokerError `store-altered`."""
        if not isinstance(seal, bytes) or not hmac.compare_digest(self._seal_of_foreign(row), seal):
            raise altered(f"a row of the table {row.table.name!r} was edited or moved", describe(row))

    def element(self, row: Row) -> int:
        """Return what a row adds to its table's sum."""
        return int.from_bytes(self._store.authenticate(_ELEMENT + _encoding(row)), "big")

    def table_mac(self, name: str, table: TableSum) -> bytes:
        """Return the 32 bytes that stand for a whole table in the audit log."""
        data = name.encode() + b"\0" + struct.pack(">Q", table.count) + table.total.to_bytes(64, "big")
        return self._store.authenticate(_TABLE + data)[:SEAL_SIZE]

    def _seal_of_foreign(self, row: Row) -> bytes:
        try:
            return self.seal(row)
        except ManifestError:  # a column holds a type that no row of ours has
            return bytes(SEAL_SIZE)


def altered(message: str, found: str) -> BrokerError:
    """Return the error for a database that something else has written to."""
    return BrokerError(
        BrokerCode.STORE_ALTERED,
        message,
        found=found,
        remedy="restore the database from a backup; `strongroom broker audit verify` tells how far its log is sound",
    )


def describe(row: Row) -> str:
    """Return a row's table and key, for messages."""
    parts = [part.hex() if isinstance(part, bytes) else repr(part) for part in row.key()]
    return f"{row.table.name} {' '.join(parts)}"


def _encoding(row: Row) -> bytes:
    return canonical.encode([str(row.table.name), list(row.values())])
