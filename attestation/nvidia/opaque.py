"""What a device adds to its measurements: the opaque data of a report.

Source: NVIDIA attestation SDK, `gpu_opaque_data_parser.hpp` and `switch_opaque_data_parser.hpp` (field numbers),
`gpu/evidence.cpp` (how the VBIOS version is written) and `gpu/verify.cpp` (values of NVDEC0 status and feature flag).

    opaque data = (u16 type | u16 size | value)...                                      little-endian
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from attestation.errors import EvidenceError
from attestation.nvidia.errors import NvidiaCode

MAX_VERSION: Final = 1
"""Highest version of the opaque data that is known."""
MAX_TEXT: Final = 32

_ENABLED, _DISABLED = 0xAA, 0x55


class Field(IntEnum):
    """Numbers of the fields; those of a switch that differ have their own names."""

    CERT_ISSUER_NAME = 1
    CERT_AUTHORITY_KEY_IDENTIFIER = 2
    DRIVER_VERSION = 3
    GPU_INFO = 4
    SKU = 5
    VBIOS_VERSION = 6
    MANUFACTURER_ID = 7
    TAMPER_DETECTION = 8
    SMC = 9
    VPR = 10
    NVDEC0_STATUS = 11
    MSRSCNT = 12
    CPRINFO = 13
    BOARD_ID = 14
    CHIP_SKU = 15
    CHIP_SKU_MOD = 16
    PROJECT = 17
    PROJECT_SKU = 18
    PROJECT_SKU_MOD = 19
    FWID = 20
    PROTECTED_PCIE_STATUS = 21
    SWITCH_PDI = 22
    FLOORSWEPT_PORTS = 23
    POSITION_ID = 24
    LOCK_SWITCH_STATUS = 25
    SWITCH_GPU_PDIS = 26
    GPU_LINK_CONN = 32
    SYS_ENABLE_STATUS = 33
    OPAQUE_DATA_VERSION = 34
    CHIP_INFO = 35
    FEATURE_FLAG = 36


_NUMBERS = frozenset(Field)


class Mode(StrEnum):
    """How a device is used: by one VM, by one VM with several over encrypted NVLink, or with NVLink in the clear.

    `unreported`: the firmware is too old to say.
    """

    SPT = "SPT"
    MPT = "MPT"
    PPCIE = "PPCIE"
    UNREPORTED = "unreported"


_FLAGS = {0: Mode.SPT, 1: Mode.MPT, 2: Mode.PPCIE}


@dataclass(frozen=True)
class Opaque:
    """The fields by number, in the order of the report."""

    fields: Mapping[int, bytes]

    @property
    def raw(self) -> bytes:
        """The encoded fields."""
        return b"".join(
            number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
            for number, value in self.fields.items()
        )

    @property
    def driver_version(self) -> str | None:
        """The driver's version, such as "580.159.03"; None for a switch."""
        return _text(self.fields, Field.DRIVER_VERSION)

    @property
    def vbios_version(self) -> str:
        """The version of VBIOS or switch firmware, in the form "96.00.5E.00.01"; empty where there is none.

        A GPU writes it as 8 bytes: four of a little-endian word, the fifth, and three that are zero.
        """
        value = self.fields.get(Field.VBIOS_VERSION, b"")
        if self.driver_version is None:
            return _text(self.fields, Field.VBIOS_VERSION) or ""
        if len(value) != 8 or any(value[5:]):
            raise _malformed("VBIOS_VERSION", "5 bytes and 3 of zero", value.hex())
        return ".".join(f"{byte:02X}" for byte in (*reversed(value[:4]), value[4]))

    @property
    def fwid(self) -> bytes | None:
        """The digest of the firmware that holds the signing key, 48 bytes; None in reports of old firmware."""
        value = self.fields.get(Field.FWID)
        if value is not None and len(value) != 48:
            raise _malformed("FWID", "48 bytes", len(value))
        return value

    @property
    def nvdec0_enabled(self) -> bool:
        """Whether the video decoder is on, so that its measurement counts; true for a device that does not say."""
        return self._status(Field.NVDEC0_STATUS, default=True)

    @property
    def mode(self) -> Mode:
        """How the device is used: by its feature flag, or in older reports by the status of protected PCIe."""
        flag = self.fields.get(Field.FEATURE_FLAG)
        if flag is None:
            if Field.PROTECTED_PCIE_STATUS not in self.fields:
                return Mode.UNREPORTED
            return Mode.PPCIE if self._status(Field.PROTECTED_PCIE_STATUS, default=False) else Mode.SPT
        number = int.from_bytes(flag, "little")
        if not flag or number not in _FLAGS:
            raise EvidenceError(
                NvidiaCode.OPAQUE_UNSUPPORTED,
                "the report's feature flag is not known",
                expected=", ".join(f"{each} ({mode})" for each, mode in _FLAGS.items()),
                found=flag.hex(),
            )
        return _FLAGS[number]

    def _status(self, number: Field, *, default: bool) -> bool:
        value = self.fields.get(number)
        if value is None:
            return default
        if len(value) != 1 or value[0] not in {_ENABLED, _DISABLED}:
            raise _malformed(number.name, "aa or 55", value.hex())
        return value[0] == _ENABLED

    def to_dict(self) -> dict[str, str]:
        """Return every field by NVIDIA's name, as hex."""
        return {Field(number).name: value.hex() for number, value in self.fields.items()}


def parse_opaque(data: bytes) -> Opaque:
    """Parse opaque data; raises EvidenceError `nvidia-opaque-malformed` or `nvidia-opaque-unsupported`."""
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        number, size = (int.from_bytes(data[start : start + 2], "little") for start in (at, at + 2))
        value = data[at + 4 : at + 4 + size]
        if at + 4 + size > len(data) or number in fields:
            raise _malformed(f"field {number}", "whole and once", f"{len(value)} of {size} bytes")
        if number not in _NUMBERS:
            raise EvidenceError(NvidiaCode.OPAQUE_UNSUPPORTED, "the report has an unknown field", found=number)
        fields[number] = value
        at += 4 + size
    opaque = Opaque(fields)
    _check(opaque)
    return opaque


def _check(opaque: Opaque) -> None:
    """Read every field that has a meaning here once, so that none is refused later."""
    version = int.from_bytes(opaque.fields.get(Field.OPAQUE_DATA_VERSION, b""), "little")
    if version > MAX_VERSION:
        raise EvidenceError(
            NvidiaCode.OPAQUE_UNSUPPORTED,
            "the report's opaque data are of a later version",
            expected=f"at most {MAX_VERSION}",
            found=version,
        )
    _ = opaque.vbios_version, opaque.fwid, opaque.nvdec0_enabled, opaque.mode


def _text(fields: Mapping[int, bytes], number: Field) -> str | None:
    """Return a text that zeros may follow; None where the field is absent."""
    if number not in fields:
        return None
    raw = fields[number].rstrip(b"\0")
    text = raw.decode("ascii", "replace")
    if not 0 < len(raw) <= MAX_TEXT or not raw.isascii() or not text.isprintable():
        raise _malformed(number.name, f"1 to {MAX_TEXT} printable characters", f"{len(raw)} bytes")
    return text


def _malformed(name: str, expected: object, found: object) -> EvidenceError:
    return EvidenceError(
        NvidiaCode.OPAQUE_MALFORMED, f"the report's {name} is not usable", expected=expected, found=found
    )
