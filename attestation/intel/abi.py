"""The SGX ECDSA quote, version 3: bytes to fields and back.

Source: Intel SGX ECDSA QuoteGenReference, "Intel SGX DCAP Quote Generation Library", Appendix A "Data Structures"
(A.1 quote header, A.3 enclave report body, A.4 "ECDSA 256-bit quote signature data", QE certification data), and for
CET_ATTRIBUTES the Intel SDM volume 3D, table "Layout of REPORT".  All integers are little-endian.

    quote          = header (48) | report body (384) | u32 n | signature data (n bytes)
    signature data = signature (64) | attestation key (64) | QE report (384) | QE report signature (64)
                   | u16 a | QE authentication data (a bytes) | u16 type | u32 c | certification data (c bytes)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, ClassVar

from attestation.errors import EvidenceCode, EvidenceError
from attestation.layout import Kind, Layout, Row

VERSION = 3
ECDSA_P256 = 2
"""att_key_type: "ECDSA-256-with-P-256 curve" (A.1)."""
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""The UUID of Intel's quoting enclave (A.1)."""
PCK_CHAIN = 5
"""Certification data: the concatenated PEM of the PCK leaf, its CA and the root."""

MAX_QUOTE = 16 * 1024
"""Quotes with an embedded chain have 4 to 5 KiB, and Gramine hands out 8 KiB at most."""

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

REPORT_BODY = Layout(
    "report body",
    384,
    Row(0, 16, "cpu_svn"),
    Row(16, 4, "misc_select", Kind.UINT),
    Row(20, 1, "cet_attributes", Kind.UINT),
    Row(21, 11, "reserved1", Kind.ZERO),
    Row(32, 16, "isv_ext_prod_id"),
    Row(48, 8, "flags", Kind.UINT),
    Row(56, 8, "xfrm", Kind.UINT),
    Row(64, 32, "mr_enclave"),
    Row(96, 32, "reserved2", Kind.ZERO),
    Row(128, 32, "mr_signer"),
    Row(160, 32, "reserved3", Kind.ZERO),
    Row(192, 64, "config_id"),
    Row(256, 2, "isv_prod_id", Kind.UINT),
    Row(258, 2, "isv_svn", Kind.UINT),
    Row(260, 2, "config_svn", Kind.UINT),
    Row(262, 42, "reserved4", Kind.ZERO),
    Row(304, 16, "isv_family_id"),
    Row(320, 64, "report_data"),
)

_SIGNATURE = 64
_KEY = 64


class Attributes(IntFlag):
    """ATTRIBUTES.FLAGS of an enclave (SDM volume 3D, "ATTRIBUTES")."""

    INIT = 1 << 0
    DEBUG = 1 << 1
    MODE64BIT = 1 << 2
    PROVISION_KEY = 1 << 4
    EINITTOKEN_KEY = 1 << 5
    CET = 1 << 6
    KSS = 1 << 7
    AEXNOTIFY = 1 << 10


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
        _expect(EvidenceCode.QUOTE_VERSION, "quote version", VERSION, header.version)
        _expect(EvidenceCode.QUOTE_KEY_TYPE, "attestation key type", ECDSA_P256, header.att_key_type)
        _expect(EvidenceCode.QUOTE_QE_VENDOR, "QE vendor", INTEL_QE_VENDOR.hex(), header.qe_vendor_id.hex())
        return header

    def serialize(self) -> bytes:
        """Return the 48 bytes."""
        return HEADER.serialize(self.__dict__)


@dataclass(frozen=True)
class ReportBody:
    """A.3 and the SDM's REPORT: what the processor says of an enclave.

    cpu_svn, isv_ext_prod_id, isv_family_id: 16 bytes; mr_enclave, mr_signer: 32; config_id, report_data: 64.
    flags and xfrm are the two halves of ATTRIBUTES; isv_prod_id, isv_svn and config_svn have 16 bits.
    """

    cpu_svn: bytes
    misc_select: int
    cet_attributes: int
    isv_ext_prod_id: bytes
    flags: int
    xfrm: int
    mr_enclave: bytes
    mr_signer: bytes
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    isv_family_id: bytes
    report_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> ReportBody:
        """Decode 384 bytes; raises EvidenceError."""
        return cls(**REPORT_BODY.parse(data))

    def serialize(self) -> bytes:
        """Return the 384 bytes."""
        return REPORT_BODY.serialize(self.__dict__)

    @property
    def debug(self) -> bool:
        """Whether anybody on the machine can read this enclave's memory."""
        return bool(self.flags & Attributes.DEBUG)

    def to_hex(self) -> dict[str, str]:
        """Return every field by name, as the hex of its bytes."""
        return REPORT_BODY.to_hex(self.__dict__)


