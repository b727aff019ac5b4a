"""Event logs of a simulated boot, in the crypto-agile format."""

from __future__ import annotations

from collections.abc import Iterable

from attestation.eventlog.log import Event, EventLog, EventType
from attestation.tpm.algorithms import Hash

Entry = tuple[int, EventType, bytes]
"""Register, type and data of an event."""

BOOT: tuple[Entry, ...] = (
    (0, EventType.EV_NO_ACTION, b"StartupLocality\0\x03"),
    (0, EventType.EV_S_CRTM_VERSION, "Strongroom simulated firmware 1".encode("utf-16-le")),
    (7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, b"SecureBoot 1"),
    *((index, EventType.EV_SEPARATOR, bytes(4)) for index in range(8)),
    (4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"simulated loader"),
    (8, EventType.EV_IPL, b"simulated kernel command line\0"),
    (9, EventType.EV_IPL, b"simulated kernel\0"),
)
"""What firmware, loader and kernel of a simulated machine log."""


def make_log(entries: Iterable[Entry] = BOOT, banks: tuple[Hash, ...] = (Hash.SHA256,), padding: bytes = b"") -> bytes:
    """Return a log whose digests are those of the events' data, in the given banks."""
    events = tuple(_event(entry, banks) for entry in entries)
    return EventLog(_header(banks), tuple((bank, bank.size) for bank in banks), events, padding).serialize()


def _event(entry: Entry, banks: tuple[Hash, ...]) -> Event:
    register, kind, data = entry
    logged_only = kind == EventType.EV_NO_ACTION
    digests = tuple((int(bank), bytes(bank.size) if logged_only else bank.digest(data)) for bank in banks)
    return Event(register, kind, digests, data)


def _header(banks: tuple[Hash, ...]) -> bytes:
    algorithms = b"".join(_u16(bank) + _u16(bank.size) for bank in banks)
    body = b"Spec ID Event03\0" + bytes(4) + b"\x00\x02\x00\x02" + _u32(len(banks)) + algorithms + b"\0"
    return _u32(0) + _u32(EventType.EV_NO_ACTION) + bytes(20) + _u32(len(body)) + body


def _u16(number: int) -> bytes:
    return int(number).to_bytes(2, "little")


def _u32(number: int) -> bytes:
    return int(number).to_bytes(4, "little")
