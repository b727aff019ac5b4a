"""The SEV-SNP attestation report, versions 2 to 5: bytes to fields and back.

Source: SEV Secure Nested Paging Firmware ABI Specification (AMD 56860), tables "Structure of the ATTESTATION_REPORT
Structure", "Guest Policy", "PLATFORM_INFO Field" and "Format for an ECDSA P-384 with SHA-384 Signature".  All
integers are little-endian, those of the signature too.

Version 3 added CPUID family, model and stepping.  AMD has not published what version 4 adds; it is read in version
3's layout, so that anything in what is reserved there refuses it.  Version 5 added the mitigation vectors.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, Final

from attestation.amd.errors import SnpCode
from attestation.amd.tcb import Product, product_of
from attestation.errors import EvidenceError
from attestation.layout import Kind, Layout, Row

SIZE: Final = 0x4A0
SIGNED_SIZE: Final = 0x2A0
ECDSA_P384_SHA384: Final = 1

_POLICY_ONE: Final = 1 << 17
"""Bit 17 of a guest's policy is reserved and must be one."""
_KEY_INFO_KNOWN: Final = 0x1F

_HEAD = (
    Row(0x000, 4, "version", Kind.UINT),
    Row(0x004, 4, "guest_svn", Kind.UINT),
    Row(0x008, 8, "policy", Kind.UINT),
    Row(0x010, 16, "family_id"),
    Row(0x020, 16, "image_id"),
    Row(0x030, 4, "vmpl", Kind.UINT),
    Row(0x034, 4, "signature_algo", Kind.UINT),
    Row(0x038, 8, "current_tcb"),
    Row(0x040, 8, "platform_info", Kind.UINT),
    Row(0x048, 4, "key_info", Kind.UINT),
    Row(0x04C, 4, "reserved1", Kind.ZERO),
    Row(0x050, 64, "report_data"),
    Row(0x090, 48, "measurement"),
    Row(0x0C0, 32, "host_data"),
    Row(0x0E0, 48, "id_key_digest"),
    Row(0x110, 48, "author_key_digest"),
    Row(0x140, 32, "report_id"),
    Row(0x160, 32, "report_id_ma"),
    Row(0x180, 8, "reported_tcb"),
)
_NO_CPUID = (Row(0x188, 24, "reserved2", Kind.ZERO),)
_CPUID = (
    Row(0x188, 1, "cpuid_fam_id", Kind.UINT),
    Row(0x189, 1, "cpuid_mod_id", Kind.UINT),
    Row(0x18A, 1, "cpuid_step", Kind.UINT),
    Row(0x18B, 21, "reserved2", Kind.ZERO),
)
_VERSIONS = (
    Row(0x1A0, 64, "chip_id"),
    Row(0x1E0, 8, "committed_tcb"),
    Row(0x1E8, 1, "current_build", Kind.UINT),
    Row(0x1E9, 1, "current_minor", Kind.UINT),
    Row(0x1EA, 1, "current_major", Kind.UINT),
    Row(0x1EB, 1, "reserved3", Kind.ZERO),
    Row(0x1EC, 1, "committed_build", Kind.UINT),
    Row(0x1ED, 1, "committed_minor", Kind.UINT),
    Row(0x1EE, 1, "committed_major", Kind.UINT),
    Row(0x1EF, 1, "reserved4", Kind.ZERO),
    Row(0x1F0, 8, "launch_tcb"),
)
_NO_MITIGATIONS = (Row(0x1F8, 168, "reserved5", Kind.ZERO),)
_MITIGATIONS = (
    Row(0x1F8, 8, "launch_mit_vector", Kind.UINT),
    Row(0x200, 8, "current_mit_vector", Kind.UINT),
    Row(0x208, 152, "reserved5", Kind.ZERO),
)
_SIGNATURE = (
    Row(0x2A0, 48, "signature_r", Kind.UINT),
    Row(0x2D0, 24, "reserved6", Kind.ZERO),  # the format has room for 576 bits, the curve for 384
    Row(0x2E8, 48, "signature_s", Kind.UINT),
    Row(0x318, 24, "reserved7", Kind.ZERO),
    Row(0x330, 368, "reserved8", Kind.ZERO),
)


def _layout(title: str, cpuid: tuple[Row, ...], mitigations: tuple[Row, ...]) -> Layout:
    rows = (*_HEAD, *cpuid, *_VERSIONS, *mitigations, *_SIGNATURE)
    return Layout(title, SIZE, *rows, truncated=SnpCode.LENGTH, reserved=SnpCode.RESERVED)


_V3 = _layout("report of version 3", _CPUID, _NO_MITIGATIONS)
LAYOUTS: Final = {
    2: _layout("report of version 2", _NO_CPUID, _NO_MITIGATIONS),
    3: _V3,
    4: _V3,
    5: _layout("report of version 5", _CPUID, _MITIGATIONS),
}
"""By version."""


class GuestPolicy(IntFlag):
    """Bits of POLICY above the ABI version, as the guest's owner set them at launch."""

    SMT = 1 << 16
    MIGRATE_MA = 1 << 18
    DEBUG = 1 << 19
    SINGLE_SOCKET = 1 << 20
    CXL_ALLOW = 1 << 21
    MEM_AES_256_XTS = 1 << 22
    RAPL_DIS = 1 << 23
    CIPHERTEXT_HIDING_DRAM = 1 << 24
    PAGE_SWAP_DISABLE = 1 << 25


GUEST_POLICY_KNOWN: Final = (1 << 26) - 1
"""The ABI version, every named bit, and the one that is always set."""


