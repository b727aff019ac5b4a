"""Audit logs as files, and their verification away from the broker.

    file = u32 length || header || (u32 length || row)*                                       lengths big-endian
    header = canonical ["strongroom audit log", 1, broker's public key]; a row is as audit.py has it

The header's key says whose log the file claims to be; a verifier compares it with the key that it already trusts.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from attestation.broker.audit import MAX_BODY, AuditError, AuditRow
from attestation.broker.errors import BrokerCode, BrokerError
from manifests import canonical, fields, signing
from manifests.errors import ManifestError
from manifests.files import naming, open_regular, write_atomically

MAGIC = "strongroom audit log"
VERSION = 1
MAX_ROW = MAX_BODY + 1024


def write_export(path: Path, broker: bytes, rows: Iterable[AuditRow]) -> None:
    """Write a log to a new or existing file, whole or not at all; raises ManifestError `disk-full` and others."""
    write_atomically(path, _blocks(broker, rows), mode=0o600, replace=False)


def read_export(path: Path, broker: bytes) -> Iterator[AuditRow]:
    """Yield the rows of an exported log that claims to be this broker's; nothing is verified.

    Raises AuditError `audit-malformed`; BrokerError `audit-forked` for the log of another broker and `audit-version`
    for one of a later version; ManifestError `file-unavailable`.
    """
    with os.fdopen(open_regular(path), "rb") as file, naming(path):
        _check_header(_item(file, 0), broker, path)
        position = 0
        while data := _item(file, position):
            yield AuditRow.decode(data, position)
            position += 1


def _blocks(broker: bytes, rows: Iterable[AuditRow]) -> Iterator[bytes]:
    yield _framed(canonical.encode([MAGIC, VERSION, broker]))
    for row in rows:
        yield _framed(row.encode())


def _framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _item(file: BinaryIO, position: int) -> bytes:
    """Return the next item, or nothing at the end of the file."""
    prefix = file.read(4)
    if not prefix:
        return b""
    size = struct.unpack(">I", prefix)[0] if len(prefix) == 4 else 0
    data = file.read(size) if size <= MAX_ROW else b""
    if not data or len(data) != size:
        raise AuditError(
            BrokerCode.AUDIT_MALFORMED, position, "the file ends within it, or its length is out of bounds"
        )
    return data


def _check_header(header: bytes, broker: bytes, path: Path) -> None:
    try:
        items = fields.of_type(canonical.decode(header, max_size=256), "header", list)
        if items[:1] != [MAGIC]:
            raise BrokerError(BrokerCode.AUDIT_MALFORMED, f"{path} is not an exported audit log")
        version = fields.number(items[1] if len(items) > 1 else None, "version", VERSION)
        if version > VERSION:  # of a later version nothing more is known
            raise BrokerError(
                BrokerCode.AUDIT_VERSION,
                f"{path} was exported by a newer version of the program",
                expected=VERSION,
                found=version,
                remedy="verify it with a newer release",
            )
        claimed = fields.fixed_bytes(items[2] if len(items) == 3 else None, "broker", signing.KEY_SIZE)
    except ManifestError as error:
        raise BrokerError(BrokerCode.AUDIT_MALFORMED, f"{path} is not an exported audit log: {error.message}") from None
    if claimed != broker:
        raise BrokerError(
            BrokerCode.AUDIT_FORKED, f"{path} is the log of another broker", expected=broker.hex(), found=claimed.hex()
        )
