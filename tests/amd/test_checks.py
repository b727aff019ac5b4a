"""Every check of an appraisal: what it passes, what it fails, and the policy's word that changes its mind."""

from __future__ import annotations

from typing import Any

import pytest

from attestation.amd.abi import SigningKey
from attestation.amd.errors import SnpFinding
from attestation.amd.tcb import Product, Tcb
from attestation.amd.verified import OUT_OF_DATE
from attestation.appraise import appraise
from attestation.errors import FindingCode
from attestation.findings import Appraisal, Phase, Severity
from attestation.policy import load_policy
from tests.amd import kit

DIGEST = bytes([9]) * 48
AGENT = bytes([3]) * 32
POLICY = 0x3001F


def judge(table: dict[str, Any], simulated: Any = None, **changes: Any) -> Appraisal:
    """Appraise a simulated guest; table: fields of [snp] to replace; changes: fields of its report."""
    return appraise(kit.verify(simulated, **changes), kit.policy(**table), kit.NOW)


def tcb(*versions: int) -> bytes:
    return Tcb(Product.MILAN, versions).serialize()


def test_a_healthy_guest_passes_every_check() -> None:
    verdict = judge({})
    assert verdict.accepted
    assert [finding.code for finding in verdict.warnings] == [FindingCode.CLASS]
    assert {finding.code for finding in verdict.findings} >= set(SnpFinding)
    assert all(finding.remedy is None for finding in verdict.findings)


def test_each_check_reports_once_and_says_what_it_looks_at() -> None:
    ours = [finding for finding in judge({}).findings if finding.code in set(SnpFinding)]
    assert sorted(finding.code for finding in ours) == sorted(SnpFinding)
    machine = {finding.code for finding in ours if finding.phase is Phase.PLATFORM}
    assert SnpFinding.REPORTED_TCB in machine
    assert SnpFinding.MEASUREMENT not in machine


Case = tuple[dict[str, Any], dict[str, Any], SnpFinding]
"""Fields of [snp] that accept; fields of the report; the code that fails where those fields are left out."""

ONLY_WHERE_NAMED: dict[str, Case] = {
    "measurement": ({"measurement": [DIGEST.hex()]}, {"measurement": DIGEST}, SnpFinding.MEASUREMENT),
    "debug": ({"debug": True}, {"policy": POLICY | 1 << 19}, SnpFinding.DEBUG),
    "migration": ({"migration_agent": True}, {"policy": POLICY | 1 << 18}, SnpFinding.MIGRATION),
    "a migration agent": ({"migration_agent": True}, {"report_id_ma": AGENT}, SnpFinding.MIGRATION_AGENT),
    "SMT": ({"policy_allowed": ["SMT"]}, {}, SnpFinding.SMT),
    "CXL": ({"policy_allowed": ["SMT", "CXL_ALLOW"]}, {"policy": POLICY | 1 << 21}, SnpFinding.CXL),
    "a bit of POLICY that is not known": (
        {"policy_bits_allowed": 1 << 26},
        {"policy": POLICY | 1 << 26},
        SnpFinding.POLICY_UNKNOWN,
    ),
    "trusted devices": ({"platform_info_allowed": 0xFF}, {"platform_info": 0x80}, SnpFinding.PLATFORM_INFO),
    "a bit of PLATFORM_INFO that is not known": (
        {"platform_info_allowed": 0x17F},
        {"platform_info": 0x100},
        SnpFinding.PLATFORM_INFO,
    ),
    "firmware that is not committed": (
        {"provisional_firmware": True},
        {"current_tcb": tcb(4, 0, 25, 219)},
        SnpFinding.PROVISIONAL,
    ),
    "a build that is not committed": ({"provisional_firmware": True}, {"current_build": 50}, SnpFinding.PROVISIONAL),
    "VMPL 1": ({"vmpl_max": 1}, {"vmpl": 1}, SnpFinding.VMPL),
    "HOST_DATA": ({"host_data": [DIGEST[:32].hex()]}, {"host_data": DIGEST[:32]}, SnpFinding.HOST_DATA),
    "FAMILY_ID": ({"family_id": [DIGEST[:16].hex()]}, {"family_id": DIGEST[:16]}, SnpFinding.FAMILY_ID),
    "IMAGE_ID": ({"image_id": [DIGEST[:16].hex()]}, {"image_id": DIGEST[:16]}, SnpFinding.IMAGE_ID),
    "an ID key": ({"id_key_digest": [DIGEST.hex()]}, {"id_key_digest": DIGEST}, SnpFinding.ID_KEY),
    "an author key": (
        {"author_key_digest": [DIGEST.hex()]},
        {"author_key_digest": DIGEST, "key_info": 1},
        SnpFinding.AUTHOR_KEY,
    ),
}


