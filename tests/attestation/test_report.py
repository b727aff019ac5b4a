"""A report never fails: every stage that refuses is a finding, and what the others can say is there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import genuine
from attestation.amd.checks import snp_checks
from attestation.amd.errors import SnpFinding
from attestation.appraise import appraise
from attestation.collateral.bundle import Bundle
from attestation.ear.ar4si import Claim
from attestation.ear.mapping import vector
from attestation.errors import EvidenceCode, FindingCode
from attestation.explain import explanation
from attestation.findings import Finding, Phase, Severity
from attestation.intel.errors import TdxFinding
from attestation.loose import LooseFiles, open_collateral
from attestation.nitro.errors import NitroCode, NitroFinding
from attestation.policy.nitro import NitroPolicy
from attestation.policy.sgx import SgxPolicy
from attestation.policy.snp import SnpPolicy
from attestation.policy.tdx import TdxPolicy
from attestation.policy.tpm import TpmPolicy
from attestation.report import Outcome, Report, examine
from attestation.roots import Roots
from attestation.tees import TEES
from attestation.tpm.checks import tpm_checks
from attestation.tpm.errors import TpmFinding
from attestation.validity import rfc3339
from manifests.errors import ManifestCode
from tests.attestation import kit
from tests.attestation.kit import NOW, refused
from tests.nitro import kit as nitro
from tests.shared import vectors
from tests.tdx import kit as tdx


def report(data: bytes | None = None, **changes: Any) -> Report:
    """The simulated quote, examined under the policy that accepts it."""
    options: dict[str, Any] = {"collateral": kit.platform().collateral(NOW), "policy": kit.policy(), "now": NOW}
    return examine(kit.sim_quote() if data is None else data, **options | changes)


def codes(findings: tuple[Finding, ...]) -> list[str]:
    return [str(finding.code) for finding in findings]


def test_accepted_evidence_has_a_report_that_says_so() -> None:
    found = report(report_data=kit.REPORT_DATA)
    assert (found.accepted, found.genuine, found.exit_code) == (True, True, 0)
    assert set(found.phases.values()) == {Outcome.PASSED}
    assert found.appraisal is not None
    assert found.appraisal.accepted
    assert found.tcb_age == NOW - kit.verify_sim().tcb_date


def test_without_a_policy_nothing_is_appraised_to_its_end() -> None:
    """That the evidence is genuine passes no appraisal: whose code it is stays open."""
    found = report(policy=None, roots=kit.sim_roots())
    assert (found.accepted, bool(found.open)) == (True, True)
    assert found.phases == {"parse": Outcome.PASSED, "verify": Outcome.PASSED, "appraise": Outcome.OPEN}
    assert "appraise: open: of" in explanation(found).text()
    assert report(policy=None).phases["appraise"] is Outcome.NOT_REACHED
    debugged = kit.platform(debug=True)
    refused_ = report(
        debugged.quote(debugged.report_body(kit.MRENCLAVE), bytes(64)), policy=None, roots=kit.sim_roots()
    )
    assert codes(refused_.refused) == ["sgx-debug"]
    assert refused_.phases["appraise"] is Outcome.FAILED


def test_every_name_of_the_json_is_there_whatever_the_outcome() -> None:
    shown = report().to_dict()
    for other in (report(b"nothing"), report(now=NOW + 10**9), report(policy=None, collateral=None)):
        assert other.to_dict().keys() >= shown.keys() - kit.verify_sim().details().keys()
        json.dumps(other.to_dict())


def test_every_name_of_the_json_is_explained() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "attest-verify.md").read_text(encoding="utf-8")
    assert [name for name in report(b"nothing").to_dict() if f"`{name}`" not in page] == []
    for words in (Phase, Severity, Outcome):
        assert [str(word) for word in words if f"`{word}`" not in page] == []


def test_bytes_that_are_no_evidence_fail_the_first_stage() -> None:
    found = report(b"nothing")
    assert (found.accepted, found.genuine, found.exit_code) == (False, False, 20)
    assert found.phases == {
        "parse": Outcome.FAILED,
        "verify": Outcome.NOT_REACHED,
        "appraise": Outcome.NOT_REACHED,
    }
    (only,) = found.findings
    assert (only.code, only.phase, only.severity) == (EvidenceCode.EVIDENCE_UNKNOWN, Phase.PARSE, Severity.REFUSAL)
    assert only.remedy


def test_what_breaks_inside_its_wrapping_says_what_was_taken_off() -> None:
    found = report(kit.sim_quote()[:700].hex().encode())
    assert found.wrapping == ("hex",)
    assert (codes(found.refused), found.exit_code) == (["quote-truncated"], 30)


def test_a_signature_that_fails_leaves_every_decoded_field() -> None:
    quote = bytearray(kit.sim_quote())
    quote[440] ^= 1
    found = report(bytes(quote))
    shown = found.to_dict()
    assert (codes(found.refused), found.exit_code) == (["quote-signature"], 10)
    assert found.phases["verify"] is Outcome.FAILED
    assert found.phases["appraise"] is Outcome.NOT_REACHED
    assert shown["quote"]["report_body"]["mr_enclave"] == kit.MRENCLAVE.hex()
    assert shown["tee"] == "sgx"
    assert shown["error"]["code"] == EvidenceCode.QUOTE_SIGNATURE


def test_evidence_without_collateral_names_the_key_and_the_way() -> None:
    found = report(collateral=None)
    assert (codes(found.refused), found.exit_code) == (["collateral-missing"], 40)
    assert str(kit.platform().collateral_key) == found.refused[0].expected
    assert "strongroom collateral fetch" in str(found.refused[0].remedy)


def test_collateral_that_travels_with_the_evidence_is_used() -> None:
    platform = kit.platform()
    bundle = Bundle(kit.sim_quote(), {platform.collateral_key: platform.collateral(NOW)}).to_json().encode()
    assert report(bundle, collateral=None).accepted
    beside = {"quote": kit.sim_quote().hex(), "collateral": json.loads(platform.collateral(NOW).to_json())}
    assert report(json.dumps(beside).encode(), collateral=None).accepted


def test_after_its_dates_the_rest_is_judged_as_of_the_last_second_of_all() -> None:
    late = NOW + 10**9
    found = report(now=late, policy=kit.policy(sgx={"mrenclave": ["ee" * 32]}))
    assert (found.genuine, found.accepted, found.exit_code) == (False, False, 10)
    assert found.as_of == kit.verify_sim().expires - 1
    *dates, other = codes(found.refused)
    assert sorted(set(dates)) == ["certificate-expired", "crl-expired", "qe-identity-expired", "tcb-info-expired"]
    assert other == "sgx-mrenclave"
    documents = found.to_dict()["collateral"]["documents"]
    for finding, code in zip(found.refused, dates, strict=False):
        assert any(f"before {each['until_before']} ({each['what']})" == finding.expected for each in documents), code
    assert len(dates) == len(documents) == 8
    assert found.appraisal is None, "no token is made of what does not verify now"
    assert found.to_dict()["as_of"] == rfc3339(kit.verify_sim().expires - 1)


def test_before_its_dates_the_rest_is_judged_as_of_the_first_second_of_all() -> None:
    found = report(now=NOW - 10**9)
    assert found.as_of is not None
    assert found.verified is not None
    assert found.refused[0].phase is Phase.VERIFY
    assert report(now=found.as_of).genuine
    assert not report(now=found.as_of - 1).genuine


def test_what_else_is_wrong_as_of_another_time_is_told_too() -> None:
    quote = bytearray(kit.sim_quote())
    quote[440] ^= 1
    found = report(bytes(quote), now=NOW + 10**9)
    *dates, other = codes(found.refused)
    assert other == "quote-signature"
    assert len(dates) > 5
    assert {code.rpartition("-")[2] for code in dates} == {"expired"}
    assert found.verified is None


def test_a_nitro_document_from_the_future_is_judged_as_of_its_own_time() -> None:
    found = examine(nitro.simulated(), now=nitro.NOW - 1, roots=nitro.sim_roots())
    assert codes(found.refused) == [NitroCode.EARLY]
    assert (found.as_of, found.exit_code) == (nitro.NOW, 10)


def test_all_failing_checks_are_told_at_once() -> None:
    policy = kit.policy(sgx={"mrenclave": ["ee" * 32], "fmspc": ["ee" * 6]}, evidence={"tcb_evaluation_min": 10**6})
    found = report(policy=policy, report_data=bytes(64))
    assert set(codes(found.refused)) == {"sgx-mrenclave", "platform-fmspc", "tcb-evaluation", "report-data"}
    assert all(finding.remedy for finding in found.refused)
    assert found.phases["appraise"] is Outcome.FAILED


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 4000), st.integers(-(2**40), 2**40))
def test_examining_never_raises(noise: bytes, at: int, now: int) -> None:
    data = bytearray(kit.sim_quote())
    data[at : at + len(noise)] = noise
    found = report(bytes(data), now=now)
    assert json.dumps(explanation(found).to_dict())
    assert explanation(found).text()
    assert found.exit_code in {0, 10, 20, 30, 40}


# ------------------------------------------------------------------------------------------------ without a policy


def openly(data: bytes | None = None, **changes: Any) -> Report:
    return report(data, **{"policy": None, "roots": kit.sim_roots()} | changes)


def test_without_a_policy_exactly_the_declared_checks_are_open() -> None:
    found = openly()
    assert found.accepted
    assert found.appraisal is None
    declared = next(tee for tee in TEES if tee.name == "sgx").identity
    assert {finding.code for finding in found.open} == declared
    assert {finding.expected for finding in found.open} == {genuine.NO_POLICY}
    assert not any(finding.passed for finding in found.open)


def test_without_a_policy_and_without_its_root_simulated_evidence_is_refused() -> None:
    found = report(policy=None)
    assert codes(found.refused) == ["chain-root"]


@pytest.mark.parametrize(
    ("status", "accepted"),
    [
        ("UpToDate", True),
        ("SWHardeningNeeded", True),
        ("ConfigurationNeeded", True),
        ("ConfigurationAndSWHardeningNeeded", True),
        ("OutOfDate", False),
        ("OutOfDateConfigurationNeeded", False),
    ],
)
def test_without_a_policy_the_tcb_must_be_current(status: str, accepted: bool) -> None:
    platform = kit.platform(tcb_status=status, advisories=("SIM-SA-1",))
    found = openly(collateral=platform.collateral(NOW))
    assert found.accepted is accepted
    assert codes(found.refused) == ([] if accepted else ["tcb-status"])
    assert FindingCode.ADVISORIES in {finding.code for finding in found.warnings}
    assert found.advisories == ("SIM-SA-1",)


def test_without_a_policy_debug_is_refused() -> None:
    platform = kit.platform(debug=True)
    quote = platform.quote(platform.report_body(kit.MRENCLAVE), kit.REPORT_DATA)
    assert "sgx-debug" in codes(openly(quote).refused)


def test_report_data_decides_without_a_policy_too() -> None:
    assert openly(report_data=kit.REPORT_DATA).accepted
    assert codes(openly(report_data=bytes(64)).refused) == ["report-data"]


def test_an_open_check_never_counts_for_a_token() -> None:
    finding = openly().open[0]
    assert vector([finding], simulated=False)[Claim.EXECUTABLES] > 32


ZERO = {
    "sgx": SgxPolicy(),
    "tdx": TdxPolicy(),
    "snp": SnpPolicy(reported_tcb_min=(("milan", ()), ("genoa", ()), ("turin", ()))),
    "nitro": NitroPolicy(),
    "tpm": TpmPolicy(),
}


def zero(policy: Any, tee: str) -> Any:
    return dataclasses.replace(policy, tables={tee: ZERO[tee]})


def test_a_table_made_without_measurements_admits_nothing() -> None:
    sgx = appraise(kit.verify_sim(), zero(kit.policy(), "sgx"), NOW)
    assert {FindingCode.MRENCLAVE, FindingCode.MRSIGNER} <= {finding.code for finding in sgx.failed}
    td = appraise(tdx.verify_sim(), zero(tdx.policy(), "tdx"), NOW)
    expected = [TdxFinding.MRTD, TdxFinding.RTMR0, TdxFinding.RTMR1, TdxFinding.RTMR2, TdxFinding.RTMR3]
    assert [finding.code for finding in td.failed] == expected
    enclave = appraise(nitro.verify_sim(nitro.simulated()), zero(nitro.policy(), "nitro"), nitro.NOW)
    assert [finding.code for finding in enclave.failed] == [NitroFinding.PCR]
    assert "none is named" in enclave.failed[0].expected


def test_a_table_made_without_measurements_admits_no_captured_guest_or_tpm(tmp_path: Path) -> None:
    files = loose(tmp_path, "certs/milan_ask_ark_asvk.pem")
    data = (vectors() / "azure-snp/coco-evidence-v1.json").read_bytes()
    found = examine(data, collateral=files, now=1_748_736_000)
    assert found.accepted
    assert found.verified is not None
    _, guest, vtpm = found.verified.parts
    failed = {finding.code for finding in snp_checks(guest, ZERO["snp"]) if not finding.passed}
    assert SnpFinding.MEASUREMENT in failed
    assert {finding.code for finding in tpm_checks(vtpm, ZERO["tpm"]) if not finding.passed} == {TpmFinding.PCR}


def test_every_tee_that_runs_code_declares_its_identity() -> None:
    assert {tee.name for tee in TEES if not tee.identity} == {"nvidia", "ratls"}
    assert genuine.TABLES.keys() == {tee.name for tee in TEES} - {"ratls"}


# ------------------------------------------------------------------------------------------------ collateral's dates


def documents(found: Report) -> dict[str, tuple[str, str]]:
    shown = found.to_dict()["collateral"]["documents"]
    return {each["what"]: (each["from"], each["until_before"]) for each in shown}


def test_the_dates_of_each_document_of_the_collateral_are_there() -> None:
    data = kit.real_quote()
    found = documents(examine(data, now=kit.REAL_NOW, collateral=kit.real_collateral()))
    assert found["TCB info"][0] == "2025-06-19T10:56:11Z"
    assert {"QE identity", "revocation list of the root CA", "PCK CA certificate"} <= found.keys()
    late = examine(data, now=kit.REAL_NOW + 10**8, collateral=kit.real_collateral())
    assert documents(late) == found, "also where dates do not hold"
    assert not late.genuine
    forged = bytearray(data)
    forged[440] ^= 1
    del found["PCK certificate"]  # which stands in the evidence that is not verified
    assert documents(examine(bytes(forged), now=kit.REAL_NOW, collateral=kit.real_collateral())) == found


def test_the_dates_of_collateral_that_azures_evidence_completes_are_there(tmp_path: Path) -> None:
    data = (vectors() / "azure-snp/coco-evidence-v2.json").read_bytes()
    found = examine(data, collateral=loose(tmp_path, "certs/milan_ask_ark_asvk.pem"), now=1_748_736_000)
    assert {"ARK certificate", "ASK certificate", "VCEK certificate"} == documents(found).keys()


def test_collateral_that_is_not_authentic_or_not_there_has_no_dates() -> None:
    assert report().to_dict()["collateral"]["documents"]
    assert report(collateral=None).to_dict()["collateral"]["documents"] is None
    edited = (vectors() / "tdx/derived-bad/collateral-b0c06f-tcbinfo-sig.json").read_bytes()
    found = examine(kit.real_quote(), now=kit.REAL_NOW, collateral=type(kit.real_collateral()).from_json(edited))
    assert found.to_dict()["collateral"]["documents"] is None


# ------------------------------------------------------------------------------------------------ loose files


def loose(tmp_path: Path, *names: str) -> LooseFiles:
    """A folder with these captured files, under the names that AMD's service gives them."""
    for index, name in enumerate(names):
        (tmp_path / f"file{index}{Path(name).suffix}").write_bytes((vectors() / "snp" / name).read_bytes())
    return open_collateral([tmp_path], Roots.vendor())


