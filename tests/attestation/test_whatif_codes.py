"""Every check of every TEE: what the policy could say about it is proposed, or it is said why nothing is.

Each proposal is made in the policy, which is loaded anew, and the evidence is examined again from its bytes: it passes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from attestation.appraise import appraise
from attestation.changes import with_all
from attestation.errors import FindingCode
from attestation.eventlog.log import EventType
from attestation.explain import explanation
from attestation.nvidia.opaque import Field, Mode
from attestation.policy import Policy, load_policy
from attestation.report import Report, examine
from attestation.sim.azure import CONFIGURATION
from attestation.sim.eventlog import BOOT, make_log
from attestation.sim.nvidia import Device
from attestation.tpm.algorithms import Hash
from attestation.types.receipt_errors import ReceiptFinding
from attestation.whatif import least_changes
from attestation.whatif_fields import NOT_PROPOSED, PROPOSED, proposed
from tests.amd.test_whatif import CASES as SNP_CASES
from tests.amd.test_whatif import TOGETHER as SNP_TOGETHER
from tests.attestation import kit as sgx
from tests.attestation.marked import assert_marked_as_warned
from tests.azure import kit as azure
from tests.nitro import kit as nitro
from tests.nvidia import kit as nvidia
from tests.policy.kit import entry, named
from tests.tdx import kit as tdx
from tests.test_codes import generator
from tests.tpm import kit as tpm

NOW, REPORT_DATA = sgx.NOW, sgx.REPORT_DATA
Examined = Callable[[Policy | None], Report]
"""Examine the case's evidence under its own policy (None), or another."""


def on_sgx(state: dict[str, Any] | None = None, body: dict[str, Any] | None = None, **tables: Any) -> Examined:
    platform = sgx.platform(**(state or {}))
    report = dataclasses.replace(platform.report_body(sgx.MRENCLAVE), **(body or {}))
    data, collateral = platform.quote(report, REPORT_DATA), platform.collateral(NOW)
    return lambda policy: examine(data, now=NOW, collateral=collateral, policy=policy or sgx.policy(**tables))


def on_tdx(report: dict[str, Any] | None = None, version: int = 4, **tables: Any) -> Examined:
    data = tdx.platform().evidence(tdx.MRTD, REPORT_DATA, version=version, **(report or {}))
    collateral = tdx.platform().collateral(NOW)
    return lambda policy: examine(data, now=NOW, collateral=collateral, policy=policy or tdx.policy(**tables))


def on_azure(claims: dict[str, Any] | None = None, **tables: Any) -> Examined:
    data = azure.vm().evidence(REPORT_DATA, claims={"vm-configuration": {**CONFIGURATION, **(claims or {})}})
    collateral = azure.tdx().collateral(NOW)
    return lambda policy: examine(data, now=NOW, collateral=collateral, policy=policy or azure.policy(**tables))


def on_tpm(data: bytes | None = None, **table: Any) -> Examined:
    return lambda policy: examine(data or tpm.healthy(), now=NOW, policy=policy or tpm.policy(**table))


def on_tpm_with_log(log: bytes, data: bytes | None = None) -> Examined:
    """With a log beside the evidence, which carries none unless it is given."""
    bare = data or tpm.rebuilt(log=b"")
    return lambda policy: examine(bare, now=NOW, policy=policy or tpm.policy(), event_log=log)


def on_nitro(registers: dict[int, bytes] | None = None, **table: Any) -> Examined:
    data = nitro.hypervisor().evidence({0: nitro.IMAGE} | (registers or {}), REPORT_DATA, nitro.NOW)
    return lambda policy: examine(data, now=nitro.NOW, policy=policy or nitro.policy(**table))


def on_nvidia(*devices: Device, evidence: dict[str, Any] | None = None, **table: Any) -> Examined:
    data = nvidia.simulated(*devices, **(evidence or {}))
    return lambda policy: examine(data, now=nvidia.NOW, policy=policy or nvidia.policy(**table))


def unlogged() -> bytes:
    """A quote with PCR 9 extended beyond the log."""
    values = {(bank, index): value for bank, index, value in tpm.verify().quote.pcrs}
    values[Hash.SHA256, 9] = Hash.SHA256.digest(values[Hash.SHA256, 9], bytes(32))
    return tpm.sim().evidence(REPORT_DATA, pcrs=values)


OTHER, ONES = b"\x08" * 48, "11"
GOOD, SEPT_VE_DISABLE = 0x5, 1 << 28
SIGNED = {"isv_prod_id": 0, "isv_svn_min": 0}
MINE = dataclasses.replace(nvidia.BLACKWELL, svn=2)
BLACKWELL = {"products": ["GB100"], "vbios_versions": [MINE.vbios_version]}
SECOND = Device(number=1)

