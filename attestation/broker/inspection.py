"""Reading and verifying audit logs: of a home, without its passphrase, or of an export."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attestation.binding import HASH_SIZE
from attestation.broker.anchor import read_anchor
from attestation.broker.audit import AuditRow, Entry, EventKind, Head, genesis, verify_log, verify_row
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.export import read_export, write_export
from attestation.broker.home import Home
from attestation.broker.keystore import CARD_SIGNING
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.store import Store, read_audit
from manifests.keyfile import read_card_entry


def parse_head(text: str) -> bytes:
    """Read a head in hexadecimal; raises BrokerError `audit-head`."""
    try:
        head = bytes.fromhex(text)
    except ValueError:
        head = b""
    if len(head) != HASH_SIZE:
        raise BrokerError(BrokerCode.AUDIT_HEAD, "a head is 128 hexadecimal digits", found=text[:160])
    return head


def verify_home(home: Home, card: Path | None, expected: Iterable[bytes]) -> dict[str, Any]:
    """Verify a home's whole log, which must also contain its anchor's head; raises AuditError or BrokerError.

    The broker's key is the card's, if one is given, else the one that the home's key file shows: whoever writes to the
    home can exchange that, with all the rest, so the result says that nobody has confirmed it.
    """
    home.check()
    public = read_card_entry(card, CARD_SIGNING) if card else home.public_keys()[CARD_SIGNING]
    anchor = read_anchor(home.anchor, public)
    store = Store.open(home.database)
    try:
        with store.read() as connection:
            result = _verified(read_audit(connection), public, [*expected, anchor.digest])
    finally:
        store.close()
    return {**result, "key": "confirmed by the card" if card else "UNCONFIRMED: the home's own; give --broker CARD"}


def verify_export(file: Path, card: Path, expected: Iterable[bytes]) -> dict[str, Any]:
    """Verify an exported log against the broker's card; raises AuditError or BrokerError."""
    public = read_card_entry(card, CARD_SIGNING)
    return {**_verified(read_export(file, public), public, expected), "key": "confirmed by the card"}


def _verified(rows: Iterable[AuditRow], public: bytes, expected: Iterable[bytes]) -> dict[str, Any]:
    count, head = 0, genesis(public).digest
    kinds: dict[str, int] = {}
    for entry in verify_log(rows, public, expected=expected):
        count, head = entry.index + 1, entry.head
        kinds[str(entry.kind)] = kinds.get(str(entry.kind), 0) + 1
    return {"verified": True, "broker": public.hex(), "rows": count, "head": head.hex(), **kinds}


def newest(home: Home, last: int, kind: str | None) -> list[Entry]:
    """Return the newest rows of a kind, or of all, oldest first; each is verified to be signed and in its place.

    Without a kind only these rows are read; that they follow from the log's beginning is `audit verify`'s to tell.
    """
    public = home.public_keys()[CARD_SIGNING]
    store = Store.open(home.database)
    try:
        with store.read() as connection:
            start = 0 if kind else _start(store, last)
            found: deque[Entry] = deque(maxlen=last)
            for row in read_audit(connection, start):
                entry = verify_row(row, Head(row.index, row.previous), public)
                if kind is None or entry.kind == EventKind(kind):
                    found.append(entry)
            return list(found)
    finally:
        store.close()


def _start(store: Store, last: int) -> int:
    newest_row = store.last_audit()
    return 0 if newest_row is None else max(0, newest_row.index + 1 - last)


def export(home: Home, output: Path) -> dict[str, Any]:
    """Write a home's log to a file, unverified; raises ManifestError `disk-full` and others."""
    public = home.public_keys()[CARD_SIGNING]
    store = Store.open(home.database)
    try:
        with store.read() as connection:
            rows = _Counted(read_audit(connection))
            write_export(output, public, rows)
    finally:
        store.close()
    return {"file": str(output), "rows": rows.count, "head": rows.head.hex()}


class _Counted:
    """Rows that pass through, counted, with the head of the last."""

    def __init__(self, rows: Iterable[AuditRow]) -> None:
        self._rows = rows
        self.count = 0
        self.head = b""

    def __iter__(self) -> Any:
        for row in self._rows:
            self.count, self.head = self.count + 1, row.head().digest
            yield row


def accept(home: Home, passphrase: bytes, now: int) -> dict[str, Any]:
    """Verify a restored database by itself and take it for the newest; the log keeps that this was done."""
    with Ledger.open(home, home.unlock(passphrase), dangerously_accept_rollback=True) as ledger:
        given_up = {"rows": ledger.head.count}
        entry = ledger.record(now, lambda _state: Plan(EventKind.RESTORED, given_up))
    return {"accepted": True, "rows": entry.index + 1, "head": entry.head.hex()}