MARCH_2026 = 1_772_323_200


def test_amds_files_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    files = loose(
        tmp_path,
        "certs/genoa_ask_ark_asvk.pem",
        "certs/milan_ask_ark_asvk.pem",
        "certs/v3-genoa-msft.vcek.pem",
        "certs/v5-genoa-attrs.vcek.der",
        "certs/v3-milan-msft.vcek.pem",
    )
    for name in ("v3-genoa-msft", "v5-genoa-attrs", "v3-milan-msft"):
        data = (vectors() / f"snp/{name}.report.bin").read_bytes()
        assert examine(data, collateral=files, now=MARCH_2026).accepted
    data = (vectors() / "snp/v5-turin-msft.report.bin").read_bytes()
    assert codes(examine(data, collateral=files, now=MARCH_2026).refused) == ["collateral-missing"]


def test_a_chain_without_a_leaf_is_collateral_that_is_missing(tmp_path: Path) -> None:
    files = loose(tmp_path, "certs/milan_ask_ark_asvk.pem")
    data = (vectors() / "snp/v3-milan-msft.report.bin").read_bytes()
    found = examine(data, collateral=files, now=MARCH_2026)
    assert (codes(found.refused), found.exit_code) == (["collateral-missing"], 40)
    assert "endorsement key" in found.refused[0].found + str(found.error)


