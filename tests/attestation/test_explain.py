"""An explanation says in words what a report holds, and every what-if is a verdict that was reached."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from attestation import genuine, whatif_fields
from attestation.appraise import appraise
from attestation.errors import FindingCode
from attestation.explain import STATUSES, WHAT, explanation
from attestation.findings import Finding, Phase, Severity
from attestation.intel.tcb import TcbStatus
from attestation.loose import open_collateral
from attestation.policy import load_policy
from attestation.policy.schema import Table
from attestation.report import Report, examine
from attestation.roots import INTEL_SGX_ROOT, Roots
from attestation.tees import BY_NAME, TEES
from attestation.whatif import Changes, least_changes, under_presets
from tests.attestation import kit
from tests.attestation.kit import NOW
from tests.attestation.test_report import openly, report
from tests.nitro import kit as nitro
from tests.shared import vectors
from tests.tdx import kit as tdx
from tests.test_codes import generator


def text(found: Report) -> str:
    return " ".join(explanation(found).text().split())


def hardware(found: Report) -> Report:
    """The report as if the chains had reached Intel's root, judged again."""
    assert found.verified is not None
    verified = dataclasses.replace(found.verified, simulated=False, root=INTEL_SGX_ROOT)
    policy = found.policy
    judged = appraise(verified, policy, NOW).findings if policy else genuine.judge(verified, NOW)
    return dataclasses.replace(found, verified=verified, findings=judged)


def for_hardware(**changes: dict[str, Any]) -> Any:
    return kit.policy(evidence={"simulation": None, "simulated_root": None} | changes.pop("evidence", {}), **changes)


def test_accepted_evidence_is_explained_from_its_form_to_the_next_step() -> None:
    found = report(kit.sim_quote().hex().encode())
    words = text(found)
    for part in (
        "ACCEPTED: Intel SGX v3, SIMULATED platform (every check of the policy passed)",
        "It came wrapped, and was taken out: hex.",
        WHAT["sgx"],
        kit.MRENCLAVE.hex(),
        "a SIMULATED platform, whose maker can forge anything",
        "UpToDate: the vendor knows of nothing that is missing",
        "verify: passed; signatures, chains, revocation and dates hold",
        "None: what the policy asks for is there.",
    ):
        assert part in words


def test_what_is_refused_is_told_with_what_was_expected_found_and_what_to_do() -> None:
    found = report(policy=kit.policy(sgx={"mrenclave": ["ee" * 32]}))
    words = text(found)
    assert f"Refused: sgx-mrenclave: {FindingCode.MRENCLAVE.meaning}. Expected {'ee' * 32}" in words
    assert "compare the manifest with the measured one" in words


def test_what_does_not_verify_is_told_to_be_a_claim() -> None:
    quote = bytearray(kit.sim_quote())
    quote[440] ^= 1
    words = text(report(bytes(quote)))
    assert "It is not verified: all that it says, it only claims." in words
    assert "Nobody that can be told" in words
    assert kit.MRENCLAVE.hex() not in words


def test_bytes_that_are_nothing_are_told_to_be_nothing() -> None:
    words = text(report(b"nothing"))
    assert "REFUSED: not evidence of any platform that is handled (evidence-unknown)" in words
    assert "The bytes do not parse" in words


def test_missing_collateral_is_named() -> None:
    words = text(report(collateral=None))
    assert f"Get the collateral that is filed as {kit.platform().collateral_key}." in words


def test_dates_that_do_not_hold_are_told_apart_from_the_rest() -> None:
    found = report(now=NOW + 10**9)
    assert "Dates do not hold at" in text(found)
    assert "all else was checked as of" in text(found)
    assert under_presets(found) == ()
    assert least_changes(found) is None


def test_the_age_of_the_tcb_is_told_in_days() -> None:
    found = report()
    assert found.tcb_date is not None
    assert f"{(NOW - found.tcb_date) // 86400} days before" in text(found)
    early = dataclasses.replace(found, now=found.tcb_date - 3 * 86400)
    assert "3 days after" in text(early)


def test_without_a_policy_the_words_say_loudly_what_is_open() -> None:
    words = text(openly())
    assert "it is genuine; whose code it is stays open" in words
    assert "Open, for want of a policy: sgx-mrenclave, sgx-mrsigner" in words
    assert "Write a policy" in words


def test_warnings_are_told() -> None:
    found = openly(collateral=kit.platform(advisories=("SIM-SA-1",)).collateral(NOW))
    assert "Permitted, with a warning: tcb-advisories" in text(found)
    assert "Advisories that apply: SIM-SA-1." in text(found)


def test_the_json_has_the_report_the_words_and_the_what_if() -> None:
    found = report(policy=kit.policy(sgx={"mrenclave": ["ee" * 32]}))
    shown = json.loads(json.dumps(explanation(found).to_dict()))
    assert shown.keys() > found.to_dict().keys()
    assert shown["what_if"]["changes"]["changes"][0]["code"] == "sgx-mrenclave"
    assert shown["next_steps"]