CASES: dict[str, Callable[[], Examined]] = {
    # ---- every TEE
    "tcb-status": lambda: on_sgx({"tcb_status": "OutOfDate"}),
    "tcb-advisories": lambda: on_sgx({"advisories": ("SIM-SA-1", "SIM-SA-2")}),
    "tcb-advisories but one": lambda: on_sgx(
        {"advisories": ("SIM-SA-1", "SIM-SA-2")},
        evidence={"advisories_accepted": ["*"], "advisories_refused": ["SIM-SA-2", "SIM-SA-3"]},
    ),
    "tcb-evaluation": lambda: on_sgx(evidence={"tcb_evaluation_min": 18}),
    "tcb-date": lambda: on_sgx(evidence={"tcb_date_min": "2099-01-01T00:00:00Z"}),
    "collateral-age": lambda: on_sgx(evidence={"max_collateral_age": 1}),
    "hardware-feed-age": lambda: on_sgx(evidence=named(entry(tees=["tdx"]), broken_hardware_max_age=1)),
    "platform-denied": lambda: on_sgx(evidence={"platforms_denied": {"fmspc": ["53494d000000"], "ppid": [ONES * 16]}}),
    "platform-fmspc": lambda: on_tdx(tdx={"fmspc": [ONES * 6]}),
    "platform-ppid": lambda: on_tdx(tdx={"ppid": [ONES * 16]}),
    "tcb-components": lambda: on_tdx(tdx={"tcb_components_min": {"pcesvn": 65535, "tdxtcbcomp01svn": 200}}),
    "qe-isv-svn": lambda: on_tdx(tdx={"qe_isv_svn_min": 999}),
    # ---- SGX
    "sgx-mrenclave": lambda: on_sgx(sgx={"mrenclave": [ONES * 32]}),
    "sgx-mrsigner": lambda: on_sgx(sgx={"mrsigner": [ONES * 32], **SIGNED}),
    "sgx-isv-prod-id": lambda: on_sgx(sgx={"isv_prod_id": 1}),
    "sgx-isv-svn": lambda: on_sgx(sgx={"isv_svn_min": 1}),
    "sgx-debug": lambda: on_sgx(body={"flags": GOOD | 0x2}),
    "sgx-provision-key": lambda: on_sgx(body={"flags": GOOD | 0x10}),
    "sgx-einittoken-key": lambda: on_sgx(body={"flags": GOOD | 0x20}),
    "sgx-attributes": lambda: on_sgx(body={"flags": GOOD | 0x80 | 0x40 | 0x400}, sgx={"attributes_allowed": ["KSS"]}),
    "sgx-xfrm": lambda: on_sgx(sgx={"xfrm_allowed": 3}),
    "sgx-miscselect": lambda: on_sgx(body={"misc_select": 1}),
    "sgx-cet-attributes": lambda: on_sgx(body={"cet_attributes": 4}),
    "sgx-config-id": lambda: on_sgx(body={"config_id": b"\1" * 64}),
    "sgx-config-svn": lambda: on_sgx(body={"config_svn": 2}),
    "sgx-config-svn floor": lambda: on_sgx(body={"config_svn": 2}, sgx={"config_svn_min": 3}),
    "sgx-isv-ext-prod-id": lambda: on_sgx(body={"isv_ext_prod_id": b"\1" * 16}),
    "sgx-isv-family-id": lambda: on_sgx(body={"isv_family_id": b"\1" * 16}),
    # ---- TDX
    "tdx-mrtd": lambda: on_tdx(tdx={"mrtd": [ONES * 48]}),
    "tdx-rtmr0": lambda: on_tdx(tdx={"rtmr0": [ONES * 48]}),
    "tdx-rtmr1": lambda: on_tdx({"rtmr1": OTHER}),
    "tdx-rtmr2": lambda: on_tdx({"rtmr2": OTHER}),
    "tdx-rtmr3": lambda: on_tdx(tdx={"rtmr3": [ONES * 48]}),
    "tdx-mrconfigid": lambda: on_tdx({"mr_config_id": OTHER}),
    "tdx-mrowner": lambda: on_tdx({"mr_owner": OTHER}),
    "tdx-mrownerconfig": lambda: on_tdx({"mr_owner_config": OTHER}),
    "tdx-mrservicetd": lambda: on_tdx({"mr_service_td": OTHER}, version=5),
    "tdx-mrseam": lambda: on_tdx(tdx={"mrseam": [ONES * 48]}),
    "tdx-debug": lambda: on_tdx({"td_attributes": SEPT_VE_DISABLE | 1}),
    "tdx-sept-ve": lambda: on_tdx({"td_attributes": 0}),
    "tdx-migratable": lambda: on_tdx({"td_attributes": SEPT_VE_DISABLE | 1 << 29}),
    "tdx-attributes": lambda: on_tdx({"td_attributes": SEPT_VE_DISABLE | 1 << 30 | 1 << 63}),
    "tdx-xfam": lambda: on_tdx({"xfam": 0x3 | 1 << 10}),
    # ---- Azure, Nitro, TPM
    "azure-vm-id": lambda: on_azure(azure_tdx={"vm_ids": ["X"]}),
    "azure-secure-boot": lambda: on_azure({"secure-boot": False}),
    "azure-console": lambda: on_azure({"console-enabled": True}),
    "nitro-debug": lambda: on_nitro({0: bytes(48), 1: bytes(48), 2: bytes(48)}),
    "nitro-pcr": lambda: on_nitro(pcrs={"pcr0": [ONES * 48]}),
    "nitro-module-id": lambda: on_nitro(module_ids=["i-0827e799ec9232d44-enc019b55a68bd2ed4b"]),
    "tpm-pcr": lambda: on_tpm(pcrs={"sha256": {"pcr7": [ONES * 32]}}),
    "tpm-ak": lambda: on_tpm(ak=[ONES * 32]),
    "tpm-firmware": lambda: on_tpm(firmware_min=(1 << 63) - 1),
    "tpm-clock": lambda: on_tpm(tpm.sim().evidence(REPORT_DATA, safe=False)),
    "tpm-event-log": lambda: on_tpm(unlogged()),
    "tpm-event-log that must explain": lambda: on_tpm(unlogged(), event_log_pcrs=[7, 9]),
    "tpm-event-log altered": lambda: on_tpm(
        tpm.rebuilt(log=make_log([*BOOT, (7, EventType.EV_EFI_VARIABLE_AUTHORITY, b"another key")]))
    ),
    "eventlog-replay differs": lambda: on_tpm_with_log(make_log([*BOOT, (9, EventType.EV_IPL, b"another")])),
    "eventlog-replay without events": lambda: on_tpm_with_log(make_log([entry for entry in BOOT if entry[0] != 4])),
    "eventlog-replay without events beside its own log": lambda: on_tpm_with_log(
        make_log([entry for entry in BOOT if entry[0] not in (4, 8)]), tpm.healthy()
    ),
    "tpm-event-log-pcrs": lambda: on_tpm(event_log_pcrs=[7, 16]),
    # ---- NVIDIA
    "nvidia-product": lambda: on_nvidia(products=["LS10"]),
    "nvidia-device-serial": lambda: on_nvidia(device_serials=[ONES * 9]),
    "nvidia-device-key": lambda: on_nvidia(device_keys=[ONES * 32]),
    "nvidia-firmware-id": lambda: on_nvidia(fwids=[ONES * 48]),
    "nvidia-firmware-svn": lambda: on_nvidia(MINE, **BLACKWELL, fwid_svn_min=3),
    "nvidia-firmware-svn of two": lambda: on_nvidia(
        MINE, dataclasses.replace(MINE, number=1, svn=1), **BLACKWELL, fwid_svn_min=3
    ),
    "nvidia-driver-version": lambda: on_nvidia(driver_versions=["1"]),
    "nvidia-vbios-version": lambda: on_nvidia(vbios_versions=["96.00.00.00.02"]),
    "nvidia-mode": lambda: on_nvidia(Device(mode=Mode.PPCIE)),
    "nvidia-mode unreported": lambda: on_nvidia(Device(mode=None)),
    "nvidia-flags": lambda: on_nvidia(dataclasses.replace(MINE, flags=("debug", "recovery")), **BLACKWELL),
    "nvidia-fwid": lambda: on_nvidia(evidence={"opaque": {Field.FWID: None}}),
    "nvidia-driver-rim": lambda: on_nvidia(evidence={"manifests": nvidia.rims(Device())[1:]}),
    "nvidia-vbios-rim": lambda: on_nvidia(evidence={"manifests": nvidia.rims(Device())[:1]}),
    "nvidia-rim-tag": lambda: on_nvidia(rim_tags=[ONES * 48]),
    "nvidia-measurements": lambda: on_nvidia(evidence={"manifests": []}),
    "nvidia-measurements named": lambda: on_nvidia(measurements=[ONES * 48]),
    "nvidia-measurements of two": lambda: on_nvidia(Device(), SECOND, evidence={"manifests": []}),
}
"""By the check that fails, with a word where there are several: the evidence and policy."""


