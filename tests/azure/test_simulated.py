"""Azure's wrapping around a simulated processor: accepted when whole, and refused at every joint that is broken."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import evidence
from attestation.appraise import appraise
from attestation.azure.abi import parse_evidence
from attestation.azure.errors import AzureCode, AzureFinding
from attestation.azure.hcl import HclReport, ReportType
from attestation.azure.runtime import RuntimeClaims, decode_base64url
from attestation.azure.td_report import SELF_HASHED, SELF_HASHED_10, TCB_INFO, TD_INFO, TD_REPORT, UNSIGNED
from attestation.errors import EvidenceCode, EvidenceError, FindingCode
from attestation.findings import Finding, Severity
from attestation.layout import Kind, Row
from attestation.sim.azure import SimulatedAzure, td_report_of
from attestation.tpm.errors import TpmCode, TpmFinding
from manifests.errors import ErrorCode
from tests.attestation.kit import NOW, REPORT_DATA, SEED, outcome, refused
from tests.azure import kit
from tests.shared import vectors

CONFIGURATION = {"console-enabled": False, "secure-boot": True, "tpm-enabled": True, "vmUniqueId": "A-VM"}


def findings(data: bytes | None = None, **tables: dict[str, Any]) -> dict[ErrorCode, Finding]:
    appraisal = appraise(kit.verify(data), kit.policy(**tables), NOW, report_data=REPORT_DATA)
    return {finding.code: finding for finding in appraisal.findings}


def failing(data: bytes | None = None, **tables: dict[str, Any]) -> Finding:
    (found,) = (finding for finding in findings(data, **tables).values() if not finding.passed)
    assert found.remedy
    return found


@pytest.mark.parametrize("version", [1, 2])
def test_a_healthy_vm_is_accepted(version: int) -> None:
    data = kit.vm().evidence(REPORT_DATA, version=version)
    verified = kit.verify(data)
    assert verified.simulated
    assert verified.measurement == kit.MR_TD
    assert verified.vtpm.key == kit.vm().ak_fingerprint
    appraise(verified, kit.policy(), NOW, report_data=REPORT_DATA).require()


def test_all_three_parts_report_and_all_have_to_be_named() -> None:
    found = findings()
    assert {AzureFinding.VM_ID, TpmFinding.AK} <= set(found)
    verified, policy = kit.verify(), kit.policy()
    for tee in ("azure-tdx", "tdx", "tpm"):
        tables = {name: table for name, table in policy.tables.items() if name != tee}
        failed = appraise(verified, dataclasses.replace(policy, tables=tables), NOW).failed
        assert [finding.code for finding in failed] == [FindingCode.TEE]


def test_what_is_stripped_of_its_wrapping_is_refused() -> None:
    """A bare TD quote would escape what the policy asks of the VM and of its vTPM."""
    whole = kit.verify()
    for part, wanted in ((whole.inner, "tdx together with azure-tdx"), (whole.vtpm, "tpm together with azure-tdx")):
        (found,) = appraise(part, kit.policy(), NOW).failed
        assert (found.code, found.expected) == (FindingCode.BARE, wanted)
        assert found.remedy
    policy = kit.policy()
    bare = dataclasses.replace(policy, tables={"tdx": policy.tables["tdx"]})
    assert appraise(whole.inner, bare, NOW).accepted


def test_the_verdict_can_be_given_to_programs() -> None:
    value = json.loads(json.dumps(kit.verify().to_dict()))
    assert value["runtime_claims"]["vm_configuration"]["secure-boot"] is True
    assert value["tcb_status"] == value["tdx"]["tcb_status"] == "UpToDate"
    assert value["tpm"]["clock"]["safe"] is True
    assert set(value["quote"]) == {"tpm_quote", "hcl_report", "tdx", "vcek"}


def test_report_data_is_bound_by_the_vtpm_and_not_by_the_processor() -> None:
    (found,) = appraise(kit.verify(), kit.policy(), NOW, report_data=bytes(64)).failed
    assert found.code is FindingCode.REPORT_DATA
    assert kit.verify().inner.report_data != REPORT_DATA


# --------------------------------------------------------------------------------------------------------- policy


def test_a_vm_that_the_policy_does_not_name_is_refused() -> None:
    found = failing(azure_tdx={"vm_ids": ["another"]})
    assert (found.code, found.expected) == (AzureFinding.VM_ID, "ANOTHER")
    own = "53494d55-4c41-5445-4400-000000000001"
    assert findings(azure_tdx={"vm_ids": [own]})[AzureFinding.VM_ID].passed
    nameless = kit.vm().evidence(REPORT_DATA, claims={"vm-configuration": CONFIGURATION | {"vmUniqueId": 7}})
    assert failing(nameless, azure_tdx={"vm_ids": [own]}).found == "not said"


@pytest.mark.parametrize(
    ("name", "value", "code", "field"),
    [
        ("secure-boot", False, AzureFinding.SECURE_BOOT, "insecure_boot"),
        ("secure-boot", "true", AzureFinding.SECURE_BOOT, "insecure_boot"),
        ("console-enabled", True, AzureFinding.CONSOLE, "console"),
        ("console-enabled", None, AzureFinding.CONSOLE, "console"),
    ],
)
def test_what_the_paravisor_admits_has_to_be_permitted(name: str, value: Any, code: AzureFinding, field: str) -> None:
    data = kit.vm().evidence(REPORT_DATA, claims={"vm-configuration": CONFIGURATION | {name: value}})
    assert failing(data).code is code
    found = findings(data, azure_tdx={field: True})[code]
    assert (found.passed, found.severity) == (True, Severity.WARNING)


def test_the_vtpm_begins_as_a_real_one_does() -> None:
    """PCRs 17 to 22 begin with ones (TCG PC Client Platform TPM Profile, section 4.6), on Azure too."""
    names = {str(index) for index in range(17, 23)}
    real = evidence.parse((vectors() / "azure-tdx/coco-evidence-v1.json").read_bytes())
    for parsed in (kit.verify().evidence, real):
        shown = parsed.quote.pcrs.to_dict()["sha256"]
        assert {name for name, value in shown.items() if value == "ff" * 32} == names
        assert {shown[str(index)] for index in (11, 13, 15, 16, 23)} == {"00" * 32}


def test_pcrs_of_the_vtpm_are_held_against_the_table_for_tpms() -> None:
    data = kit.vm().evidence(REPORT_DATA, pcrs={7: bytes([1]) * 32})
    assert failing(data).code is TpmFinding.PCR
    assert failing(tpm={"ak": ["11" * 32]}).code is TpmFinding.AK
    assert findings(tpm={"ak": [kit.vm().ak_fingerprint.hex()]})[TpmFinding.AK].passed


# -------------------------------------------------------------------------------------------------- broken joints


def test_runtime_data_that_the_processor_does_not_vouch_for_is_refused() -> None:
    forged = kit.vm().runtime_data(**{"vm-configuration": CONFIGURATION})
    with refused(AzureCode.RUNTIME_DATA):
        kit.verify(kit.vm().evidence(REPORT_DATA, hcl={"runtime_data": forged}))


def test_a_quote_for_other_runtime_data_is_refused() -> None:
    with refused(AzureCode.RUNTIME_DATA):
        kit.verify(kit.vm().evidence(REPORT_DATA, parts={"td_quote": kit.quote(bytes(64))}))


FIELDS = [row for row in TD_REPORT.rows if row.kind is not Kind.ZERO]


@pytest.mark.parametrize("row", FIELDS, ids=lambda row: row.name)
def test_a_td_report_that_says_something_else_than_the_quote_is_refused(row: Row) -> None:
    def altered(data: bytes) -> bytes:
        report = bytearray(td_report_of(kit.quote(data)))
        report[row.offset] ^= 1
        return bytes(report)

    data = SimulatedAzure(SEED, ReportType.TDX, altered, kit.quote).evidence(REPORT_DATA)
    if row.name in UNSIGNED:
        kit.verify(data)
        return
    with refused(AzureCode.TD_REPORT):
        kit.verify(data)


def rehashed(report: bytes) -> bytes:
    """A TD report whose own hashes, and the version that tells of service TDs, agree with its parts again."""
    fields = TD_REPORT.parse(report)
    fields["type_version"] = int(any(fields["mr_service_td"]))
    fields["tee_tcb_info_hash"] = hashlib.sha384(report[TCB_INFO]).digest()
    fields["tee_info_hash"] = hashlib.sha384(report[TD_INFO]).digest()
    return TD_REPORT.serialize(fields)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("row", [row for row in FIELDS if row.offset >= TCB_INFO.start], ids=lambda row: row.name)
def test_what_no_quote_has_goes_unnoticed_where_the_reports_own_hashes_are_written_anew(row: Row, version: int) -> None:
    """Exactly the fields that are named as such; all others are held against the quote itself."""

    def quote(data: bytes) -> bytes:
        return kit.quote(data, version=version)

    def altered(data: bytes) -> bytes:
        report = bytearray(td_report_of(quote(data)))
        report[row.offset] ^= 1
        return rehashed(bytes(report))

    data = SimulatedAzure(SEED, ReportType.TDX, altered, quote).evidence(REPORT_DATA)
    if row.name in SELF_HASHED or (version == 4 and row.name in SELF_HASHED_10):
        kit.verify(data)
        return
    with refused(AzureCode.TD_REPORT):
        kit.verify(data)


@pytest.mark.parametrize("at", [1, 192, 511, 1023, 1024, 1183])
def test_reserved_bytes_of_the_td_report_are_zero(at: int) -> None:
    def altered(data: bytes) -> bytes:
        report = bytearray(td_report_of(kit.quote(data)).ljust(1184, b"\0"))
        report[at] ^= 1
        return bytes(report)

    data = SimulatedAzure(SEED, ReportType.TDX, altered, kit.quote).evidence(REPORT_DATA)
    with refused(AzureCode.HCL_MALFORMED):
        kit.verify(data)


def test_bound_service_tds_show_in_the_version_of_the_report() -> None:
    def quote(data: bytes) -> bytes:
        return kit.quote(data, version=5, mr_service_td=bytes([3]) * 48)

    vm = SimulatedAzure(SEED, ReportType.TDX, lambda data: td_report_of(quote(data)), quote)
    assert kit.verify(vm.evidence(REPORT_DATA)).inner.version == 5
    vm = SimulatedAzure(SEED, ReportType.TDX, lambda data: td_report_of(quote(data), type_version=0), quote)
    with refused(AzureCode.TD_REPORT):
        kit.verify(vm.evidence(REPORT_DATA))


def test_a_quote_of_another_vtpm_is_refused() -> None:
    other = SimulatedAzure(bytes([1]) * 32, ReportType.TDX, lambda data: td_report_of(kit.quote(data)), kit.quote)
    foreign = json.loads(other.evidence(REPORT_DATA))["tpm_quote"]
    with refused(TpmCode.SIGNATURE):
        kit.verify(kit.changed(tpm_quote=foreign))


def test_pcr_values_that_were_altered_are_refused() -> None:
    table = json.loads(kit.healthy())["tpm_quote"]
    with refused(TpmCode.PCR_DIGEST):
        kit.verify(kit.changed(tpm_quote=table | {"pcrs": ["11" * 32, *table["pcrs"][1:]]}))


def test_user_data_is_bound_from_version_2_on() -> None:
    with refused(AzureCode.USER_DATA):
        kit.verify(kit.vm().evidence(REPORT_DATA, version=2, claims={"user-data": "11" * 64}))
    kit.verify(kit.vm().evidence(REPORT_DATA, version=1, claims={"user-data": "11" * 64}))


def test_dates_are_those_of_the_processors_part() -> None:
    verified = kit.verify()
    assert (verified.issued, verified.expires) == (verified.inner.issued, verified.inner.expires)
    assert verified.root == verified.inner.root == verified.vtpm.root
    with refused(EvidenceCode.CRL_EXPIRED):
        kit.verify(now=verified.expires)


# --------------------------------------------------------------------------------------------------- runtime data

KEY = json.loads(kit.vm().runtime_data())["keys"][0]


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"keys": []}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": [KEY, KEY]}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": [KEY | {"kid": "HCLEkPub"}]}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": KEY}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": [KEY | {"kty": "EC"}]}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": [KEY | {"e": "Aw"}]}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": [KEY | {"n": KEY["n"] + "="}]}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": [KEY | {"n": 7}]}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": [KEY | {"n": "AAAA" + KEY["n"]}]}, AzureCode.RUNTIME_CLAIMS),
        ({"keys": [KEY | {"n": KEY["n"][:100]}]}, TpmCode.KEY_SIZE),
        ({"vm-configuration": []}, AzureCode.RUNTIME_CLAIMS),
        ({"user-data": "00"}, AzureCode.RUNTIME_CLAIMS),
        ({"user-data": 0}, AzureCode.RUNTIME_CLAIMS),
        ({"user-data": "é" * 64}, AzureCode.RUNTIME_CLAIMS),
    ],
)
def test_runtime_data_has_to_name_one_usable_key(claims: dict[str, Any], code: ErrorCode) -> None:
    with refused(code):
        kit.verify(kit.vm().evidence(REPORT_DATA, claims=claims))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a":1,"a":1}', b"\xff"])
def test_runtime_data_that_is_no_json_is_refused(data: bytes) -> None:
    assert outcome(functools.partial(RuntimeClaims.parse, data)) in {
        EvidenceCode.JSON_MALFORMED,
        AzureCode.RUNTIME_CLAIMS,
    }


def test_base64url_has_one_encoding() -> None:
    assert decode_base64url("AAE") == decode_base64url("AAE=") == b"\x00\x01"
    for wrong in ("AAF", "AAE==", "AA E", "AA+/", "A", "AAE=AAE="):
        assert decode_base64url(wrong) is None


# ------------------------------------------------------------------------------------------------ paravisor's report


def report() -> bytes:
    return kit.parsed(kit.healthy()).hcl.serialize()


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (lambda data: put(data, 0, b"X"), AzureCode.HCL_MALFORMED),
        (lambda data: put(data, 4, b"\x03"), AzureCode.HCL_UNSUPPORTED),
        (lambda data: put(data, 8, b"\x00"), AzureCode.HCL_MALFORMED),
        (lambda data: put(data, 12, b"\x01"), AzureCode.HCL_UNSUPPORTED),
        (lambda data: put(data, 16, b"\x01"), AzureCode.HCL_UNSUPPORTED),
        (lambda data: put(data, 20, b"\x01"), AzureCode.HCL_MALFORMED),
        (lambda data: put(data, 1216, b"\x00"), AzureCode.HCL_MALFORMED),
        (lambda data: put(data, 1220, b"\x02"), AzureCode.HCL_UNSUPPORTED),
        (lambda data: put(data, 1224, b"\x03"), AzureCode.HCL_UNSUPPORTED),
        (lambda data: put(data, 1228, b"\x02"), AzureCode.HCL_UNSUPPORTED),
        (lambda data: put(data, 1232, b"\xff\xff\xff\x7f"), AzureCode.HCL_MALFORMED),
        (lambda data: data[:-1] + b"\x01", AzureCode.HCL_MALFORMED),
        (lambda data: data[:1235], AzureCode.HCL_MALFORMED),
        (lambda data: data.ljust(16385, b"\0"), AzureCode.HCL_MALFORMED),
    ],
)
def test_a_report_of_another_form_is_refused(changed: Any, code: AzureCode) -> None:
    HclReport.parse(report())
    with refused(code):
        HclReport.parse(changed(report()))


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_of_the_paravisor_are_read(version: int) -> None:
    data = put(report(), 4, bytes([version]))
    assert HclReport.parse(data).serialize() == data
    assert HclReport.parse(data.rstrip(b"\0")).padding == 0


# ---------------------------------------------------------------------------------------------------------- JSON


def envelope(platform: str) -> bytes:
    return json.dumps({"platform": platform, "evidence": json.loads(kit.healthy())}).encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (kit.changed(version=3), AzureCode.EVIDENCE_VERSION),
        (kit.changed(version=0), AzureCode.EVIDENCE_VERSION),
        (kit.changed(version=True), AzureCode.EVIDENCE_VERSION),
        (kit.changed(version="1"), AzureCode.EVIDENCE_VERSION),
        (kit.changed(version=None), AzureCode.EVIDENCE_MALFORMED),  # version 0 has lists of numbers
        (kit.changed(hcl_report=None), AzureCode.EVIDENCE_MALFORMED),
        (kit.changed(more=1), AzureCode.EVIDENCE_MALFORMED),
        (kit.changed(hcl_report="A+/A"), AzureCode.EVIDENCE_MALFORMED),
        (kit.changed(hcl_report=7), AzureCode.EVIDENCE_MALFORMED),
        (kit.changed(tpm_quote={"pcrs": []}), AzureCode.EVIDENCE_MALFORMED),
        (kit.changed(tpm_quote={}), EvidenceCode.EVIDENCE_UNKNOWN),
        (envelope("az-snp"), AzureCode.HCL_TEE),
        (envelope("gcp"), AzureCode.EVIDENCE_MALFORMED),
        (envelope("az-tdx").replace(b'"platform"', b'"more": 1, "platform"'), AzureCode.EVIDENCE_MALFORMED),
        (kit.healthy() + b" " * (1 << 18), AzureCode.EVIDENCE_MALFORMED),
        (kit.healthy().replace(b'"version"', '"é"'.encode()), AzureCode.EVIDENCE_MALFORMED),
        (kit.healthy() + b"}", EvidenceCode.JSON_MALFORMED),
        (kit.healthy().replace(b'"version": 1', b'"version": 1, "version": 1'), EvidenceCode.JSON_MALFORMED),
    ],
)
def test_json_of_another_form_is_refused(data: bytes, code: ErrorCode) -> None:
    with refused(code):
        evidence.parse(data)


def test_an_envelope_that_names_the_platform_is_opened() -> None:
    assert kit.verify(envelope("az-tdx")).report_data == kit.verify().report_data


def test_evidence_that_names_another_processor_than_its_report_is_refused() -> None:
    value = json.loads(kit.healthy())
    value["vcek"] = value.pop("td_quote")
    with refused(AzureCode.HCL_TEE):
        evidence.parse(json.dumps(value).encode())


def test_the_quotes_byte_strings_are_lower_case_hex() -> None:
    table = json.loads(kit.healthy())["tpm_quote"]
    for wrong in (table["message"].upper(), table["message"] + "0", "00" * 2000, base64.b64encode(b"x").decode()):
        with refused(AzureCode.EVIDENCE_MALFORMED):
            evidence.parse(kit.changed(tpm_quote=table | {"message": wrong}))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_text_is_refused_or_kept_as_it_is(data: st.DataObject) -> None:
    seed = kit.healthy()
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, min(len(seed), start + 64)))
    raw = seed[:start] + data.draw(st.binary(max_size=32)) + seed[end:]
    try:
        kept = parse_evidence(raw).serialize()
    except EvidenceError:
        return
    assert kept == raw
