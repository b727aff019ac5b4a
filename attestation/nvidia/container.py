"""Device evidence as one byte string: reports and chains of several devices, and the manifests that go with them.

NVIDIA gives a report, a certificate chain and manifests as things of their own; this container is ours.  It is
canonical msgpack (`manifests.canonical`), so that it has one encoding, and its first key tells it from everything else:

    format      "strongroom nvidia evidence"
    reports     list of maps: `report` is a device's report, `chain` its list of DER certificates, the leaf first
    rims        list of manifests, XML as NVIDIA publishes it
    version     1

Chains have the leaf first, as NVIDIA's tools print them.  All devices answer to the same nonce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from attestation.errors import EvidenceError
from attestation.nvidia.errors import NvidiaCode
from attestation.nvidia.rim import MAX_RIM, Rim, parse_rim
from attestation.nvidia.spdm import MAX_REPORT, Report, parse_report
from manifests import canonical, fields
from manifests.errors import ManifestCode, ManifestError

VERSION: Final = 1
MAX_DEVICES: Final = 32
"""The largest machine has 8 GPUs and 4 switches."""
MAX_RIMS: Final = 2 * MAX_DEVICES
"""One for a device's driver, and one for its VBIOS."""
MAX_CHAIN: Final = 8
MAX_CERTIFICATE: Final = 2048
MAX_EVIDENCE: Final = 4 * 1024 * 1024
"""8 GPUs and 4 switches of one kind each take 180 KiB."""

FORMAT = "strongroom nvidia evidence"
_START = b"\x84\xa6format" + canonical.encode(FORMAT)
"""A map of four, whose first key is `format`."""


@dataclass(frozen=True)
class DeviceEvidence:
    """Report and chain of one device; nothing in it is verified.  chain: DER certificates, leaf first."""

    report: Report
    chain: tuple[bytes, ...] = field(repr=False)

    tee: ClassVar[str] = "nvidia"
    version: ClassVar[int] = VERSION

    @property
    def report_data(self) -> bytes:
        """The nonce that the device was asked with, 32 bytes."""
        return self.report.nonce

    def serialize(self) -> bytes:
        """Return a container of this device alone, without manifests."""
        return NvidiaEvidence((self,), ()).serialize()

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, byte strings as hex."""
        return {"report": self.report.to_dict(), "chain": [der.hex() for der in self.chain]}


@dataclass(frozen=True)
class NvidiaEvidence:
    """Parsed device evidence; nothing in it is verified."""

    devices: tuple[DeviceEvidence, ...]
    rims: tuple[Rim, ...] = field(repr=False)

    tee: ClassVar[str] = "nvidia"
    version: ClassVar[int] = VERSION

    @property
    def report_data(self) -> bytes:
        """The nonce that all devices were asked with, 32 bytes."""
        return self.devices[0].report_data

    def serialize(self) -> bytes:
        """Return the container's bytes; `parse_evidence` is the inverse."""
        devices = [(device.report.serialize(), device.chain) for device in self.devices]
        return pack(devices, [rim.raw for rim in self.rims])

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, byte strings as hex."""
        return {
            "devices": [device.to_dict() for device in self.devices],
            "rims": [rim.to_dict() for rim in self.rims],
        }


def pack(devices: Sequence[tuple[bytes, Sequence[bytes]]], rims: Sequence[bytes] = ()) -> bytes:
    """Return a container of (report, DER chain with the leaf first) of each device, and of manifests."""
    return canonical.encode(
        {
            "format": FORMAT,
            "version": VERSION,
            "reports": [{"report": report, "chain": list(chain)} for report, chain in devices],
            "rims": list(rims),
        }
    )


def is_container(data: bytes) -> bool:
    """Tell whether bytes begin as a container does."""
    return data.startswith(_START)


def parse_evidence(data: bytes) -> NvidiaEvidence:
    """Parse a container that uses up `data`.

    Raises EvidenceError `nvidia-container`, `nvidia-version`, `nvidia-nonces`, or a code of what is inside.
    """
    try:
        reports, rims = _read(data)
    except ManifestError as error:
        later = error.code is ManifestCode.VERSION_UNSUPPORTED
        raise EvidenceError(
            NvidiaCode.VERSION if later else NvidiaCode.CONTAINER,
            f"the device evidence: {error.message}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from None
    devices = tuple(DeviceEvidence(parse_report(report), chain) for report, chain in reports)
    if any(device.report_data != devices[0].report_data for device in devices):
        raise EvidenceError(
            NvidiaCode.NONCES,
            NvidiaCode.NONCES.meaning,
            expected="one nonce",
            found=", ".join(device.report_data.hex() for device in devices),
            remedy="ask all devices with the same nonce",
        )
    return NvidiaEvidence(devices, tuple(parse_rim(rim) for rim in rims))


def _read(data: bytes) -> tuple[list[tuple[bytes, tuple[bytes, ...]]], list[bytes]]:
    """Return (report, chain) of each device and the manifests, within their bounds; raises ManifestError."""
    value = canonical.decode(data, max_size=MAX_EVIDENCE)
    table = fields.versioned_map(value, "the container", ("format", "reports", "rims"))
    if table["format"] != FORMAT:
        raise ManifestError(ManifestCode.FIELD_INVALID, "it is of another format", expected=FORMAT)
    reports = fields.list_of(table["reports"], "reports", MAX_DEVICES)
    if not reports:
        raise ManifestError(ManifestCode.FIELD_INVALID, "it has no report")
    rims = fields.list_of(table["rims"], "rims", MAX_RIMS)
    return [_report(report) for report in reports], [fields.bounded_bytes(rim, "rims", MAX_RIM) for rim in rims]


def _report(value: object) -> tuple[bytes, tuple[bytes, ...]]:
    table = fields.closed_map(value, "a report", ("chain", "report"))
    chain = fields.list_of(table["chain"], "chain", MAX_CHAIN)
    ders = tuple(fields.bounded_bytes(der, "chain", MAX_CERTIFICATE) for der in chain)
    return fields.bounded_bytes(table["report"], "report", MAX_REPORT), ders
