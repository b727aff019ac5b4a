"""Every expectation of a policy for trust domains has a finding of its own, and all that fail are reported together."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.appraise import appraise
from attestation.errors import FindingCode, PolicyCode
from attestation.findings import Finding, Phase, Severity
from attestation.intel.errors import TdxFinding
from attestation.intel.levels import TcbStatus
from attestation.intel.verified import TdxVerified
from attestation.policy import TdxPolicy, load_policy
from manifests.errors import ErrorCode
from tests.attestation.kit import refused
from tests.policy.kit import entry, named
from tests.tdx import kit
from tests.tdx.kit import MRTD, NOW, REPORT_DATA, policy, reporting

OTHER = b"\x08" * 48
SEPT_VE_DISABLE = 1 << 28
SGX_ONLY = frozenset(code for code in FindingCode if code.startswith("sgx-"))


def findings(verified: TdxVerified, **changes: dict[str, Any]) -> tuple[Finding, ...]:
    return appraise(verified, policy(**changes), NOW, report_data=REPORT_DATA).findings


def failing(verified: TdxVerified, **changes: dict[str, Any]) -> list[ErrorCode]:
    return [finding.code for finding in findings(verified, **changes) if not finding.passed]


def forged(**changes: Any) -> TdxVerified:
    """A verified TD whose report has what verification would not let through."""
    good = kit.verify_sim()
    body = dataclasses.replace(good.quote.body, **changes)
    return dataclasses.replace(good, quote=dataclasses.replace(good.quote, body=body))


@pytest.mark.parametrize("version", [4, 5])
def test_good_evidence_is_accepted(version: int) -> None:
    assert failing(kit.verify_sim(version=version)) == []


def test_every_check_reports_once_whatever_its_outcome() -> None:
    worst = forged(td_attributes=(1 << 64) - 1, xfam=0, mr_td=OTHER, seam_attributes=1, report_data=bytes(64))
    for verified in (kit.verify_sim(), worst):
        codes = [finding.code for finding in findings(verified)]
        assert sorted(codes) == sorted({*FindingCode, *TdxFinding} - SGX_ONLY)


CASES: list[tuple[TdxFinding, dict[str, Any], dict[str, Any]]] = [
    # code, what the report has that fails by default, the table's fields that name it (empty: nothing can)
    (TdxFinding.MRTD, {"mr_td": OTHER}, {"mrtd": [MRTD.hex(), OTHER.hex()]}),
    (TdxFinding.RTMR1, {"rtmr1": OTHER}, {"rtmr1": [OTHER.hex()]}),
    (TdxFinding.RTMR2, {"rtmr2": OTHER}, {"rtmr2": [OTHER.hex()]}),
    (TdxFinding.MRCONFIGID, {"mr_config_id": OTHER}, {"mrconfigid": [OTHER.hex()]}),
    (TdxFinding.MROWNER, {"mr_owner": OTHER}, {"mrowner": [OTHER.hex()]}),
    (TdxFinding.MROWNERCONFIG, {"mr_owner_config": OTHER}, {"mrownerconfig": [OTHER.hex()]}),
    (TdxFinding.MRSERVICETD, {"version": 5, "mr_service_td": OTHER}, {"mrservicetd": [OTHER.hex()]}),
    (TdxFinding.DEBUG, {"td_attributes": SEPT_VE_DISABLE | 1}, {"debug": True}),
    (TdxFinding.DEBUG, {"td_attributes": SEPT_VE_DISABLE | 1 << 4}, {"debug": True}),
    (TdxFinding.DEBUG, {"td_attributes": SEPT_VE_DISABLE | 1 << 5}, {"debug": True}),
    (TdxFinding.DEBUG, {"td_attributes": SEPT_VE_DISABLE | 1 << 6}, {"debug": True}),
    (TdxFinding.SEPT_VE, {"td_attributes": 0}, {"sept_ve": True}),
    (TdxFinding.MIGRATABLE, {"td_attributes": SEPT_VE_DISABLE | 1 << 29}, {"migratable": True}),
    *(
        (TdxFinding.ATTRIBUTES, {"td_attributes": SEPT_VE_DISABLE | 1 << bit}, {"attributes_allowed": [name]})
        for bit, name in ((16, "ICSSD"), (27, "LASS"), (30, "PKS"), (31, "KL"), (62, "TPA"), (63, "PERFMON"))
    ),
    *((TdxFinding.ATTRIBUTES, {"td_attributes": SEPT_VE_DISABLE | 1 << bit}, {}) for bit in (1, 7, 8, 26, 32, 61)),
    (TdxFinding.XFAM, {"xfam": 0x1}, {}),
    (TdxFinding.XFAM, {"xfam": 0x2}, {}),
    (TdxFinding.XFAM, {"xfam": 0x3 | 1 << 10}, {"xfam_allowed": 0x403}),
    (TdxFinding.XFAM, {"xfam": 0x3 | 1 << 63}, {"xfam_allowed": 1 << 63 | 3}),
]


@pytest.mark.parametrize(("code", "report", "named"), CASES, ids=[f"{case[0]}-{n}" for n, case in enumerate(CASES)])
def test_each_departure_fails_its_own_check_unless_the_policy_names_it(
    code: TdxFinding, report: dict[str, Any], named: dict[str, Any]
) -> None:
    verified = reporting(**report)
    assert failing(verified) == [code]
    if named:
        assert failing(verified, tdx=named) == []


@pytest.mark.parametrize(
    ("code", "report"),
    [
        (TdxFinding.MRSIGNERSEAM, {"mr_signer_seam": b"\1" + bytes(47)}),
        (TdxFinding.SEAM_ATTRIBUTES, {"seam_attributes": 1 << 63}),
    ],
)
def test_a_module_that_is_not_intels_is_refused_by_every_policy(code: TdxFinding, report: dict[str, Any]) -> None:
    """Also where the TCB info would have such a module."""
    assert failing(forged(**report)) == [code]


@pytest.mark.parametrize(
    ("code", "demand"),
    [
        (TdxFinding.RTMR0, {"rtmr0": [OTHER.hex()]}),
        (TdxFinding.RTMR3, {"rtmr3": [OTHER.hex()]}),
        (TdxFinding.MRSEAM, {"mrseam": [OTHER.hex()]}),
        (TdxFinding.MRSERVICETD, {"mrservicetd": [OTHER.hex()]}),
        (TdxFinding.XFAM, {"xfam_allowed": 0x3}),
        (FindingCode.FMSPC, {"fmspc": ["00906ed50000"]}),
        (FindingCode.PPID, {"ppid": ["00" * 16]}),
        (FindingCode.TCB_COMPONENTS, {"tcb_components_min": {"tdxtcbcomp01svn": 5}}),
        (FindingCode.TCB_COMPONENTS, {"tcb_components_min": {"tdxtcbcomp02svn": 3, "tdxtcbcomp03svn": 3}}),
        (FindingCode.TCB_COMPONENTS, {"tcb_components_min": {"sgxtcbcomp01svn": 8}}),
        (FindingCode.TCB_COMPONENTS, {"tcb_components_min": {"pcesvn": 14}}),
        (FindingCode.QE_ISV_SVN, {"qe_isv_svn_min": 9}),
    ],
    ids=str,
)
def test_each_demand_of_a_policy_fails_its_own_check(code: ErrorCode, demand: dict[str, Any]) -> None:
    assert failing(kit.verify_sim(), tdx=demand) == [code]


def test_demands_that_are_met_are_accepted() -> None:
    good = kit.verify_sim()
    floors = {"tdxtcbcomp01svn": 4, "tdxtcbcomp02svn": 3, "sgxtcbcomp01svn": 7, "pcesvn": 13}
    demands = {
        "rtmr0": ["00" * 48],
        "rtmr3": ["00" * 48, OTHER.hex()],
        "mrseam": [good.quote.body.mr_seam.hex()],
        "fmspc": ["53494d000000"],
        "ppid": [good.pck.ppid.hex()],
        "tcb_components_min": floors,
        "qe_isv_svn_min": 8,
    }
    assert failing(good, tdx=demands) == []


def test_floors_hold_for_enclaves_too() -> None:
    from tests.attestation import kit as sgx

    verified = sgx.verify_sim()
    for table, passed in (
        ({"tcb_components_min": {"sgxtcbcomp01svn": 7, "pcesvn": 13}, "qe_isv_svn_min": 8}, True),
        ({"tcb_components_min": {"sgxtcbcomp05svn": 255, "sgxtcbcomp16svn": 1}}, False),
        ({"qe_isv_svn_min": 9}, False),
    ):
        assert appraise(verified, sgx.policy(sgx=table), NOW).accepted is passed
    with refused(PolicyCode.POLICY_VACUOUS):
        sgx.policy(sgx={"tcb_components_min": {}})


def test_a_debugged_td_is_a_warning_where_the_policy_names_it() -> None:
    verified = reporting(td_attributes=SEPT_VE_DISABLE | 0x21)
    (finding,) = (item for item in findings(verified, tdx={"debug": True}) if item.code is TdxFinding.DEBUG)
    assert (finding.passed, finding.severity) == (True, Severity.WARNING)
    assert finding.found == "DEBUG and PERF_PROF"


def test_what_the_platform_runs_is_of_the_platform_and_the_rest_of_the_td() -> None:
    phases = {finding.code: finding.phase for finding in findings(kit.verify_sim())}
    module = {TdxFinding.MRSEAM, TdxFinding.MRSIGNERSEAM, TdxFinding.SEAM_ATTRIBUTES}
    for code in TdxFinding:
        assert phases[code] is (Phase.PLATFORM if code in module else Phase.ENCLAVE)


def test_every_failed_check_says_what_to_do() -> None:
    worst = forged(td_attributes=(1 << 64) - 1 ^ SEPT_VE_DISABLE, xfam=0, mr_td=OTHER, seam_attributes=1)
    failed = [finding for finding in findings(worst) if not finding.passed]
    assert len(failed) >= 6
    assert all(finding.remedy and finding.expected and finding.found for finding in failed)


@pytest.mark.parametrize("status", [TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED])
def test_advice_to_relaunch_is_a_status_that_a_policy_can_name(status: TcbStatus) -> None:
    state = {"tcb_status": "ConfigurationNeeded"} if "Configuration" in status else {}
    verified = kit.in_state(5, relaunch=True, **state)
    assert verified.tcb_status == status
    assert failing(verified) == [FindingCode.TCB_STATUS]
    assert failing(verified, evidence={"tcb_status": [str(status)]}) == []


def test_the_evaluation_number_has_a_floor() -> None:
    assert failing(kit.verify_sim(), evidence={"tcb_evaluation_min": 17}) == []
    assert failing(kit.verify_sim(), evidence={"tcb_evaluation_min": 18}) == [FindingCode.TCB_EVALUATION]


# ------------------------------------------------------------------------------------------------------ policy


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ({"mrtd": None}, PolicyCode.POLICY_VACUOUS),
        ({"rtmr1": None, "rtmr2": None}, PolicyCode.POLICY_VACUOUS),
        ({"rtmr1": None, "rtmr2": None, "rtmr0": ["00" * 48]}, PolicyCode.POLICY_VACUOUS),
        ({"rtmr1": None, "rtmr2": None, "rtmr3": ["00" * 48]}, PolicyCode.POLICY_VACUOUS),
        ({"mrtd": []}, PolicyCode.POLICY_VACUOUS),
        ({"tcb_components_min": {}}, PolicyCode.POLICY_VACUOUS),
        ({"mrtd": ["00" * 32]}, PolicyCode.POLICY_MALFORMED),
        ({"attributes_allowed": ["DEBUG"]}, PolicyCode.POLICY_MALFORMED),
        ({"attributes_allowed": ["SEPT_VE_DISABLE"]}, PolicyCode.POLICY_MALFORMED),
        ({"tcb_components_min": {"tdxtcbcomp17svn": 1}}, PolicyCode.POLICY_MALFORMED),
        ({"xfam_allowed": 1 << 64}, PolicyCode.POLICY_MALFORMED),
        ({"mrenclave": ["00" * 32]}, PolicyCode.POLICY_MALFORMED),
    ],
    ids=str,
)
def test_an_unusable_table_is_refused(table: dict[str, Any], code: PolicyCode) -> None:
    with refused(code):
        policy(tdx=table)


@pytest.mark.parametrize("name", ["rtmr1", "rtmr2"])
def test_one_register_of_the_system_is_enough_beside_mrtd(name: str) -> None:
    registers = {"rtmr1": None, "rtmr2": None} | {name: ["00" * 48]}
    assert failing(kit.verify_sim(), tdx=registers) == []


def test_beside_a_vtpm_any_register_is_enough() -> None:
    """There the vTPM's registers say what the firmware booted."""
    value = policy(tdx={"rtmr2": None}).to_dict()
    value["tdx"]["rtmr0"] = value["tdx"].pop("rtmr1")
    with refused(PolicyCode.POLICY_VACUOUS):
        load_policy(value)
    assert load_policy(value | {"azure-tdx": {}}).table("tdx")


