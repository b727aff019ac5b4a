"""Evidence as tools hand it out: in hex, base64, armour, JSON, gzip, or a frame, one inside the other.

`unwrap` takes such bytes apart until a TEE recognises what is inside.  It decides nothing and verifies nothing: every
step that it took is reported, and what it returns goes through `evidence.parse` like any other bytes.  Unlike the
formats of evidence, wrappings have no one encoding: whitespace, padding and case do not matter.

    raw               bytes that a TEE recognises; zeros behind a quote of Intel's are cut off
    hex               with or without 0x, in one line or several
    base64            or base64url, padded or not
    armour            -----BEGIN ANYTHING----- and base64
    JSON              below one of the usual names, as text or as a list of numbers, at any depth
    gzip              as Tinfoil's "body" has it
    dstack frame      00, one byte for the platform, SCALE compact length, evidence; what follows is dstack's own
    NVIDIA SDK JSON   a list of reports with their certificates: becomes a container of `attestation.nvidia`
"""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from attestation import evidence
from attestation.amd.files import AmdFiles, holds_der
from attestation.collateral import CollateralSource
from attestation.collateral.bundle import MAX_BUNDLE, Bundle, BundleSource, looks_like_bundle
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.abi import strip_padding
from attestation.nvidia.container import DeviceEvidence
from attestation.nvidia.spdm import parse_report
from attestation.signed_der import serial_of
from attestation.tees import BY_NAME, TEES
from attestation.tpm.attest import bare_attest, is_attest
from attestation.unhandled import CERTIFICATE, COLLATERAL, Unhandled, describe
from attestation.verified import Evidence
from attestation.wrapping_json import MAX_ITEMS, count_items, find_collateral, find_texts, is_json
from manifests.errors import StrongroomError

MAX_WRAPPED: Final = 16 * 1024 * 1024
"""Evidence with an event log takes some MiB, which hex doubles."""
MAX_INPUT: Final = MAX_BUNDLE
"""Only bundles are larger."""
MAX_RATIO: Final = 64
"""What gzip makes of evidence in hex or JSON is a half to a tenth of it; of zeros, a thousandth."""
MIN_INFLATED: Final = 4 * 1024 * 1024
"""Comes out of gzip whatever the ratio: a driver's buffer, which a quote leaves full of zeros, has less."""
MAX_DEPTH: Final = 8
MAX_OPENED: Final = 4 * MAX_WRAPPED
MAX_PIECES: Final = 1024
"""What one call opens in all; a JSON text with its event log has some hundred pieces."""

Steps: TypeAlias = tuple[str, ...]

_INTEL = frozenset({"sgx", "tdx"})
_DEVICE_REPORT = b"\x11\xe0"
"""SPDM 1.1, GET_MEASUREMENTS: how a bare report of an NVIDIA device begins."""
_DSTACK_PLATFORMS = 8
_GZIP = b"\x1f\x8b"
_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]{8,})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
_WHITESPACE = b"\t\n\v\f\r\x1c\x1d\x1e\x1f "
_ARMOUR = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----([A-Za-z0-9+/=\s]*)-----END \1-----")


@dataclass(frozen=True)
class Unwrapped:
    """Evidence, still to be parsed.

    steps: what was taken off, from the outside in, for people.  collateral: what travelled with it, where a bundle or a
    JSON text has it.  gpu: device evidence beside that of the processor.
    """

    evidence: bytes = field(repr=False)
    steps: Steps
    collateral: CollateralSource | None = None
    gpu: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Candidate:
    data: bytes
    steps: Steps

    @property
    def tee(self) -> str | None:
        """The name of the first TEE that recognises it."""
        tee = evidence.recognised(self.data)
        return None if tee is None else tee.name

    @property
    def parses(self) -> bool:
        try:
            evidence.parse(self.data)
        except StrongroomError:
            return False
        return True


def unwrap(data: bytes) -> Unwrapped:
    """Take evidence out of whatever wraps it.

    Raises EvidenceError `evidence-unknown` where no TEE recognises anything, `wrapping-ambiguous` where several pieces
    are found, `wrapping-too-large`; FetchError `bundle-malformed` for a bundle that is none.
    """
    data = bytes(data).removeprefix(codecs.BOM_UTF8)
    if looks_like_bundle(data):
        bundle = Bundle.from_json(data)
        inner = unwrap(bundle.evidence)
        return Unwrapped(inner.evidence, ("bundle", *inner.steps), BundleSource(bundle), inner.gpu)
    _check_size(data)
    search = _Search()
    candidates = {candidate.data: candidate for candidate in search.walk(data)}
    if not candidates and search.bare_quote:
        raise bare_attest()
    if not candidates and search.torn:
        raise _no_whole_piece(search.torn, "get the evidence again, whole: it was cut off, or a character was lost")
    if not candidates:
        raise _unknown(data, search.unhandled)
    return _choose(list(candidates.values()), data)


