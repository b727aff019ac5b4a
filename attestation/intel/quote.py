"""What quotes of all versions share: their signature data, and how bytes are read from front to back.

Sources: Intel SGX DCAP Quote Generation Library, Appendix A.4 (version 3); Intel TDX DCAP Quoting Library API,
Appendix A.3.8 to A.3.11 (versions 4 and 5).

    quote         = signed part | u32 n | signature data (n bytes)
    version 3     = signature (64) | attestation key (64) | certification
    versions 4, 5 = signature (64) | attestation key (64) | u16 6 | u32 n | certification (n bytes)
    certification = QE report (384) | QE report signature (64) | u16 a | QE authentication data (a bytes)
                    | u16 5 | u32 c | PEM of the PCK chain (c bytes)
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.report import REPORT_BODY, ReportBody
from manifests.errors import ErrorCode

ECDSA_P256 = 2
"""att_key_type: "ECDSA-256-with-P-256 curve" (A.1)."""
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""The UUID of Intel's quoting enclaves (A.1)."""
PCK_CHAIN = 5
"""Certification data: the concatenated PEM of the PCK leaf, its CA and the root."""
QE_CERTIFICATION = 6
"""Certification data of versions 4 and 5: the QE report with certification data of its own."""

MAX_QUOTE = 16 * 1024
"""Quotes with an embedded chain have 4 to 5 KiB, and Gramine hands out 8 KiB at most."""

_SIGNATURE = 64
_KEY = 64


@dataclass(frozen=True, kw_only=True)
class Quote(ABC):
    """A parsed quote; nothing in it is verified.

    signature, attestation_key, qe_report_signature: 64 bytes each, r || s and x || y.  qe_auth_data: what the quoting
    enclave mixed into its report data.  certification_data: the PEM of the PCK chain, as it stands in the quote.
    """

    signature: bytes
    attestation_key: bytes
    qe_report: ReportBody
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_data: bytes

    tee: ClassVar[str]
    wraps_certification: ClassVar[bool]

    @property
    @abstractmethod
    def version(self) -> int:
        """Version of the quote's format."""

    @property
    @abstractmethod
    def report_data(self) -> bytes:
        """The 64 bytes that the code had quoted."""

    @property
    @abstractmethod
    def signed(self) -> bytes:
        """The bytes under the quote's signature: all that precede the signature data's length."""

    def serialize(self) -> bytes:
        """Return the quote's bytes; parsing is the inverse."""
        certification = self.qe_report.serialize() + self.qe_report_signature
        certification += struct.pack("<H", len(self.qe_auth_data)) + self.qe_auth_data
        certification += struct.pack("<HI", PCK_CHAIN, len(self.certification_data)) + self.certification_data
        if self.wraps_certification:
            certification = struct.pack("<HI", QE_CERTIFICATION, len(certification)) + certification
        data = self.signature + self.attestation_key + certification
        return self.signed + struct.pack("<I", len(data)) + data

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, byte strings and integers as the hex of their bytes in the quote."""
        return {
            "signature": self.signature.hex(),
            "attestation_key": self.attestation_key.hex(),
            "qe_report": self.qe_report.to_hex(),
            "qe_report_signature": self.qe_report_signature.hex(),
            "qe_auth_data": self.qe_auth_data.hex(),
            "certification_data": self.certification_data.decode("ascii", "backslashreplace"),
        }


class Cursor:
    """Reads a quote from front to back; every refusal is an EvidenceError."""

    def __init__(self, data: bytes) -> None:
        """Begin at the front; refuse what is larger than any quote (`quote-too-large`)."""
        if len(data) > MAX_QUOTE:
            raise EvidenceError(
                EvidenceCode.QUOTE_TOO_LARGE, "the quote is too large", expected=MAX_QUOTE, found=len(data)
            )
        self._data = bytes(data)
        self._at = 0

    def take(self, size: int, what: str) -> bytes:
        """Return the next `size` bytes (`quote-truncated`)."""
        end = self._at + size
        if end > len(self._data):
            raise EvidenceError(
                EvidenceCode.QUOTE_TRUNCATED,
                f"the quote ends within its {what}",
                expected=f"{size} bytes",
                found=f"{len(self._data) - self._at} bytes",
            )
        raw = self._data[self._at : end]
        self._at = end
        return raw

    def number(self, size: int, what: str) -> int:
        """Return the next `size` bytes as a little-endian number (`quote-truncated`)."""
        return int.from_bytes(self.take(size, what), "little")

    def finish(self, code: EvidenceCode) -> None:
        """Refuse what is left, with `code`."""
        if self._at != len(self._data):
            left = self._data[self._at :]
            raise EvidenceError(
                code,
                code.meaning,
                expected="the end",
                found=f"{len(left)} more bytes, {'not all' if any(left) else 'all'} zero",
                remedy="cut the padding that a driver appended: only a quote's own bytes are signed",
            )


def expect(code: ErrorCode, what: str, expected: object, found: object) -> None:
    """Refuse a value that is not the one that is handled."""
    if found != expected:
        raise EvidenceError(code, f"the {what} is not supported", expected=expected, found=found)


def read_signature_data(cursor: Cursor, *, wrapped: bool) -> dict[str, Any]:
    """Read the u32 length and the signature data, to the quote's end; return the fields of `Quote`."""
    inner = Cursor(cursor.take(cursor.number(4, "signature length"), "signature data"))
    cursor.finish(EvidenceCode.QUOTE_TRAILING_BYTES)
    values: dict[str, Any] = {
        "signature": inner.take(_SIGNATURE, "signature"),
        "attestation_key": inner.take(_KEY, "attestation key"),
    }
    certification = inner
    if wrapped:
        certification = Cursor(_certification_data(inner, QE_CERTIFICATION))
        inner.finish(EvidenceCode.QUOTE_LENGTHS)
    values["qe_report"] = ReportBody.parse(certification.take(REPORT_BODY.size, "QE report"))
    values["qe_report_signature"] = certification.take(_SIGNATURE, "QE report signature")
    size = certification.number(2, "QE authentication data length")
    values["qe_auth_data"] = certification.take(size, "QE authentication data")
    values["certification_data"] = _certification_data(certification, PCK_CHAIN)
    certification.finish(EvidenceCode.QUOTE_LENGTHS)
    return values


def _certification_data(cursor: Cursor, kind: int) -> bytes:
    expect(EvidenceCode.QUOTE_CERTIFICATION, "certification data type", kind, cursor.number(2, "type"))
    return cursor.take(cursor.number(4, "certification data length"), "certification data")
