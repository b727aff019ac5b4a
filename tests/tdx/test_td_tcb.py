"""The TCB of trust domains: matched, merged and refused as Intel says; and the documents that it is held against."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import evidence
from attestation.errors import EvidenceCode
from attestation.intel import tcb
from attestation.intel.errors import TdxCode
from attestation.intel.levels import PLATFORM_STATUSES, TcbStatus, merge, with_relaunch
from attestation.intel.td_abi import TdReport
from attestation.sim.tdx import MODULE_SVN, MODULE_VERSION, TEE_TCB_SVN
from tests.attestation.kit import outcome, refused
from tests.tdx import kit
from tests.tdx.kit import NOW

PCK = kit.platform().pki.extension
OWN, PCE = list(PCK.components), PCK.pce_svn
DATES = {"issueDate": "2025-10-01T00:00:00Z", "nextUpdate": "2025-10-31T00:00:00Z"}


def document(**changes: Any) -> bytes:
    value = dict(kit.platform().publication().tcb_info) | DATES | changes
    return json.dumps({name: item for name, item in value.items() if item is not None}).encode("utf-8")


def info(**changes: Any) -> tcb.TcbInfo:
    return tcb.parse_tcb_info(document(**changes))


def svns(*numbers: int) -> list[int]:
    return [*numbers, *[0] * (16 - len(numbers))]


def level(
    status: str, tdx: list[int], *, sgx: list[int] | None = None, pcesvn: int = PCE, **more: Any
) -> dict[str, Any]:
    components = {"sgxtcbcomponents": OWN if sgx is None else sgx, "tdxtcbcomponents": tdx}
    return {
        "tcb": {name: [{"svn": svn} for svn in values] for name, values in components.items()} | {"pcesvn": pcesvn},
        "tcbDate": "2024-01-01T00:00:00Z",
        "tcbStatus": status,
        **more,
    }


def identity(version: int, *levels: dict[str, Any], **changes: Any) -> dict[str, Any]:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    return {"id": f"TDX_{version:02X}", **module, "tcbLevels": list(levels), **changes}


def module_level(isvsvn: int, status: str, *advisories: str, date: str = "2024-06-01T00:00:00Z") -> dict[str, Any]:
    return {"tcb": {"isvsvn": isvsvn}, "tcbDate": date, "tcbStatus": status, "advisoryIDs": list(advisories)}


def report(launch: list[int], current: list[int] | None = None, **changes: Any) -> TdReport:
    fields: dict[str, Any] = {"tee_tcb_svn": bytes(launch)}
    if current is not None:
        fields |= {"tee_tcb_svn2": bytes(current), "mr_service_td": bytes(48)}
    return dataclasses.replace(kit.report(), **(fields | changes))


QE = kit.parsed().qe_report


def stand(td: TdReport, qe_status: str = "UpToDate", **tcb_info: Any) -> tcb.TcbVerdict:
    """How a TD's platform stands by TCB info with these fields."""
    body = kit.platform(qe_status=qe_status).collateral(NOW).qe_identity
    return tcb.td_verdict(info(**tcb_info), tcb.parse_qe_identity(body), PCK, QE, td)


# ---------------------------------------------------------------------------------------- platform's components


@pytest.mark.parametrize("index", range(16))
def test_every_tdx_component_counts_for_a_module_without_a_major_version(index: int) -> None:
    found = svns(4, 0, *[3] * 14)
    higher = [svn + (at == index) for at, svn in enumerate(found)]
    levels = [level("UpToDate", higher), level("OutOfDate", found)]
    if index == 1:  # a major version of the module, which is rated elsewhere
        levels = [level("UpToDate", found)]
    expected = "UpToDate" if index == 1 else "OutOfDate"
    assert stand(report(found), tcbLevels=levels).status == expected


@pytest.mark.parametrize("index", range(2, 16))
def test_every_later_component_counts_for_a_module_with_a_major_version(index: int) -> None:
    found = svns(MODULE_SVN, MODULE_VERSION, *[3] * 14)
    higher = [svn + (at == index) for at, svn in enumerate(found)]
    levels = [level("UpToDate", higher), level("OutOfDate", found)]
    assert stand(report(found), tcbLevels=levels).status == "OutOfDate"


