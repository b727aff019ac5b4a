"""Simulated NVIDIA devices: reports, chains and reference manifests in NVIDIA's formats, under a root of their own.

    evidence = SimulatedNvidia(seed, created).evidence(report_data)

Every field of a report, its certificates, its opaque data and the manifests can be asked for otherwise, so that each
refusal of the verifier can be produced on demand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.der import INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE
from attestation.intel.pem import encode_chain
from attestation.nvidia.container import pack
from attestation.nvidia.fwid import COMPOSITE_DEVICE_ID, FLAGS, TCB_INFO
from attestation.nvidia.opaque import Field, Mode, Opaque
from attestation.nvidia.spdm import DIGEST_SIZE, Report
from attestation.sim.chains import Authority384, Profile384, enrol
from attestation.sim.extension import element
from attestation.sim.nvidia_rim import RimProfile, issue_rim
from attestation.sim.pki import DAY, YEAR, derive

_CHIP_NAMES = {"GH100": "GH100", "GB100": "GB100", "LS10": "LS_10"}
_FEATURE_FLAGS = {Mode.SPT: 0, Mode.MPT: 1, Mode.PPCIE: 2}
_SHA384 = bytes.fromhex("608648016503040202")
_ENABLED, _DISABLED = b"\xaa", b"\x55"
_DRIVER_INDICES = (7, *range(32, 39))
_VBIOS_INDICES = (*range(7), 8, 9)
_NVDEC0 = 35
_RIM_LIFETIME = 2 * YEAR

Span = tuple[int, int]


@dataclass(frozen=True)
class Device:
    """What distinguishes one device.

    number: within the platform.  product: "GH100", "GB100" or "LS10".  mode: None leaves the feature flag out.  flags:
    names of DICE flags, which a GB100 alone shows.  nvdec0: whether the video decoder is on.  svn: of its firmware,
    which a GB100 alone shows; None leaves it out.
    """

    number: int = 0
    product: str = "GH100"
    driver_version: str = "580.00"
    vbios_version: str = "96.00.00.00.01"
    mode: Mode | None = Mode.SPT
    flags: tuple[str, ...] = ()
    nvdec0: bool = False
    svn: int | None = None

    @property
    def is_switch(self) -> bool:
        """Whether it is no GPU."""
        return self.product == "LS10"

    @property
    def indices(self) -> range:
        """Its measurements, by SPDM index."""
        return range(1, 32) if self.is_switch else range(1, 65)


@dataclass(frozen=True)
class ReportChanges:
    """What a report has otherwise: measurements by SPDM index, opaque fields by number, both None to leave one out.

    signer: whose key signs, if not the leaf's.
    """

    measurements: Mapping[int, bytes | None] = field(default_factory=dict)
    opaque: Mapping[int, bytes | None] = field(default_factory=dict)
    signer: Authority384 | None = None


class SimulatedNvidia:
    """The devices of one machine, and who makes their reference values.  Everything follows from a 32-byte seed."""

    def __init__(self, seed: bytes, created: int, dates: Mapping[str, Span] | None = None) -> None:
        """Derive one root for both hierarchies, and the authorities below it.

        dates: by common name of a certificate, other first and last seconds (Unix, both inclusive).
        """
        self._seed, self._created, self._dates = seed, created, dates or {}
        self.root = self._enrol(Profile384("Simulated NVIDIA Root"), None, 30 * YEAR)
        value = self._enrol(Profile384("Simulated Reference Value CA"), self.root, 10 * YEAR)
        third = self._enrol(Profile384("Simulated Reference Value L3", path_length=0), value, 4 * YEAR)
        signer = self._enrol(Profile384("Simulated RIM Signer", authority=False), third, _RIM_LIFETIME)
        self.rim_chain = (self.root, value, third, signer)

    @property
    def root_pem(self) -> bytes:
        """The root certificate."""
        return encode_chain(self.root.der)

    @property
    def root_fingerprint(self) -> bytes:
        """SHA-256 of the DER root certificate: what policies and roots pin."""
        return hashlib.sha256(self.root.der).digest()

    def collateral(self, now: int) -> None:  # noqa: ARG002 - as the other platforms have it
        """Return what verification needs besides the evidence: nothing."""
        return

    # ------------------------------------------------------------------------------------------- one device

    def chain(self, device: Device, **leaf: Any) -> tuple[Authority384, ...]:
        """Return a device's certificates, root first; keywords change the `Profile384` of its leaf."""
        chip = _CHIP_NAMES[device.product]
        serial = self.serial(device).hex().upper()
        identity = self._enrol(Profile384(f"Simulated {chip} Identity"), self.root, 30 * YEAR)
        provisioner = self._enrol(Profile384(f"Simulated {chip} Provisioner"), identity, 30 * YEAR)
        burnt = Profile384(f"{chip} A01 GSP BROM", serial_number=serial, usages=("key_cert_sign",))
        bootrom = self._enrol(burnt, provisioner, 30 * YEAR, f"{device.product} {device.number}")
        own = Profile384(
            f"{chip} A01 GSP FMC LF", authority=False, constrained=False, extra=(self._dice(device, bootrom),)
        )
        name = f"{device.product} {device.number} leaf"
        return self.root, identity, provisioner, bootrom, self._enrol(replace(own, **leaf), bootrom, 30 * YEAR, name)

    def serial(self, device: Device) -> bytes:
        """Return a device's serial number, 9 bytes."""
        return b"\x41" + derive(self._seed, f"serial {device.product} {device.number}")[:8]

    def fwid(self, device: Device) -> bytes:
        """Return the digest of the firmware that holds a device's key, 48 bytes."""
        return derive(self._seed, f"fwid {device.product}")[:DIGEST_SIZE]

    def measurements(self, device: Device) -> dict[int, bytes]:
        """Return what a device of this product measures, by SPDM index; a decoder that is off measures zero."""
        found = {index: derive(self._seed, f"{device.product} {index}")[:DIGEST_SIZE] for index in device.indices}
        if not device.nvdec0 and not device.is_switch:
            found[_NVDEC0 + 1] = bytes(DIGEST_SIZE)
        return found

    def report(self, device: Device, nonce: bytes, changes: ReportChanges | None = None) -> bytes:
        """Return a device's report for a nonce of 32 bytes."""
        changes = changes or ReportChanges()
        unsigned = Report(
            nonce=nonce,
            measurements=_changed(self.measurements(device), changes.measurements),
            response_nonce=derive(self._seed, f"response {device.product} {device.number}")[:32],
            opaque=Opaque(_changed(self._opaque(device), changes.opaque)),
            signature=b"",
        )
        signer = changes.signer or self.chain(device)[-1]
        return unsigned.signed + signer.sign_raw(unsigned.signed)

    # --------------------------------------------------------------------------------------------- evidence

    def rims(self, *devices: Device) -> tuple[bytes, ...]:
        """Return the manifests of these devices' drivers and VBIOSes, each once."""
        return tuple(dict.fromkeys(rim for device in devices for rim in self._rims_of(device)))

    def rim(
        self, device: Device, *, driver: bool, chain: Sequence[Authority384] | None = None, **changes: Any
    ) -> bytes:
        """Return the manifest of a device's driver or VBIOS; keywords change its `RimProfile`."""
        active = _DRIVER_INDICES if driver else _VBIOS_INDICES
        if device.is_switch:
            active = tuple(index - 1 for index in device.indices)
        measured = self.measurements(replace(device, nvdec0=True))
        profile = RimProfile(
            product=device.product,
            version=device.driver_version if driver else device.vbios_version,
            values={index - 1: (value,) for index, value in measured.items()},
            active=active,
        )
        return issue_rim(replace(profile, **changes), chain or self.rim_chain)

    def evidence(
        self,
        report_data: bytes,
        *devices: Device,
        rims: Sequence[bytes] | None = None,
        changes: ReportChanges | None = None,
    ) -> bytes:
        """Return the evidence of devices (by default one GPU) that is bound to 64 bytes, with their manifests."""
        devices = devices or (Device(),)
        nonce = hashlib.sha256(report_data).digest()
        reports = [
            (self.report(device, nonce, changes), [each.der for each in reversed(self.chain(device))])
            for device in devices
        ]
        return pack(reports, self.rims(*devices) if rims is None else rims)

    def _rims_of(self, device: Device) -> tuple[bytes, ...]:
        kinds = (False,) if device.is_switch else (True, False)
        return tuple(self.rim(device, driver=driver) for driver in kinds)

    def _enrol(
        self, profile: Profile384, issuer: Authority384 | None, lifetime: int, name: str | None = None
    ) -> Authority384:
        seed = self._seed if name is None else derive(self._seed, name)
        span = self._dates.get(profile.name, (self._created - DAY, self._created + lifetime))
        return enrol(seed, profile, issuer, *span)

    def _opaque(self, device: Device) -> dict[int, bytes]:
        if device.is_switch:
            return {Field.VBIOS_VERSION: device.vbios_version.encode("ascii"), Field.POSITION_ID: b"\x02\x00"}
        first, second, third, fourth, fifth = bytes.fromhex(device.vbios_version.replace(".", ""))
        fields = {
            Field.VBIOS_VERSION: bytes([fourth, third, second, first, fifth, 0, 0, 0]),
            Field.DRIVER_VERSION: device.driver_version.encode("ascii") + b"\0",
            Field.NVDEC0_STATUS: _ENABLED if device.nvdec0 else _DISABLED,
            Field.FWID: self.fwid(device),
            Field.OPAQUE_DATA_VERSION: b"\x01\x00",
        }
        if device.mode in _FEATURE_FLAGS:
            fields[Field.FEATURE_FLAG] = _FEATURE_FLAGS[device.mode].to_bytes(2, "little")
        return {int(number): value for number, value in fields.items()}

    def _dice(self, device: Device, issuer: Authority384) -> tuple[Any, bytes]:
        """Return the extension that names a device's firmware, in the form of its product."""
        fwid = element(SEQUENCE, element(OBJECT_IDENTIFIER, _SHA384) + element(OCTET_STRING, self.fwid(device)))
        if device.product == "GB100":
            bits = sum(1 << 31 - FLAGS.index(flag) for flag in device.flags) | 1
            flags = b"\0" + bits.to_bytes(4, "big")
            svn = b"" if device.svn is None else element(0x83, _integer(device.svn))
            return TCB_INFO, element(SEQUENCE, svn + element(0xA6, fwid) + element(0x87, flags))
        key = issuer.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return COMPOSITE_DEVICE_ID, element(SEQUENCE, element(INTEGER, b"\1") + key + fwid)


def _integer(value: int) -> bytes:
    """Return the content of a DER integer that is not negative."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _changed(values: dict[int, bytes], changes: Mapping[int, bytes | None]) -> dict[int, bytes]:
    merged: dict[int, bytes | None] = {**values, **changes}
    return {key: value for key, value in sorted(merged.items()) if value is not None}
