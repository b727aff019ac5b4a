"""The measurement that SGX hardware takes of an enclave under Gramine, predicted from the manifest and libpal.so.

    MRENCLAVE = f(exact bytes of the manifest, exact bytes of Gramine's sgx/libpal.so)

Sources: Intel SDM volume 3D, "ECREATE", "EADD" and "EEXTEND" (what each of them adds to the hash; each is given in the
function of its name), and the layout of Gramine 1.8 and 1.9: what its loader puts where, in which order.  A release of
Gramine with another layout has another measurement: check the prediction against `gramine-sgx-sign` once after each
upgrade of Gramine.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from manifests.gramine.elf import PAGE, SharedObject, parse_shared_object
from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.manifest import EnclaveManifest, parse_manifest

HEAP_START = 0x10000
"""Gramine leaves the first 64 KiB of an enclave empty."""
SSA_FRAME_PAGES = 4
_SSA_FRAMES = 2
_SSA_FRAME = SSA_FRAME_PAGES * PAGE
_STACK = 0x40000
_SIGNAL_STACK = 0x10000
_GPR = 0xB8
"""Bytes of the register area at the end of a state save area (SDM, "GPRSGX Region")."""
_CANARY = 0xBADBADBADBAD
_MEASURED_AT_ONCE = 256

_R, _W, _X = 1, 2, 4
_TCS, _REG = 0x100, 0x200
"""SECINFO.FLAGS: permissions, and the page type in bits 8 to 15 (SDM, "SECINFO")."""
_READ_WRITE = _REG | _R | _W
_HEAP = _REG | _R | _W | _X

_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")


@dataclass(frozen=True)
class Layout:
    """Where the parts of an enclave lie: addresses from its base, in bytes.  Threads' areas follow one another."""

    size: int
    threads: int
    manifest_size: int
    manifest: int
    ssa: int
    tcs: int
    tls: int
    stacks: tuple[int, ...]
    signal_stacks: tuple[int, ...]
    pal: int
    entry: int


def mrenclave(manifest: bytes, libpal: bytes) -> bytes:
    """Return the MRENCLAVE (32 bytes) that an SGX processor gives this manifest under this libpal.so.

    Raises GramineError: what `parse_manifest` raises; `libpal-malformed`; `enclave-too-small` where the parts do not
    fit `sgx.enclave_size`.
    """
    parsed, pal = parse_manifest(manifest), parse_shared_object(libpal)
    blob = manifest + b"\0"
    layout = lay_out(parsed, len(blob), pal)
    digest = hashlib.sha256(_ecreate(layout.size))
    for piece in _pages(layout, blob, pal):
        digest.update(piece)
    if not parsed.edmm:  # else the heap is added while the enclave runs, and not measured
        for offset in range(HEAP_START, layout.pal, PAGE):
            digest.update(_eadd(offset, _HEAP))
    return digest.digest()


