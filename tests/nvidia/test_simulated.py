"""Simulated devices: what is genuine passes, and each deviation is refused by the step that sees it."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from attestation import evidence
from attestation.appraise import appraise
from attestation.errors import EvidenceCode, EvidenceError, FindingCode, PolicyCode
from attestation.evidence import Roots
from attestation.nvidia.container import FORMAT, MAX_DEVICES, NvidiaEvidence, pack, parse_evidence
from attestation.nvidia.errors import NvidiaCode, NvidiaFinding
from attestation.nvidia.fwid import COMPOSITE_DEVICE_ID, TCB_INFO
from attestation.nvidia.opaque import Field, Mode, Opaque, parse_opaque
from attestation.nvidia.sdk_json import from_sdk_json, pem_chain
from attestation.nvidia.spdm import parse_report
from attestation.nvidia.verify import Known, verify_evidence
from attestation.policy import load_policy
from attestation.roots import Hierarchy
from attestation.sim.chains import Profile384, enrol
from attestation.sim.extension import element
from attestation.sim.nvidia import Device, SimulatedNvidia
from manifests import canonical
from manifests.errors import ErrorCode
from tests.attestation.kit import outcome, refused
from tests.nvidia import kit

ALL = (Device(), Device(number=1), kit.SWITCH, kit.BLACKWELL)
VERSIONS = {
    "products": ["GB100", "GH100", "LS10"],
    "vbios_versions": ["96.00.00.00.01", "96.10.00.00.01", "97.00.00.00.01"],
}


def test_simulated_devices_pass_the_same_steps_under_their_own_root() -> None:
    data = kit.simulated(*ALL)
    verified = kit.verify_sim(data)
    assert verified.simulated
    assert verified.report_data == kit.NONCE == verified.bound(kit.REPORT_DATA)
    assert kit.parsed(data).serialize() == data
    policy = kit.policy(**VERSIONS, fwid_absent=True)
    assert appraise(verified, policy, kit.NOW, report_data=kit.REPORT_DATA).accepted
    shown = verified.to_dict()
    assert [device["product"] for device in shown["devices"]] == ["GH100", "GH100", "LS10", "GB100"]
    assert shown["quote"]["devices"][0]["report"]["opaque"]["DRIVER_VERSION"] == b"580.00\0".hex()


def test_the_same_seed_gives_the_same_bytes() -> None:
    again = SimulatedNvidia(kit.SEED, kit.CREATED)
    assert again.evidence(kit.REPORT_DATA) == kit.simulated()
    assert again.collateral(kit.NOW) is None


def test_it_needs_no_collateral_and_is_not_the_vendors() -> None:
    container = evidence.parse(kit.simulated())
    assert evidence.collateral_key(container) is None
    with refused(EvidenceCode.CHAIN_ROOT):
        evidence.verify(container, None, Roots.vendor(), kit.NOW)
    with refused(EvidenceCode.CHAIN_SIMULATED):
        trusting = Roots.dangerous_replacement(kit.platform().root_pem, Hierarchy.NVIDIA_DEVICE)
        evidence.verify(container, None, trusting, kit.NOW)


def test_the_measurement_of_one_device_is_its_own_and_of_several_a_hash() -> None:
    one, several = kit.verify_sim(kit.simulated()), kit.verify_sim(kit.simulated(*ALL))
    assert one.measurement == one.devices[0].measurement
    assert several.measurement not in {device.measurement for device in several.devices}
    assert len({device.measurement for device in several.devices}) == 3, "two GPUs of one kind measure the same"


def test_one_device_serialises_as_a_container_of_its_own() -> None:
    (first, *_) = kit.parsed(kit.simulated(*ALL)).devices
    assert kit.parsed(first.serialize()).devices == (first,)


# ------------------------------------------------------------------------------------------------- container


def container(**changes: Any) -> bytes:
    value = canonical.decode(kit.simulated(), max_size=1 << 20) | changes
    return canonical.encode({name: item for name, item in value.items() if item is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "another"},
        {"reports": []},
        {"reports": None},
        {"reports": [{"report": b"", "chain": []}] * (MAX_DEVICES + 1)},
        {"reports": [b""]},
        {"reports": [{"report": b""}]},
        {"reports": [{"report": bytes(17_000), "chain": []}]},
        {"reports": [{"report": b"", "chain": [b""] * 9}]},
        {"reports": [{"report": b"", "chain": [bytes(2049)]}]},
        {"rims": [bytes(129 * 1024)]},
        {"rims": [""]},
        {"rims": [b""] * 65},
        {"extra": 1},
        {"version": 0},
    ],
    ids=str,
)
def test_a_container_outside_its_format_is_refused(changes: dict[str, Any]) -> None:
    with refused(NvidiaCode.CONTAINER):
        parse_evidence(container(**changes))


def test_a_later_container_is_unsupported() -> None:
    with refused(NvidiaCode.VERSION) as caught:
        parse_evidence(container(version=2))
    assert "release" in str(caught.value.remedy)


def test_a_container_is_recognised_by_its_first_key() -> None:
    assert kit.simulated().startswith(b"\x84\xa6format")
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        evidence.parse(canonical.encode({"format": FORMAT, "version": 1}))


def test_devices_that_answered_to_different_nonces_are_refused() -> None:
    platform, chain = kit.platform(), [each.der for each in reversed(kit.platform().chain(Device()))]
    reports = [(platform.report(Device(), nonce), chain) for nonce in (bytes(32), bytes([1]) * 32)]
    with refused(NvidiaCode.NONCES):
        evidence.parse(pack(reports))


def test_one_device_counts_once() -> None:
    with refused(NvidiaCode.DEVICE_TWICE):
        kit.verify_sim(kit.simulated(Device(), Device()))


# ---------------------------------------------------------------------------------------------------- report


@functools.cache
def genuine_report() -> bytes:
    return kit.parsed(kit.simulated()).devices[0].report.serialize()


def report(**changes: Any) -> bytes:
    """The bytes of a genuine report with some replaced, by offset."""
    data = bytearray(genuine_report())
    for place, value in changes.items():
        data[int(place.removeprefix("at_"))] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"at_0": 0x12}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_1": 0xE1}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_2": 0}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_3": 1}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_36": 1}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_37": 0x10}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_38": 0x61}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_39": 1}, NvidiaCode.REPORT_RESERVED),
        ({"at_40": 1}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_41": 63}, NvidiaCode.REPORT_MALFORMED),
        ({"at_42": 0}, NvidiaCode.REPORT_MALFORMED),
        ({"at_44": 1}, NvidiaCode.REPORT_TRUNCATED),
        ({"at_45": 0}, NvidiaCode.REPORT_MALFORMED),
        ({"at_45": 2}, NvidiaCode.REPORT_MALFORMED),
        ({"at_46": 2}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_47": 52}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_49": 0x81}, NvidiaCode.REPORT_UNSUPPORTED),
        ({"at_50": 49}, NvidiaCode.REPORT_UNSUPPORTED),
    ],
    ids=str,
)
def test_a_report_outside_the_format_is_refused(changes: dict[str, int], code: ErrorCode) -> None:
    with refused(code):
        parse_report(report(**changes))


def test_a_report_that_is_cut_short_or_too_large_is_refused() -> None:
    for size in (0, 36, 44, 100, 3600, len(report()) - 1):
        with refused(NvidiaCode.REPORT_TRUNCATED):
            parse_report(report()[:size])
    with refused(NvidiaCode.REPORT_MALFORMED):
        parse_report(report() + bytes(17_000))


def test_a_report_of_another_key_is_refused() -> None:
    other = kit.platform().chain(Device(number=7))[-1]
    with refused(NvidiaCode.SIGNATURE):
        kit.verify_sim(kit.simulated(signer=other))
    altered = kit.changed(kit.simulated(), nonce=bytes(32))
    with refused(NvidiaCode.SIGNATURE):
        verify_evidence(altered, None, kit.sim_roots(), kit.NOW)


def test_a_report_about_another_session_is_refused() -> None:
    appraisal = appraise(kit.verify_sim(kit.simulated()), kit.policy(), kit.NOW, report_data=bytes(64))
    assert [finding.code for finding in appraisal.failed] == [FindingCode.REPORT_DATA]
    assert appraisal.failed[0].found == kit.NONCE.hex()


# --------------------------------------------------------------------------------------------------- opaque


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({Field.VBIOS_VERSION: b"\0" * 7}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.VBIOS_VERSION: b"\0\0\0\x96\1\0\0\1"}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.VBIOS_VERSION: None}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.DRIVER_VERSION: b""}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.DRIVER_VERSION: b"5\n0"}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.DRIVER_VERSION: b"\xff"}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.DRIVER_VERSION: b"5" * 33}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.FWID: bytes(32)}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.NVDEC0_STATUS: b"\0"}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.NVDEC0_STATUS: b"\xaa\xaa"}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.FEATURE_FLAG: None, Field.PROTECTED_PCIE_STATUS: b"\1"}, NvidiaCode.OPAQUE_MALFORMED),
        ({Field.FEATURE_FLAG: b"\3\0"}, NvidiaCode.OPAQUE_UNSUPPORTED),
        ({Field.FEATURE_FLAG: b""}, NvidiaCode.OPAQUE_UNSUPPORTED),
        ({Field.OPAQUE_DATA_VERSION: b"\2\0"}, NvidiaCode.OPAQUE_UNSUPPORTED),
        ({0: b""}, NvidiaCode.OPAQUE_UNSUPPORTED),
        ({37: b""}, NvidiaCode.OPAQUE_UNSUPPORTED),
    ],
    ids=str,
)
def test_opaque_data_outside_their_format_are_refused(changes: dict[int, bytes | None], code: ErrorCode) -> None:
    with refused(code):
        evidence.parse(kit.simulated(opaque=changes))


@pytest.mark.parametrize("data", ["03", "0300", "030001", "0300020041", "03000100410300010042"])
def test_opaque_fields_are_whole_and_come_once(data: str) -> None:
    with refused(NvidiaCode.OPAQUE_MALFORMED):
        parse_opaque(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, Mode.UNREPORTED),
        ({Field.PROTECTED_PCIE_STATUS: b"\x55"}, Mode.SPT),
        ({Field.PROTECTED_PCIE_STATUS: b"\xaa"}, Mode.PPCIE),
        ({Field.FEATURE_FLAG: b"\0\0"}, Mode.SPT),
        ({Field.FEATURE_FLAG: b"\1"}, Mode.MPT),
        ({Field.FEATURE_FLAG: b"\2\0", Field.PROTECTED_PCIE_STATUS: b"\x55"}, Mode.PPCIE),
    ],
)
def test_a_mode_is_read_from_the_flag_or_the_older_status(fields: dict[int, bytes], mode: Mode) -> None:
    assert Opaque(fields).mode is mode


def test_a_report_is_of_what_its_certificates_are_of() -> None:
    for data in (
        kit.simulated(opaque={Field.DRIVER_VERSION: None, Field.VBIOS_VERSION: b"96.00"}),
        kit.simulated(
            kit.SWITCH, opaque={Field.DRIVER_VERSION: b"580.00", Field.VBIOS_VERSION: bytes(8)}, manifests=()
        ),
        kit.simulated(kit.SWITCH, opaque={Field.VBIOS_VERSION: None}, manifests=()),
    ):
        with refused(NvidiaCode.OPAQUE_MALFORMED):
            kit.verify_sim(data)


# --------------------------------------------------------------------------------------------- certificates


def with_leaf(device: Device | None = None, **leaf: Any) -> NvidiaEvidence:
    """Evidence whose leaf certificate has another profile; its key is the same, so the report's signature holds."""
    device = device or Device()
    first = kit.parsed(kit.simulated(device)).devices[0]
    chain = tuple(each.der for each in reversed(kit.platform().chain(device, **leaf)))
    return dataclasses.replace(kit.parsed(kit.simulated(device)), devices=(dataclasses.replace(first, chain=chain),))


