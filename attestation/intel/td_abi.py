"""Quotes of trust domains, versions 4 and 5: bytes to fields and back.

Sources: Intel TDX DCAP Quoting Library API, Appendix A.3 (A.3.1 header, A.3.2 TD quote body, A.3.3 and A.3.4 body
descriptor and TD report 1.5 of version 5); for TDATTRIBUTES and XFAM the Intel TDX Module ABI Specification, tables
"ATTRIBUTES" and "XFAM".  All integers are little-endian.

    version 4 = header (48) | TD report 1.0 (584) | u32 n | signature data (n bytes; see `quote`)
    version 5 = header (48) | u16 body type | u32 body size | body | u32 n | signature data

Body types: 2 is a TD report 1.0 (584 bytes), 3 a TD report 1.5 (648).  Type 1, an enclave's report, and the TEE type of
enclaves are refused, as is type 4: there is no evidence to hold a verifier of them against.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, ClassVar

from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.errors import TdxCode
from attestation.intel.quote import (
    ECDSA_P256,
    INTEL_QE_VENDOR,
    Cursor,
    Quote,
    expect,
    read_signature_data,
)
from attestation.layout import Kind, Layout, Row

VERSIONS = (4, 5)
TDX = 0x81
"""tee_type of trust domains; enclaves have 0 (A.3.1)."""

TD_HEADER = Layout(
    "quote header",
    48,
    Row(0, 2, "version", Kind.UINT),
    Row(2, 2, "att_key_type", Kind.UINT),
    Row(4, 4, "tee_type", Kind.UINT),
    Row(8, 4, "reserved", Kind.ZERO),
    Row(12, 16, "qe_vendor_id"),
    Row(28, 20, "user_data"),
)

_ROWS_10 = (
    Row(0, 16, "tee_tcb_svn"),
    Row(16, 48, "mr_seam"),
    Row(64, 48, "mr_signer_seam"),
    Row(112, 8, "seam_attributes", Kind.UINT),
    Row(120, 8, "td_attributes", Kind.UINT),
    Row(128, 8, "xfam", Kind.UINT),
    Row(136, 48, "mr_td"),
    Row(184, 48, "mr_config_id"),
    Row(232, 48, "mr_owner"),
    Row(280, 48, "mr_owner_config"),
    Row(328, 48, "rtmr0"),
    Row(376, 48, "rtmr1"),
    Row(424, 48, "rtmr2"),
    Row(472, 48, "rtmr3"),
    Row(520, 64, "report_data"),
)
TD_REPORT_10 = Layout("TD report 1.0", 584, *_ROWS_10)
TD_REPORT_15 = Layout("TD report 1.5", 648, *_ROWS_10, Row(584, 16, "tee_tcb_svn2"), Row(600, 48, "mr_service_td"))

BODY_TYPES = {2: TD_REPORT_10, 3: TD_REPORT_15}
"""Layouts by the body type of version 5 (A.3.3)."""


class TdAttributes(IntFlag):
    """TDATTRIBUTES (TDX Module ABI, "ATTRIBUTES"): bits 0 to 7 put the TD under debug, or let the host profile it."""

    DEBUG = 1 << 0
    HGS_PLUS_PROF = 1 << 4
    PERF_PROF = 1 << 5
    PMT_PROF = 1 << 6
    ICSSD = 1 << 16
    LASS = 1 << 27
    SEPT_VE_DISABLE = 1 << 28
    MIGRATABLE = 1 << 29
    PKS = 1 << 30
    KL = 1 << 31
    TPA = 1 << 62
    PERFMON = 1 << 63


UNDER_DEBUG = TdAttributes.DEBUG | TdAttributes.HGS_PLUS_PROF | TdAttributes.PERF_PROF | TdAttributes.PMT_PROF
"""The bits of the group TUD that are defined; each opens the TD to the host."""


@dataclass(frozen=True)
class TdHeader:
    """A.3.1; `user_data` (20 bytes) begins with the 16-byte id of the quoting enclave's platform."""

    version: int
    att_key_type: int
    tee_type: int
    qe_vendor_id: bytes
    user_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> TdHeader:
        """Decode 48 bytes; raises EvidenceError."""
        header = cls(**TD_HEADER.parse(data))
        if header.version not in VERSIONS:
            raise EvidenceError(
                EvidenceCode.QUOTE_VERSION,
                "the quote version is not supported",
                expected=VERSIONS,
                found=header.version,
            )
        expect(EvidenceCode.QUOTE_KEY_TYPE, "attestation key type", ECDSA_P256, header.att_key_type)
        expect(TdxCode.TEE_TYPE, "TEE type", f"{TDX:#x}", f"{header.tee_type:#x}")
        expect(EvidenceCode.QUOTE_QE_VENDOR, "QE vendor", INTEL_QE_VENDOR.hex(), header.qe_vendor_id.hex())
        return header

    def serialize(self) -> bytes:
        """Return the 48 bytes."""
        return TD_HEADER.serialize(self.__dict__)


