"""Verification of NVIDIA device evidence, step by step.

Sources: DMTF DSP0274 (SPDM 1.1), section 10.11; NVIDIA attestation SDK, `gpu/evidence.cpp`, `gpu/verify.cpp` and
`rim.cpp`; TCG DICE Attestation Architecture; XML Signature Syntax and Processing.

  1   syntax: container, reports and manifests; one nonce for all devices (`container.parse_evidence`)

Each device:
  2   chain: leaf, device, provisioner, product, and the pinned device root                       SDK, create
  3   product: the device certificate is of one that is handled, and the leaf of the same
  4   report: request and response signed by the leaf                                             SPDM 10.11
  5   firmware: the report's FWID, where it has one, is that of the leaf's DICE extension         SDK, m_fwid_match
  6   every certificate is valid at `now`; held together with those of the manifests (9)
  7   no device is there twice

Each manifest:
  8   digest and signature of the document, and the signer's chain to the pinned RIM root         SDK, verify_signature
  9   every certificate is valid at `now`
  10  it is for the driver or VBIOS version of a device of its product; none is left over

Whether measurements have their reference values is data for the policy, as is which versions they are.
Bytes of certificates are authenticated before an X.509 parser sees them.  Revocation by OCSP, which NVIDIA's own
verifier asks for over the network, has no answers that could be kept: docs/attestation-nvidia.md says what that means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from attestation.chains import Chain, Profile, read_chain, verify_raw
from attestation.errors import EvidenceCode, EvidenceError
from attestation.nvidia.container import MAX_CHAIN, DeviceEvidence, NvidiaEvidence
from attestation.nvidia.errors import NvidiaCode
from attestation.nvidia.fwid import COMPOSITE_DEVICE_ID, TCB_INFO, Firmware, read_firmware
from attestation.nvidia.rim import Rim, named
from attestation.nvidia.verified import DeviceVerified, Kind, NvidiaVerified, Product
from attestation.roots import Hierarchy, Roots
from attestation.validity import Validity, check_dates

PROFILE: Final = Profile(
    "device",
    Hierarchy.NVIDIA_DEVICE,
    shortest=3,
    longest=MAX_CHAIN,
    extensions=frozenset(
        {
            x509.SubjectAlternativeName.oid,
            ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
            COMPOSITE_DEVICE_ID,
            TCB_INFO,
        }
    ),
    renewal="get evidence from the device anew: its certificates travel with it",
)

PRODUCTS: Final[Mapping[str, Product]] = {
    "GH100": Product("GH100", Kind.GPU),
    "GB100": Product("GB100", Kind.GPU),
    "LS_10": Product("LS10", Kind.SWITCH),
}
"""By the first word of a device certificate's name: Hopper, Blackwell, and the third NVSwitch."""


_SERIAL = re.compile(r"[0-9A-F]{18}")


@dataclass(frozen=True)
class Known:
    """Chains that were read before, to be used again where evidence has the same certificates in the same places."""

    devices: tuple[Chain, ...] = ()
    rims: tuple[Chain, ...] = ()


def verify_evidence(evidence: NvidiaEvidence, known: Known | None, roots: Roots, now: int) -> NvidiaVerified:
    """Verify device evidence at `now` (Unix seconds), steps 2 to 10.

    `known` are chains of evidence that was verified before, or None: certificates that are the same are not verified
    again, but their dates are.  Raises EvidenceError at the first step that fails.
    """
    known = known or Known()
    genuine = [_device(each, _at(known.devices, place), roots) for place, each in enumerate(evidence.devices)]
    _check_distinct(genuine)  # 7
    signers = [rim.verify(roots, _at(known.rims, place)) for place, rim in enumerate(evidence.rims)]  # 8
    chains = [*(each.chain for each in genuine), *signers]
    validities = tuple(dict.fromkeys(validity for chain in chains for validity in chain.validities))
    check_dates(validities, now)  # 6, 9
    if len({chain.anchor.simulated for chain in chains}) != 1:
        raise EvidenceError(
            NvidiaCode.ROOTS_MIXED,
            NvidiaCode.ROOTS_MIXED.meaning,
            expected="chains to roots of one class",
            found=[str(chain.anchor) for chain in chains],
        )
    manifests = named(evidence.rims)  # 10
    common = _Common(now, min(chain.expires for chain in chains), validities)
    devices = tuple(_verified(each, manifests, common) for each in genuine)
    _check_used(evidence.rims, devices)
    return NvidiaVerified(
        simulated=devices[0].simulated,
        root=devices[0].root,
        issued=common.issued,
        expires=common.expires,
        validities=common.validities,
        container=evidence,
        devices=devices,
        signers=tuple(signers),
    )


def wanted_rims(device: DeviceEvidence) -> frozenset[tuple[str, str]]:
    """Return product and version of each manifest that may be for a device, of which nothing is verified yet.

    The product is looked for in the leaf's bytes, as no parser of certificates sees them before they are authentic;
    verification decides which manifest is used.
    """
    opaque = device.report.opaque
    leaf = device.chain[0] if device.chain else b""
    names = [product.name for word, product in PRODUCTS.items() if f"{word} ".encode() in leaf]
    versions = [version for version in (opaque.driver_version, opaque.vbios_version) if version]
    return frozenset((name, version) for name in names for version in versions)


