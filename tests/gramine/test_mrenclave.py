"""The measurement of SGX hardware: against the processor's steps, written out here a second time; and its refusals."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner

from manifests.errors import Fault
from manifests.gramine.cli import manifest as group
from manifests.gramine.elf import MAX_SPAN, parse_shared_object
from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.measure import measure
from manifests.gramine.mrenclave import mrenclave
from tests.gramine import elves

PYTHON = "/usr/bin/python3"
KNOWN = "610f3927d9111e528876305c91eacb1503caaefda46703ab75d90f50b6eec3ca"
"""Of `manifest_text()` with `elves.build()`."""
PAL_PAGES = 6
"""Of `elves.LOADS`: addresses 0 to 0x5880."""


def manifest_text(**sgx: object) -> bytes:
    tables: dict[str, Any] = {
        "libos": {"entrypoint": PYTHON},
        "loader": {"argv": [PYTHON]},
        "fs": {"root": {"type": "tmpfs"}},
        "sgx": {
            "enclave_size": "4M",
            "max_threads": 4,
            "trusted_files": [{"uri": f"file:{PYTHON}", "sha256": "ab" * 32}],
            **sgx,
        },
    }
    return tomli_w.dumps(tables).encode()


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


class Processor:
    """ECREATE, EADD and EEXTEND as the SDM's pseudocode has them: each extends the hash by blocks of 64 bytes."""

    def __init__(self, size: int) -> None:
        self.blocks = b"ECREATE\0" + u32(4) + u64(size) + bytes(44)

    def add(self, offset: int, flags: int, page: bytes | None) -> None:
        self.blocks += b"EADD\0\0\0\0" + u64(offset) + u64(flags) + bytes(40)
        if page is not None:
            assert len(page) == 4096
            for part in range(16):
                self.blocks += b"EEXTEND\0" + u64(offset + 256 * part) + bytes(48)
                self.blocks += page[256 * part : 256 * (part + 1)]

    def initialise(self) -> bytes:
        assert len(self.blocks) % 64 == 0
        return hashlib.sha256(self.blocks).digest()


def by_hand(text: bytes, *, edmm: bool) -> bytes:
    """Measure a 4 MiB enclave of four threads, whose manifest fits one page, with each address worked out by hand."""
    size = 0x400000
    manifest, ssa, tcs, tls = size - 0x1000, size - 0x21000, size - 0x25000, size - 0x29000
    stacks = [tls - 0x40000 * (thread + 1) for thread in range(4)]
    signals = [tls - 0x100000 - 0x10000 * (thread + 1) for thread in range(4)]
    pal = tls - 0x140000 - PAL_PAGES * 0x1000
    processor = Processor(size)
    processor.add(manifest, 0x201, (text + b"\0").ljust(4096, b"\0"))
    for page in range(32):
        processor.add(ssa + 0x1000 * page, 0x203, bytes(4096))
    for thread in range(4):
        control = bytearray(4096)
        control[0x10:0x18] = u64(ssa + 0x8000 * thread)
        control[0x1C:0x20] = u32(2)
        control[0x20:0x28] = u64(pal + 0x1234)
        control[0x38:0x40] = u64(tls + 0x1000 * thread)
        control[0x40:0x48] = b"\xff\x0f\0\0" * 2
        processor.add(tcs + 0x1000 * thread, 0x100, bytes(control))
    for thread in range(4):
        local = bytearray(4096)
        for offset, value in (
            (0x0, tls + 0x1000 * thread),
            (0x8, 0x0BADBADBADBAD),
            (0x110, size),
            (0x118, tcs + 0x1000 * thread),
            (0x120, stacks[thread] + 0x40000),
            (0x130, signals[thread]),
            (0x138, signals[thread] + 0x10000),
            (0x148, ssa + 0x8000 * thread),
            (0x150, ssa + 0x8000 * thread + 0x4000 - 184),
            (0x1A0, len(text) + 1),
            (0x1A8, 0x10000),
            (0x1B0, pal),
        ):
            local[offset : offset + 8] = u64(value)
        processor.add(tls + 0x1000 * thread, 0x203, bytes(local))
    for start, length in [(s, 0x40) for s in stacks] + [(s, 0x10) for s in signals]:
        for page in range(length):
            processor.add(start + 0x1000 * page, 0x203, bytes(4096))
    file = elves.build()
    processor.add(pal, 0x205, file[:0x1000])
    processor.add(pal + 0x1000, 0x205, file[0x1000:0x1800] + bytes(0x800))
    processor.add(pal + 0x3000, 0x203, bytes(0x880) + file[0x1880:0x1F80] + bytes(0x80))
    processor.add(pal + 0x4000, 0x203, bytes(4096))
    processor.add(pal + 0x5000, 0x203, bytes(4096))
    if not edmm:
        for offset in range(0x10000, pal, 0x1000):
            processor.add(offset, 0x207, None)
    return processor.initialise()