def test_a_leaf_without_its_chain_is_collateral_that_is_missing(tmp_path: Path) -> None:
    files = loose(tmp_path, "certs/v3-milan-msft.vcek.pem", "certs/genoa_ask_ark_asvk.pem")
    data = (vectors() / "snp/v3-milan-msft.report.bin").read_bytes()
    found = examine(data, collateral=files, now=MARCH_2026)
    assert codes(found.refused) == ["collateral-missing"]
    assert found.refused[0].expected == "SEV-Milan and ARK-Milan"
    assert found.refused[0].found == "ARK-Genoa, SEV-Genoa, SEV-VCEK, SEV-VLEK-Genoa"
    assert "chain of its product" in str(found.refused[0].remedy)


def test_a_leaf_of_another_chip_among_several_is_no_leaf_at_all(tmp_path: Path) -> None:
    leaves = ("certs/v3-milan-dstack.vcek.pem", "certs/v2-milan-coco.vcek.der")
    files = loose(tmp_path, *leaves, "certs/milan_ask_ark_asvk.pem")
    data = (vectors() / "snp/v3-milan-msft.report.bin").read_bytes()
    (finding,) = examine(data, collateral=files, now=MARCH_2026).refused
    assert finding.code is EvidenceCode.COLLATERAL_MISSING
    assert "chip and the TCB version" in str(finding.remedy)