def is_signed(device: DeviceEvidence, roots: Roots) -> bool:
    """Tell whether the chain beside a report leads from a pinned root to the key that signed it, whatever the time."""
    try:
        chain = read_chain(device.chain[::-1], PROFILE, roots)
        verify_raw(chain.leaf.key, device.report.signature, device.report.signed, NvidiaCode.SIGNATURE)
    except EvidenceError:
        return False
    return True


@dataclass(frozen=True)
class _Genuine:
    """One device whose steps 2 to 6 hold."""

    device: DeviceEvidence
    chain: Chain
    product: Product
    serial: bytes
    firmware: Firmware | None


@dataclass(frozen=True)
class _Common:
    """What holds for all devices: no document of NVIDIA's has a date of issue, so they count from the verification."""

    issued: int
    expires: int
    validities: tuple[Validity, ...]


def _at(chains: tuple[Chain, ...], place: int) -> Chain | None:
    return chains[place] if place < len(chains) else None


def _device(device: DeviceEvidence, known: Chain | None, roots: Roots) -> _Genuine:
    chain = read_chain(device.chain[::-1], PROFILE, roots, known)  # 2
    product, serial = _identity(chain)  # 3
    _check_kind(product, device)
    verify_raw(chain.leaf.key, device.report.signature, device.report.signed, NvidiaCode.SIGNATURE)  # 4
    firmware = read_firmware(chain.leaf, chain.certificates[-2])  # 5
    _check_firmware(device, firmware)
    return _Genuine(device, chain, product, serial, firmware)


def _identity(chain: Chain) -> tuple[Product, bytes]:
    """Return product and serial number of the device certificate, whose key is burnt into the chip."""
    device, leaf = chain.certificates[-2], chain.leaf
    word = device.common_name.partition(" ")[0]
    numbers = [str(item.value) for item in device.x509.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
    if word not in PRODUCTS or leaf.common_name.partition(" ")[0] != word:
        raise EvidenceError(
            NvidiaCode.PRODUCT,
            NvidiaCode.PRODUCT.meaning,
            expected=" or ".join(PRODUCTS),
            found=f"{device.common_name} with {leaf.common_name}",
        )
    if len(numbers) != 1 or _SERIAL.fullmatch(numbers[0]) is None:
        raise EvidenceError(
            EvidenceCode.CERTIFICATE_MALFORMED, "the device certificate has no serial number of 9 bytes in its name"
        )
    return PRODUCTS[word], bytes.fromhex(numbers[0])


def _check_kind(product: Product, device: DeviceEvidence) -> None:
    """Hold what the report is about against what the certificates are of."""
    opaque = device.report.opaque
    if (opaque.driver_version is not None) != (product.kind is Kind.GPU) or not opaque.vbios_version:
        raise EvidenceError(
            NvidiaCode.OPAQUE_MALFORMED,
            f"the report is not one of a {product.kind}",
            expected="a VBIOS version, and a driver version for a GPU alone",
            found=f"VBIOS {opaque.vbios_version or 'none'}, driver {opaque.driver_version or 'none'}",
        )


def _check_firmware(device: DeviceEvidence, firmware: Firmware | None) -> None:
    reported = device.report.opaque.fwid
    if reported is not None and (firmware is None or reported != firmware.fwid):
        raise EvidenceError(
            NvidiaCode.FWID,
            NvidiaCode.FWID.meaning,
            expected="none" if firmware is None else firmware.fwid.hex(),
            found=reported.hex(),
        )


def _check_distinct(devices: list[_Genuine]) -> None:
    serials = [each.serial for each in devices]
    if len(set(serials)) != len(serials):
        raise EvidenceError(
            NvidiaCode.DEVICE_TWICE,
            NvidiaCode.DEVICE_TWICE.meaning,
            expected="different serial numbers",
            found=", ".join(serial.hex() for serial in serials),
        )


def _verified(genuine: _Genuine, manifests: Mapping[tuple[str, str], Rim], common: _Common) -> DeviceVerified:
    opaque, name = genuine.device.report.opaque, genuine.product.name
    driver = opaque.driver_version
    return DeviceVerified(
        simulated=genuine.chain.anchor.simulated,
        root=genuine.chain.anchor.fingerprint,
        issued=common.issued,
        expires=common.expires,
        validities=common.validities,
        device=genuine.device,
        chain=genuine.chain,
        product=genuine.product,
        serial=genuine.serial,
        firmware=genuine.firmware,
        driver_rim=None if driver is None else manifests.get((name, driver)),
        vbios_rim=manifests.get((name, opaque.vbios_version)),
    )


def _check_used(rims: tuple[Rim, ...], devices: tuple[DeviceVerified, ...]) -> None:
    used = {rim.tag_id for device in devices for rim in device.rims}
    for rim in rims:
        if rim.tag_id not in used:
            raise EvidenceError(
                NvidiaCode.RIM_UNUSED,
                NvidiaCode.RIM_UNUSED.meaning,
                expected="; ".join(dict.fromkeys(_versions(device) for device in devices)),
                found=f"{rim.product} {rim.version}",
                remedy="leave the manifest out, and add the one for the version that the device runs",
            )


def _versions(device: DeviceVerified) -> str:
    """Name the manifests that a device takes."""
    opaque = device.device.report.opaque
    driver = "" if opaque.driver_version is None else f"driver {opaque.driver_version}, "
    return f"{device.product.name} {driver}VBIOS {opaque.vbios_version}"