def test_every_tee_and_every_status_has_its_words() -> None:
    assert WHAT.keys() == BY_NAME.keys() == {tee.name for tee in TEES}
    assert STATUSES.keys() == set(TcbStatus) - {TcbStatus.REVOKED}


# ------------------------------------------------------------------------------------------------ what if


def test_presets_are_tried_with_and_without_a_policy() -> None:
    month = kit.platform(tcb_status="SWHardeningNeeded").collateral(NOW)
    narrow, wide = {"tcb_status": ["UpToDate"]}, {"tcb_status": ["SWHardeningNeeded"]}
    for policy, expected in (
        (None, [("strict", True, None), ("production", False, None)]),
        (for_hardware(evidence=narrow), [("strict", True, None), ("production", True, None)]),
        (
            for_hardware(evidence=wide),
            [
                ("strict", False, 'preset = "strict" excludes [evidence] tcb_status "SWHardeningNeeded"'),
                ("production", False, None),
            ],
        ),
    ):
        found = under_presets(hardware(dataclasses.replace(openly(collateral=month), policy=policy)))
        assert [(each.name, "tcb-status" in each.refused, each.excluded) for each in found] == expected
        assert found[1].to_dict()["passes"] is not expected[1][1]
    words = text(hardware(openly(collateral=month)))
    assert 'Under preset = "production" it would pass (but for what only a policy can say).' in words
    assert 'Under preset = "strict" it would be refused: tcb-status' in words


def test_no_preset_for_hardware_is_tried_on_a_simulated_platform() -> None:
    assert under_presets(report()) == ()


def changed(found: Report) -> Changes:
    changes = least_changes(found)
    assert changes is not None
    return changes


def test_the_least_changes_of_a_policy_are_those_that_make_it_accept() -> None:
    collateral = kit.platform(tcb_status="OutOfDate", advisories=("SIM-SA-1", "SIM-SA-2")).collateral(NOW)
    policy = kit.policy(
        sgx={"mrenclave": ["ee" * 32], "fmspc": ["ee" * 6], "config_svn": 3, "xfrm_allowed": 3},
        evidence={"tcb_evaluation_min": 10**6, "max_collateral_age": 1},
    )
    found = changed(report(collateral=collateral, policy=policy))
    assert found.remaining == ()
    assert {change.code: change.text for change in found.changes} == {
        "tcb-status": '[evidence] tcb_status: add "OutOfDate"',
        "tcb-advisories": "[evidence] advisories_accepted: add SIM-SA-1, SIM-SA-2",
        "tcb-evaluation": f"[evidence] tcb_evaluation_min = {kit.verify_sim().evaluation_number}",
        "collateral-age": f"[evidence] max_collateral_age = {NOW - kit.verify_sim().issued}",
        "platform-fmspc": '[sgx] fmspc: add "53494d000000"',
        "sgx-mrenclave": f'[sgx] mrenclave: add "{kit.MRENCLAVE.hex()}"',
        "sgx-xfrm": "[sgx] xfrm_allowed: add the bits of 0xe7",
        "sgx-config-svn": "[sgx] config_svn = 0",
    }
    assert {change.code for change in found.changes if change.dangerous} == {"tcb-status", "tcb-advisories"}


def test_a_change_that_gives_up_protection_is_marked() -> None:
    platform = kit.platform(debug=True)
    quote = platform.quote(platform.report_body(kit.MRENCLAVE), kit.REPORT_DATA)
    refused = report(quote)
    (change,) = changed(refused).changes
    assert (change.text, change.dangerous) == ("[sgx] debug = true", True)
    assert "DANGEROUS" in text(refused)


def test_what_no_change_helps_is_told() -> None:
    found = report(report_data=bytes(64))
    assert changed(found) == Changes((), ("report-data",))
    assert "No change that is tried here makes these pass: report-data." in text(found)


def test_a_policy_without_a_table_for_the_tee_has_nothing_to_change() -> None:
    other = load_policy({"version": 1, "evidence": kit.policy_map()["evidence"], "tdx": tdx_table()})
    assert "platform-tee" in changed(report(policy=other)).remaining


def tdx_table() -> dict[str, Any]:
    return {"mrtd": ["ee" * 48], "rtmr1": ["ee" * 48]}


def test_a_trust_domain_is_changed_likewise() -> None:
    policy = tdx.policy(tdx={"mrtd": ["ee" * 48], "rtmr1": ["ee" * 48]})
    found = examine(tdx.sim_quote(), collateral=tdx.platform().collateral(tdx.NOW), policy=policy, now=tdx.NOW)
    assert {change.code for change in changed(found).changes} >= {"tdx-mrtd"}
    assert changed(found).remaining == ()


def test_accepted_and_unjudged_evidence_has_nothing_to_change() -> None:
    assert least_changes(report()) is None
    assert least_changes(openly()) is None
    assert least_changes(report(b"nothing")) is None


FIELDS = {
    **whatif_fields._VALUES,
    **{code: field for code, (field, _) in whatif_fields._NAMED.items()},
    **whatif_fields.FLAGS,
}