def refusal(altered: NvidiaEvidence) -> ErrorCode | None:
    result = outcome(lambda: verify_evidence(altered, None, kit.sim_roots(), kit.NOW))
    return result if isinstance(result, ErrorCode) else None


UNKNOWN = x509.ObjectIdentifier("1.2.3")


@pytest.mark.parametrize(
    ("leaf", "code"),
    [
        ({"constrained": True}, None),
        ({"marked": False}, EvidenceCode.CHAIN_NOT_SIMULATED),
        ({"authority": True, "constrained": True}, EvidenceCode.CHAIN_ROLE),
        ({"usages": ("key_agreement",)}, EvidenceCode.CHAIN_ROLE),
        ({"extra": ((UNKNOWN, b"\5\0"),)}, EvidenceCode.CERTIFICATE_MALFORMED),
        ({"extra": ()}, NvidiaCode.FWID),
        ({"extra": ((COMPOSITE_DEVICE_ID, b""),)}, NvidiaCode.FWID_MALFORMED),
        ({"extra": ((COMPOSITE_DEVICE_ID, b"\x30\x03\x02\x01\x02"),)}, NvidiaCode.FWID_MALFORMED),
        ({"extra": ((TCB_INFO, b"\x30\x00"),)}, NvidiaCode.FWID_MALFORMED),
        ({"extra": ((TCB_INFO, b"\x30\x02\x8a\x00"),)}, NvidiaCode.FWID_MALFORMED),
    ],
    ids=str,
)
def test_a_leaf_is_held_to_its_place_and_its_firmware(leaf: dict[str, Any], code: ErrorCode | None) -> None:
    assert refusal(with_leaf(**leaf)) is code