def is_device_report(data: bytes) -> bool:
    """Tell whether bytes begin as a bare report of an NVIDIA device, which lacks its certificates."""
    return data.startswith(_DEVICE_REPORT)


def parse_alone(data: bytes) -> Evidence:
    """Parse unwrapped evidence; also a bare report of an NVIDIA device, whose certificates then lack.

    Raises EvidenceError as `evidence.parse` does.
    """
    return DeviceEvidence(parse_report(data), ()) if is_device_report(data) else evidence.parse(data)


def _choose(candidates: list[_Candidate], data: bytes) -> Unwrapped:
    """Return the one candidate that counts: the only one, the only one that parses, or processor beside device."""
    chosen = candidates if len(candidates) == 1 else [each for each in candidates if each.parses]
    devices = [each for each in chosen if each.tee is not None and BY_NAME[each.tee].device]
    others = [each for each in chosen if each not in devices]
    collateral = find_collateral(data) if chosen else None
    if len(others) == 1 and len(devices) <= 1:
        gpu = devices[0].data if devices else None
        return Unwrapped(others[0].data, others[0].steps, collateral, gpu)
    if len(devices) == 1 and not others:
        return Unwrapped(devices[0].data, devices[0].steps, collateral)
    pieces = [f"{each.tee or 'a device report'} in {' in '.join(each.steps[::-1])}" for each in candidates]
    raise _no_whole_piece("; ".join(pieces))


class _Search:
    """One walk through everything that is inside of some bytes, with one budget for all of it.

    Small bytes can hold much: a text may repeat what inflates, and that again.  What was seen is not opened again.
    unhandled: what was recognised as evidence that nothing here handles; None where nothing was.
    """

    def __init__(self) -> None:
        self.unhandled: Unhandled | None = None
        self.torn: str | None = None
        """What begins as evidence in hex or base64 that no whole bytes are."""
        self._bytes = MAX_OPENED
        self._pieces = MAX_PIECES
        self._items = MAX_ITEMS
        self._seen: set[bytes] = set()
        self.bare_quote = False
        """Whether anything was the message of a TPM's quote, without what its verification takes."""

    def walk(self, data: bytes, steps: Steps = ()) -> Iterator[_Candidate]:
        """Yield everything inside that a TEE recognises; raises EvidenceError `wrapping-too-large`."""
        if len(steps) > MAX_DEPTH:
            raise _too_large(f"at most {MAX_DEPTH} wrappings", f"{len(steps)} wrappings")
        if not self._is_new(data):
            return
        candidate = _Candidate(data, steps)
        if candidate.tee is not None:
            yield _unpadded(candidate)
        elif is_device_report(data):
            yield _Candidate(data, (*steps, "device report without certificates"))
        elif is_attest(data):
            self.bare_quote = True
        else:
            self.unhandled = self.unhandled or describe(data)
            self._count_items(data)
            self.torn = self.torn or _torn(data)
            for step, inner in _opened(data):
                yield from self.walk(inner, (*steps, step))

    def _is_new(self, data: bytes) -> bool:
        _check_size(data)
        self._bytes -= len(data)
        self._pieces -= 1
        if self._bytes < 0 or self._pieces < 0:
            raise _too_large(f"at most {MAX_PIECES} pieces of {MAX_OPENED} bytes together", "more")
        digest = hashlib.sha256(data).digest()
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True

    def _count_items(self, data: bytes) -> None:
        self._items -= count_items(data) if is_json(data) else 0
        if self._items < 0:
            raise _too_large(f"JSON of at most {MAX_ITEMS} items", "more items")


def _unpadded(candidate: _Candidate) -> _Candidate:
    """Cut off the zeros of the buffer that a driver filled."""
    quote, zeros = strip_padding(candidate.data) if candidate.tee in _INTEL else (candidate.data, 0)
    return _Candidate(quote, (*candidate.steps, f"zero padding: {zeros} bytes")) if zeros else candidate