@pytest.mark.parametrize("name", CASES)
def test_with_the_changes_that_are_proposed_the_evidence_passes(name: str) -> None:
    code, examined = name.split(maxsplit=1)[0], CASES[name]()
    found = examined(None)
    assert code in {str(finding.code) for finding in found.refused}
    changes = least_changes(found)
    assert changes is not None
    assert code in {change.code for change in changes.changes}
    assert (changes.remaining, changes.excluded) == ((), ())
    assert found.policy is not None
    changed = with_all(found.policy, changes.changes).policy
    after = examined(load_policy(changed.written(changed.preset)))
    assert after.accepted
    assert_marked_as_warned(changes, found, after)
    words = " ".join(explanation(found).text().split())
    assert all(" ".join(change.text.split()) in words for change in changes.changes)


UNHELPED: dict[str, Callable[[], Examined]] = {
    "sgx-attributes": lambda: on_sgx(body={"flags": GOOD | 0x80 | 1 << 40}),
    "tdx-attributes": lambda: on_tdx({"td_attributes": SEPT_VE_DISABLE | 1 << 30 | 1 << 32}),
    "sgx-xfrm": lambda: on_sgx(body={"xfrm": 0x1}),
    "nvidia-firmware-svn": lambda: on_nvidia(fwid_svn_min=0),
    "nvidia-measurements": lambda: on_nvidia(evidence={"measurements": {1: bytes([1]) * 48}}),
}
"""Checks that a field decides, and evidence that no value of it admits."""


