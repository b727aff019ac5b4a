"""Which device it is: lists of accepted and refused devices and firmware, and the signed list of broken hardware."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.appraise import Appraisal, appraise
from attestation.errors import FindingCode, PolicyCode
from attestation.nvidia.errors import NvidiaFinding
from attestation.nvidia.verified import NvidiaVerified
from attestation.policy import load_policy
from attestation.report import examine
from attestation.sim.nvidia import Device
from attestation.whatif import least_changes
from tests.attestation.kit import refused
from tests.nvidia import kit
from tests.policy.kit import WATCHER, entry, feed

OTHER = Device(number=1)
SERIAL = kit.platform().serial(Device()).hex()
FWID = kit.platform().fwid(Device()).hex()


def key_of(device: Device) -> str:
    public = kit.platform().chain(device)[-2].key.public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def judged(verified: NvidiaVerified | None = None, **evidence: Any) -> Appraisal:
    source = kit.policy_map()
    source["evidence"] |= evidence
    return appraise(verified or kit.verify_sim(kit.simulated()), load_policy(source), kit.NOW)


def test_a_device_shows_what_its_certificates_say_it_is() -> None:
    (device,) = kit.verify_sim(kit.simulated()).devices
    assert device.platform_ids == {
        "device_product": "GH100",
        "device_serial": SERIAL,
        "device_key": key_of(Device()),
        "fwid": FWID,
    }
    (blackwell,) = kit.verify_sim(kit.simulated(kit.BLACKWELL)).devices
    assert blackwell.platform_ids["fwid"] == kit.platform().fwid(kit.BLACKWELL).hex()


ACCEPTED: dict[str, tuple[str, NvidiaFinding]] = {
    "device_serials": (SERIAL, NvidiaFinding.DEVICE_SERIAL),
    "device_keys": (key_of(Device()), NvidiaFinding.DEVICE_KEY),
    "fwids": (FWID, NvidiaFinding.FIRMWARE_ID),
}


@pytest.mark.parametrize("field", ACCEPTED)
def test_a_list_admits_the_devices_that_it_names_and_no_other(field: str) -> None:
    value, code = ACCEPTED[field]
    verified = kit.verify_sim(kit.simulated())
    strange = "11" * (len(value) // 2)
    assert kit.failed(verified, **{field: [value]}) == []
    assert kit.failed(verified, **{field: [strange, value]}) == []
    assert kit.failed(verified, **{field: [strange]}) == [code]
    with refused(PolicyCode.POLICY_VACUOUS):
        kit.policy(**{field: []})
    with refused(PolicyCode.POLICY_MALFORMED):
        kit.policy(**{field: [value[2:]]})


def test_every_device_of_the_evidence_must_be_named() -> None:
    both = kit.verify_sim(kit.simulated(Device(), OTHER))
    assert kit.failed(both, device_serials=[SERIAL]) == [NvidiaFinding.DEVICE_SERIAL]
    assert kit.failed(both, device_serials=[SERIAL, kit.platform().serial(OTHER).hex()]) == []
    assert kit.failed(both, device_keys=[key_of(OTHER)]) == [NvidiaFinding.DEVICE_KEY]


def test_a_device_that_is_not_named_is_proposed_by_name() -> None:
    policy = kit.policy(device_serials=["11" * 9], fwids=["11" * 48], device_keys=["11" * 32])
    changes = least_changes(examine(kit.simulated(), policy=policy, now=kit.NOW))
    assert changes is not None
    assert changes.remaining == ()
    assert [change.text for change in changes.changes] == [
        f'[nvidia] device_serials: add "{SERIAL}"',
        f'[nvidia] device_keys: add "{key_of(Device())}"',
        f'[nvidia] fwids: add "{FWID}"',
    ]


DENIED: dict[str, tuple[str, str]] = {
    "device_product": ("GH100", "LS10"),
    "device_serial": (SERIAL, kit.platform().serial(OTHER).hex()),
    "device_key": (key_of(Device()), key_of(OTHER)),
    "fwid": (FWID, "11" * 48),
}
"""By the kind of id: the device's, and another."""


@pytest.mark.parametrize("kind", DENIED)
def test_a_denied_device_is_refused_and_another_is_not(kind: str) -> None:
    own, other = DENIED[kind]
    (finding,) = judged(platforms_denied={kind: [other, own]}).failed
    assert finding.code is FindingCode.DENIED
    assert own in finding.found
    assert judged(platforms_denied={kind: [other]}).accepted


def test_a_leaf_that_names_no_firmware_hides_it() -> None:
    """Such firmware could be the one that is meant."""
    verified = kit.verify_sim(kit.simulated())
    (device,) = verified.devices
    hidden = dataclasses.replace(verified, devices=(dataclasses.replace(device, firmware=None),))
    assert [each.code for each in judged(hidden, platforms_denied={"fwid": ["11" * 48]}).failed] == [FindingCode.DENIED]
    assert kit.failed(hidden, fwids=[FWID]) == [NvidiaFinding.FIRMWARE_ID]


@pytest.mark.parametrize("kind", DENIED)
def test_the_list_of_broken_hardware_names_devices_of_nvidia(kind: str) -> None:
    own, other = DENIED[kind]
    for value, codes in ((own, [FindingCode.BROKEN]), (other, [])):
        named = feed(entry(tees=["nvidia"], platforms={kind: [value]}))
        found = judged(broken_hardware=named, broken_hardware_key=WATCHER.public.hex())
        assert [finding.code for finding in found.failed] == codes


def test_an_entry_hits_where_all_of_its_conditions_do() -> None:
    platforms = {"device_product": ["GH100"], "fwid": ["11" * 48]}
    named = feed(entry(tees=["nvidia"], platforms=platforms))
    assert judged(broken_hardware=named, broken_hardware_key=WATCHER.public.hex()).accepted


@pytest.mark.parametrize(
    "changes",
    [
        {"platforms": {"fmspc": ["00" * 6]}},
        {"platforms": {"fwid": ["00" * 32]}},
        {"platforms": None, "below": {"pcesvn": 1}},
        {"tees": ["nvidia", "snp"], "platforms": {"device_key": ["00" * 32]}},
    ],
)
def test_an_entry_that_names_what_devices_do_not_have_is_refused(changes: dict[str, Any]) -> None:
    with refused(PolicyCode.FEED_MALFORMED):
        feed(entry(**{"tees": ["nvidia"]} | changes))
