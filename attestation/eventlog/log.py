"""The crypto-agile event log: bytes to events and back.

Source: TCG PC Client Platform Firmware Profile, section 10 "Event Logging" (TCG_PCClientPCREvent, TCG_EfiSpecIdEvent,
TCG_PCR_EVENT2); for confidential VMs the UEFI Specification, section 38 "Confidential Computing", and ACPI table CCEL,
which keep the same log over measurement registers instead of PCRs.  All integers are little-endian.

The digests of a log are authentic as far as they replay to quoted registers.  What an event *says* is not: firmware
may digest something else than the data that it logs.  `Event.describes` tells where the two agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from attestation.errors import EvidenceError
from attestation.eventlog.errors import EventLogCode
from attestation.tpm.algorithms import Hash

MAX_LOG = 1024 * 1024
"""A confidential VM's table has 64 to 256 KiB, most of it unused."""
MAX_ALGORITHMS = 8
_MAX_DIGEST = 64
UNCOVERED: Final = (
    "header: register",
    "header: platform class",
    "header: errata",
    "header: size of UINTN",
    "header: vendor information",
    "event type",
    "event data",
    "register that is not quoted",
    "digest that is not quoted",
)
"""What can be altered in a log that replays to the quoted registers.

Types but for EV_NO_ACTION, which tells what was not extended; data but for the startup locality where PCR 0 is quoted.
Not quoted is also what EV_NO_ACTION has as register and digests, and a digest of a bank that is not quoted.
"""
_SIGNATURE = b"Spec ID Event03\0"
_VERSION = (0, 2)
"""(minor, major) of the log's format: 2.0, with any errata."""


class EventType(IntEnum):
    """Event types that a reader is likely to look for (section 10.4.1)."""

    EV_PREBOOT_CERT = 0x00
    EV_POST_CODE = 0x01
    EV_NO_ACTION = 0x03
    EV_SEPARATOR = 0x04
    EV_ACTION = 0x05
    EV_EVENT_TAG = 0x06
    EV_S_CRTM_CONTENTS = 0x07
    EV_S_CRTM_VERSION = 0x08
    EV_CPU_MICROCODE = 0x09
    EV_PLATFORM_CONFIG_FLAGS = 0x0A
    EV_TABLE_OF_DEVICES = 0x0B
    EV_COMPACT_HASH = 0x0C
    EV_IPL = 0x0D
    EV_IPL_PARTITION_DATA = 0x0E
    EV_NONHOST_CODE = 0x0F
    EV_NONHOST_CONFIG = 0x10
    EV_NONHOST_INFO = 0x11
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x12
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000000B
    EV_EFI_VARIABLE_BOOT2 = 0x8000000C
    EV_EFI_HCRTM_EVENT = 0x80000010
    EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000E1


@dataclass(frozen=True)
class Event:
    """TCG_PCR_EVENT2.

    register: PCR index, or measurement register of a confidential VM.  kind: an EventType, or a number that is none.
    digests: by TPM_ALG_ID, in the order of the log.  data: the event field, which nothing but its digest vouches for.
    """

    register: int
    kind: int
    digests: tuple[tuple[int, bytes], ...]
    data: bytes

    def digest(self, bank: Hash) -> bytes:
        """Return the digest for a bank; raises EvidenceError `eventlog-bank`."""
        for algorithm, value in self.digests:
            if algorithm == bank:
                return value
        raise EvidenceError(EventLogCode.BANK, EventLogCode.BANK.meaning, expected=bank.bank)

    def describes(self, bank: Hash) -> bool:
        """Whether the digest is the hash of the event's data, so that the data is as authentic as the digest."""
        return self.digest(bank) == bank.digest(self.data)

    @property
    def title(self) -> str:
        """The name of the event's type."""
        return EventType(self.kind).name if self.kind in set(EventType) else f"{self.kind:#010x}"

    def serialize(self) -> bytes:
        """Return the event's bytes."""
        head = b"".join(_u32(number) for number in (self.register, self.kind, len(self.digests)))
        digests = b"".join(_u16(algorithm) + value for algorithm, value in self.digests)
        return head + digests + _u32(len(self.data)) + self.data

    def to_dict(self) -> dict[str, Any]:
        """Return the event for people and programs."""
        return {
            "register": self.register,
            "type": self.title,
            "digests": {f"{algorithm:#06x}": value.hex() for algorithm, value in self.digests},
            "data": self.data.hex(),
        }


@dataclass(frozen=True)
class EventLog:
    """A log as it was parsed.

    header: the first event, TCG_EfiSpecIdEvent in the old format.  algorithms: TPM_ALG_ID and digest size of every
    bank that the log keeps.  padding: what fills the rest of a table of fixed size.
    """

    header: bytes = field(repr=False)
    algorithms: tuple[tuple[int, int], ...]
    events: tuple[Event, ...] = field(repr=False)
    padding: bytes = field(default=b"", repr=False)

    @property
    def banks(self) -> tuple[Hash, ...]:
        """The banks that can be replayed here."""
        return tuple(hash_ for hash_ in Hash if hash_ in dict(self.algorithms))

    @property
    def extending(self) -> tuple[Event, ...]:
        """The events that were extended into their register: all but EV_NO_ACTION."""
        return tuple(event for event in self.events if event.kind != EventType.EV_NO_ACTION)

    def to_dict(self, explained: Collection[tuple[Hash, int]]) -> dict[str, Any]:
        """Return every event, for people and programs, with the banks in which its data is vouched for.

        explained: bank and number of the registers whose quoted values the log replays to.
        """
        return {
            "banks": [bank.bank for bank in self.banks],
            "events": [event.to_dict() | {"described": self.described(event, explained)} for event in self.events],
        }

    def described(self, event: Event, explained: Collection[tuple[Hash, int]]) -> list[str]:
        """Return the banks in whose register an event extended the hash of its data; `explained` as in `to_dict`."""
        if event.kind == EventType.EV_NO_ACTION:  # extends nothing: whoever carries the log can add one
            return []
        banks = (bank for bank in self.banks if (bank, event.register) in explained)
        return [bank.bank for bank in banks if event.describes(bank)]

    def serialize(self) -> bytes:
        """Return the log's bytes; `parse_event_log` is the inverse."""
        return self.header + b"".join(event.serialize() for event in self.events) + self.padding


