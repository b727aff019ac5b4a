"""A device's measurement report: the SPDM request and response, bytes to fields and back.

Source: DMTF DSP0274, SPDM 1.1.0, section 10.11 "GET_MEASUREMENTS request and MEASUREMENTS response messages" and table
"DMTF measurement specification format".  Integers are little-endian.

    report   = request (37) | response
    response = header (8) | measurement blocks | nonce (32) | u16 n | opaque data (n) | signature (96)
    block    = header (7) | digest (48)

The device signs request and response, up to the signature, with ECDSA on P-384 and SHA-384.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from attestation.chains import RAW_SIGNATURE
from attestation.errors import EvidenceError
from attestation.layout import Kind, Layout, Row
from attestation.nvidia.errors import NvidiaCode
from attestation.nvidia.opaque import Opaque, parse_opaque

SPDM_1_1: Final = 0x11
GET_MEASUREMENTS: Final = 0xE0
MEASUREMENTS: Final = 0x60
DIGEST_SIZE: Final = 48

MAX_REPORT: Final = 16 * 1024
"""254 measurements and 1,024 bytes of opaque data, the most that SPDM allows, take 15,141 bytes."""
MAX_OPAQUE: Final = 1024

_CODES = {"truncated": NvidiaCode.REPORT_TRUNCATED, "reserved": NvidiaCode.REPORT_RESERVED}

REQUEST = Layout(
    "SPDM request",
    37,
    Row(0, 1, "version", Kind.UINT),
    Row(1, 1, "code", Kind.UINT),
    Row(2, 1, "attributes", Kind.UINT),
    Row(3, 1, "operation", Kind.UINT),
    Row(4, 32, "nonce"),
    Row(36, 1, "slot", Kind.UINT),
    **_CODES,
)

RESPONSE = Layout(
    "SPDM response",
    8,
    Row(0, 1, "version", Kind.UINT),
    Row(1, 1, "code", Kind.UINT),
    Row(2, 1, "indices", Kind.ZERO),
    Row(3, 1, "slot", Kind.UINT),
    Row(4, 1, "blocks", Kind.UINT),
    Row(5, 3, "record_size", Kind.UINT),
    **_CODES,
)

BLOCK_HEADER = Layout(
    "measurement header",
    7,
    Row(0, 1, "index", Kind.UINT),
    Row(1, 1, "specification", Kind.UINT),
    Row(2, 2, "size", Kind.UINT),
    Row(4, 1, "kind", Kind.UINT),
    Row(5, 2, "digest_size", Kind.UINT),
    **_CODES,
)

_REQUESTED = {"version": SPDM_1_1, "code": GET_MEASUREMENTS, "attributes": 1, "operation": 0xFF, "slot": 0}
"""Attributes: bit 0 asks for a signature.  Operation: all measurements at once.  Slot: of the certificate chain."""
_ANSWERED = {"version": SPDM_1_1, "code": MEASUREMENTS, "slot": 0}
_MEASURED = {"specification": 1, "size": DIGEST_SIZE + 3, "kind": 1, "digest_size": DIGEST_SIZE}
"""The DMTF's format, and a digest of mutable firmware: what NVIDIA's devices report throughout."""
_BLOCK_SIZE = BLOCK_HEADER.size + DIGEST_SIZE
_AFTER_INDEX = BLOCK_HEADER.serialize({"index": 0, **_MEASURED})[1:]
"""What follows the index in every block's header."""


