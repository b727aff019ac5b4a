"""The SGX ECDSA quote, version 3: bytes to fields and back; and where a quote of any version ends.

Source: Intel SGX ECDSA QuoteGenReference, "Intel SGX DCAP Quote Generation Library", Appendix A "Data Structures"
(A.1 quote header, A.3 enclave report body, A.4 "ECDSA 256-bit quote signature data").  All integers are little-endian.

    quote = header (48) | report body (384) | u32 n | signature data (n bytes; see `quote`)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from attestation.errors import EvidenceCode
from attestation.intel.quote import (
    ECDSA_P256,
    INTEL_QE_VENDOR,
    MAX_QUOTE,
    Cursor,
    Quote,
    expect,
    read_signature_data,
)
from attestation.intel.report import REPORT_BODY, Attributes, ReportBody
from attestation.intel.td_abi import TD_REPORT_10
from attestation.layout import Kind, Layout, Row

__all__ = [
    "ECDSA_P256",
    "HEADER",
    "INTEL_QE_VENDOR",
    "MAX_QUOTE",
    "REPORT_BODY",
    "VERSION",
    "Attributes",
    "QuoteHeader",
    "QuoteV3",
    "ReportBody",
    "is_quote",
    "parse_quote",
    "strip_padding",
]

VERSION = 3

HEADER = Layout(
    "quote header",
    48,
    Row(0, 2, "version", Kind.UINT),
    Row(2, 2, "att_key_type", Kind.UINT),
    Row(4, 4, "reserved", Kind.ZERO),
    Row(8, 2, "qe_svn", Kind.UINT),
    Row(10, 2, "pce_svn", Kind.UINT),
    Row(12, 16, "qe_vendor_id"),
    Row(28, 20, "user_data"),
)


@dataclass(frozen=True)
class QuoteHeader:
    """A.1; `user_data` (20 bytes) begins with the 16-byte id of the quoting enclave's platform."""

    version: int
    att_key_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> QuoteHeader:
        """Decode 48 bytes; raises EvidenceError."""
        header = cls(**HEADER.parse(data))
        expect(EvidenceCode.QUOTE_VERSION, "quote version", VERSION, header.version)
        expect(EvidenceCode.QUOTE_KEY_TYPE, "attestation key type", ECDSA_P256, header.att_key_type)
        expect(EvidenceCode.QUOTE_QE_VENDOR, "QE vendor", INTEL_QE_VENDOR.hex(), header.qe_vendor_id.hex())
        return header

    def serialize(self) -> bytes:
        """Return the 48 bytes."""
        return HEADER.serialize(self.__dict__)


@dataclass(frozen=True)
class QuoteV3(Quote):
    """A quote of an SGX enclave."""

    header: QuoteHeader
    body: ReportBody

    tee: ClassVar[str] = "sgx"
    wraps_certification: ClassVar[bool] = False

    @property
    def version(self) -> int:
        """Version of the quote's format."""
        return self.header.version

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the enclave had quoted."""
        return self.body.report_data

    @property
    def signed(self) -> bytes:
        """The 432 bytes under the quote's signature (A.4)."""
        return self.header.serialize() + self.body.serialize()

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, byte strings and integers as the hex of their bytes in the quote."""
        return {
            "header": HEADER.to_hex(self.header.__dict__),
            "report_body": self.body.to_hex(),
            **super().to_dict(),
        }


def parse_quote(data: bytes) -> QuoteV3:
    """Parse a quote of version 3 that uses up `data` exactly.

    Raises EvidenceError with a `quote-...` code, and nothing else.
    """
    cursor = Cursor(data)
    header = QuoteHeader.parse(cursor.take(HEADER.size, "header"))
    body = ReportBody.parse(cursor.take(REPORT_BODY.size, "report body"))
    return QuoteV3(header, body, **read_signature_data(cursor, wrapped=False))


def is_quote(data: bytes, *versions: int) -> bool:
    """Tell whether bytes begin like a quote of one of these versions.

    The attestation key type tells quotes from the reports of SEV-SNP, whose version has 32 bits.
    """
    return len(data) >= 4 and _number(data, 0, 2) in versions and _number(data, 2, 2) != 0


_DESCRIPTOR = 6
"""Version 5 has the body's type (u16) and its size (u32) before the body."""


def strip_padding(data: bytes) -> tuple[bytes, int]:
    """Return (quote, number of zero bytes behind it): drivers hand out buffers of a fixed size.

    What is no quote, is cut short, or is followed by anything but zeros comes back as it is, and its parser tells.
    Never raises.
    """
    end = _end(bytes(data))
    if end < HEADER.size or end > len(data) or any(data[end:]):
        return data, 0
    return data[:end], len(data) - end


def _end(data: bytes) -> int:
    """Return where a quote says that it ends; beyond `data` where it is cut short, 0 where it is none."""
    bodies = {3: REPORT_BODY.size, 4: TD_REPORT_10.size, 5: _DESCRIPTOR + _number(data, HEADER.size + 2)}
    body = bodies.get(_number(data, 0, 2))
    if body is None:
        return 0
    at = HEADER.size + body
    return at + 4 + _number(data, at) if len(data) >= at + 4 else len(data) + 1


def _number(data: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(data[at : at + size], "little")