def parse_event_log(data: bytes, *, padded: bool = False) -> EventLog:
    """Parse a log that uses up `data`; where it is `padded` (CCEL), it may end in bytes of all ones or all zeros.

    Raises EvidenceError with an `eventlog-...` code.
    """
    if len(data) > MAX_LOG:
        raise EvidenceError(
            EventLogCode.TOO_LARGE, EventLogCode.TOO_LARGE.meaning, expected=f"at most {MAX_LOG} bytes", found=len(data)
        )
    reader = _Reader(data)
    algorithms = _header(reader)
    header = reader.read_so_far
    sizes = dict(algorithms)
    events: list[Event] = []
    while not reader.ended(padded=padded):
        events.append(_event(reader, sizes))
    return EventLog(header, algorithms, tuple(events), reader.rest)


def _header(reader: _Reader) -> tuple[tuple[int, int], ...]:
    """Read TCG_EfiSpecIdEvent in its TCG_PCClientPCREvent, and return the algorithms that it lists."""
    reader.number(4)  # PCR 0; confidential VMs have 1 here
    kind, digest, size = reader.number(4), reader.take(20), reader.number(4)
    event = _Reader(reader.take(size))
    if kind != EventType.EV_NO_ACTION or any(digest) or event.take(len(_SIGNATURE)) != _SIGNATURE:
        raise _format("the first event is no TCG_EfiSpecIdEvent")
    event.number(4)  # platformClass
    version = (event.number(1), event.number(1))
    event.take(2)  # specErrata, uintnSize
    if version != _VERSION:
        raise _format(f"it is of version {version[1]}.{version[0]}")
    algorithms = tuple(_algorithms(event))
    event.take(event.number(1))  # vendorInfo
    if not event.ended(padded=False):
        raise _malformed("bytes follow the header's vendor information")
    return algorithms


def _algorithms(reader: _Reader) -> Iterator[tuple[int, int]]:
    count = reader.number(4)
    if not 1 <= count <= MAX_ALGORITHMS:
        raise _malformed(f"its header lists {count} algorithms")
    seen = set()
    for _ in range(count):
        algorithm, size = reader.number(2), reader.number(2)
        wanted = Hash(algorithm).size if algorithm in set(Hash) else size
        if algorithm in seen or size != wanted or not 1 <= size <= _MAX_DIGEST:
            raise _malformed(f"its header lists algorithm {algorithm:#06x} twice, or with a wrong size")
        seen.add(algorithm)
        yield algorithm, size


def _event(reader: _Reader, sizes: dict[int, int]) -> Event:
    register, kind, count = reader.number(4), reader.number(4), reader.number(4)
    if count != len(sizes):
        raise _malformed(f"an event has {count} digests for {len(sizes)} banks")
    digests = tuple(_digest(reader, sizes) for _ in range(count))
    if len({algorithm for algorithm, _ in digests}) != count:
        raise _malformed("an event has two digests for one bank")
    return Event(register, kind, digests, reader.take(reader.number(4)))


def _digest(reader: _Reader, sizes: dict[int, int]) -> tuple[int, bytes]:
    algorithm = reader.number(2)
    if algorithm not in sizes:
        raise _malformed(f"an event has a digest of algorithm {algorithm:#06x}, which the header does not list")
    return algorithm, reader.take(sizes[algorithm])


class _Reader:
    """Reads a byte string from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        self._at = 0

    def take(self, size: int) -> bytes:
        raw = self._data[self._at : self._at + size]
        if len(raw) != size:
            raise _malformed("it ends within an event")
        self._at += size
        return raw

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    @property
    def read_so_far(self) -> bytes:
        return self._data[: self._at]

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]

    def ended(self, *, padded: bool) -> bool:
        """Whether nothing follows but padding.  No event begins with ones, nor with as many zeros as an empty one."""
        if self._at == len(self._data):
            return True
        start = self._data[self._at : self._at + 16]
        if not padded or (start.strip(b"\xff") and start.strip(b"\0")):
            return False
        rest = self.rest
        if rest.strip(b"\xff") and rest.strip(b"\0"):
            raise _malformed("bytes follow the log's padding")
        return True


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _malformed(why: str) -> EvidenceError:
    return EvidenceError(EventLogCode.MALFORMED, f"the event log is not usable: {why}")


def _format(why: str) -> EvidenceError:
    return EvidenceError(
        EventLogCode.FORMAT,
        f"the event log is not of the crypto-agile format: {why}",
        expected="TCG_EfiSpecIdEvent of version 2.0",
    )
