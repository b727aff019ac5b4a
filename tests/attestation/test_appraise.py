"""Every expectation of a policy has a finding of its own, and all that fail are reported together."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation import binding
from attestation.appraise import AppraisalError, appraise, appraise_session
from attestation.collateral import DirectorySource, FixedSource
from attestation.errors import EvidenceCode, FindingCode
from attestation.findings import Appraisal, Phase, Severity
from attestation.intel.tcb import TcbStatus
from attestation.intel.verified import IntelVerified
from attestation.policy import roots_for
from attestation.roots import INTEL_SGX_ROOT
from attestation.types import Claims, EvidenceRecord
from manifests.errors import ManifestCode
from manifests.signing import Signer
from tests.attestation import kit
from tests.attestation.kit import MRENCLAVE, NOW, REPORT_DATA, policy, refused


def body(**changes: Any) -> IntelVerified:
    """Verified evidence whose enclave's report differs from the good one."""
    good = kit.verify_sim()
    report = dataclasses.replace(good.quote.body, **changes)
    return dataclasses.replace(good, quote=dataclasses.replace(good.quote, body=report))


def status(value: TcbStatus, *advisories: str) -> IntelVerified:
    good = kit.verify_sim()
    return dataclasses.replace(good, tcb=dataclasses.replace(good.tcb, status=value, advisories=advisories))


def failing(verified: IntelVerified, now: int = NOW, **changes: dict[str, Any]) -> list[str]:
    appraisal = appraise(verified, policy(**changes), now, report_data=REPORT_DATA)
    return [str(finding.code) for finding in appraisal.failed]


def test_good_evidence_is_accepted() -> None:
    appraisal = appraise(kit.verify_sim(), policy(), NOW, report_data=REPORT_DATA)
    assert appraisal.accepted
    appraisal.require()


def test_every_check_reports_once_whatever_its_outcome() -> None:
    accepted = appraise(kit.verify_sim(), policy(), NOW, report_data=REPORT_DATA)
    worst = body(flags=0xFFFFFFFFFFFFFFFF & ~5, xfrm=0, misc_select=1, cet_attributes=1, report_data=bytes(64))
    for appraisal in (accepted, appraise(worst, policy(), NOW, report_data=REPORT_DATA)):
        assert sorted(finding.code for finding in appraisal.findings) == sorted(FindingCode)


GOOD_FLAGS = 0x5
KSS, UNKNOWN = 0x80, 1 << 40
ONE = bytes(63) + b"\1"

CASES: list[tuple[FindingCode, Any, dict[str, Any]]] = [
    # code, evidence that fails by default, the policy that names it (empty: nothing can)
    (FindingCode.DEBUG, lambda: body(flags=GOOD_FLAGS | 0x2), {"sgx": {"debug": True}}),
    (FindingCode.PROVISION_KEY, lambda: body(flags=GOOD_FLAGS | 0x10), {"sgx": {"provision_key": True}}),
    (FindingCode.EINITTOKEN_KEY, lambda: body(flags=GOOD_FLAGS | 0x20), {"sgx": {"einittoken_key": True}}),
    (FindingCode.INIT, lambda: body(flags=0x4), {}),
    (FindingCode.MODE64, lambda: body(flags=0x1), {}),
    (FindingCode.ATTRIBUTES, lambda: body(flags=GOOD_FLAGS | KSS), {"sgx": {"attributes_allowed": ["KSS"]}}),
    (FindingCode.ATTRIBUTES, lambda: body(flags=GOOD_FLAGS | UNKNOWN), {}),
    (FindingCode.ATTRIBUTES, lambda: body(flags=GOOD_FLAGS | 0x8), {}),
    (FindingCode.XFRM, lambda: body(xfrm=0x8000_0003), {"sgx": {"xfrm_allowed": 0x8000_0003}}),
    (FindingCode.XFRM, lambda: body(xfrm=0x1), {}),
    (FindingCode.MISCSELECT, lambda: body(misc_select=1), {"sgx": {"miscselect_allowed": 1}}),
    (FindingCode.CET_ATTRIBUTES, lambda: body(cet_attributes=4), {"sgx": {"cet_attributes_allowed": 4}}),
    (FindingCode.CONFIG_ID, lambda: body(config_id=ONE), {"sgx": {"config_id": [ONE.hex()]}}),
    (FindingCode.CONFIG_SVN, lambda: body(config_svn=2), {"sgx": {"config_svn": 2}}),
    (FindingCode.CONFIG_SVN, lambda: body(config_svn=2), {"sgx": {"config_svn_min": 2}}),
    (FindingCode.CONFIG_SVN, lambda: body(config_svn=2), {"sgx": {"config_svn_min": 1}}),
    (FindingCode.ISV_EXT_PROD_ID, lambda: body(isv_ext_prod_id=b"\1" * 16), {"sgx": {"isv_ext_prod_id": "01" * 16}}),
    (FindingCode.ISV_FAMILY_ID, lambda: body(isv_family_id=b"\1" * 16), {"sgx": {"isv_family_id": "01" * 16}}),
    (
        FindingCode.MRENCLAVE,
        lambda: body(mr_enclave=b"\x08" * 32),
        {"sgx": {"mrenclave": [MRENCLAVE.hex(), "08" * 32]}},
    ),
    (FindingCode.REPORT_DATA, lambda: body(report_data=bytes(64)), {}),
    (
        FindingCode.ADVISORIES,
        lambda: status(TcbStatus.UP_TO_DATE, "SA-1"),
        {"evidence": {"advisories_accepted": ["SA-1"]}},
    ),
    *(
        (FindingCode.TCB_STATUS, lambda value=value: status(value), {"evidence": {"tcb_status": [str(value)]}})
        for value in TcbStatus
        if value not in {TcbStatus.UP_TO_DATE, TcbStatus.REVOKED}
    ),
]