@pytest.mark.parametrize("code", UNHELPED)
def test_a_change_that_does_not_help_is_not_proposed(code: str) -> None:
    changes = least_changes(UNHELPED[code]()(None))
    assert changes is not None
    assert code in changes.remaining
    assert code not in {change.code for change in changes.changes}


def test_every_check_has_a_proposal_or_a_reason_why_not() -> None:
    tables = [table for table in generator().tables() if "Finding" in table.__name__ and table is not ReceiptFinding]
    codes = {str(code) for table in tables for code in table}
    reasons = {str(code): why for code, why in NOT_PROPOSED.items()}
    assert FindingCode in tables
    assert PROPOSED | reasons.keys() == codes
    assert not PROPOSED & reasons.keys()
    assert all(reasons.values())


def test_every_proposal_is_shown_to_work() -> None:
    assert {name.split()[0] for name in (*CASES, *SNP_CASES, *SNP_TOGETHER)} == PROPOSED


def test_a_device_that_hides_its_firmware_is_admitted_by_no_list_of_refused_firmware() -> None:
    verified = nvidia.verify_sim(nvidia.simulated())
    (device,) = verified.devices
    hidden = dataclasses.replace(verified, devices=(dataclasses.replace(device, firmware=None),))
    source = nvidia.policy_map()
    source["evidence"]["platforms_denied"] = {"fwid": [ONES * 48, "22" * 48], "fmspc": [ONES * 6]}
    policy = load_policy(source)
    refused = appraise(hidden, policy, NOW).failed
    assert [finding.code for finding in refused] == [FindingCode.DENIED]
    (change,) = proposed(refused, policy, hidden)
    assert change.text == f'[evidence.platforms_denied] fwid: remove "{ONES * 48}", "{"22" * 48}"'
    changed = with_all(policy, (change,)).policy
    assert changed.evidence.platforms_denied == (("fmspc", (ONES * 6,)),)
    assert appraise(hidden, changed, NOW).accepted


@pytest.mark.parametrize(
    ("code", "examined"),
    [
        ("sgx-xfrm", lambda: on_sgx(body={"xfrm": 0x7 | 1 << 40})),
        ("sgx-miscselect", lambda: on_sgx(body={"misc_select": 1 << 31})),
        ("sgx-cet-attributes", lambda: on_sgx(body={"cet_attributes": 0x80})),
        ("tdx-xfam", lambda: on_tdx({"xfam": 0x3 | 1 << 40})),
    ],
    ids=["xfrm", "miscselect", "cet", "xfam"],
)
def test_bits_that_nothing_here_knows_pass_with_a_warning(code: str, examined: Callable[[], Examined]) -> None:
    found = examined()(None)
    changes = least_changes(found)
    assert changes is not None
    assert found.policy is not None
    assert {change.code for change in changes.changes if change.dangerous} == {code}
    after = examined()(with_all(found.policy, changes.changes).policy)
    assert after.accepted
    assert code in {str(each.code) for each in after.warnings}