@dataclass(frozen=True)
class TdReport:
    """What the TDX module says of a TD (A.3.2, A.3.4).

    tee_tcb_svn: 16 component SVNs of the platform when the TD was launched (0: the module's, 1: its major version,
    2: microcode).  seam_attributes, td_attributes, xfam: 64 bits.  report_data: 64 bytes; every other byte string: 48.
    tee_tcb_svn2 (the platform's SVNs now) and mr_service_td are of TD report 1.5, and None in 1.0.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: int
    td_attributes: int
    xfam: int
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mr_service_td: bytes | None = None

    @property
    def layout(self) -> Layout:
        """The layout of this report: 1.0 or 1.5."""
        return TD_REPORT_10 if self.tee_tcb_svn2 is None else TD_REPORT_15

    @property
    def debug(self) -> bool:
        """Whether the host can read this TD's memory or profile it (group TUD of TDATTRIBUTES)."""
        return bool(self.td_attributes & 0xFF)

    def serialize(self) -> bytes:
        """Return the 584 or 648 bytes."""
        return self.layout.serialize(self.__dict__)

    def to_hex(self) -> dict[str, str]:
        """Return every field by name, as the hex of its bytes."""
        return self.layout.to_hex(self.__dict__)


@dataclass(frozen=True)
class TdQuote(Quote):
    """A quote of a trust domain, version 4 or 5."""

    header: TdHeader
    body: TdReport

    tee: ClassVar[str] = "tdx"
    wraps_certification: ClassVar[bool] = True

    @property
    def version(self) -> int:
        """Version of the quote's format."""
        return self.header.version

    @property
    def body_type(self) -> int:
        """The body's type as version 5 numbers it: 2 for TD report 1.0, 3 for 1.5."""
        return next(number for number, layout in BODY_TYPES.items() if layout is self.body.layout)

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the TD had quoted."""
        return self.body.report_data

    @property
    def signed(self) -> bytes:
        """The bytes under the quote's signature: header, body descriptor where there is one, and body (A.3.8)."""
        descriptor = struct.pack("<HI", self.body_type, self.body.layout.size) if self.version == 5 else b""
        return self.header.serialize() + descriptor + self.body.serialize()

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, byte strings and integers as the hex of their bytes in the quote.

        Quotes of version 4 have no body type: it is None.
        """
        described = self.header.version == 5
        return {
            "header": TD_HEADER.to_hex(self.header.__dict__),
            "body_type": self.body_type.to_bytes(2, "little").hex() if described else None,
            "td_report": self.body.to_hex(),
            **super().to_dict(),
        }


def parse_td_quote(data: bytes) -> TdQuote:
    """Parse a quote of version 4 or 5 that uses up `data` exactly.

    Raises EvidenceError with a `quote-...` or `tdx-...` code, and nothing else.
    """
    cursor = Cursor(data)
    header = TdHeader.parse(cursor.take(TD_HEADER.size, "header"))
    layout = TD_REPORT_10 if header.version == 4 else _described(cursor)
    body = TdReport(**layout.parse(cursor.take(layout.size, layout.title)))
    return TdQuote(header, body, **read_signature_data(cursor, wrapped=True))


def _described(cursor: Cursor) -> Layout:
    """Read the body descriptor of version 5: the type, and the size that goes with it."""
    kind = cursor.number(2, "body type")
    size = cursor.number(4, "body size")
    layout = BODY_TYPES.get(kind)
    if layout is None:
        raise EvidenceError(TdxCode.BODY_TYPE, TdxCode.BODY_TYPE.meaning, expected=tuple(BODY_TYPES), found=kind)
    if size != layout.size:
        raise EvidenceError(
            EvidenceCode.QUOTE_LENGTHS,
            f"the body is not of the size of a {layout.title}",
            expected=layout.size,
            found=size,
        )
    return layout
