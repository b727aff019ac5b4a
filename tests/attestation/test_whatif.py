"""Every what-if is a verdict that was reached, under a policy that loads; where none loads, it says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from attestation import genuine
from attestation.appraise import appraise
from attestation.changes import Change, widest, with_all
from attestation.drafts import draft
from attestation.errors import FindingCode
from attestation.explain import explanation
from attestation.findings import Finding, Phase, Severity
from attestation.loose import open_collateral
from attestation.policy import TEE_TABLES, Policy, load_policy
from attestation.policy.presets import DAY, PRESETS
from attestation.policy.schema import dangers
from attestation.report import Report, examine
from attestation.roots import Roots
from attestation.sim.azure import BOOTED
from attestation.verified import Verified
from attestation.whatif import least_changes, under_presets
from attestation.whatif_fields import FLAGS, proposed
from tests.attestation import kit as sgx
from tests.azure import kit as azure
from tests.nitro import kit as nitro
from tests.nvidia import kit as nvidia
from tests.policy.kit import entry, feed
from tests.shared import vectors
from tests.tdx import kit as tdx
from tests.tpm import kit as tpm

NOW, REPORT_DATA = sgx.NOW, sgx.REPORT_DATA


def held(report: Report) -> Policy:
    """Make the changes of a what-if anew, and return the policy that loads with them: it decides as was said."""
    changes = least_changes(report)
    assert changes is not None
    assert report.policy is not None
    assert report.verified is not None
    tried = with_all(report.policy, changes.changes)
    assert (tried.made, tried.excluded) == (changes.changes, ())
    again = load_policy(tried.policy.written(report.policy.preset))
    assert again == tried.policy
    failed = {str(each.code) for each in appraise(report.verified, again, report.now).failed}
    assert failed == set(changes.remaining)
    assert explanation(report).text()
    return again


def texts(report: Report) -> list[str]:
    held(report)
    changes = least_changes(report)
    assert changes is not None
    return [change.text for change in changes.changes]


# ------------------------------------------------------------------------------------------------ several parts


def on_azure(**tables: dict[str, Any]) -> Report:
    """A simulated VM of Azure on TDX, examined under its policy with fields replaced."""
    policy = azure.policy(**tables)
    return examine(azure.healthy(), now=NOW, collateral=azure.tdx().collateral(NOW), policy=policy)


AZURE: list[tuple[dict[str, Any], list[str]]] = [
    ({"tdx": {"fmspc": ["11" * 6]}}, ['[tdx] fmspc: add "53494d000000"']),
    ({"tdx": {"qe_isv_svn_min": 999}}, ["[tdx] qe_isv_svn_min = 8"]),
    ({"tdx": {"mrtd": ["11" * 48]}}, [f'[tdx] mrtd: add "{azure.MR_TD.hex()}"']),
    ({"tdx": {"xfam_allowed": 3}}, ["[tdx] xfam_allowed: add the bits of 0x602e7"]),
    ({"tpm": {"pcrs": {"sha256": {"pcr7": ["11" * 32]}}}}, [f'[tpm.pcrs.sha256] pcr7: add "{BOOTED[7].hex()}"']),
    ({"azure_tdx": {"vm_ids": ["X"]}}, [f'[azure-tdx] vm_ids: add "{azure.verify().claims.vm_id}"']),
    (
        {"evidence": {"platforms_denied": {"fmspc": ["11" * 6, "53494d000000"]}}},
        ['[evidence.platforms_denied] fmspc: remove "53494d000000"'],
    ),
]


@pytest.mark.parametrize(("tables", "expected"), AZURE, ids=str)
def test_each_part_of_azures_evidence_is_changed_in_the_table_that_decides(
    tables: dict[str, Any], expected: list[str]
) -> None:
    found = on_azure(**tables)
    assert not found.accepted
    assert texts(found) == expected


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"secure-boot": False}, "[azure-tdx] insecure_boot = true"),
        ({"console-enabled": True}, "[azure-tdx] console = true"),
    ],
)
def test_what_the_paravisor_says_is_permitted_in_its_own_table_and_is_dangerous(
    claims: dict[str, Any], text: str
) -> None:
    from attestation.sim.azure import CONFIGURATION

    data = azure.vm().evidence(REPORT_DATA, claims={"vm-configuration": {**CONFIGURATION, **claims}})
    found = examine(data, now=NOW, collateral=azure.tdx().collateral(NOW), policy=azure.policy())
    assert texts(found) == [text]
    changes = least_changes(found)
    assert changes is not None
    assert changes.changes[0].dangerous


SNP: list[dict[str, Any]] = [
    {"measurement": ["11" * 48]},
    {"chip_id": ["00" * 63 + "01"]},
    {"report_id": ["11" * 32]},
    {"host_data": ["11" * 32]},
    {"report_version_min": 5},
    {"guest_svn_min": 10**6},
    {"policy_allowed": ["CXL_ALLOW"]},
    {"platform_info_allowed": 0},
    {"dangerous_crl_absent": False},
    {"firmware_min": "99.0.0"},
]


@pytest.mark.parametrize("fields", SNP, ids=str)
def test_every_refusal_of_captured_evidence_of_azure_has_its_what_if(fields: dict[str, Any]) -> None:
    data = azure.captured("coco-evidence-v1.json")
    inner: Any = azure.parsed(data).inner
    pcr4 = azure.parsed(data).quote.pcrs.get("sha256", 4)
    assert pcr4 is not None
    snp = {
        "measurement": [inner.measurement.hex()],
        "reported_tcb_min": {"milan": {"snp": 0}},
        "dangerous_crl_absent": True,
        "policy_allowed": ["SMT"],
    }
    policy = load_policy(
        {
            "version": 1,
            "evidence": {"tcb_status": ["UpToDate"]},
            "azure-snp": {"console": True},
            "snp": snp | fields,
            "tpm": {"pcrs": {"sha256": {"pcr4": [pcr4.hex()]}}},
        }
    )
    collateral = open_collateral([vectors() / "snp/certs/milan_ask_ark_asvk.pem"], Roots.vendor())
    found = examine(data, now=1_748_736_000, collateral=collateral, policy=policy)
    assert found.genuine
    assert found.refused
    held(found)
    assert all(change.table in policy.tables for change in least_changes(found).changes)  # type: ignore[union-attr]


PARTS: dict[str, Callable[[], Verified]] = {
    "sgx": sgx.verify_sim,
    "tdx": tdx.verify_sim,
    "snp": lambda: azure.verify_captured(azure.captured("coco-evidence-v1.json")).inner,
    "nitro": lambda: nitro.verify_sim(nitro.simulated()),
    "tpm": tpm.verify,
    "nvidia": lambda: nvidia.verify_sim(nvidia.simulated(nvidia.Device(), nvidia.SWITCH)),
    "azure": azure.verify,
}


@pytest.mark.parametrize("found", ["7", "0x7", "11" * 48, "set"])
def test_no_check_asks_for_a_field_that_its_table_lacks(found: str) -> None:
    codes = {finding.code for make in PARTS.values() for part in [make()] for finding in genuine.judge(part, NOW)}
    whole = [make() for make in PARTS.values()]
    for code in codes - {FindingCode.TCB_EVALUATION, FindingCode.COLLATERAL_AGE, FindingCode.FEED_AGE}:
        finding = Finding(code, Phase.ENCLAVE, passed=False, severity=Severity.REFUSAL, expected="", found=found)
        for change in proposed((finding,), sgx.policy(), *whole):
            kind = TEE_TABLES.get(change.table)
            assert kind is None or change.field in {item.name for item in dataclasses.fields(kind)}


def test_of_several_ages_the_highest_is_asked_for_and_of_several_floors_the_lowest() -> None:
    ages = [Change("collateral-age", "evidence", "max_collateral_age", age, str(age)) for age in (5, 9, 7)]
    floors = [Change("tcb-evaluation", "evidence", "tcb_evaluation_min", least, str(least)) for least in (5, 3, 4)]
    assert [change.value for change in widest([*ages, *floors, *ages])] == [9, 3]


def test_parts_of_several_ages_are_accepted_at_once() -> None:
    found = on_azure(evidence={"max_collateral_age": 1})
    assert held(found).evidence.max_collateral_age == max(NOW - part.issued for part in azure.verify().parts)


# ------------------------------------------------------------------------------------------------ presets


def as_hardware(found: Report) -> Report:
    from tests.attestation.test_explain import hardware

    return hardware(found)


def examined(value: dict[str, Any] | None) -> Report:
    from tests.attestation.test_report import openly

    policy = None if value is None else load_policy({"version": 1, "evidence": {}} | value)
    return as_hardware(dataclasses.replace(openly(), policy=policy))


CODE = {"mrenclave": [sgx.MRENCLAVE.hex()]}
UP_TO_DATE = {"tcb_status": ["UpToDate"]}


@pytest.mark.parametrize("name", ["strict", "production"])
@pytest.mark.parametrize(
    ("value", "excluded"),
    [
        ({"evidence": UP_TO_DATE, "sgx": CODE | {"debug": True}}, "[sgx] debug"),
        ({"evidence": UP_TO_DATE, "sgx": CODE | {"provision_key": True}}, "[sgx] provision_key"),
        ({"evidence": {"tcb_status": ["UpToDate", "OutOfDate"]}, "sgx": CODE}, '[evidence] tcb_status "OutOfDate"'),
        (
            {"evidence": UP_TO_DATE | {"max_collateral_age": 31 * DAY}, "sgx": CODE},
            "[evidence] max_collateral_age above {age}",
        ),
    ],
    ids=str,
)
def test_a_policy_that_says_what_a_preset_excludes_is_told_not_to_load(
    name: str, value: dict[str, Any], excluded: str
) -> None:
    found = examined(value)
    (preset,) = (each for each in under_presets(found) if each.name == name)
    age = PRESETS[name].evidence["max_collateral_age"]
    assert preset.excluded == f'preset = "{name}" excludes {excluded.format(age=age)}'
    assert not preset.to_dict()["passes"]
    assert f'Under preset = "{name}" this policy would not load: {preset.excluded}.' in words(found)
    with pytest.raises(Exception, match="policy-contradiction"):
        load_policy({"version": 1, "preset": name} | value)


def words(found: Report) -> str:
    return " ".join(explanation(found).text().split())


@pytest.mark.parametrize("own", [None, "strict", "production"])
def test_what_its_own_preset_filled_in_gives_way_and_what_the_policy_says_stays(own: str | None) -> None:
    given = {"preset": own, "sgx": CODE} if own else {"evidence": UP_TO_DATE, "sgx": CODE}
    found = examined(given)
    stale = dataclasses.replace(found, now=found.verified.issued + 8 * DAY)  # type: ignore[union-attr]
    refused = {each.name: "collateral-age" in each.refused for each in under_presets(stale)}
    assert refused == {"strict": True, "production": False}
    narrow = examined(given | {"evidence": given.get("evidence", {}) | {"max_collateral_age": 60}})  # type: ignore[operator]
    assert all("collateral-age" in each.refused for each in under_presets(narrow))


def test_a_list_of_broken_hardware_is_dated_by_the_preset() -> None:
    from tests.policy.kit import WATCHER

    old = {"broken_hardware": feed(entry(tees=["tdx"]), issued="2025-09-12T00:00:00Z")}
    named = UP_TO_DATE | old | {"broken_hardware_key": WATCHER.public.hex()}
    strict, production = under_presets(examined({"evidence": named, "sgx": CODE}))
    assert "hardware-feed-age" in strict.refused
    assert "hardware-feed-age" not in production.refused


def test_without_a_policy_a_preset_refuses_what_it_refuses_in_any_policy() -> None:
    """A report without a revocation list passes by itself, and under no preset."""
    names = ("v3-genoa-msft.vcek.pem", "genoa_ask_ark_asvk.pem")
    collateral = open_collateral([vectors() / "snp/certs" / name for name in names], Roots.vendor())
    data = (vectors() / "snp/v3-genoa-msft.report.bin").read_bytes()
    found = examine(data, now=1_772_323_200, collateral=collateral)
    assert found.accepted
    for preset in under_presets(found):
        assert preset.excluded is None
        assert "snp-revocation" in preset.refused


@pytest.mark.parametrize("tee", PARTS)
@pytest.mark.parametrize("name", ["strict", "production"])
def test_a_policy_that_names_what_evidence_shows_loads_and_recognises_it(tee: str, name: str) -> None:
    verified = PARTS[tee]()
    policy = load_policy(draft(verified.parts, name))
    failed = {finding.code for finding in appraise(verified, policy, NOW).failed}
    assert not failed & {
        FindingCode.TEE,
        FindingCode.MRENCLAVE,
        *(finding.code for finding in genuine.judge(verified, NOW) if finding.severity is Severity.OPEN),
    }
    assert (FindingCode.CLASS in failed) is verified.simulated


def test_evidence_that_shows_nothing_to_name_is_told_so() -> None:
    data = tpm.sim().evidence(REPORT_DATA, log=b"")
    verified = dataclasses.replace(tpm.verify(data), simulated=False)
    found = Report(now=NOW, evidence=verified.evidence, verified=verified)
    for preset in under_presets(found):
        assert preset.excluded is not None
        assert "[tpm] names only PCR" in preset.excluded


# ------------------------------------------------------------------------------------------------ what loads


def test_a_change_that_the_policys_own_preset_excludes_is_told_and_not_counted() -> None:
    value = {"preset": "strict", "sgx": CODE}
    found = examined(value)
    old = dataclasses.replace(found, now=found.verified.issued + 8 * DAY)  # type: ignore[union-attr]
    judged = appraise(old.verified, old.policy, old.now).findings  # type: ignore[arg-type]
    refused = dataclasses.replace(old, findings=judged)
    changes = least_changes(refused)
    assert changes is not None
    assert "collateral-age" in changes.remaining
    (excluded,) = (each for each in changes.excluded if each.change.code == "collateral-age")
    assert excluded.why == f'preset = "strict" excludes [evidence] max_collateral_age above {7 * DAY}'
    assert changes.to_dict()["excluded"][0].keys() == {"code", "change", "why"}
    assert "With that the policy would not load: preset" in words(refused)
    without = dataclasses.replace(refused, policy=load_policy({"version": 1, "evidence": UP_TO_DATE, "sgx": CODE}))
    assert least_changes(without).excluded == ()  # type: ignore[union-attr]


def test_an_advisory_that_all_others_are_accepted_beside_is_no_longer_refused() -> None:
    collateral = sgx.platform(tcb_status="UpToDate", advisories=("SIM-SA-1",)).collateral(NOW)
    terms = {"advisories_accepted": ["*"], "advisories_refused": ["SIM-SA-1", "SIM-SA-2"]}
    found = examine(sgx.sim_quote(), now=NOW, collateral=collateral, policy=sgx.policy(evidence=terms))
    assert held(found).evidence.advisories_refused == ("SIM-SA-2",)
    assert texts(found) == ["[evidence] advisories_refused: remove SIM-SA-1"]


# ------------------------------------------------------------------------------------------------ dangers


@pytest.mark.parametrize("code", sorted(FLAGS))
def test_presets_exclude_what_a_what_if_marks_as_dangerous_and_nothing_else(code: str) -> None:
    field = FLAGS[code]
    tee = next(tee for tee, kind in TEE_TABLES.items() if code.startswith(tee.partition("-")[0]) and has(kind, field))
    before = genuine.TABLES[tee]
    closed = dataclasses.replace(before, **{field: False})
    policy = dataclasses.replace(load_policy({"version": 1, "evidence": UP_TO_DATE, "sgx": CODE}), tables={tee: closed})
    marked = set(dangers(type(closed), {field: True}))
    for name in ("strict", "production"):
        written = dict(policy.written(None), preset=name, evidence={}, **{tee: {field: True}})
        with pytest.raises(Exception) as caught:
            load_policy(written)
        alone = field in PRESETS[name].tables.get(tee, {})
        assert ("excludes" in str(caught.value)) is (bool(marked) or alone)
        assert not (marked and alone), "said once"


def test_to_undo_what_is_refused_by_name_is_dangerous() -> None:
    """Of a machine of any part, and of an advisory; what only opens a list of the accepted is not."""
    denied = least_changes(on_azure(evidence={"platforms_denied": {"fmspc": ["11" * 6, "53494d000000"]}}))
    collateral = sgx.platform(tcb_status="UpToDate", advisories=("SIM-SA-1",)).collateral(NOW)
    terms = {"advisories_accepted": ["*"], "advisories_refused": ["SIM-SA-1"]}
    refused = least_changes(examine(sgx.sim_quote(), now=NOW, collateral=collateral, policy=sgx.policy(evidence=terms)))
    accepted = least_changes(on_azure(tdx={"fmspc": ["11" * 6]}))
    for found, dangerous in ((denied, True), (refused, True), (accepted, False)):
        assert found is not None
        assert [change.dangerous for change in found.changes] == [dangerous]
        assert [each["dangerous"] for each in found.to_dict()["changes"]] == [dangerous]


def test_a_change_that_admits_a_denied_machine_is_called_dangerous_in_words() -> None:
    told = explanation(on_azure(evidence={"platforms_denied": {"fmspc": ["53494d000000"]}}))
    (line,) = (
        line for section in told.sections for line in section.lines if "platforms_denied" in line and "remove" in line
    )
    assert line.endswith("DANGEROUS: it gives up what the check protects.")


def has(kind: Any, field: str) -> bool:
    return any(item.name == field for item in dataclasses.fields(kind))