@pytest.mark.parametrize("name", ["GB100 A01 GSP FMC LF", "GX999 A01 GSP FMC LF", "FMC"])
def test_a_leaf_of_another_product_is_refused(name: str) -> None:
    first = kit.parsed(kit.simulated()).devices[0]
    *above, leaf = kit.platform().chain(Device())
    renamed = enrol(kit.SEED, Profile384(name, authority=False), above[-1], kit.CREATED, kit.NOW + 1)
    signed = first.report.signed + renamed.sign_raw(first.report.signed)
    data = pack([(signed, [renamed.der, *(each.der for each in reversed(above))])])
    assert leaf.der not in data
    with refused(NvidiaCode.PRODUCT):
        kit.verify_sim(data)


@pytest.mark.parametrize("serial", [None, "41", "41e23d711e1c4fbfac", "41E23D711E1C4FBFACFF"])
def test_a_device_certificate_names_the_device(serial: str | None) -> None:
    first = kit.parsed(kit.simulated()).devices[0]
    root, identity, provisioner, *_ = kit.platform().chain(Device())
    burnt = enrol(kit.SEED, Profile384("GH100 BROM", serial_number=serial), provisioner, kit.CREATED, kit.NOW + 1)
    leaf = enrol(kit.SEED, Profile384("GH100 LF", authority=False), burnt, kit.CREATED, kit.NOW + 1)
    signed = first.report.signed + leaf.sign_raw(first.report.signed)
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        kit.verify_sim(pack([(signed, [each.der for each in (leaf, burnt, provisioner, identity, root)])]))