def test_the_first_two_components_are_the_modules_where_it_has_a_major_version() -> None:
    found = svns(MODULE_SVN, MODULE_VERSION, 2)
    assert stand(report(found), tcbLevels=[level("UpToDate", svns(255, 255, 2))]).status == "UpToDate"


@pytest.mark.parametrize("index", [index for index in range(16) if OWN[index] < 255])
def test_every_sgx_component_counts_too(index: int) -> None:
    higher = [svn + (at == index) for at, svn in enumerate(OWN)]
    levels = [level("UpToDate", svns(), sgx=higher), level("OutOfDate", svns())]
    assert stand(report(list(TEE_TCB_SVN)), tcbLevels=levels).status == "OutOfDate"
    levels = [level("UpToDate", svns(), pcesvn=PCE + 1), level("OutOfDate", svns())]
    assert stand(report(list(TEE_TCB_SVN)), tcbLevels=levels).status == "OutOfDate"


def test_below_every_level_the_refusal_says_what_is_lacking() -> None:
    levels = [
        level("UpToDate", svns(0, 0, 9, 9), sgx=[svn + 1 for svn in OWN[:3]] + OWN[3:]),
        level("OutOfDate", svns(0, 0, 9)),
    ]
    with refused(EvidenceCode.TCB_NO_MATCH) as caught:
        stand(report(svns(MODULE_SVN, MODULE_VERSION, 2)), tcbLevels=levels)
    shown = caught.value.to_dict()
    assert (shown["expected"], shown["found"]) == (
        "for the nearest level: tdxtcbcomp03svn at least 9",
        "tdxtcbcomp03svn=2",
    )
    versions = shown["security_versions"]
    assert list(versions.values()) == [*OWN, PCE, *svns(MODULE_SVN, MODULE_VERSION, 2)], "also what its module rates"
    with refused(EvidenceCode.TCB_NO_MATCH):
        stand(report(list(TEE_TCB_SVN)), tcbLevels=[])


def test_a_platform_of_another_family_or_provisioning_enclave_is_refused() -> None:
    for changes, code in (
        ({"fmspc": "00906ED50000"}, EvidenceCode.TCB_INFO_FMSPC),
        ({"pceId": "0001"}, EvidenceCode.TCB_INFO_PCE),
    ):
        with refused(code):
            stand(report(list(TEE_TCB_SVN)), **changes)


# ------------------------------------------------------------------------------------------------- TDX module


def test_the_modules_level_is_found_by_its_version_and_rated_by_its_svn() -> None:
    modules = [
        identity(3, module_level(6, "UpToDate"), module_level(4, "OutOfDate", "SA-3")),
        identity(0x1A, module_level(2, "UpToDate")),
    ]
    levels = [level("UpToDate", svns())]
    for launch, status, advisories in (
        (svns(6, 3), "UpToDate", ()),
        (svns(5, 3), "OutOfDate", ("SA-3",)),
        (svns(4, 3), "OutOfDate", ("SA-3",)),
        (svns(2, 0x1A), "UpToDate", ()),
        (svns(0, 0), "UpToDate", ()),
    ):
        found = stand(report(launch), tcbLevels=levels, tdxModuleIdentities=modules)
        assert (found.status, found.advisories) == (status, advisories)
        assert (found.module is None) is (launch[1] == 0)
    for launch, code in (
        (svns(3, 3), TdxCode.MODULE_NO_MATCH),
        (svns(9, 4), TdxCode.MODULE_UNKNOWN),
        (svns(9, 26 + 1), TdxCode.MODULE_UNKNOWN),
    ):
        with refused(code):
            stand(report(launch), tcbLevels=levels, tdxModuleIdentities=modules)


def test_a_module_with_a_version_is_unknown_where_tcb_info_has_no_identities() -> None:
    with refused(TdxCode.MODULE_UNKNOWN) as caught:
        stand(report(list(TEE_TCB_SVN)), tdxModuleIdentities=None)
    assert caught.value.found == "TDX_03"
    assert stand(report(svns(9, 0, 2)), tdxModuleIdentities=None).module is None