@pytest.mark.parametrize("case", ONLY_WHERE_NAMED)
def test_is_accepted_only_where_the_policy_names_it(case: str) -> None:
    policy, changes, code = ONLY_WHERE_NAMED[case]
    assert judge(policy, **changes).accepted
    bare = {"measurement": kit.policy_map()["snp"]["measurement"], "policy_allowed": ["SMT"]}
    bare = {name: bare.get(name) for name in policy}
    if case == "SMT":
        bare = {"policy_allowed": None}
    verdict = judge(bare, **changes)
    assert kit.failed(verdict) == [code]
    (finding,) = verdict.failed
    assert finding.severity is Severity.REFUSAL
    assert finding.expected
    assert finding.found
    assert finding.remedy


DANGERS = {"debug", "migration", "a migration agent", "firmware that is not committed", "a build that is not committed"}


@pytest.mark.parametrize("case", sorted(DANGERS))
def test_what_is_dangerous_shows_as_a_warning_where_it_is_accepted(case: str) -> None:
    policy, changes, code = ONLY_WHERE_NAMED[case]
    assert code in {finding.code for finding in judge(policy, **changes).warnings}


DEMANDS: dict[str, Case] = {
    "chip": ({"chip_id": [bytes(64).hex()]}, {}, SnpFinding.CHIP_ID),
    "guest": ({"report_id": [AGENT.hex()]}, {}, SnpFinding.REPORT_ID),
    "firmware": ({"firmware_min": "1.55.50"}, {}, SnpFinding.FIRMWARE),
    "firmware's minor version": ({"firmware_min": "1.56.0"}, {}, SnpFinding.FIRMWARE),
    "report version": ({"report_version_min": 5}, {"version": 3}, SnpFinding.REPORT_VERSION),
    "security version": ({"guest_svn_min": 2}, {"guest_svn": 1}, SnpFinding.GUEST_SVN),
    "interface version": ({"policy_abi_min": "0.32"}, {}, SnpFinding.POLICY_ABI),
    "mitigation": ({"mitigations_required": 0x10}, {}, SnpFinding.MITIGATIONS),
    "mitigation at launch": ({"mitigations_required": 8}, {"launch_mit_vector": 3}, SnpFinding.MITIGATIONS),
    "mitigation now": ({"mitigations_required": 8}, {"current_mit_vector": 3}, SnpFinding.MITIGATIONS),
    "mitigation that older reports cannot show": (
        {"mitigations_required": 1},
        {"version": 4},
        SnpFinding.MITIGATIONS,
    ),
    "alias check": (
        {"platform_info_required": ["ALIAS_CHECK_COMPLETE"]},
        {"platform_info": 5},
        SnpFinding.PLATFORM_REQUIRED,
    ),
    "single socket": ({"policy_required": ["SINGLE_SOCKET"]}, {}, SnpFinding.POLICY_REQUIRED),
    "encryption of 256 bits": ({"policy_required": ["MEM_AES_256_XTS"]}, {}, SnpFinding.POLICY_REQUIRED),
    "hidden power readings": ({"policy_required": ["RAPL_DIS"]}, {}, SnpFinding.POLICY_REQUIRED),
    "hidden ciphertext": ({"policy_required": ["CIPHERTEXT_HIDING_DRAM"]}, {}, SnpFinding.POLICY_REQUIRED),
    "pages that stay": ({"policy_required": ["PAGE_SWAP_DISABLE"]}, {}, SnpFinding.POLICY_REQUIRED),
    "reported microcode": ({"reported_tcb_min": {"milan": {"microcode": 220}}}, {}, SnpFinding.REPORTED_TCB),
    "reported bootloader": ({"reported_tcb_min": {"milan": {"bootloader": 5}}}, {}, SnpFinding.REPORTED_TCB),
    "committed firmware": ({"committed_tcb_min": {"milan": {"snp": 25}}}, {}, SnpFinding.COMMITTED_TCB),
    "firmware at launch": (
        {"launch_tcb_min": {"milan": {"snp": 24}}},
        {"launch_tcb": tcb(4, 0, 23, 219)},
        SnpFinding.LAUNCH_TCB,
    ),
    "product": ({"reported_tcb_min": {"genoa": {"snp": 1}}}, {}, SnpFinding.PRODUCT),
}


