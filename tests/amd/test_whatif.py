"""What-if for SEV-SNP: the change that is proposed, written into the policy's file, makes the report pass."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from attestation.amd.abi import GuestPolicy, SigningKey
from attestation.amd.errors import SnpFinding
from attestation.amd.tcb import Product
from attestation.changes import Change, with_all
from attestation.explain import explanation
from attestation.policy import load_policy
from attestation.report import Report, examine
from attestation.sim.snp import SimulatedSnp
from attestation.whatif import Changes, least_changes
from tests.amd import kit
from tests.amd.kit import MEASUREMENT, NOW, REPORT_DATA, snp
from tests.amd.test_checks import ONLY_WHERE_NAMED
from tests.attestation.marked import assert_marked_as_warned

_CHANGE = re.compile(r"\[(?P<table>[a-z_.]+)\] (?P<what>.+)")


def written(source: dict[str, Any], text: str) -> dict[str, Any]:
    """Write a proposed change into a policy, as whoever reads the proposal would."""
    source = copy.deepcopy(source)
    match = _CHANGE.fullmatch(text)
    assert match is not None, text
    table: dict[str, Any] = source
    for name in match["table"].split("."):
        table = table.setdefault(name, {})
    if ": " not in match["what"]:
        for setting in match["what"].split(", "):
            name, _, value = setting.partition(" = ")
            table[name] = _value(value)
        return source
    field, _, order = match["what"].partition(": ")
    if order.startswith("add the bits of "):
        table[field] = table.get(field, 0) | int(order.removeprefix("add the bits of "), 16)
        return source
    verb, _, words = order.partition(" ")
    entries = [word.strip('"') for word in words.split(", ")]
    old = table.get(field, [])
    table[field] = [*old, *entries] if verb == "add" else [entry for entry in old if entry not in entries]
    if not table[field]:
        del table[field]  # the language has no empty lists: what requires nothing is left out
    return source


def _value(text: str) -> Any:
    return {"true": True}.get(text, text.strip('"') if text.startswith('"') else int(text) if text.isdigit() else text)


def examined(source: dict[str, Any], simulated: SimulatedSnp | None = None, **report: Any) -> Report:
    simulated = simulated or snp()
    data = simulated.evidence(**{"measurement": MEASUREMENT, "report_data": REPORT_DATA} | report)
    return examine(data, collateral=kit.collateral(simulated), policy=load_policy(source), now=NOW)


HIGH = {"bootloader": 200, "tee": 0, "snp": 200, "microcode": 1}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "snp-reported-tcb": ({"reported_tcb_min": {"milan": HIGH}}, {}),
    "snp-committed-tcb": ({"committed_tcb_min": {"milan": {"microcode": 255}, "genoa": {"snp": 9}}}, {}),
    "snp-launch-tcb": ({"launch_tcb_min": {"milan": {"bootloader": 255, "tee": 255}}}, {}),
    "snp-product": ({"reported_tcb_min": {"turin": {"fmc": 1}}}, {}),
    "snp-firmware": ({"firmware_min": "255.0.0"}, {}),
    "snp-policy-abi": ({"policy_abi_min": "255.31"}, {}),
    "snp-mitigations": ({"mitigations_required": 0xFF00}, {}),
    "snp-platform-required": ({"platform_info_required": ["CIPHERTEXT_HIDING_DRAM_EN", "SMT_EN"]}, {}),
    "snp-policy-required": ({"policy_required": ["SINGLE_SOCKET", "RAPL_DIS"]}, {}),
    "snp-report-version": ({"report_version_min": 5}, {"version": 3}),
    "snp-guest-svn": ({"guest_svn_min": 77}, {}),
    "snp-author-key": ({"author_key_digest": ["11" * 48]}, {}),
    "snp-chip-id": ({"chip_id": ["11" * 64]}, {}),
    "snp-report-id": ({"report_id": ["11" * 32]}, {}),
}
CASES |= {
    str(code): ({"policy_allowed": None} if code is SnpFinding.SMT else {}, report)
    for _, report, code in ONLY_WHERE_NAMED.values()
    if str(code) not in CASES
}
"""By the check that fails: what the policy says, and what the report has otherwise."""


@pytest.mark.parametrize("code", CASES)
def test_the_proposal_makes_the_check_pass_and_is_the_policy_s_own_words(code: str) -> None:
    table, report = CASES[code]
    source = kit.policy_map(**table)
    found = examined(source, **report)
    assert [str(finding.code) for finding in found.refused] == [code]
    changes = least_changes(found)
    assert isinstance(changes, Changes)
    assert changes.remaining == ()
    assert {change.code for change in changes.changes} == {code}
    for change in changes.changes:
        source = written(source, change.text)
    after = examined(source, **report)
    assert after.accepted
    assert_marked_as_warned(changes, found, after)
    assert changes.changes[0].text in " ".join(explanation(found).text().split())


TOGETHER = ("snp-signing-key", "snp-csp-id", "snp-revocation")
"""What the tests below show instead."""


def test_a_revocation_list_that_is_not_there_is_waived_and_told_to_be_dangerous() -> None:
    simulated = snp(crl=False)
    changes = least_changes(examined(kit.policy_map(), simulated))
    assert changes is not None
    (change,) = changes.changes
    assert (change.code, change.dangerous) == ("snp-revocation", True)
    assert examined(written(kit.policy_map(), change.text), simulated).accepted


def test_a_floor_is_lowered_to_what_was_found_and_no_other_with_it() -> None:
    have = kit.verify().tcb.reported.to_dict()
    floors = {"bootloader": 200, "snp": have["snp"] - 1, "microcode": 255}
    changes = least_changes(examined(kit.policy_map(reported_tcb_min={"milan": floors})))
    assert changes is not None
    (change,) = changes.changes
    low = f"bootloader = {have['bootloader']}, microcode = {have['microcode']}"
    assert change.text == f"[snp.reported_tcb_min.milan] {low}"


def test_each_product_has_floors_of_its_own_components() -> None:
    turin = snp(Product.TURIN)
    source = kit.policy_map(
        reported_tcb_min={"turin": {"fmc": 255, "snp": 255}, "milan": {"snp": 20}}, policy_allowed=["SMT"]
    )
    changes = least_changes(examined(source, turin))
    assert changes is not None
    (change,) = changes.changes
    assert change.text.startswith("[snp.reported_tcb_min.turin] fmc = ")
    assert examined(written(source, change.text), turin).accepted


def test_several_floors_that_fail_at_once_are_each_proposed() -> None:
    source = kit.policy_map(
        reported_tcb_min={"milan": {"snp": 255}}, launch_tcb_min={"milan": {"snp": 255}}, firmware_min="9.9.9"
    )
    changes = least_changes(examined(source))
    assert changes is not None
    assert [change.code for change in changes.changes] == ["snp-reported-tcb", "snp-launch-tcb", "snp-firmware"]
    assert changes.remaining == ()


def test_a_key_that_is_lent_is_named_with_whom_it_is_lent_to() -> None:
    lent = snp(Product.MILAN, SigningKey.VLEK)
    source = kit.policy_map()
    changes = least_changes(examined(source, lent))
    assert changes is not None
    assert [change.code for change in changes.changes] == ["snp-signing-key", "snp-csp-id"]
    for change in changes.changes:
        source = written(source, change.text)
    assert examined(source, lent).accepted


def test_an_agent_is_named_and_told_to_be_dangerous() -> None:
    agent = {"report_id_ma": bytes([3]) * 32, "policy": kit.verify().report.policy | GuestPolicy.MIGRATE_MA}
    source = kit.policy_map()
    changes = least_changes(examined(source, **agent))
    assert changes is not None
    assert {change.code for change in changes.changes} == {"snp-migration", "snp-migration-agent"}
    assert all(change.dangerous for change in changes.changes)
    assert changes.remaining == ()
    for change in changes.changes:
        source = written(source, change.text)
    assert examined(source, **agent).accepted


def test_an_author_s_digest_without_a_key_that_vouches_is_helped_by_no_policy() -> None:
    found = examined(kit.policy_map(), author_key_digest=bytes([1]) * 48)
    changes = least_changes(found)
    assert changes is not None
    assert changes.changes == ()
    assert changes.remaining == ("snp-author-key",)


def test_changes_that_stand_only_beside_each_other_are_found_among_others_that_do_not_load() -> None:
    policy = load_policy({"version": 1, "preset": "production", "evidence": {}, "snp": kit.policy_map()["snp"]})
    waived = Change("snp-revocation", "snp", "dangerous_crl_absent", True, "dangerous_crl_absent = true")
    kind = Change("snp-signing-key", "snp", "signing_keys", ("vlek",), 'signing_keys: add "vlek"')
    provider = Change("snp-csp-id", "snp", "csp_id", ("CN=cloud",), 'csp_id: add "CN=cloud"')
    tried = with_all(policy, (waived, kind, provider))
    assert [change.code for change in tried.made] == ["snp-signing-key", "snp-csp-id"]
    assert [each.change.code for each in tried.excluded] == ["snp-revocation"]


@pytest.mark.parametrize("listed", [True, False])
def test_revocation_is_told_to_hold_only_where_the_collateral_has_a_list(*, listed: bool) -> None:
    words = explanation(examined(kit.policy_map(dangerous_crl_absent=True), snp(crl=listed))).text()
    assert ("revocation and dates hold" in words) is listed
    assert ("no revocation list was consulted" in words) is not listed


@pytest.mark.parametrize("vmpl", [1, 2, 3])
def test_a_report_from_another_vmpl_is_not_accepted_silently_without_a_policy(vmpl: int) -> None:
    simulated = snp()
    data = simulated.evidence(measurement=MEASUREMENT, report_data=REPORT_DATA, vmpl=vmpl)
    found = examine(data, now=NOW, collateral=kit.collateral(simulated), roots=kit.roots(simulated))
    assert found.accepted
    assert [each.found for each in found.warnings if str(each.code) == "snp-vmpl"] == [str(vmpl)]