@dataclass(frozen=True)
class Report:
    """A parsed report; its signature is not verified.

    nonce: 32 bytes that the requester chose.  response_nonce: 32 bytes of the device's.  measurements: SHA-384 digests
    by SPDM index, counted from 1.  opaque: what the device adds.  signature: r || s, 96 bytes.
    """

    nonce: bytes
    measurements: Mapping[int, bytes] = field(repr=False)
    response_nonce: bytes
    opaque: Opaque = field(repr=False)
    signature: bytes = field(repr=False)

    @functools.cached_property
    def record(self) -> bytes:
        """The measurement record: all blocks."""
        return b"".join(bytes([index]) + _AFTER_INDEX + digest for index, digest in self.measurements.items())

    @property
    def record_digest(self) -> bytes:
        """SHA-384 over the measurement record: one value for all measurements."""
        return hashlib.sha384(self.record).digest()

    @property
    def signed(self) -> bytes:
        """What the signature covers."""
        record, opaque = self.record, self.opaque.raw
        header = RESPONSE.serialize({"blocks": len(self.measurements), "record_size": len(record), **_ANSWERED})
        answered = header + record + self.response_nonce + len(opaque).to_bytes(2, "little") + opaque
        return REQUEST.serialize({"nonce": self.nonce, **_REQUESTED}) + answered

    def serialize(self) -> bytes:
        """Return the report's bytes; `parse_report` is the inverse."""
        return self.signed + self.signature

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, byte strings as hex."""
        return {
            "nonce": self.nonce.hex(),
            "response_nonce": self.response_nonce.hex(),
            "measurements": {str(index): digest.hex() for index, digest in self.measurements.items()},
            "opaque": self.opaque.to_dict(),
            "signature": self.signature.hex(),
        }


def parse_report(data: bytes) -> Report:
    """Parse a report that uses up `data`; raises EvidenceError `nvidia-report-...` or `nvidia-opaque-...`."""
    if len(data) > MAX_REPORT:
        raise _malformed("it is too large", f"at most {MAX_REPORT} bytes", len(data))
    request = REQUEST.parse(data[: REQUEST.size])
    _expect(request, _REQUESTED, "request")
    start = REQUEST.size + RESPONSE.size
    response = RESPONSE.parse(data[REQUEST.size : start])
    _expect(response, _ANSWERED, "response")
    end = start + response["record_size"]
    nonce, size = data[end : end + 32], int.from_bytes(data[end + 32 : end + 34], "little")
    signature = data[end + 34 + size :]
    if len(signature) != RAW_SIGNATURE or size > MAX_OPAQUE:
        code = NvidiaCode.REPORT_MALFORMED if len(signature) > RAW_SIGNATURE else NvidiaCode.REPORT_TRUNCATED
        raise EvidenceError(code, f"a report: {code.meaning}", expected="a signature of 96 bytes", found=len(signature))
    return Report(
        nonce=request["nonce"],
        measurements=_blocks(data[start:end], response["blocks"]),
        response_nonce=nonce,
        opaque=parse_opaque(data[end + 34 : end + 34 + size]),
        signature=signature,
    )


def _blocks(record: bytes, count: int) -> dict[int, bytes]:
    if len(record) != count * _BLOCK_SIZE:
        raise _malformed("its measurements have another size", count * _BLOCK_SIZE, len(record))
    found: dict[int, bytes] = {}
    last = 0
    for at in range(0, len(record), _BLOCK_SIZE):
        index, start = record[at], at + BLOCK_HEADER.size
        if record[at + 1 : start] != _AFTER_INDEX:
            _expect(BLOCK_HEADER.parse(record[at:start]), _MEASURED, "measurement")
        if not last < index < 0xFF:
            raise _malformed("its measurements are out of order", f"an index above {last}", index)
        last = index
        found[index] = record[start : at + _BLOCK_SIZE]
    return found


def _expect(found: Mapping[str, Any], wanted: Mapping[str, int], what: str) -> None:
    for name, value in wanted.items():
        if found[name] != value:
            raise EvidenceError(
                NvidiaCode.REPORT_UNSUPPORTED,
                f"the {name} of a report's {what} is not one that is handled",
                expected=f"{value:#x}",
                found=f"{found[name]:#x}",
            )


def _malformed(why: str, expected: object, found: object) -> EvidenceError:
    return EvidenceError(NvidiaCode.REPORT_MALFORMED, f"a report is not usable: {why}", expected=expected, found=found)