def test_an_id_of_a_module_is_read_in_either_case() -> None:
    modules = [identity(0x0A, module_level(1, "UpToDate")) | {"id": "TDX_0a"}]
    levels = [level("UpToDate", svns())]
    assert stand(report(svns(1, 10)), tcbLevels=levels, tdxModuleIdentities=modules).status == "UpToDate"


def test_a_revoked_module_is_refused() -> None:
    modules = [identity(3, module_level(1, "Revoked"))]
    with refused(EvidenceCode.TCB_REVOKED):
        stand(report(list(TEE_TCB_SVN)), tdxModuleIdentities=modules)


@pytest.mark.parametrize("version", [0, 3])
def test_signer_and_attributes_of_the_module_are_its_identitys(version: int) -> None:
    """Version 0 is held against `tdxModule`, a later one against its own identity."""
    fine = {"tcbLevels": [level("UpToDate", svns())], "tdxModuleIdentities": [identity(3, module_level(1, "UpToDate"))]}
    launch = svns(MODULE_SVN, version)
    assert stand(report(launch), **fine).status == "UpToDate"
    with refused(TdxCode.MODULE_SIGNER):
        stand(report(launch, mr_signer_seam=b"\1" + bytes(47)), **fine)
    for bit in (1, 1 << 63):
        with refused(TdxCode.MODULE_ATTRIBUTES):
            stand(report(launch, seam_attributes=bit), **fine)


def test_only_the_attributes_under_the_mask_are_compared() -> None:
    modules = [identity(3, module_level(1, "UpToDate"), attributesMask="FF" * 7 + "7F")]
    td = report(list(TEE_TCB_SVN), seam_attributes=1 << 63)
    assert stand(td, tdxModuleIdentities=modules).status == "UpToDate"
    modules[0]["attributes"] = "0100000000000000"
    with refused(TdxCode.MODULE_ATTRIBUTES):
        stand(td, tdxModuleIdentities=modules)


# --------------------------------------------------------------------------------------------------- merging

OLD = "OutOfDate"
MERGED = {
    "UpToDate": "OutOfDate",
    "SWHardeningNeeded": "OutOfDate",
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
    "OutOfDate": "OutOfDate",
    "OutOfDateConfigurationNeeded": "OutOfDateConfigurationNeeded",
}


@pytest.mark.parametrize("status", MERGED)
def test_an_old_module_or_quoting_enclave_lowers_the_status(status: str) -> None:
    levels = [level(status, svns())]
    modules = [identity(3, module_level(1, OLD))]
    td = report(list(TEE_TCB_SVN))
    assert stand(td, tcbLevels=levels).status == status
    assert stand(td, tcbLevels=levels, tdxModuleIdentities=modules).status == MERGED[status]
    assert stand(td, OLD, tcbLevels=levels).status == MERGED[status]
    assert stand(td, OLD, tcbLevels=levels, tdxModuleIdentities=modules).status == MERGED[status]


def test_advisories_of_all_levels_are_joined_and_the_oldest_date_counts() -> None:
    modules = [identity(3, module_level(1, "UpToDate", "SA-2", "SA-1", date="2023-02-03T04:05:06Z"))]
    levels = [level("UpToDate", svns(), advisoryIDs=["SA-1", "SA-9"])]
    found = stand(report(list(TEE_TCB_SVN)), tcbLevels=levels, tdxModuleIdentities=modules)
    assert found.advisories == ("SA-1", "SA-9", "SA-2")
    assert found.date == 1_675_397_106


def test_the_lower_evaluation_number_counts() -> None:
    assert stand(report(list(TEE_TCB_SVN)), tcbEvaluationDataNumber=3).evaluation_number == 3
    assert stand(report(list(TEE_TCB_SVN)), tcbEvaluationDataNumber=99).evaluation_number == 17


# --------------------------------------------------------------------------------------------------- relaunch

RELAUNCH, RELAUNCH_AND_CONFIGURE = "TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"
FINE = ("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded")


def test_relaunch_is_advised_as_intels_table_has_it() -> None:
    """TDRelaunchCheck.cpp, `checkForRelaunch`."""
    for now in FINE:
        configure = "Configuration" in now
        assert with_relaunch(TcbStatus(OLD), TcbStatus(now)) == (RELAUNCH_AND_CONFIGURE if configure else RELAUNCH)
        old = TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
        assert with_relaunch(old, TcbStatus(now)) == RELAUNCH_AND_CONFIGURE
    for launch, now in itertools.product(FINE, FINE):
        assert with_relaunch(TcbStatus(launch), TcbStatus(now)) == launch
    for launch, now in itertools.product((OLD, "OutOfDateConfigurationNeeded"), repeat=2):
        assert with_relaunch(TcbStatus(launch), TcbStatus(now)) == launch