def _opened(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (name of the wrapping, what is inside) for the one wrapping that the bytes have."""
    if data.startswith(_GZIP):
        yield from _gunzip(data)
    elif data[:1] == b"\0":
        yield from _dstack(data)
    elif is_json(data):
        yield from find_texts(data)
    elif b"-----BEGIN " in data:
        yield from ((f"armour: {match[1].decode()}", match[2]) for match in _ARMOUR.finditer(data))
    else:
        yield from _encoded(data)


def _encoded(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Decode hex or base64; text that could be both is hex."""
    try:
        text = data.translate(None, _WHITESPACE).decode("ascii")
    except UnicodeDecodeError:
        return
    match = _HEX.fullmatch(text)
    if match and len(match[1]) % 2 == 0:
        yield "hex", bytes.fromhex(match[1])
    elif _BASE64.fullmatch(text):
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        try:
            yield "base64", base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except binascii.Error:
            return


def _torn(data: bytes) -> str | None:
    """Say what hex or base64 begins as whose last byte is not whole; None where it does not begin as evidence."""
    try:
        text = data.translate(None, _WHITESPACE).decode("ascii")
    except UnicodeDecodeError:
        return None
    match = _HEX.fullmatch(text)
    if match:
        name, size, inner = "hex", f"{len(match[1])} digits", bytes.fromhex(match[1][:-1] if len(match[1]) % 2 else "")
    elif _BASE64.fullmatch(text):
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        name, size, inner = "base64", f"{len(plain)} characters", base64.b64decode(plain[: len(plain) // 4 * 4])
    else:
        return None
    tee = evidence.recognised(inner)
    return None if tee is None else f"{tee.title} in {name} that ends within a byte: {size}"


def _no_whole_piece(found: str, remedy: str | None = None) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.WRAPPING_AMBIGUOUS,
        EvidenceCode.WRAPPING_AMBIGUOUS.meaning,
        expected="one piece of evidence",
        found=found,
        remedy=remedy,
    )


def _gunzip(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Inflate within bounds; what is cut short, or followed by anything, is no gzip of ours."""
    inflater = zlib.decompressobj(wbits=31)
    most = min(MAX_WRAPPED, max(MIN_INFLATED, MAX_RATIO * len(data)))
    try:
        inner = inflater.decompress(data, most)
    except zlib.error:
        return
    if inflater.unconsumed_tail:
        raise _too_large(f"at most {most} bytes", "more, once inflated")
    if inflater.eof and not inflater.unused_data:
        yield "gzip", inner


def _dstack(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Open the frame of dstack's `Attestation`, whose integers are SCALE's (compact, little-endian)."""
    if len(data) < 3 or data[1] >= _DSTACK_PLATFORMS:
        return
    mode = data[2] & 3
    if mode == 3:  # for numbers from 2**30
        return
    width = 1 << mode
    size = int.from_bytes(data[2 : 2 + width], "little") >> 2
    start, end = 2 + width, 2 + width + size
    if 0 < size <= len(data) - start:
        yield f"dstack frame: {size} bytes; {len(data) - end} bytes of dstack's own follow, unverified", data[start:end]


def _check_size(data: bytes) -> None:
    if len(data) > MAX_WRAPPED:
        raise _too_large(f"at most {MAX_WRAPPED} bytes", f"{len(data)} bytes")


def _too_large(expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.WRAPPING_TOO_LARGE, EvidenceCode.WRAPPING_TOO_LARGE.meaning, expected=expected, found=found
    )


def _unknown(data: bytes, known: Unhandled | None) -> EvidenceError:
    if known is None and _is_collateral(data):
        known = CERTIFICATE if _is_nobodys_certificate(data) else COLLATERAL
    first = f"first bytes {data[:8].hex()}" if data else "no bytes at all"
    return EvidenceError(
        EvidenceCode.EVIDENCE_UNKNOWN,
        EvidenceCode.EVIDENCE_UNKNOWN.meaning,
        expected=" or ".join(tee.title for tee in TEES) + "; raw, or in hex, base64, armour or JSON",
        found=known.title if known else first,
        remedy=known.remedy if known else None,
    )


def _is_nobodys_certificate(data: bytes) -> bool:
    """Tell whether a file has certificates alone, and none that names a vendor of platforms, such as a web server's."""
    if not holds_der(data):
        return False
    try:
        parts = AmdFiles.sort([data])
    except StrongroomError:
        return False
    every = [*(each.der for each in (*parts.leaves, *parts.others)), *parts.broken]
    if parts.lists or any(serial_of(der) is None for der in every):
        return False
    return bool(every) and not any(name in der for der in every for name in _VENDORS)


_VENDORS: Final = (b"SEV-", b"ARK-", b"Advanced Micro Devices", b"Intel", b"NVIDIA")
"""What names in the certificates of platforms have."""


def _is_collateral(data: bytes) -> bool:
    """Tell whether bytes are collateral of ours, or as AMD publishes it."""
    try:
        return holds_der(data) or bool(decode(data))
    except StrongroomError:
        return False
