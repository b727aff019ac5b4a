"""Cases of event logs by themselves: whether they are read, and what registers hold after them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from attestation.eventlog.errors import EventLogCode
from attestation.eventlog.log import MAX_LOG, EventType
from attestation.sim.eventlog import BOOT, Entry, make_log
from attestation.tpm.algorithms import Hash
from tests.vectors.attestation.intel import put
from tests.vectors.attestation.runner import run
from tests.vectors.attestation.scene import Scene
from tests.vectors.attestation.tpm import HEADER
from tests.vectors.attestation.vector import Vector

BANKS: Final = (Hash.SHA1, Hash.SHA256, Hash.SHA384, Hash.SHA512)
EXTENDED: Final = EventType.EV_EFI_ACTION
TD_BOOT: Final[tuple[Entry, ...]] = tuple((index, EXTENDED, f"register {index}".encode()) for index in (1, 2, 3, 4, 1))
"""A TD's registers 1 to 4 are RTMR0 to RTMR3."""
LOG: Final = make_log()
SCENE: Final = Scene(
    tee="tpm",
    version=2,
    kind="eventlog",
    evidence=LOG,
    roots=(),
    policy="",
    report_data=None,
    now=0,
    details={"bank": "sha256"},
)
TD: Final = SCENE.but(tee="tdx", evidence=make_log(TD_BOOT, (Hash.SHA384,)), details={})


def cases() -> Iterator[Vector]:
    yield from replayed()
    yield from padding()
    yield from not_replayed()
    yield from bytes_of_a_log()


def with_registers(scene: Scene, edge: str, comment: str, **changes: Any) -> Vector:
    """A log that replays, with what comes of it."""
    changed = scene.but(**changes)
    registers = run(changed.accepted(edge, comment)).registers
    said = {} if registers is None else {"registers": registers}
    return changed.accepted(edge, comment, details={**changed.details, **said})


def replayed() -> Iterator[Vector]:
    every = make_log(BOOT, BANKS)
    for bank in BANKS:
        comment = "Each bank has digests of its own."
        yield with_registers(SCENE, f"bank {bank.bank}", comment, evidence=every, details={"bank": bank.bank})
    entries: dict[str, list[tuple[int, Any, bytes]]] = {
        "startup locality 0": [(0, EventType.EV_NO_ACTION, b"StartupLocality\0\0"), (0, EXTENDED, b"x")],
        "startup locality 4": [(0, EventType.EV_NO_ACTION, b"StartupLocality\0\4"), (0, EXTENDED, b"x")],
        "no startup locality": [(0, EXTENDED, b"x")],
        "startup locality of another register": [
            (1, EventType.EV_NO_ACTION, b"StartupLocality\0\3"),
            (0, EXTENDED, b"x"),
        ],
        "register of a dynamic launch": [(17, EXTENDED, b"x")],
        "last register": [(23, EXTENDED, b"x")],
        "event that extends nothing": [(24, EventType.EV_NO_ACTION, b"x"), (7, EXTENDED, b"x")],
        "event without data": [(7, EventType.EV_SEPARATOR, b"")],
        "event of an unknown type": [(7, 0x7FFFFFFF, b"x")],
        "no event that extends": [(0, EventType.EV_NO_ACTION, b"x")],
    }
    rule = "PCRs begin with zeros, PCR 0 with the locality, and 17 to 22 with ones; EV_NO_ACTION extends nothing."
    for edge, events in entries.items():
        yield with_registers(SCENE, edge, rule, evidence=make_log(events))
    yield with_registers(TD, "registers of a td", "Four registers, of which an index in the log is one more.")
    only = make_log([(2, EXTENDED, b"x")], (Hash.SHA384,))
    yield with_registers(TD, "one register of a td", "The others hold zeros.", evidence=only)
    both = make_log(TD_BOOT, (Hash.SHA256, Hash.SHA384))
    yield with_registers(TD, "registers of a td beside another bank", "Registers are of SHA-384.", evidence=both)


def padding() -> Iterator[Vector]:
    """A confidential VM's table has a fixed size, and ends in ones or zeros."""
    padded = {"padded": "yes"}
    for edge, fill in (("ones", b"\xff" * 64), ("zeros", bytes(64)), ("sixteen zeros", bytes(16))):
        data = make_log(TD_BOOT, (Hash.SHA384,), fill)
        yield with_registers(
            TD, f"table filled with {edge}", "What fills the table up is no event.", evidence=data, details=padded
        )
    yield with_registers(TD, "table that is full", "Nothing fills the table up.", details=padded)
    for edge, fill, details in (
        ("ones in a log", b"\xff" * 64, {}),
        ("zeros in a log", bytes(64), {}),
        ("ones and then another byte", b"\xff" * 64 + b"\1", padded),
        ("zeros and then another byte", bytes(64) + b"\1", padded),
        ("three zeros", bytes(3) + b"\1", padded),
    ):
        data = make_log(TD_BOOT, (Hash.SHA384,), fill)
        comment = "Only a table has a filling, and it is all ones or all zeros."
        yield TD.fails("parse", edge, comment, EventLogCode.MALFORMED, evidence=data, details=details)