@pytest.mark.parametrize("code", sorted(FIELDS))
def test_every_proposal_is_of_a_real_check_and_a_real_field(code: str) -> None:
    assert code in {str(known) for table in generator_tables() for known in table}
    tees = [tee for tee in genuine.TABLES if code.startswith((f"{tee}-", "platform-", "qe-", "azure-"))]
    tables: list[Table] = [genuine.TABLES[tee] for tee in tees]
    assert any(hasattr(table, FIELDS[code]) for table in tables)


def generator_tables() -> list[Any]:
    tables: list[Any] = generator().tables()
    return tables


def test_a_date_that_is_too_old_is_changed_to_the_one_that_was_found() -> None:
    found = changed(report(policy=kit.policy(evidence={"tcb_date_min": "2099-01-01T00:00:00Z"})))
    assert [change.code for change in found.changes] == ["tcb-date"]
    assert found.remaining == ()


def test_registers_are_added_to_their_tables() -> None:
    policy = nitro.policy(pcrs={"pcr0": ["ee" * 48], "pcr1": ["ee" * 48]})
    data = nitro.hypervisor().evidence({0: nitro.IMAGE, 1: nitro.IMAGE}, nitro.REPORT_DATA, nitro.NOW)
    found = changed(examine(data, policy=policy, now=nitro.NOW))
    value = nitro.IMAGE.hex()
    assert [change.text for change in found.changes] == [
        f'[nitro.pcrs] pcr0: add "{value}"',
        f'[nitro.pcrs] pcr1: add "{value}"',
    ]
    assert found.remaining == ()


def test_registers_of_a_tpm_are_added_to_their_banks() -> None:
    data = (vectors() / "azure-snp/coco-evidence-v1.json").read_bytes()
    certificates = [vectors() / "snp/certs/milan_ask_ark_asvk.pem"]
    collateral, now = open_collateral(certificates, Roots.vendor()), 1_748_736_000
    tables = {
        "snp": {"measurement": ["ee" * 48], "reported_tcb_min": {"milan": {"snp": 1}}, "policy_allowed": ["SMT"]},
        "tpm": {"pcrs": {"sha256": {"pcr0": ["ee" * 32], "pcr7": ["ee" * 32]}}},
        "azure-snp": {"console": True},
    }
    policy = load_policy({"version": 1, "evidence": {"tcb_status": ["UpToDate"]}, **tables})
    found = changed(examine(data, policy=policy, collateral=collateral, now=now))
    assert found.remaining == ()
    texts = [change.text for change in found.changes]
    assert sum(text.startswith("[tpm.pcrs.sha256] pcr") for text in texts) == 2
    assert any(change.dangerous and change.code == "snp-revocation" for change in found.changes)


def test_a_status_of_amds_is_told_as_amds() -> None:
    data = (vectors() / "snp/v3-milan-dstack.report.bin").read_bytes()
    certificates = [vectors() / f"snp/certs/{name}" for name in ("v3-milan-dstack.vcek.pem", "milan_ask_ark_asvk.pem")]
    found = examine(data, collateral=open_collateral(certificates, Roots.vendor()), now=1_781_740_800)
    assert "OutOfDate: it has committed to newer firmware than it vouches for." in text(found)
    assert "under AMD's root of Milan" in text(found)


@pytest.mark.parametrize("found", ["", "zz", "none", "the host's own request", "00 (none vouches)"])
@pytest.mark.parametrize("code", [*FindingCode])
def test_a_proposal_is_made_of_any_words_or_not_at_all(code: FindingCode, found: str) -> None:
    finding = Finding(code, Phase.ENCLAVE, passed=False, severity=Severity.REFUSAL, expected="", found=found)
    if str(code) in whatif_fields._EVIDENCE:
        return  # those are words of this program's own
    for change in whatif_fields.proposed((finding,), kit.policy(), kit.verify_sim()):
        assert change.text


@pytest.mark.parametrize("kit_of", [kit, tdx])
def test_floors_of_intels_components_are_lowered_to_what_was_found(kit_of: Any) -> None:
    tee = "sgx" if kit_of is kit else "tdx"
    policy = kit_of.policy(**{tee: {"tcb_components_min": {"pcesvn": 60000, "sgxtcbcomp01svn": 1}}})
    collateral = kit_of.platform().collateral(kit_of.NOW)
    found = changed(examine(kit_of.sim_quote(), collateral=collateral, policy=policy, now=kit_of.NOW))
    assert [change.text for change in found.changes] == [f"[{tee}.tcb_components_min] pcesvn = 13"]
    assert found.remaining == ()


def test_revocation_is_told_to_hold_only_where_a_list_was_consulted() -> None:
    consulted, not_consulted = "revocation and dates hold", "no revocation list was consulted"
    assert consulted in text(report(kit.sim_quote()))
    assert not_consulted in text(examine(nitro.simulated(), now=nitro.NOW, policy=nitro.policy()))