def test_the_device_id_in_a_leaf_is_the_key_that_signed_it() -> None:
    other = kit.platform().chain(Device(number=1))[-1]
    value = next(item.value.value for item in other.certificate.extensions if item.oid == COMPOSITE_DEVICE_ID)
    assert refusal(with_leaf(extra=((COMPOSITE_DEVICE_ID, value),))) is NvidiaCode.FWID_MALFORMED


def tcb_info(fwid: bytes, *members: bytes) -> bytes:
    digest = element(0x30, element(0x06, bytes.fromhex("608648016503040202")) + element(0x04, fwid))
    return element(0x30, element(0xA6, digest) + b"".join(members))


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (None, ()),
        (b"\0", ()),
        (b"\0\0\0\0\1", ()),  # fixedWidth
        (b"\4\x10", ("debug",)),
        (b"\0\xf0\0\0\1", ("notConfigured", "notSecure", "recovery", "debug")),
        (b"\0\0\x40\0\0", ("bit 9",)),
        (b"\x08\0", NvidiaCode.FWID_MALFORMED),
        (b"", NvidiaCode.FWID_MALFORMED),
        (b"\0\0\0\0\0\0", NvidiaCode.FWID_MALFORMED),
    ],
    ids=str,
)
def test_flags_of_firmware_are_read_by_name(flags: bytes | None, found: Any) -> None:
    members = () if flags is None else (element(0x87, flags),)
    value = tcb_info(kit.platform().fwid(kit.BLACKWELL), *members)
    altered = with_leaf(kit.BLACKWELL, extra=((TCB_INFO, value),))
    result = outcome(lambda: verify_evidence(altered, None, kit.sim_roots(), kit.NOW))
    if isinstance(found, ErrorCode):
        assert result is found
    else:
        assert not isinstance(result, ErrorCode)
        assert result.devices[0].firmware is not None
        assert result.devices[0].firmware.flags == found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\0", 0),
        (b"\1", 1),
        (b"\0\x80", 128),
        (b"\x7f" + b"\xff" * 7, (1 << 63) - 1),
        (b"\0\x80" + bytes(7), NvidiaCode.FWID_MALFORMED),
        (b"\x80", NvidiaCode.FWID_MALFORMED),
        (b"\0\1", NvidiaCode.FWID_MALFORMED),
        (b"", NvidiaCode.FWID_MALFORMED),
    ],
    ids=str,
)
def test_the_security_version_of_firmware_is_a_minimal_integer(content: bytes, found: Any) -> None:
    members = tcb_info(kit.platform().fwid(kit.BLACKWELL))[2:]
    altered = with_leaf(kit.BLACKWELL, extra=((TCB_INFO, element(0x30, element(0x83, content) + members)),))
    result = outcome(lambda: verify_evidence(altered, None, kit.sim_roots(), kit.NOW))
    if isinstance(found, ErrorCode):
        assert result is found
    else:
        assert not isinstance(result, ErrorCode)
        assert result.details()["devices"][0]["fwid_svn"] == found