def not_replayed() -> Iterator[Vector]:
    for name in ("sha1", "sha384", "sha512"):
        comment = "The log has SHA-256 alone."
        yield SCENE.fails(
            "replay", f"bank {name} that the log lacks", comment, EventLogCode.BANK, details={"bank": name}
        )
    yield TD.fails("replay", "registers of a td without their bank", "Registers are of SHA-384.", EventLogCode.BANK,
                   evidence=make_log(TD_BOOT, (Hash.SHA256,)))  # fmt: skip
    for scene, edge, register in (
        (SCENE, "register 24 of a tpm", 24),
        (TD, "register 0 of a td", 0),
        (TD, "register 5 of a td", 5),
    ):
        banks = (Hash.SHA256,) if scene is SCENE else (Hash.SHA384,)
        data = make_log([(register, EXTENDED, b"x")], banks)
        yield scene.fails("replay", edge, "There is no such register.", EventLogCode.REGISTER, evidence=data)
    locality = (0, EventType.EV_NO_ACTION, b"StartupLocality\0\3")
    for edge, events in (
        ("startup locality 2", [(0, EventType.EV_NO_ACTION, b"StartupLocality\0\2")]),
        ("startup locality cut", [(0, EventType.EV_NO_ACTION, b"StartupLocality\0")]),
        ("startup locality of two bytes", [(0, EventType.EV_NO_ACTION, b"StartupLocality\0\3\0")]),
        ("startup locality twice", [locality, locality]),
    ):
        comment = "A TPM is started once, from locality 0, 3 or 4."
        yield SCENE.fails("replay", edge, comment, EventLogCode.MALFORMED, evidence=make_log(events))


def bytes_of_a_log() -> Iterator[Vector]:
    filled = make_log(TD_BOOT, (Hash.SHA384,))
    for edge, size, code in (("as large as may be", MAX_LOG, None), ("too large", MAX_LOG + 1, EventLogCode.TOO_LARGE)):
        data = filled.ljust(size, b"\0")
        comment = "A log has at most 1 MiB."
        if code is None:
            yield with_registers(TD, f"log {edge}", comment, evidence=data, details={"padded": "yes"})
        else:
            yield TD.fails("parse", f"log {edge}", comment, code, evidence=data, details={"padded": "yes"})
    two = make_log(BOOT, (Hash.SHA256, Hash.SHA384))
    body = HEADER - 32  # of the header event: what follows register, type, digest and size
    table: tuple[tuple[str, str, EventLogCode, bytes], ...] = (
        ("empty", "Not even a header.", EventLogCode.MALFORMED, b"\0"),
        ("header cut", "The log ends within its header.", EventLogCode.MALFORMED, LOG[: HEADER - 1]),
        ("header with a digest", "The header's digest is zero.", EventLogCode.FORMAT, put(LOG, 8, b"\1")),
        ("header of version 1", "The format is 2.0.", EventLogCode.FORMAT, put(LOG, 53, b"\1")),
        ("header of version 2 point 1", "The format is 2.0.", EventLogCode.FORMAT, put(LOG, 52, b"\1")),
        ("header of the format before", "The log is of SHA-1.", EventLogCode.FORMAT,
         put(LOG, 32, b"Spec ID Event00\0")),
        ("header without banks", "There is at least one bank.", EventLogCode.MALFORMED,
         put(LOG, 56, struct.pack("<I", 0))),
        ("header with a bank twice", "A bank is listed once.", EventLogCode.MALFORMED, put(two, 64, two[60:64])),
        ("header with a digest of 20 bytes", "A digest of SHA-256 has 32.", EventLogCode.MALFORMED,
         put(LOG, 62, struct.pack("<H", 20))),
        ("header with a size too small", "The header ends within its fields.", EventLogCode.MALFORMED,
         put(LOG, 28, struct.pack("<I", body - 1))),
        ("vendor information too long", "It is longer than the header.", EventLogCode.MALFORMED,
         put(LOG, HEADER - 1, b"\1")),
        ("event with two digests", "An event has one digest for each bank.", EventLogCode.MALFORMED,
         put(LOG, HEADER + 8, struct.pack("<I", 2))),
        ("event with two digests of one bank", "An event has one digest for each bank.", EventLogCode.MALFORMED,
         duplicate()),
        ("event without a digest", "An event has one digest for each bank.", EventLogCode.MALFORMED,
         put(LOG, HEADER + 8, struct.pack("<I", 0))),
    )  # fmt: skip
    for edge, comment, code, data in table:
        yield SCENE.fails("parse", edge, comment, code, evidence=data)


def duplicate() -> bytes:
    """A log of two banks of one size, whose first event has both digests for the first of them."""
    log = make_log([(7, EXTENDED, b"x")], (Hash.SHA256, Hash.SHA384))
    header = len(make_log([], (Hash.SHA256, Hash.SHA384)))
    event = (
        struct.pack("<III", 7, EXTENDED, 2) + 2 * (struct.pack("<H", Hash.SHA256) + bytes(32)) + struct.pack("<I", 0)
    )
    return log[:header] + event
