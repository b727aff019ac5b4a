r"""The audit log: a chain of signed rows, and its verifier, which needs nothing but the rows and the broker's key.

    head(0)  = SHA-512("strongroom audit genesis v1\0" || broker's public key)
    head(n)  = SHA-512("strongroom audit row v1\0" || previous || body)            `previous` must be head(n - 1)
    row      = [index, previous, body, signature]                 index counts from 0; row i makes head(i + 1)
    signature = Ed25519 by the broker over "strongroom audit head v1\0" || head

The body is canonical msgpack: version, index, time (Unix seconds), kind, event (a map), and `tables`: what the
database's tables looked like after the event, under a MAC that only the broker can compute (seals.py).  Each row
names its predecessor, so that a row altered later (its signature fails) is told from one that the broker did sign,
but for another history (a fork).  What a chain cannot show by itself is that its end was cut: hold it against a head
from elsewhere - the broker's anchor, an earlier export, or the `audit_head` in a grant that an enclave received.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from attestation.binding import HASH_SIZE
from attestation.broker.errors import BrokerCode, BrokerError
from manifests import canonical, fields, signing
from manifests.errors import ManifestCode, ManifestError

GENESIS = signing.label("audit genesis")
ROW = signing.label("audit row")
HEAD = signing.label("audit head")

MAX_BODY = 48 * 1024
"""A refusal of many models over many findings names what fits and counts the rest (releases.py)."""
_BODY = ("index", "time", "kind", "tables", "event")


class EventKind(StrEnum):
    """What an audit row records."""

    CREATED = "created"
    MODEL_ADDED = "model-added"
    REWRAPPED = "rewrapped"
    POLICY_SET = "policy-set"
    RELEASE = "release"
    RENEWAL = "renewal"
    REFUSAL = "refusal"
    FAILURE = "failure"
    REVOCATION = "revocation"
    FORGOTTEN = "forgotten"
    CREDENTIAL = "credential"
    BUDGETS_RESET = "budgets-reset"
    RESTORED = "restored"


class AuditError(BrokerError):
    """A log that does not verify; `index` is the first row at which that shows."""

    def __init__(self, code: BrokerCode, index: int, message: str, **details: Any) -> None:
        """Name the row in the message and in `index`."""
        super().__init__(code, f"audit row {index}: {message}", **details)
        self.index = index

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form, with the row's index."""
        return {**super().to_dict(), "index": self.index}


@dataclass(frozen=True)
class Head:
    """Where a log stands: how many rows it has, and the digest over all of them (64 bytes)."""

    count: int
    digest: bytes


@dataclass(frozen=True)
class AuditRow:
    """One row as stored and exported."""

    index: int
    previous: bytes
    body: bytes
    signature: bytes

    def head(self) -> Head:
        """Return where the log stands after this row."""
        return Head(self.index + 1, hashlib.sha512(ROW + self.previous + self.body).digest())

    def encode(self) -> bytes:
        """Return the canonical bytes of an export."""
        return canonical.encode([self.index, self.previous, self.body, self.signature])

    @classmethod
    def decode(cls, data: bytes, position: int) -> AuditRow:
        """Decode the row that stands at `position` of an export; raises AuditError `audit-malformed`."""
        try:
            items = fields.list_of(canonical.decode(data, max_size=MAX_BODY + 1024), "audit row", 4)
            index, previous, body, signature = items if len(items) == 4 else (None, None, None, None)
            return cls(
                index=fields.number(index, "index", 0),
                previous=fields.fixed_bytes(previous, "previous", HASH_SIZE),
                body=fields.bounded_bytes(body, "body", MAX_BODY),
                signature=fields.fixed_bytes(signature, "signature", signing.SIGNATURE_SIZE),
            )
        except ManifestError as error:
            raise AuditError(BrokerCode.AUDIT_MALFORMED, position, error.message) from None