def test_a_policy_survives_its_own_form() -> None:
    full = policy(tdx={"debug": True, "tcb_components_min": {"pcesvn": 300}, "attributes_allowed": ["PKS", "KL"]})
    assert load_policy(full.to_dict()) == full
    table = full.table("tdx")
    assert isinstance(table, TdxPolicy)
    assert table.attributes_mask == 0b11 << 30
    assert table.measurements == (MRTD,)


def test_a_policy_for_enclaves_says_nothing_of_trust_domains() -> None:
    from tests.attestation import kit as sgx

    appraisal = appraise(kit.verify_sim(), sgx.policy(), NOW)
    assert FindingCode.TEE in {finding.code for finding in appraisal.failed}


LOWER = {"tdxtcbcomp01svn": 4}
STATUSES = ["UpToDate", "OutOfDate", "TDRelaunchAdvised"]


@pytest.mark.parametrize("field", ["tee_tcb_svn", "tee_tcb_svn2"])
def test_floors_and_lists_count_the_module_of_the_launch_and_that_of_now(field: str) -> None:
    svn: bytes = getattr(kit.report(5), field)
    verified = kit.reporting(5, **{field: bytes([3]) + svn[1:]})
    assert verified.tcb_components["tdxtcbcomp01svn"] == 3
    terms = {"tcb_status": STATUSES}
    floors = appraise(verified, kit.policy(evidence=terms, tdx={"tcb_components_min": LOWER}), NOW)
    assert [str(each.code) for each in floors.failed] == ["tcb-components"]
    listed = named(entry(tees=["tdx"], platforms=None, below=LOWER))
    assert [str(each.code) for each in appraise(verified, kit.policy(evidence=terms | listed), NOW).failed] == [
        "platform-broken"
    ]
    whole = appraise(kit.verify_sim(kit.sim_quote(5)), kit.policy(tdx={"tcb_components_min": LOWER}), NOW)
    assert whole.accepted