@pytest.mark.parametrize(("code", "verified", "named"), CASES, ids=[f"{case[0]}-{n}" for n, case in enumerate(CASES)])
def test_each_departure_fails_its_own_check_unless_the_policy_names_it(
    code: FindingCode, verified: Any, named: dict[str, Any]
) -> None:
    assert failing(verified()) == [code]
    if named:
        assert failing(verified(), **named) == []


@pytest.mark.parametrize(
    ("code", "changes", "now"),
    [
        (FindingCode.MRSIGNER, {"sgx": {"mrsigner": ["00" * 32], "isv_prod_id": 0, "isv_svn_min": 0}}, NOW),
        (FindingCode.ISV_PROD_ID, {"sgx": {"isv_prod_id": 1}}, NOW),
        (FindingCode.ISV_SVN, {"sgx": {"isv_svn_min": 1}}, NOW),
        (FindingCode.CONFIG_SVN, {"sgx": {"config_svn_min": 1}}, NOW),
        (FindingCode.FMSPC, {"sgx": {"fmspc": ["00906ed50000"]}}, NOW),
        (FindingCode.PPID, {"sgx": {"ppid": ["00" * 16]}}, NOW),
        (FindingCode.TCB_EVALUATION, {"evidence": {"tcb_evaluation_min": 18}}, NOW),
        (FindingCode.COLLATERAL_AGE, {"evidence": {"max_collateral_age": 3599}}, NOW),
        (FindingCode.COLLATERAL_DATES, {}, NOW + 31 * 86400),
        (FindingCode.COLLATERAL_DATES, {}, NOW - 86400),
        (FindingCode.CLASS, {"evidence": {"simulation": None, "simulated_root": None}}, NOW),
    ],
)
def test_each_demand_of_a_policy_fails_its_own_check(code: FindingCode, changes: dict[str, Any], now: int) -> None:
    assert failing(kit.verify_sim(), now, **changes) == [code]


@pytest.mark.parametrize(
    "changes",
    [
        {"sgx": {"mrsigner": [kit.platform().mr_signer.hex()], "isv_prod_id": 0, "isv_svn_min": 0}},
        {"sgx": {"mrenclave": None, "mrsigner": [kit.platform().mr_signer.hex()], "isv_prod_id": 0, "isv_svn_min": 0}},
        {"sgx": {"fmspc": ["53494d000000"], "ppid": [kit.platform().pki.extension.ppid.hex()]}},
        {"evidence": {"tcb_evaluation_min": 17, "max_collateral_age": 3600}},
    ],
)
def test_demands_that_are_met_are_accepted(changes: dict[str, Any]) -> None:
    assert failing(kit.verify_sim(), **changes) == []