@pytest.mark.parametrize(
    ("svn", "least", "passes"), [(3, 2, True), (3, 3, True), (3, 4, False), (0, 0, True), (None, 0, False)]
)
def test_a_floor_for_the_firmware_s_security_version_holds_and_a_leaf_without_one_fails_it(
    svn: int | None, least: int, passes: bool
) -> None:
    device = dataclasses.replace(kit.BLACKWELL, svn=svn)
    verified = kit.verify_sim(kit.simulated(device))
    table = {"products": ["GB100"], "vbios_versions": [device.vbios_version]}
    assert kit.failed(verified, **table) == []
    assert kit.failed(verified, **table, fwid_svn_min=least) == ([] if passes else [NvidiaFinding.FIRMWARE_SVN])


def test_certificates_of_hopper_have_no_security_version_and_reach_no_floor() -> None:
    verified = kit.verify_sim(kit.simulated())
    assert verified.details()["devices"][0]["fwid_svn"] is None
    assert kit.failed(verified, fwid_svn_min=0) == [NvidiaFinding.FIRMWARE_SVN]
    firmless = dataclasses.replace(verified.devices[0], firmware=None)
    assert kit.failed(dataclasses.replace(verified, devices=(firmless,)), fwid_svn_min=0) == [
        NvidiaFinding.FIRMWARE_SVN
    ]