@pytest.mark.parametrize("content", [b"", b"version = 1\n[evidence]\n", b"0x00", b"\x89PNG"])
def test_a_file_given_by_name_that_can_be_no_collateral_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p1.toml").write_bytes(content)
    with refused(EvidenceCode.COLLATERAL_MALFORMED) as caught:
        open_collateral([tmp_path / "p1.toml"], Roots.vendor())
    assert "p1.toml" in caught.value.message
    assert open_collateral([tmp_path], Roots.vendor()).contents == (), "in a folder it is passed over"


def test_a_device_report_without_its_chain_says_what_is_missing() -> None:
    data = (vectors() / "nvidia/hopper-580.report.hex").read_bytes()
    found = examine(data, now=MARCH_2026)
    assert (codes(found.refused), found.exit_code) == (["collateral-missing"], 40)
    assert "--collateral" in str(found.refused[0].remedy)


def test_collateral_that_is_not_there_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with refused(ManifestCode.FILE_UNAVAILABLE):
        open_collateral([tmp_path / "none"], Roots.vendor())


def test_device_evidence_beside_a_quote_is_judged_with_it() -> None:
    devices = json.loads((vectors() / "nvidia/hopper-590-multi4.json").read_bytes())
    data = json.dumps({"quote": kit.sim_quote().hex(), "evidence_list": devices}).encode()
    found = openly(data)
    assert not found.accepted
    assert codes(found.refused) == ["chain-root"], "devices of hardware are not under a simulated root"
    assert found.gpu is not None