def test_a_platform_that_went_back_to_an_old_tcb_counts_as_old() -> None:
    """Stricter than Intel's library, which keeps the launch's status: an old module rules over the TD now."""
    for launch in FINE:
        assert with_relaunch(TcbStatus(launch), TcbStatus(OLD)) == OLD


MODULES = [
    identity(1, module_level(4, "UpToDate"), module_level(2, OLD, "SA-2")),
    identity(3, module_level(3, "UpToDate")),
]
ANY = [level("UpToDate", svns())]


@pytest.mark.parametrize(
    ("launch", "current", "status", "advisories"),
    [
        (svns(4, 1), svns(4, 1), "UpToDate", ()),
        (svns(2, 1), svns(4, 1), RELAUNCH, ("SA-2",)),
        (svns(2, 1), svns(3, 3), RELAUNCH, ("SA-2",)),
        (svns(2, 1), svns(3, 1), OLD, ("SA-2",)),
        (svns(4, 1), svns(3, 1), OLD, ("SA-2",)),
        (svns(2, 1), svns(2, 0), RELAUNCH, ("SA-2",)),
    ],
)
def test_launch_and_present_are_rated_alike(
    launch: list[int], current: list[int], status: str, advisories: tuple[str, ...]
) -> None:
    found = stand(report(launch, current), tcbLevels=ANY, tdxModuleIdentities=MODULES)
    assert (found.status, found.advisories) == (status, advisories)
    assert found.current is not None


@pytest.mark.parametrize(
    ("current", "code"),
    [
        (svns(4, 2), TdxCode.MODULE_UNKNOWN),
        (svns(1, 1), TdxCode.MODULE_NO_MATCH),
        (svns(2, 3), TdxCode.MODULE_NO_MATCH),
    ],
)
def test_what_runs_now_must_reach_a_level_too(current: list[int], code: TdxCode) -> None:
    with refused(code):
        stand(report(svns(4, 1), current), tcbLevels=ANY, tdxModuleIdentities=MODULES)


def test_the_components_of_now_must_reach_a_level_too() -> None:
    td = report(svns(4, 1, 5), svns(4, 1, 4))
    with refused(EvidenceCode.TCB_NO_MATCH):
        stand(td, tcbLevels=[level("UpToDate", svns(0, 0, 5))], tdxModuleIdentities=MODULES)


def test_a_revoked_present_is_refused_though_the_launch_was_fine() -> None:
    """Stricter than Intel's library, which looks at the launch alone."""
    modules = [identity(1, module_level(4, "UpToDate"), module_level(2, "Revoked"))]
    with refused(EvidenceCode.TCB_REVOKED):
        stand(report(svns(4, 1), svns(2, 1)), tcbLevels=ANY, tdxModuleIdentities=modules)


def test_no_relaunch_helps_while_the_quoting_enclave_is_old() -> None:
    td = report(svns(2, 1), svns(4, 1))
    assert stand(td, OLD, tcbLevels=ANY, tdxModuleIdentities=MODULES).status == OLD


@pytest.mark.parametrize("status", list(TcbStatus))
def test_components_that_are_up_to_date_change_nothing(status: TcbStatus) -> None:
    assert merge(status, TcbStatus.UP_TO_DATE, TcbStatus.UP_TO_DATE) is status
    assert merge(status) is status


# -------------------------------------------------------------------------------------------------- documents

GOOD_MODULE = identity(3, module_level(1, "UpToDate"))