class PlatformInfo(IntFlag):
    """Bits of PLATFORM_INFO."""

    SMT_EN = 1 << 0
    TSME_EN = 1 << 1
    ECC_EN = 1 << 2
    RAPL_DIS = 1 << 3
    CIPHERTEXT_HIDING_DRAM_EN = 1 << 4
    ALIAS_CHECK_COMPLETE = 1 << 5
    IOMMU_WRITE_SAFE = 1 << 6
    TIO_EN = 1 << 7


class SigningKey(IntEnum):
    """SIGNING_KEY: the chip's own endorsement key, one lent to a cloud provider, or none."""

    VCEK = 0
    VLEK = 1
    NONE = 7


@dataclass(frozen=True)
class Report:
    """A parsed report; nothing in it is verified.

    Byte strings have the sizes of the layout; those named `..._tcb` are 8 bytes in the layout of the product.
    guest_svn, vmpl, key_info: 32 bits; policy, platform_info and the mitigation vectors: 64.  vmpl is all ones where
    the host asked for the report.  The CPUID fields are None in version 2, the mitigation vectors None before 5.
    signature_r and signature_s: below 2^384.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algo: int
    current_tcb: bytes
    platform_info: int
    key_info: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    chip_id: bytes
    committed_tcb: bytes
    current_build: int
    current_minor: int
    current_major: int
    committed_build: int
    committed_minor: int
    committed_major: int
    launch_tcb: bytes
    signature_r: int
    signature_s: int
    cpuid_fam_id: int | None = None
    cpuid_mod_id: int | None = None
    cpuid_step: int | None = None
    launch_mit_vector: int | None = None
    current_mit_vector: int | None = None

    tee: ClassVar[str] = "snp"

    @property
    def product(self) -> Product | None:
        """What the report says it was made by; None in version 2.  Raises EvidenceError `snp-cpuid`."""
        if self.cpuid_fam_id is None or self.cpuid_mod_id is None:
            return None
        return product_of(self.cpuid_fam_id, self.cpuid_mod_id)

    @property
    def signing_key(self) -> SigningKey:
        """Which kind of key signed the report."""
        return SigningKey(self.key_info >> 2)

    @property
    def chip_key_masked(self) -> bool:
        """Whether the host keeps the chip's own key from signing (MASK_CHIP_KEY)."""
        return bool(self.key_info & 2)

    @property
    def author_key_enabled(self) -> bool:
        """Whether an author key vouched for the ID key at launch (AUTHOR_KEY_EN)."""
        return bool(self.key_info & 1)

    @property
    def policy_abi(self) -> tuple[int, int]:
        """The least (major, minor) firmware interface that the guest's policy demands."""
        return self.policy >> 8 & 0xFF, self.policy & 0xFF

    @property
    def current_firmware(self) -> tuple[int, int, int]:
        """The running firmware's (major, minor, build)."""
        return self.current_major, self.current_minor, self.current_build

    @property
    def committed_firmware(self) -> tuple[int, int, int]:
        """The (major, minor, build) below which the firmware cannot be rolled back."""
        return self.committed_major, self.committed_minor, self.committed_build

    @functools.cached_property
    def signed(self) -> bytes:
        """The 672 bytes under the signature."""
        return self.serialize()[:SIGNED_SIZE]

    def serialize(self) -> bytes:
        """Return the report's 1184 bytes; `parse_report` is the inverse."""
        return LAYOUTS[self.version].serialize(self.__dict__)

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, as the hex of its bytes in the report."""
        return LAYOUTS[self.version].to_hex(self.__dict__)


def looks_like_report(data: bytes) -> bool:
    """Tell whether bytes look like a report: a version below 256, and the size or the signature algorithm of one."""
    algorithm = ECDSA_P384_SHA384.to_bytes(4, "little")
    return data[1:4] == bytes(3) and (len(data) == SIZE or data[0x34:0x38] == algorithm)


def parse_report(data: bytes) -> Report:
    """Parse a report of version 2 to 5 that uses up `data` exactly; raises EvidenceError with an `snp-...` code."""
    if len(data) != SIZE:
        raise EvidenceError(SnpCode.LENGTH, SnpCode.LENGTH.meaning, expected=SIZE, found=len(data))
    version = int.from_bytes(data[:4], "little")
    if version not in LAYOUTS:
        raise EvidenceError(
            SnpCode.VERSION, SnpCode.VERSION.meaning, expected=" or ".join(map(str, LAYOUTS)), found=version
        )
    report = Report(**LAYOUTS[version].parse(data))
    if report.signature_algo != ECDSA_P384_SHA384:
        raise EvidenceError(
            SnpCode.SIGNATURE_ALGORITHM,
            SnpCode.SIGNATURE_ALGORITHM.meaning,
            expected=ECDSA_P384_SHA384,
            found=report.signature_algo,
        )
    _check_reserved_bits(report)
    return report


def _check_reserved_bits(report: Report) -> None:
    """Hold the reserved bits inside fields that have a meaning besides; unknown bits of POLICY are the policy's."""
    if not report.policy & _POLICY_ONE:
        raise _reserved("bit 17 of POLICY", "1", "0")
    if report.key_info & ~_KEY_INFO_KNOWN:
        raise _reserved("bits 5 to 31 at offset 48h", "0", f"{report.key_info:#x}")
    if report.key_info >> 2 not in set(SigningKey):
        raise _reserved("SIGNING_KEY", "0 (VCEK), 1 (VLEK) or 7 (none)", f"{report.key_info >> 2}")


def _reserved(what: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(SnpCode.RESERVED, f"{what} has a value that AMD reserves", expected=expected, found=found)