@pytest.mark.parametrize("case", DEMANDS)
def test_a_guest_is_refused_that_lacks_a_demanded(case: str) -> None:
    policy, changes, code = DEMANDS[case]
    verdict = judge(policy, **changes)
    assert kit.failed(verdict) == [code]
    assert verdict.failed[0].remedy
    assert judge({}, **changes).accepted


MET: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "floors that are just reached": (
        {
            "reported_tcb_min": {"milan": {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}},
            "committed_tcb_min": {"milan": {"snp": 24}},
            "launch_tcb_min": {"milan": {"microcode": 219}},
            "firmware_min": "1.55.49",
            "policy_abi_min": "0.31",
        },
        {},
    ),
    "required bits that are set": (
        {
            "policy_required": ["SINGLE_SOCKET", "MEM_AES_256_XTS", "RAPL_DIS", "PAGE_SWAP_DISABLE"],
            "platform_info_required": ["ECC_EN", "ALIAS_CHECK_COMPLETE"],
            "mitigations_required": 0x0B,
        },
        {"policy": POLICY | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 25},
    ),
    "an agent that is named": (
        {"migration_agent": True, "report_id_ma": [AGENT.hex()]},
        {"policy": POLICY | 1 << 18, "report_id_ma": AGENT},
    ),
    "no agent, as older firmware writes it": ({}, {"report_id_ma": bytes(32)}),
}


@pytest.mark.parametrize("case", MET)
def test_demands_are_met_by(case: str) -> None:
    policy, changes = MET[case]
    assert judge(policy, **changes).accepted


def test_an_agent_that_is_not_named_is_refused() -> None:
    policy = {"migration_agent": True, "report_id_ma": [bytes(32).hex()]}
    assert kit.failed(judge(policy, report_id_ma=AGENT)) == [SnpFinding.MIGRATION_AGENT]


def test_an_author_key_counts_only_where_the_report_says_that_it_vouches() -> None:
    policy = {"author_key_digest": [DIGEST.hex()]}
    verdict = judge(policy, author_key_digest=DIGEST)
    assert kit.failed(verdict) == [SnpFinding.AUTHOR_KEY]
    assert "none vouches" in verdict.failed[0].found
    assert kit.failed(judge({}, key_info=1)) == [SnpFinding.AUTHOR_KEY]


def test_a_report_that_the_host_asked_for_is_refused_at_every_level() -> None:
    verdict = judge({"vmpl_max": 3}, vmpl=0xFFFFFFFF)
    assert kit.failed(verdict) == [SnpFinding.VMPL]
    assert "host" in verdict.failed[0].found


