"""The report of an SGX enclave: what is quoted of enclaves, and what a quoting enclave says of itself.

Source: Intel SGX ECDSA QuoteGenReference, "Intel SGX DCAP Quote Generation Library", A.3 "Enclave report body", and for
CET_ATTRIBUTES the Intel SDM volume 3D, table "Layout of REPORT".  All integers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from attestation.layout import Kind, Layout, Row

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