def lay_out(manifest: EnclaveManifest, manifest_size: int, pal: SharedObject) -> Layout:
    """Place the parts downwards from the enclave's end; raises GramineError `enclave-too-small`."""
    count = manifest.max_threads
    fixed = [manifest_size, count * _SSA_FRAMES * _SSA_FRAME, count * PAGE, count * PAGE]
    sizes = [*fixed, *[_STACK] * count, *[_SIGNAL_STACK] * count, pal.span]
    paged = itertools.accumulate(-(-size // PAGE) * PAGE for size in sizes)
    places = [manifest.enclave_size - used for used in paged]
    if places[-1] < HEAP_START:
        raise GramineError(
            GramineCode.ENCLAVE_TOO_SMALL,
            "the enclave has no room for its own parts",
            expected=f"at least {manifest.enclave_size - places[-1] + HEAP_START} bytes",
            found=manifest.enclave_size,
        )
    return Layout(
        size=manifest.enclave_size,
        threads=count,
        manifest_size=manifest_size,
        manifest=places[0],
        ssa=places[1],
        tcs=places[2],
        tls=places[3],
        stacks=tuple(places[4 : 4 + count]),
        signal_stacks=tuple(places[4 + count : -1]),
        pal=places[-1],
        entry=places[-1] + pal.entry,
    )


def _pages(layout: Layout, blob: bytes, pal: SharedObject) -> Iterator[bytes]:
    """Return what the measured pages add to the hash, in the order in which Gramine adds them."""
    threads = range(layout.threads)
    yield from _area(layout.manifest, _REG | _R, blob)
    yield from _area(layout.ssa, _READ_WRITE, bytes(layout.threads * _SSA_FRAMES * _SSA_FRAME))
    yield from _area(layout.tcs, _TCS, b"".join(_tcs_page(layout, thread) for thread in threads))
    yield from _area(layout.tls, _READ_WRITE, b"".join(_tls_page(layout, thread) for thread in threads))
    for stack in layout.stacks:
        yield from _area(stack, _READ_WRITE, bytes(_STACK))
    for stack in layout.signal_stacks:
        yield from _area(stack, _READ_WRITE, bytes(_SIGNAL_STACK))
    for segment in pal.segments:
        flags = _REG | (segment.flags & 4 and _R) | (segment.flags & 2 and _W) | (segment.flags & 1 and _X)
        for address in range(segment.first_page, segment.end_page, PAGE):
            yield from _area(layout.pal + address, flags, pal.page(segment, address))


def _area(start: int, flags: int, content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), PAGE):
        page = content[at : at + PAGE].ljust(PAGE, b"\0")
        yield _eadd(start + at, flags)
        for part in range(0, PAGE, _MEASURED_AT_ONCE):
            yield _eextend(start + at + part, page[part : part + _MEASURED_AT_ONCE])


def _tcs_page(layout: Layout, thread: int) -> bytes:
    """Return a thread control structure (SDM, "Thread Control Structure")."""
    page = bytearray(PAGE)
    struct.pack_into("<QII", page, 0x10, _ssa(layout, thread), 0, _SSA_FRAMES)  # OSSA, CSSA, NSSA
    struct.pack_into("<Q", page, 0x20, layout.entry)  # OENTRY
    struct.pack_into("<Q", page, 0x38, layout.tls + thread * PAGE)  # OGSBASE
    struct.pack_into("<II", page, 0x40, 0xFFF, 0xFFF)  # FSLIMIT, GSLIMIT
    return bytes(page)


def _tls_page(layout: Layout, thread: int) -> bytes:
    """Return what Gramine keeps for one thread, as its loader fills it in."""
    ssa, stack, signal_stack = _ssa(layout, thread), layout.stacks[thread], layout.signal_stacks[thread]
    fields = {
        0x00: layout.tls + thread * PAGE,
        0x08: _CANARY,
        0x110: layout.size,
        0x118: layout.tcs + thread * PAGE,
        0x120: stack + _STACK,
        0x130: signal_stack,
        0x138: signal_stack + _SIGNAL_STACK,
        0x148: ssa,
        0x150: ssa + _SSA_FRAME - _GPR,
        0x1A0: layout.manifest_size,
        0x1A8: HEAP_START,
        0x1B0: layout.pal,
    }
    page = bytearray(PAGE)
    for offset, value in fields.items():
        struct.pack_into("<Q", page, offset, value)
    return bytes(page)


def _ssa(layout: Layout, thread: int) -> int:
    return layout.ssa + thread * _SSA_FRAMES * _SSA_FRAME


def _ecreate(size: int) -> bytes:
    """SDM, "ECREATE": "ECREATE" || SSAFRAMESIZE in pages || size of the enclave, 64 bytes in all."""
    return _ECREATE.pack(b"ECREATE", SSA_FRAME_PAGES, size)


def _eadd(offset: int, flags: int) -> bytes:
    """SDM, "EADD": "EADD" || offset of the page || the first 48 bytes of SECINFO, 64 bytes in all."""
    return _EADD.pack(b"EADD", offset, flags)


def _eextend(offset: int, content: bytes) -> bytes:
    """SDM, "EEXTEND": "EEXTEND" || offset, 64 bytes in all, and then the 256 bytes themselves."""
    return _EEXTEND.pack(b"EEXTEND", offset) + content