@pytest.mark.parametrize("edmm", [False, True], ids=["all memory added at the start", "memory added while it runs"])
def test_the_measurement_is_what_the_processors_steps_give(edmm: bool) -> None:
    text = manifest_text(edmm_enable=edmm)
    assert mrenclave(text, elves.build()) == by_hand(text, edmm=edmm)


def test_the_measurement_of_one_known_enclave_stays() -> None:
    assert mrenclave(manifest_text(), elves.build()).hex() == KNOWN


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: (manifest_text() + b"# a comment\n", elves.build()), id="a comment in the manifest"),
        pytest.param(lambda: (manifest_text() + b"\n", elves.build()), id="a line's end"),
        pytest.param(lambda: (manifest_text(max_threads=5), elves.build()), id="a thread more"),
        pytest.param(lambda: (manifest_text(enclave_size="8M"), elves.build()), id="a larger enclave"),
        pytest.param(lambda: (manifest_text(isvsvn=1), elves.build()), id="another version"),
        pytest.param(lambda: (manifest_text(), elves.build(entry=0x1238)), id="another entry point"),
        pytest.param(lambda: (manifest_text(), elves.build()[:0x1900] + b"!" + elves.build()[0x1901:]), id="a byte"),
    ],
)
def test_everything_that_is_loaded_counts(other: Any) -> None:
    assert mrenclave(*other()) != mrenclave(manifest_text(), elves.build())


def test_what_no_segment_loads_does_not_count() -> None:
    changed = bytearray(elves.build())
    changed[0x1FFF] ^= 1
    assert mrenclave(manifest_text(), bytes(changed)) == mrenclave(manifest_text(), elves.build())


TEXT = (0x0, 0x0, 0x1800, 0x1800, elves.CODE)
MALFORMED = {
    "no bytes": b"",
    "a text": b"#!/bin/sh\n" * 20,
    "a header cut short": elves.build()[:63],
    "32 bits": elves.build(identity=b"\x7fELF\x01\x01\x01"),
    "big-endian": elves.build(identity=b"\x7fELF\x02\x02\x01"),
    "a program at a fixed address": elves.build(kind=2),
    "for another processor": elves.build(machine=183),
    "program headers of another size": elves.build(header_size=64),
    "too many program headers": elves.build(count=65),
    "program headers beyond the end": elves.build()[:200],
    "nothing to load": elves.build(loads=()),
    "a first segment elsewhere": elves.build(loads=((0x1000, 0x1000, 0x10, 0x10, elves.CODE),)),
    "an empty segment": elves.build(loads=(TEXT, (0x2000, 0x2000, 0, 0, elves.DATA))),
    "a segment beyond the file": elves.build(loads=((0, 0, 0x2001, 0x2001, elves.CODE),)),
    "more in the file than in memory": elves.build(loads=((0, 0, 0x1800, 0x1000, elves.CODE),)),
    "offset and address unlike": elves.build(loads=(TEXT, (0x1880, 0x3000, 0x10, 0x10, elves.DATA))),
    "two segments in one page": elves.build(loads=(TEXT, (0x1880, 0x1880, 0x10, 0x10, elves.DATA))),
    "descending addresses": elves.build(loads=(TEXT, (0, 0x9000, 1, 1, 4), (0, 0x5000, 1, 1, 4))),
    "memory without bound": elves.build(loads=((0, 0, 0x10, MAX_SPAN + 1, elves.CODE),)),
    "an address near 2^64": elves.build(loads=(TEXT, (0, (1 << 64) - 4096, 1, 4096, 4))),
    "an entry point outside": elves.build(entry=0x6000),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_object_that_no_loader_would_load_is_refused(data: bytes) -> None:
    with pytest.raises(GramineError) as caught:
        parse_shared_object(data)
    assert caught.value.code is GramineCode.LIBPAL_MALFORMED
    assert caught.value.code.fault is Fault.MALFORMED


def test_an_enclave_without_room_for_its_parts_is_refused() -> None:
    with pytest.raises(GramineError) as caught:
        mrenclave(manifest_text(enclave_size="1M"), elves.build())
    assert caught.value.code is GramineCode.ENCLAVE_TOO_SMALL


def test_the_command_prints_what_the_hardware_and_the_simulator_give(tmp_path: Path) -> None:
    file, libpal = tmp_path / "enclave.manifest", tmp_path / "libpal.so"
    file.write_bytes(manifest_text())
    libpal.write_bytes(elves.build())
    done = CliRunner().invoke(group, ["measure", str(file), "--libpal", str(libpal)], catch_exceptions=False)
    assert done.exit_code == 0
    assert mrenclave(manifest_text(), elves.build()).hex() in done.output
    assert measure(manifest_text()).hex() in done.output