def test_firmware_under_another_hash_is_refused() -> None:
    value = tcb_info(kit.platform().fwid(kit.BLACKWELL))
    sha256 = value.replace(bytes.fromhex("608648016503040202"), bytes.fromhex("608648016503040201"))
    assert refusal(with_leaf(kit.BLACKWELL, extra=((TCB_INFO, sha256),))) is NvidiaCode.FWID_MALFORMED


def test_firmware_of_another_digest_is_refused() -> None:
    altered = with_leaf(kit.BLACKWELL, extra=((TCB_INFO, tcb_info(bytes(48))),))
    assert refusal(altered) is NvidiaCode.FWID
    assert refusal(with_leaf(kit.BLACKWELL, extra=((TCB_INFO, tcb_info(bytes(32))),))) is NvidiaCode.FWID_MALFORMED


def test_chains_end_with_their_certificates_dates() -> None:
    verified = kit.verify_sim(kit.simulated())
    assert verified.issued == kit.NOW
    assert kit.verify_sim(kit.simulated(), verified.expires - 1).expires == verified.expires
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        kit.verify_sim(kit.simulated(), verified.expires)
    with refused(EvidenceCode.CERTIFICATE_EARLY):
        kit.verify_sim(kit.simulated(), kit.CREATED - 86401)


def test_known_chains_change_no_verdict() -> None:
    data = kit.simulated(*ALL)
    verified = kit.verify_sim(data)
    known = Known(tuple(device.chain for device in verified.devices), verified.signers)
    assert kit.verify_sim(data, known=known) == verified
    with refused(EvidenceCode.CERTIFICATE_EXPIRED):
        kit.verify_sim(data, verified.expires, known=known)
    assert kit.verify_sim(kit.simulated(kit.BLACKWELL), known=known).devices[0].product.name == "GB100"


def test_reports_of_one_class_and_manifests_of_another_are_refused() -> None:
    """Roots may pin both: simulated devices, and manifests under a root that stands in NVIDIA's place."""
    root = enrol(kit.SEED, Profile384("unmarked root", marked=False), None, kit.CREATED, kit.NOW + 1)
    unmarked = Profile384("unmarked signer", marked=False, authority=False)
    signer = enrol(kit.SEED, unmarked, root, kit.CREATED, kit.NOW + 1)
    rim = kit.platform().rim(Device(), driver=True, chain=(root, signer))
    roots = kit.sim_roots().dangerously_replaced({Hierarchy.NVIDIA_RIM: [hashlib.sha256(root.der).digest()]})
    with refused(NvidiaCode.ROOTS_MIXED):
        evidence.verify(evidence.parse(kit.simulated(manifests=[rim])), None, roots, kit.NOW)


# -------------------------------------------------------------------------------------------------- findings


CASES: list[tuple[NvidiaFinding, dict[str, Any], dict[str, Any]]] = [
    # code, evidence that fails by default, the policy that names it (empty: nothing can)
    (NvidiaFinding.PRODUCT, {"device": kit.SWITCH}, {"products": ["LS10"]}),
    (NvidiaFinding.DRIVER_VERSION, {"device": Device(driver_version="590.00")}, {"driver_versions": ["590.00"]}),
    (NvidiaFinding.MODE, {"device": Device(mode=Mode.PPCIE)}, {"modes": ["PPCIE"]}),
    (NvidiaFinding.MODE, {"device": Device(mode=None)}, {"modes": ["unreported"]}),
    (
        NvidiaFinding.FLAGS,
        {"device": dataclasses.replace(kit.BLACKWELL, flags=("debug",))},
        {"flags_allowed": ["debug"]},
    ),
    (NvidiaFinding.FWID, {"opaque": {Field.FWID: None}}, {"fwid_absent": True}),
    (NvidiaFinding.MEASUREMENTS, {"measurements": {1: bytes([1]) * 48}}, {}),
    (NvidiaFinding.MEASUREMENTS, {"measurements": {8: None}}, {}),
]