def test_lent_keys_are_accepted_only_from_a_named_provider() -> None:
    simulated = kit.snp(Product.MILAN, SigningKey.VLEK)
    assert kit.failed(judge({}, simulated)) == [SnpFinding.SIGNING_KEY, SnpFinding.CSP_ID]
    lent = {"signing_keys": ["vlek"], "csp_id": ["CN=cloud.simulated.invalid"]}
    assert judge(lent, simulated).accepted
    assert kit.failed(judge(lent | {"csp_id": ["CN=another"]}, simulated)) == [SnpFinding.CSP_ID]
    assert kit.failed(judge(lent)) == [SnpFinding.SIGNING_KEY]
    assert judge(lent | {"signing_keys": ["vcek", "vlek"]}).accepted
    assert kit.failed(judge(lent | {"chip_id": [bytes([1]).hex() * 64]}, simulated)) == [SnpFinding.CHIP_ID]


def test_a_masked_chip_key_shows_in_the_finding() -> None:
    simulated = kit.snp(Product.MILAN, SigningKey.VLEK)
    verdict = judge({}, simulated, key_info=1 << 2 | 2)
    assert "masked" in next(each.found for each in verdict.findings if each.code is SnpFinding.SIGNING_KEY)


def test_without_a_revocation_list_the_policy_must_say_that_it_is_dangerous() -> None:
    simulated = kit.snp(crl=False)
    assert kit.failed(judge({}, simulated)) == [SnpFinding.REVOCATION]
    verdict = judge({"dangerous_crl_absent": True}, simulated)
    assert verdict.accepted
    assert SnpFinding.REVOCATION in {finding.code for finding in verdict.warnings}
    assert SnpFinding.REVOCATION not in {finding.code for finding in judge({"dangerous_crl_absent": True}).warnings}


def test_a_host_that_reports_less_than_it_has_committed_is_out_of_date() -> None:
    simulated = kit.snp(tcb_status=OUT_OF_DATE)
    assert kit.failed(judge({}, simulated)) == [FindingCode.TCB_STATUS]
    policy = kit.policy_map()
    policy["evidence"]["tcb_status"] = ["OutOfDate"]
    verdict = appraise(kit.verify(simulated), load_policy(policy), kit.NOW)
    assert verdict.accepted
    assert FindingCode.TCB_STATUS in {finding.code for finding in verdict.warnings}


def test_every_failure_is_reported_at_once() -> None:
    verdict = judge(
        {"measurement": [DIGEST.hex()], "firmware_min": "2.0.0"}, policy=POLICY | 1 << 19, vmpl=2, guest_svn=0
    )
    assert kit.failed(verdict) == [SnpFinding.FIRMWARE, SnpFinding.MEASUREMENT, SnpFinding.DEBUG, SnpFinding.VMPL]


def test_report_data_binds_the_report_to_its_session() -> None:
    found = kit.verify()
    assert appraise(found, kit.policy(), kit.NOW, report_data=kit.REPORT_DATA).accepted
    verdict = appraise(found, kit.policy(), kit.NOW, report_data=bytes(64))
    assert kit.failed(verdict) == [FindingCode.REPORT_DATA]


def test_simulated_evidence_never_passes_a_policy_for_hardware() -> None:
    table = kit.policy_map()["snp"]
    policy = load_policy({"version": 1, "evidence": {"tcb_status": ["UpToDate"]}, "snp": table})
    assert FindingCode.CLASS in kit.failed(appraise(kit.verify(), policy, kit.NOW))


def test_a_policy_without_a_table_for_it_refuses() -> None:
    policy = kit.policy_map()
    del policy["snp"]
    policy["sgx"] = {"mrenclave": ["00" * 32]}
    assert kit.failed(appraise(kit.verify(), load_policy(policy), kit.NOW)) == [FindingCode.TEE]


def test_denied_chips_are_refused_by_their_id() -> None:
    policy = kit.policy_map()
    policy["evidence"]["platforms_denied"] = {"chip_id": [kit.snp().chip_id.hex()]}
    assert kit.failed(appraise(kit.verify(), load_policy(policy), kit.NOW)) == [FindingCode.DENIED]
