"""Verified device evidence: each device with its report, what its certificates say, and its reference values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.chains import Chain
from attestation.nvidia.container import DeviceEvidence, NvidiaEvidence
from attestation.nvidia.fwid import Firmware
from attestation.nvidia.rim import Rim
from attestation.verified import Verified

_NVDEC0 = 35
"""The measurement of the video decoder, which counts only where the decoder is enabled (NVIDIA's `gpu/verify.cpp`)."""


class Kind(StrEnum):
    """What a device is."""

    GPU = "GPU"
    SWITCH = "NVSwitch"


@dataclass(frozen=True)
class Product:
    """A chip: its name in manifests, and what it is."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class DeviceVerified(Verified):
    """One genuine device.  serial: its own, 9 bytes.  driver_rim, vbios_rim: genuine reference values, or None."""

    device: DeviceEvidence
    chain: Chain = field(repr=False)
    product: Product
    serial: bytes
    firmware: Firmware | None
    driver_rim: Rim | None
    vbios_rim: Rim | None

    @property
    def evidence(self) -> DeviceEvidence:
        """Report and chain."""
        return self.device

    @property
    def measurement(self) -> bytes:
        """SHA-384 over the measurement record: one value for all measurements."""
        return self.device.report.record_digest

    @property
    def device_key(self) -> bytes:
        """SHA-256 of the device certificate's SubjectPublicKeyInfo: of the key that is burnt into the chip."""
        key = self.chain.certificates[-2].key
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()

    @property
    def platform_ids(self) -> dict[str, str]:
        """The chip, the device by serial number and key, and its firmware where the leaf names it."""
        ids = {
            "device_product": self.product.name,
            "device_serial": self.serial.hex(),
            "device_key": self.device_key.hex(),
        }
        return ids if self.firmware is None else ids | {"fwid": self.firmware.fwid.hex()}

    @property
    def label(self) -> str:
        """The device by its serial number."""
        return f"{self.product.kind} {self.serial.hex()}"

    @property
    def dated(self) -> bool:
        """Return False: no document of NVIDIA's has a date of issue."""
        return False

    @property
    def rims(self) -> tuple[Rim, ...]:
        """The manifests that are there."""
        return tuple(rim for rim in (self.driver_rim, self.vbios_rim) if rim is not None)

    @property
    def conflicts(self) -> tuple[int, ...]:
        """Indices that both manifests claim, counted from 0 as manifests do."""
        driver, vbios = (
            {golden.index for golden in rim.golden} if rim else set() for rim in (self.driver_rim, self.vbios_rim)
        )
        return tuple(sorted(driver & vbios))

    @property
    def mismatches(self) -> tuple[int, ...]:
        """Indices whose measurement is absent or none of the reference values; manifests count from 0, SPDM from 1."""
        measured = self.device.report.measurements
        skipped = set() if self.device.report.opaque.nvdec0_enabled else {_NVDEC0}
        return tuple(
            sorted(
                golden.index
                for rim in self.rims
                for golden in rim.golden
                if golden.index not in skipped and measured.get(golden.index + 1) not in golden.values
            )
        )

    def bound(self, report_data: bytes) -> bytes:
        """Return the nonce that carries these 64 bytes: their SHA-256."""
        return hashlib.sha256(report_data).digest()

    def details(self) -> dict[str, Any]:
        """Return product, versions, the firmware's security version and reference values."""
        opaque = self.device.report.opaque
        return {
            "product": self.product.name,
            "kind": str(self.product.kind),
            "driver_version": opaque.driver_version,
            "vbios_version": opaque.vbios_version,
            "mode": str(opaque.mode),
            "fwid_svn": None if self.firmware is None else self.firmware.svn,
            "rims": [rim.to_dict() for rim in self.rims],
            "mismatches": list(self.mismatches),
        }


@dataclass(frozen=True)
class NvidiaVerified(Verified):
    """Genuine evidence of one or several devices, each to be appraised.  signers: chains of the manifests."""

    container: NvidiaEvidence
    devices: tuple[DeviceVerified, ...]
    signers: tuple[Chain, ...] = field(repr=False)

    @property
    def evidence(self) -> NvidiaEvidence:
        """The container."""
        return self.container

    @property
    def measurement(self) -> bytes:
        """SHA-384 over the measurement of each device in turn; of a single device, its own."""
        if len(self.devices) == 1:
            return self.devices[0].measurement
        return hashlib.sha384(b"".join(device.measurement for device in self.devices)).digest()

    @property
    def platform_ids(self) -> dict[str, str]:
        """The ids of a single device; of several, each has its own among `devices`."""
        return self.devices[0].platform_ids if len(self.devices) == 1 else {}

    @property
    def dated(self) -> bool:
        """Return False: no document of NVIDIA's has a date of issue."""
        return False

    @property
    def parts(self) -> tuple[Verified, ...]:
        """Every device."""
        return self.devices

    def bound(self, report_data: bytes) -> bytes:
        """Return the nonce that carries these 64 bytes: their SHA-256."""
        return self.devices[0].bound(report_data)

    def details(self) -> dict[str, Any]:
        """Return what each device is."""
        return {"devices": [device.platform_ids | device.details() for device in self.devices]}