@pytest.mark.parametrize(("code", "changes", "permit"), CASES, ids=lambda value: str(value)[:40])
def test_what_a_policy_does_not_name_is_refused(
    code: NvidiaFinding, changes: dict[str, Any], permit: dict[str, Any]
) -> None:
    changes = dict(changes)
    device = changes.pop("device", Device())
    verified = kit.verify_sim(kit.simulated(device, **changes))
    base: dict[str, Any] = VERSIONS | {"fwid_absent": device.is_switch}
    if code is NvidiaFinding.PRODUCT:
        base = {"vbios_versions": VERSIONS["vbios_versions"], "fwid_absent": True}
    assert kit.failed(verified, **base) == [code]
    if permit:
        assert kit.failed(verified, **base | permit) == []


def test_versions_are_named_exactly() -> None:
    verified = kit.verify_sim(kit.simulated())
    assert kit.failed(verified, vbios_versions=["96.00.00.00.02"]) == [NvidiaFinding.VBIOS_VERSION]
    assert kit.failed(verified, rim_tags=["11" * 48], driver_versions=None, vbios_versions=None) == [
        NvidiaFinding.RIM_TAG
    ]
    tags = [rim.tag_id.hex() for rim in verified.devices[0].rims]
    assert kit.failed(verified, rim_tags=tags) == []


def test_absent_manifests_are_findings_of_their_own() -> None:
    driver, vbios = kit.rims(Device())
    assert kit.failed(kit.verify_sim(kit.simulated(manifests=[vbios]))) == [NvidiaFinding.DRIVER_RIM]
    assert kit.failed(kit.verify_sim(kit.simulated(manifests=[driver]))) == [NvidiaFinding.VBIOS_RIM]
    none = kit.verify_sim(kit.simulated(manifests=[]))
    assert kit.failed(none) == [NvidiaFinding.DRIVER_RIM, NvidiaFinding.VBIOS_RIM, NvidiaFinding.MEASUREMENTS]
    assert kit.failed(none, measurements=[none.measurement.hex()]) == []


def test_a_named_record_must_be_the_one_also_where_manifests_are() -> None:
    verified = kit.verify_sim(kit.simulated())
    assert kit.failed(verified, measurements=[verified.measurement.hex()]) == []
    assert kit.failed(verified, measurements=["11" * 48]) == [NvidiaFinding.MEASUREMENTS]


def test_manifests_that_claim_the_same_measurement_are_a_conflict() -> None:
    driver, _ = kit.rims(Device())
    vbios = kit.platform().rim(Device(), driver=False, active=(7, 8))
    verified = kit.verify_sim(kit.simulated(manifests=[driver, vbios]))
    assert verified.devices[0].conflicts == (7,)
    assert kit.failed(verified) == [NvidiaFinding.RIM_CONFLICT]


def test_any_of_the_alternatives_will_do() -> None:
    device = Device()
    measured = kit.platform().measurements(device)
    values = {index - 1: (bytes([1]) * 48, value) for index, value in measured.items()}
    driver, _ = kit.rims(device)
    vbios = kit.platform().rim(device, driver=False, values=values)
    assert kit.failed(kit.verify_sim(kit.simulated(manifests=[driver, vbios]))) == []


def test_the_decoders_measurement_counts_where_it_is_on() -> None:
    off, on = Device(), Device(nvdec0=True)
    assert kit.verify_sim(kit.simulated(off)).devices[0].mismatches == ()
    assert kit.verify_sim(kit.simulated(on)).devices[0].mismatches == ()
    lying = kit.simulated(off, opaque={Field.NVDEC0_STATUS: b"\xaa"})
    assert kit.verify_sim(lying).devices[0].mismatches == (35,)
    silent = kit.simulated(off, opaque={Field.NVDEC0_STATUS: None})
    assert kit.verify_sim(silent).devices[0].mismatches == (35,)