@dataclass(frozen=True)
class Entry:
    """The content of a verified row.  `tables` maps a table's name to the MAC over its rows (32 bytes)."""

    index: int
    time: int
    kind: EventKind
    tables: Mapping[str, bytes]
    event: Mapping[str, Any]
    head: bytes

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form, bytes as hexadecimal."""
        return {
            "index": self.index,
            "time": self.time,
            "kind": str(self.kind),
            "event": readable(self.event),
            "head": self.head.hex(),
        }


def genesis(broker: bytes) -> Head:
    """Return the head of the empty log of one broker."""
    return Head(0, hashlib.sha512(GENESIS + broker).digest())


def next_row(
    head: Head,
    signer: signing.Signer,
    *,
    time: int,
    kind: EventKind,
    tables: Mapping[str, bytes],
    event: Mapping[str, Any],
) -> AuditRow:
    """Sign the row that follows `head`; raises AuditError `audit-too-large`."""
    body = canonical.encode(
        {
            "version": 1,
            "index": head.count,
            "time": time,
            "kind": str(kind),
            "tables": dict(tables),
            "event": dict(event),
        }
    )
    if len(body) > MAX_BODY:
        raise AuditError(
            BrokerCode.AUDIT_TOO_LARGE, head.count, "the event is too large", expected=MAX_BODY, found=len(body)
        )
    unsigned = AuditRow(head.count, head.digest, body, b"")
    return AuditRow(head.count, head.digest, body, signer.sign(HEAD, unsigned.head().digest))


def verify_row(row: AuditRow, head: Head, broker: bytes) -> Entry:
    """Verify the row that should follow `head`, and return its content; raises AuditError.

    1. The broker signed it (else altered).  2. Its body is well-formed, and of a version that is known.  3. It stands
    where it belongs (else a row is missing, moved or repeated).  4. It follows this history (else a fork).
    """
    index = head.count
    made = row.head().digest
    try:
        signing.verify(broker, HEAD, made, row.signature)
    except ManifestError:
        raise AuditError(BrokerCode.AUDIT_ALTERED, index, "the broker did not sign this row") from None
    try:
        entry = _entry(row.body, made)
    except ManifestError as error:
        raise _unreadable(error, index) from None
    if entry.index != index or row.index != index:
        found = entry.index if entry.index != index else row.index
        raise AuditError(BrokerCode.AUDIT_ORDER, index, "another row stands in its place", expected=index, found=found)
    if row.previous != head.digest:
        raise AuditError(
            BrokerCode.AUDIT_FORKED,
            index,
            "the broker signed this row for another history",
            expected=head.digest.hex(),
            found=row.previous.hex(),
        )
    return entry


def _unreadable(error: ManifestError, index: int) -> AuditError:
    """Say of a row that the broker signed whether a newer program wrote it, or nobody that is known."""
    is_later = error.code is ManifestCode.VERSION_UNSUPPORTED
    code = BrokerCode.AUDIT_VERSION if is_later else BrokerCode.AUDIT_MALFORMED
    return AuditError(code, index, error.message, expected=error.expected, found=error.found, remedy=error.remedy)


def _entry(body: bytes, head: bytes) -> Entry:
    value = fields.versioned_map(canonical.decode(body, max_size=MAX_BODY), "body", _BODY)
    tables = fields.of_type(value["tables"], "tables", dict)
    return Entry(
        index=fields.number(value["index"], "index", 0),
        time=fields.number(value["time"], "time", 0),
        kind=fields.member(EventKind, value["kind"], "kind"),
        tables={name: fields.fixed_bytes(mac, name, 32) for name, mac in tables.items()},
        event=fields.of_type(value["event"], "event", dict),
        head=head,
    )


def verify_log(rows: Iterable[AuditRow], broker: bytes, *, expected: Iterable[bytes] = ()) -> Iterator[Entry]:
    """Verify a whole log from its first row, yielding its entries; raises AuditError at the first bad row.

    `expected` are heads from elsewhere which the log must have passed through; a log whose end was cut lacks them.
    Exhaust the iterator: only then has everything been verified.
    """
    head, missing = genesis(broker), set(expected)
    missing.discard(head.digest)
    for row in rows:
        entry = verify_row(row, head, broker)
        head = Head(head.count + 1, entry.head)
        missing.discard(entry.head)
        yield entry
    if missing:
        raise AuditError(
            BrokerCode.AUDIT_HEAD,
            head.count,
            "the log ends here without an expected head: its end was cut, or it is another log",
            expected=", ".join(sorted(item.hex() for item in missing)),
            found=head.digest.hex(),
        )


def readable(value: Any) -> Any:
    """Return a value of the canonical subset with byte strings as hexadecimal, for JSON."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {name: readable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    return value