BAD_MODULES: list[Any] = [
    "none",
    [3],
    [{}],
    [GOOD_MODULE, GOOD_MODULE],
    [GOOD_MODULE, GOOD_MODULE | {"id": "TDX_03"}],
    [GOOD_MODULE | {"id": "TDX_3"}],
    [GOOD_MODULE | {"id": "SGX_03"}],
    [GOOD_MODULE | {"id": "TDX_0G"}],
    [GOOD_MODULE | {"id": 3}],
    [GOOD_MODULE | {"mrsigner": "00" * 32}],
    [GOOD_MODULE | {"attributes": "00"}],
    [GOOD_MODULE | {"tcbLevels": [module_level(1, "SWHardeningNeeded")]}],
    [GOOD_MODULE | {"tcbLevels": [module_level(65536, "UpToDate")]}],
    [GOOD_MODULE | {"tcbLevels": [{"tcb": {}, "tcbDate": "2024-01-01T00:00:00Z", "tcbStatus": "UpToDate"}]}],
    [identity(number % 256, module_level(1, "UpToDate")) for number in range(257)],
]


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in kit.platform().publication().tcb_info if name != "tdxModuleIdentities"),
        {"tcbType": 1},
        {"tdxModule": 3},
        {"tdxModule": {}},
        {"tdxModule": {"mrsigner": "00" * 48, "attributes": "00" * 8}},
        *({"tcbLevels": [level(status, svns())]} for status in sorted({*TcbStatus} - PLATFORM_STATUSES)),
        {"tcbLevels": [level("UpToDate", svns()[:15])]},
        {"tcbLevels": [level("UpToDate", [256, *svns()[1:]])]},
        {"tcbLevels": [{**level("UpToDate", svns()), "tcb": {"pcesvn": 1}}]},
        *({"tdxModuleIdentities": modules} for modules in BAD_MODULES),
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_malformed_tcb_info_is_refused(changes: dict[str, Any]) -> None:
    with refused(EvidenceCode.TCB_INFO_MALFORMED):
        info(**changes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 64) | st.text(max_size=8) | st.just("TDX_01") | st.just("00" * 48),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_change_of_a_signed_foundis_read_or_refused(data: st.DataObject) -> None:
    """Whoever signs can still make mistakes: no other exception comes out."""
    found = json.loads(data.draw(st.sampled_from([document(), kit.platform().collateral(NOW).qe_identity])))
    node: Any = found
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = data.draw(JSON)
    body = json.dumps(found).encode("utf-8")
    for parse in (tcb.parse_tcb_info, tcb.parse_qe_identity):
        assert outcome(lambda: parse(body)) is not None  # noqa: B023 - called at once


def test_tcb_info_of_sgx_has_no_modules() -> None:
    """Fields of TDX in it are unknown fields, which its signature covers and nothing reads."""
    sgx = json.loads(document(id="SGX", tdxModule=3, tdxModuleIdentities=3))
    parsed = tcb.parse_tcb_info(json.dumps(sgx).encode("utf-8"))
    assert (parsed.tee, parsed.module, parsed.modules) == ("sgx", None, ())


@pytest.mark.parametrize("changes", [{"id": "SEV"}, {"id": "TD_QE"}, {"id": ["TDX"]}, {"version": 2}, {"version": 4}])
def test_tcb_info_of_another_kind_is_unsupported(changes: dict[str, Any]) -> None:
    with refused(EvidenceCode.TCB_INFO_UNSUPPORTED):
        info(**changes)


@pytest.mark.parametrize(("name", "version"), [("TD_QE", 1), ("TD_QE", 3), ("TDQE", 2)])
def test_an_identity_of_another_kind_is_unsupported(name: str, version: int) -> None:
    body = json.loads(kit.platform().collateral(NOW).qe_identity) | {"id": name, "version": version}
    with refused(EvidenceCode.QE_IDENTITY_UNSUPPORTED):
        tcb.parse_qe_identity(json.dumps(body).encode("utf-8"))


def test_collateral_that_mixes_tees_is_refused() -> None:
    """Both documents are authentic: only together they are wrong."""
    from tests.attestation import kit as sgx_kit

    ours, theirs = kit.platform().collateral(NOW), sgx_kit.platform().collateral(NOW)
    mixed = dataclasses.replace(
        ours, qe_identity=theirs.qe_identity, qe_identity_signature=theirs.qe_identity_signature
    )
    with refused(EvidenceCode.COLLATERAL_TEE):
        evidence.prepare(mixed, kit.sim_roots(), NOW)
    with refused(EvidenceCode.COLLATERAL_TEE):
        kit.verify_sim(collateral=theirs)