def test_a_policy_for_simulation_refuses_hardware() -> None:
    hardware = dataclasses.replace(kit.verify_sim(), simulated=False)
    assert failing(hardware) == [FindingCode.CLASS]


def test_another_simulated_platform_than_the_policy_names_is_refused() -> None:
    """The caller verified under another platform's root than the policy's."""
    assert failing(kit.verify_sim(), evidence={"simulated_root": "00" * 32}) == [FindingCode.ROOT]
    assert failing(dataclasses.replace(kit.verify_sim(), root=INTEL_SGX_ROOT)) == [FindingCode.ROOT]


def test_a_replaced_vendor_root_is_the_callers_danger_and_shown() -> None:
    replaced = dataclasses.replace(kit.verify_sim(), simulated=False, root=bytes(32))
    appraisal = appraise(replaced, policy(evidence={"simulation": None, "simulated_root": None}), NOW)
    assert appraisal.failed == ()
    assert [finding.code for finding in appraisal.warnings] == [FindingCode.ROOT]


def test_all_failures_are_reported_at_once() -> None:
    bad = body(flags=0x7, mr_enclave=bytes(32), report_data=bytes(64))
    assert failing(bad) == [FindingCode.MRENCLAVE, FindingCode.DEBUG, FindingCode.REPORT_DATA]
    appraisal = appraise(bad, policy(), NOW, report_data=REPORT_DATA)
    with refused(EvidenceCode.APPRAISAL_REFUSED) as caught:
        appraisal.require()
    assert isinstance(caught.value, AppraisalError)
    assert caught.value.exit_code == 10
    assert "sgx-mrenclave, sgx-debug, report-data" in caught.value.message
    assert "SIMULATED" in caught.value.message
    assert [item["code"] for item in caught.value.to_dict()["findings"]] == failing(bad)


def test_a_traceback_of_a_refusal_shows_what_was_expected_and_found_and_what_to_do() -> None:
    appraisal = appraise(body(mr_enclave=bytes(32)), policy(), NOW, report_data=REPORT_DATA)
    with refused(EvidenceCode.APPRAISAL_REFUSED) as caught:
        appraisal.require()
    (finding,) = appraisal.failed
    assert str(caught.value).splitlines()[1:] == [
        "  sgx-mrenclave",
        f"    expected: {finding.expected}",
        f"    found: {bytes(32).hex()}",
        f"    next: {finding.remedy}",
    ]


def test_every_failed_finding_says_what_to_do() -> None:
    worst = body(flags=0xFFFFFFFFFFFFFFFF & ~5, xfrm=0, misc_select=1, mr_enclave=bytes(32), report_data=bytes(64))
    for finding in appraise(worst, policy(), NOW, report_data=REPORT_DATA).failed:
        assert finding.remedy
        assert finding.expected != finding.found
        assert finding.severity is Severity.REFUSAL


def test_what_passes_only_by_name_is_a_warning() -> None:
    appraisal = appraise(body(flags=0x7), policy(sgx={"debug": True}), NOW)
    assert [finding.code for finding in appraisal.warnings] == [FindingCode.CLASS, FindingCode.DEBUG]
    hardware = dataclasses.replace(kit.verify_sim(), simulated=False, root=INTEL_SGX_ROOT)
    clean = appraise(hardware, policy(evidence={"simulation": None, "simulated_root": None}), NOW)
    assert clean.warnings == ()


def test_phases_follow_the_codes() -> None:
    findings = appraise(kit.verify_sim(), policy(), NOW, report_data=REPORT_DATA).findings
    phases = {finding.code: finding.phase for finding in findings}
    assert phases[FindingCode.TCB_STATUS] is Phase.PLATFORM
    assert phases[FindingCode.DEBUG] is Phase.ENCLAVE
    assert phases[FindingCode.REPORT_DATA] is Phase.SESSION


def test_an_appraisal_without_checks_accepts_nothing() -> None:
    with refused(EvidenceCode.APPRAISAL_REFUSED):
        Appraisal(simulated=False, findings=()).require()


def test_verdicts_say_simulated() -> None:
    appraisal = appraise(kit.verify_sim(), policy(), NOW)
    assert appraisal.to_dict()["platform"] == "SIMULATED"
    assert kit.verify_sim().to_dict()["platform"] == "simulated"