def test_one_device_of_several_that_fails_fails_all() -> None:
    devices = (Device(), Device(number=1, mode=Mode.PPCIE))
    verified = kit.verify_sim(kit.simulated(*devices))
    assert kit.failed(verified) == [NvidiaFinding.MODE]
    denied = load_policy(
        kit.policy_map()
        | {
            "evidence": kit.policy().evidence.to_dict()
            | {"platforms_denied": {"device_serial": [kit.platform().serial(devices[1]).hex()]}}
        }
    )
    codes = [finding.code for finding in appraise(verified, denied, kit.NOW).failed]
    assert codes == [FindingCode.DENIED, NvidiaFinding.MODE]


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ({"products": None}, PolicyCode.POLICY_VACUOUS),
        ({"products": []}, PolicyCode.POLICY_VACUOUS),
        ({"products": ["H100"]}, PolicyCode.POLICY_MALFORMED),
        ({"driver_versions": None}, PolicyCode.POLICY_VACUOUS),
        ({"vbios_versions": None}, PolicyCode.POLICY_VACUOUS),
        ({"driver_versions": []}, PolicyCode.POLICY_VACUOUS),
        ({"vbios_versions": [], "rim_tags": ["11" * 48]}, PolicyCode.POLICY_VACUOUS),
        ({"modes": []}, PolicyCode.POLICY_VACUOUS),
        ({"modes": ["off"]}, PolicyCode.POLICY_MALFORMED),
        ({"flags_allowed": ["fixedWidth"]}, PolicyCode.POLICY_MALFORMED),
        ({"rim_tags": ["11"]}, PolicyCode.POLICY_MALFORMED),
    ],
    ids=str,
)
def test_a_policy_that_leaves_open_what_it_must_name_is_refused(table: dict[str, Any], code: PolicyCode) -> None:
    with refused(code):
        kit.policy(**table)


def test_a_policy_comes_back_as_it_was() -> None:
    full = kit.policy(
        rim_tags=["11" * 48],
        measurements=["22" * 48],
        modes=["MPT"],
        flags_allowed=["debug", "recovery"],
        fwid_absent=True,
    )
    assert load_policy(full.to_dict()) == full
    switches = kit.policy(products=["LS10"], driver_versions=None)
    assert load_policy(switches.to_dict()) == switches


# --------------------------------------------------------------------------------------------------- imports


def test_the_sdks_json_becomes_a_container() -> None:
    first = kit.parsed(kit.simulated()).devices[0]
    pem = "".join(
        f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
        for der in first.chain
    )
    entry = {
        "evidence": base64.b64encode(first.report.serialize()).decode(),
        "certificate": base64.b64encode(pem.encode()).decode(),
    }
    assert from_sdk_json(json.dumps([entry]), kit.rims(Device())) == kit.simulated()
    for bad in (
        [],
        {},
        [1],
        [{}],
        [entry | {"evidence": "*"}],
        [entry | {"evidence": 1}],
        [entry | {"certificate": ""}],
    ):
        with refused(NvidiaCode.CONTAINER):
            from_sdk_json(json.dumps(bad))
    with refused(EvidenceCode.JSON_MALFORMED):
        from_sdk_json("[")
    with refused(NvidiaCode.CONTAINER):
        pem_chain(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
    with refused(NvidiaCode.CONTAINER):
        pem_chain(pem.encode() * 3)


# ----------------------------------------------------------------------------------------------------- total


@given(st.binary(max_size=200), st.integers(0, 4000))
def test_parsing_reports_is_total(data: bytes, place: int) -> None:
    genuine = genuine_report()
    for candidate in (data, genuine[:place] + data + genuine[place + len(data) :], genuine[:place] + data):
        result = outcome(lambda candidate=candidate: parse_report(candidate))
        assert isinstance(result, ErrorCode) or result.serialize() == candidate


@given(st.binary(max_size=120))
def test_parsing_opaque_data_and_containers_is_total(data: bytes) -> None:
    result = outcome(lambda: parse_opaque(data))
    assert isinstance(result, ErrorCode) or result.raw == data
    with pytest.raises(EvidenceError):
        parse_evidence(data)
