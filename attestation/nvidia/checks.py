"""The checks of one device's appraisal, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.findings import Finding, Phase, check, one_of
from attestation.nvidia.errors import NvidiaFinding
from attestation.nvidia.opaque import Mode
from attestation.nvidia.rim import Rim
from attestation.nvidia.verified import DeviceVerified, Kind
from attestation.policy.nvidia import NvidiaPolicy

_ENCRYPTED = (Mode.SPT, Mode.MPT)


def nvidia_checks(verified: DeviceVerified, policy: NvidiaPolicy) -> Iterator[Finding]:
    """Hold a device, its firmware and its measurements against the policy."""
    yield check(
        NvidiaFinding.PRODUCT,
        passed=verified.product.name in policy.products,
        expected=" or ".join(policy.products) or "a product that the policy names",
        found=f"{verified.product.name}, serial number {verified.serial.hex()}",
        remedy="use a device that [nvidia] products names",
        phase=Phase.PLATFORM,
    )
    yield from _which(verified, policy)
    yield _security_version(verified, policy)
    yield from _versions(verified, policy)
    yield from _state(verified, policy)
    yield from _reference_values(verified, policy)
    yield from _measurements(verified, policy)


def _which(verified: DeviceVerified, policy: NvidiaPolicy) -> Iterator[Finding]:
    """Hold which device it is, and which firmware holds its leaf's key, against the policy's lists."""
    fwid = b"" if verified.firmware is None else verified.firmware.fwid
    for code, found, allowed, name in (
        (NvidiaFinding.DEVICE_SERIAL, verified.serial, policy.device_serials, "device_serials"),
        (NvidiaFinding.DEVICE_KEY, verified.device_key, policy.device_keys, "device_keys"),
        (NvidiaFinding.FIRMWARE_ID, fwid, policy.fwids, "fwids"),
    ):
        yield check(
            code,
            passed=not allowed or found in allowed,
            expected=one_of(allowed),
            found=found.hex() or "not in the leaf certificate",
            remedy=f"use a device that [nvidia] {name} names, or name this one",
            phase=Phase.PLATFORM,
        )


def _security_version(verified: DeviceVerified, policy: NvidiaPolicy) -> Finding:
    """Hold the firmware's security version against the floor, which a leaf without one does not reach."""
    found, least = verified.firmware.svn if verified.firmware else None, policy.fwid_svn_min
    return check(
        NvidiaFinding.FIRMWARE_SVN,
        passed=least is None or (found is not None and found >= least),
        expected="any" if least is None else f"at least {least}",
        found="not in the leaf certificate" if found is None else found,
        remedy="update the device's firmware; Hopper's certificates have no security version: name fwids for them",
        phase=Phase.PLATFORM,
    )


def _versions(verified: DeviceVerified, policy: NvidiaPolicy) -> Iterator[Finding]:
    opaque = verified.device.report.opaque
    for code, found, allowed, name in (
        (NvidiaFinding.DRIVER_VERSION, opaque.driver_version, policy.driver_versions, "driver_versions"),
        (NvidiaFinding.VBIOS_VERSION, opaque.vbios_version, policy.vbios_versions, "vbios_versions"),
    ):
        if found is not None:
            yield check(
                code,
                passed=not allowed or found in allowed,
                expected=one_of(allowed),
                found=found,
                remedy=f"install a version that [nvidia] {name} names",
            )