# ----------------------------------------------------------------------------------------------------- session

HASH = bytes(range(64))
CLAIMS = Claims(Signer.from_seed(bytes(32)).public, bytes(1216), bytes(16), "first", ()).encode()


def record(handshake: bytes = HASH, claims: bytes = CLAIMS, **changes: Any) -> EvidenceRecord:
    report_data, (proof,) = binding.batch([binding.session_leaf(handshake, claims)])
    subject = kit.platform(**changes)
    quote = subject.quote(subject.report_body(MRENCLAVE), report_data)
    return EvidenceRecord(claims, quote, proof, "sgx")


def session(evidence_record: EvidenceRecord, handshake: bytes = HASH, **changes: dict[str, Any]) -> Any:
    chosen = policy(**changes)
    source = FixedSource(kit.platform().collateral(NOW))
    return appraise_session(evidence_record, handshake, chosen, source, roots_for(chosen), NOW)


def test_a_sessions_evidence_is_accepted_for_that_session() -> None:
    good = record()
    verdict = session(good)
    verdict.require()
    assert verdict.claims.encode() == CLAIMS
    assert verdict.evidence_digest == good.digest()
    assert verdict.expires == verdict.verified.expires


def test_a_sessions_verdict_ends_when_the_collateral_is_older_than_the_policy_takes() -> None:
    age = NOW - kit.verify_sim().issued
    verdict = session(record(), evidence={"max_collateral_age": age + 7})
    verdict.require()
    assert verdict.expires == NOW + 8 < verdict.verified.expires


def test_evidence_of_another_session_is_refused() -> None:
    verdict = session(record(), bytes(64))
    assert [finding.code for finding in verdict.appraisal.failed] == [FindingCode.REPORT_DATA]
    with refused(EvidenceCode.APPRAISAL_REFUSED):
        verdict.require()


def test_evidence_with_other_claims_is_refused() -> None:
    other = Claims(Signer.from_seed(b"\1" * 32).public, bytes(1216), bytes(16), "first", ()).encode()
    verdict = session(dataclasses.replace(record(), claims=other))
    assert [finding.code for finding in verdict.appraisal.failed] == [FindingCode.REPORT_DATA]


def test_every_leaf_of_a_batch_is_accepted_with_its_own_proof_only() -> None:
    hashes = [bytes([n]) * 64 for n in range(3)]
    report_data, proofs = binding.batch([binding.session_leaf(item, CLAIMS) for item in hashes])
    quote = kit.platform().quote(kit.platform().report_body(MRENCLAVE), report_data)
    for handshake, proof in zip(hashes, proofs, strict=True):
        session(EvidenceRecord(CLAIMS, quote, proof, "sgx"), handshake).require()
    assert not session(EvidenceRecord(CLAIMS, quote, proofs[0], "sgx"), hashes[1]).appraisal.accepted


def test_malformed_parts_of_a_record_are_refused() -> None:
    good = record()
    with refused(EvidenceCode.EVIDENCE_UNKNOWN):
        session(dataclasses.replace(good, quote=b"nothing"))
    with refused(ManifestCode.ENCODING_MALFORMED):
        session(dataclasses.replace(good, claims=b"\xc1"))
    with refused(ManifestCode.FIELD_INVALID):
        session(dataclasses.replace(good, proof=binding.InclusionProof(3, 2, ())))


def test_a_session_without_collateral_is_refused(tmp_path: Any) -> None:
    with refused(EvidenceCode.COLLATERAL_MISSING):
        appraise_session(record(), HASH, policy(), DirectorySource(tmp_path), roots_for(policy()), NOW)


def test_a_debug_enclave_is_refused_in_a_session() -> None:
    verdict = session(record(debug=True))
    assert [finding.code for finding in verdict.appraisal.failed] == [FindingCode.DEBUG]


def test_evidence_of_a_tee_without_a_table_is_refused() -> None:
    without = dataclasses.replace(policy(), tables={})
    appraisal = appraise(kit.verify_sim(), without, NOW)
    assert [finding.code for finding in appraisal.failed] == [FindingCode.TEE]
    assert appraisal.failed[0].found == "sgx"
    assert not [finding for finding in appraisal.findings if finding.code.startswith("sgx-")]