@dataclass(frozen=True)
class QuoteV3:
    """A parsed quote; nothing in it is verified.

    signature, attestation_key, qe_report_signature: 64 bytes each, r || s and x || y.  qe_auth_data: what the quoting
    enclave mixed into its report data.  certification_data: the PEM of the PCK chain, as it stands in the quote.
    """

    header: QuoteHeader
    body: ReportBody
    signature: bytes
    attestation_key: bytes
    qe_report: ReportBody
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification_data: bytes

    tee: ClassVar[str] = "sgx"

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

    def serialize(self) -> bytes:
        """Return the quote's bytes; `parse_quote` is the inverse."""
        data = self.signature + self.attestation_key + self.qe_report.serialize() + self.qe_report_signature
        data += struct.pack("<H", len(self.qe_auth_data)) + self.qe_auth_data
        data += struct.pack("<HI", PCK_CHAIN, len(self.certification_data)) + self.certification_data
        return self.signed + struct.pack("<I", len(data)) + data

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, byte strings and integers as the hex of their bytes in the quote."""
        return {
            "header": HEADER.to_hex(self.header.__dict__),
            "report_body": self.body.to_hex(),
            "signature": self.signature.hex(),
            "attestation_key": self.attestation_key.hex(),
            "qe_report": self.qe_report.to_hex(),
            "qe_report_signature": self.qe_report_signature.hex(),
            "qe_auth_data": self.qe_auth_data.hex(),
            "certification_data": self.certification_data.decode("ascii", "backslashreplace"),
        }


def parse_quote(data: bytes) -> QuoteV3:
    """Parse a quote of version 3 that uses up `data` exactly.

    Raises EvidenceError with a `quote-...` code, and nothing else.
    """
    if len(data) > MAX_QUOTE:
        raise EvidenceError(EvidenceCode.QUOTE_TOO_LARGE, "the quote is too large", expected=MAX_QUOTE, found=len(data))
    cursor = _Cursor(data)
    header = QuoteHeader.parse(cursor.take(HEADER.size, "header"))
    body = ReportBody.parse(cursor.take(REPORT_BODY.size, "report body"))
    size = cursor.number(4, "signature length")
    inner = _Cursor(cursor.take(size, "signature data"))
    cursor.finish(EvidenceCode.QUOTE_TRAILING_BYTES)
    return QuoteV3(header, body, **_signature_data(inner))


def _signature_data(cursor: _Cursor) -> dict[str, Any]:
    values: dict[str, Any] = {
        "signature": cursor.take(_SIGNATURE, "signature"),
        "attestation_key": cursor.take(_KEY, "attestation key"),
        "qe_report": ReportBody.parse(cursor.take(REPORT_BODY.size, "QE report")),
        "qe_report_signature": cursor.take(_SIGNATURE, "QE report signature"),
    }
    values["qe_auth_data"] = cursor.take(cursor.number(2, "QE authentication data length"), "QE authentication data")
    _expect(EvidenceCode.QUOTE_CERTIFICATION, "certification data type", PCK_CHAIN, cursor.number(2, "type"))
    values["certification_data"] = cursor.take(cursor.number(4, "certification data length"), "certification data")
    cursor.finish(EvidenceCode.QUOTE_LENGTHS)
    return values


class _Cursor:
    """Reads a byte string from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        self._at = 0

    def take(self, size: int, what: str) -> bytes:
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
        return int.from_bytes(self.take(size, what), "little")

    def finish(self, code: EvidenceCode) -> None:
        if self._at != len(self._data):
            raise EvidenceError(
                code, code.meaning, expected="the end", found=f"{len(self._data) - self._at} more bytes"
            )


def _expect(code: EvidenceCode, what: str, expected: object, found: object) -> None:
    if found != expected:
        raise EvidenceError(code, f"the {what} is not supported", expected=expected, found=found)