def _state(verified: DeviceVerified, policy: NvidiaPolicy) -> Iterator[Finding]:
    """Hold how the device is used and was started against the policy."""
    opaque = verified.device.report.opaque
    if verified.product.kind is Kind.GPU:
        yield check(
            NvidiaFinding.MODE,
            passed=opaque.mode in policy.modes,
            expected=one_of(policy.modes),
            found=opaque.mode,
            dangerous=opaque.mode not in _ENCRYPTED,
            remedy="set the GPU to a mode that [nvidia] modes names; old firmware does not report its mode: update it",
        )
    flags = verified.firmware.flags if verified.firmware else ()
    yield check(
        NvidiaFinding.FLAGS,
        passed=set(flags) <= set(policy.flags_allowed),
        expected=f"none but {', '.join(policy.flags_allowed)}" if policy.flags_allowed else "none",
        found=", ".join(flags) or "none",
        dangerous=bool(flags),
        remedy="take the device out of debugging or recovery and reset it, or name the flags in [nvidia] flags_allowed",
    )
    yield check(
        NvidiaFinding.FWID,
        passed=policy.fwid_absent or opaque.fwid is not None,
        expected="shown or not" if policy.fwid_absent else "shown",
        found="not shown" if opaque.fwid is None else opaque.fwid.hex(),
        dangerous=opaque.fwid is None,
        remedy="update the firmware; or name fwid_absent = true, and rely on its key for what it is",
    )


def _reference_values(verified: DeviceVerified, policy: NvidiaPolicy) -> Iterator[Finding]:
    """Hold the manifests against the policy; an accepted measurement record stands for one that is absent."""
    pinned = verified.measurement in policy.measurements
    opaque = verified.device.report.opaque
    for code, rim, version in (
        (NvidiaFinding.DRIVER_RIM, verified.driver_rim, opaque.driver_version),
        (NvidiaFinding.VBIOS_RIM, verified.vbios_rim, opaque.vbios_version),
    ):
        if version is not None:
            yield _manifest(code, rim, f"{verified.product.name} {version}", pinned=pinned)
    yield check(
        NvidiaFinding.RIM_TAG,
        passed=not policy.rim_tags or all(rim.tag_id in policy.rim_tags for rim in verified.rims),
        expected=one_of(policy.rim_tags),
        found=", ".join(rim.tag_id.hex() for rim in verified.rims) or "no manifest",
        remedy="use manifests that [nvidia] rim_tags names, or name these",
    )
    yield check(
        NvidiaFinding.RIM_CONFLICT,
        passed=not verified.conflicts,
        expected="measurements of one manifest each",
        found=_indices(verified.conflicts),
        remedy="fetch both manifests anew: they contradict each other",
    )


def _manifest(code: NvidiaFinding, rim: Rim | None, wanted: str, *, pinned: bool) -> Finding:
    found = "not in the evidence" if rim is None else f"{rim.product} {rim.version}"
    return check(
        code,
        passed=pinned or rim is not None,
        expected=f"the manifest of {wanted}",
        found=f"{found}, but the policy names the whole record" if rim is None and pinned else found,
        remedy=f"give NVIDIA's manifest (XML, from its RIM service) of {wanted} with --collateral, or in the evidence",
    )


def _measurements(verified: DeviceVerified, policy: NvidiaPolicy) -> Iterator[Finding]:
    """Hold the measurements against manifests, and their record against the policy's list, whichever are there."""
    wrong, records = verified.mismatches, policy.measurements
    counted = sum(len(rim.golden) for rim in verified.rims)
    pinned = verified.measurement in records
    expected = f"{counted} reference values{f' and the record {one_of(records)}' if records else ''}"
    found = f"mismatches: {_indices(wrong)}"
    remedy = "do not use this device: its firmware or state is none that NVIDIA or the policy vouches for"
    if not counted and not records:  # nothing was compared, and nothing is known to be wrong
        expected = "reference values of a manifest, or a record that the policy names"
        found = "neither a manifest nor a named record, so that nothing was compared"
        remedy = (
            "give the manifests of its driver and VBIOS with --collateral, or name the record in [nvidia] measurements"
        )
    yield check(
        NvidiaFinding.MEASUREMENTS,
        passed=not wrong and (pinned if records else bool(counted)),
        expected=expected,
        found=f"{found}; record {verified.measurement.hex()}",
        remedy=remedy,
    )


def _indices(indices: tuple[int, ...]) -> str:
    return ", ".join(map(str, indices)) or "none"
