"""Evidence of a processor and of devices in one file: they count together only if the one binds the other."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from attestation import evidence
from attestation.appraise import appraise as appraise_one
from attestation.appraise import open_session
from attestation.cli import attest
from attestation.collateral.cli import bundle_command
from attestation.composite import SessionClaims, appraise_composite
from attestation.ear import issue_token, open_token
from attestation.ear.errors import EarCode
from attestation.ear.keys import write_verifier_key
from attestation.errors import EvidenceCode, FindingCode, SessionFinding
from attestation.explain import explanation
from attestation.findings import Severity
from attestation.report import Report, examine
from attestation.report_text import facts
from attestation.sim.nvidia import Device
from attestation.types import Claims, EvidenceRecord
from attestation.whatif import least_changes
from manifests import keyfile
from manifests.errors import ManifestCode, StrongroomError
from manifests.signing import Signer
from tests.attestation import kit as sgx
from tests.attestation.kit import NOW, refused
from tests.nvidia import kit
from tests.nvidia.test_composite import CLAIMS, HASH, claims_for, gpus, policy, record, roots, source

VERIFIER: Final = Signer.from_seed(bytes(32))
OWN: Final[Mapping[str, Any]] = {"policy": None}


def together(sent: EvidenceRecord, devices: bytes) -> bytes:
    return json.dumps({"quote": sent.quote.hex(), "evidence": devices.hex()}).encode()


def examined(claims: Claims, devices: bytes | None, *, known: bool = True, **changes: Any) -> Report:
    """Examine quote and devices in one file; `known`: with the claims of the session."""
    sent = record(claims)
    data = sent.quote if devices is None else together(sent, devices)
    session = SessionClaims.of(sent, HASH) if known else None
    options: dict[str, Any] = {"collateral": sgx.platform().collateral(NOW), "policy": policy(), "roots": roots()}
    return examine(data, now=NOW, session=session, **options | changes)


def codes(report: Report) -> list[str]:
    return [str(finding.code) for finding in report.refused]


def unrelated() -> bytes:
    """Devices that answered to anybody's nonce."""
    return kit.platform().evidence(bytes([0x99]) * 64)


def issue(report: Report, **options: Any) -> str:
    assert report.appraisal is not None
    assert report.verified is not None
    given = {"policy": policy(), "devices": report.devices} | options
    return issue_token(report.appraisal, report.verified, VERIFIER, NOW, **given)


def test_devices_beside_a_quote_are_refused_where_nothing_says_that_they_belong_to_it() -> None:
    for devices in (unrelated(), gpus()):
        report = examined(claims_for(gpus()), devices, known=False)
        assert (report.accepted, report.exit_code, codes(report)) == (False, 10, [SessionFinding.DEVICES])
        assert "--claims" in str(report.refused[0].remedy)


def test_without_a_policy_that_they_belong_together_stays_open() -> None:
    report = examined(claims_for(gpus()), gpus(), known=False, **OWN)
    assert SessionFinding.DEVICES in [finding.code for finding in report.open]
    assert codes(report) == []


def test_devices_that_the_quotes_claims_name_are_accepted_with_it() -> None:
    for changes in ({}, OWN):
        report = examined(claims_for(gpus()), gpus(), **changes)
        assert report.accepted, codes(report)
        found = [finding.code for finding in report.findings if finding.severity is Severity.OK]
        assert {SessionFinding.DEVICES, SessionFinding.DEVICE_CLASS} < set(found)
        assert found.count(FindingCode.REPORT_DATA) == 2
        parts = {finding.part for finding in report.findings}
        assert parts > {"sgx"}
        assert all(each.part == "sgx" for each in report.findings if each.code.startswith("sgx-"))


@pytest.mark.parametrize("changes", [{}, OWN])
def test_devices_that_the_claims_do_not_name_are_refused_with_a_policy_and_without(changes: dict[str, Any]) -> None:
    assert codes(examined(claims_for(gpus()), gpus(Device(), Device(number=1)), **changes)) == [SessionFinding.DEVICES]
    assert codes(examined(CLAIMS, gpus(), **changes)) == [SessionFinding.DEVICES]
    assert codes(examined(claims_for(unrelated()), unrelated(), **changes)) == [FindingCode.REPORT_DATA]
    assert codes(examined(claims_for(gpus()), None, **changes)) == [SessionFinding.DEVICES]
    assert examined(CLAIMS, None, **changes).accepted


def test_claims_that_the_quote_does_not_cover_bind_nothing() -> None:
    """Whoever relays may write claims that name any devices."""
    forged = SessionClaims.of(record(claims_for(gpus())), HASH)
    quote = record(CLAIMS)
    report = examine(
        together(quote, gpus()), now=NOW, session=forged, collateral=source(), policy=policy(), roots=roots()
    )
    assert codes(report) == [FindingCode.REPORT_DATA]
    assert any("do NOT belong together" in line for line in facts(report))


def test_a_device_in_the_place_of_an_enclave_is_refused() -> None:
    session = SessionClaims.of(record(CLAIMS), HASH)
    report = examine(kit.platform().evidence(session.report_data), now=NOW, session=session, roots=roots())
    assert str(EvidenceCode.EVIDENCE_DEVICE) in codes(report)


def test_broken_devices_do_not_hide_that_nothing_ties_them() -> None:
    report = examined(claims_for(gpus()), gpus(), known=False, roots=sgx.sim_roots())
    assert codes(report) == [SessionFinding.DEVICES, "chain-root"]
    with refused(EarCode.UNISSUABLE):
        issue(report)
    named = examined(claims_for(gpus()), gpus(), roots=sgx.sim_roots())
    assert codes(named) == ["chain-root"]
    with refused(EarCode.UNISSUABLE):
        issue(named)


def test_what_to_be_bound_to_is_said_once() -> None:
    with pytest.raises(ValueError, match="leave out report_data"):
        examined(CLAIMS, None, report_data=bytes(64))


@pytest.mark.parametrize("part", ["processor", "devices"])
@pytest.mark.parametrize("changes", [{}, OWN])
def test_one_class_never_stands_beside_the_other(
    part: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = evidence.verify

    def verify(found: Any, *rest: Any) -> Any:
        verified = genuine(found, *rest)
        if (found.tee == "nvidia") is not (part == "devices"):
            return verified
        return dataclasses.replace(verified, simulated=False)

    monkeypatch.setattr(evidence, "verify", verify)
    for known in (True, False):
        report = examined(claims_for(gpus()), gpus(), known=known, **changes)
        assert str(SessionFinding.DEVICE_CLASS) in codes(report)
        if report.appraisal is not None:
            assert report.appraisal.simulated, "a verdict over anything simulated says so"


def test_no_token_is_made_over_parts_that_nothing_ties() -> None:
    for report in (
        examined(claims_for(gpus()), unrelated(), known=False),
        examined(claims_for(gpus()), unrelated()),
        examined(claims_for(gpus()), None),
    ):
        with refused(EarCode.UNISSUABLE) as caught:
            issue(report)
        assert "session-devices" in str(caught.value)


def test_a_token_over_both_covers_both() -> None:
    report = examined(claims_for(gpus()), gpus())
    assert report.verified is not None
    token = open_token(issue(report), [VERIFIER.public], NOW)
    token.require(simulation=True)
    digests = [hashlib.sha512(part).digest() for part in (report.verified.evidence.serialize(), gpus())]
    expected = hashlib.sha512(b"strongroom evidence with devices v1\0" + b"".join(digests)).hexdigest()
    assert token.appraisal["evidence"] == expected


def test_a_token_over_both_ends_with_the_first_of_both() -> None:
    report = examined(claims_for(gpus()), gpus())
    assert report.devices is not None
    assert report.verified is not None
    assert report.appraisal is not None
    for verified, devices in (
        (report.verified, dataclasses.replace(report.devices, expires=NOW + 10)),
        (dataclasses.replace(report.verified, expires=NOW + 10), report.devices),
    ):
        text = issue_token(report.appraisal, verified, VERIFIER, NOW, policy=policy(), devices=devices)
        assert open_token(text, [VERIFIER.public], NOW).expires == NOW + 10


def test_a_token_is_of_the_parts_that_were_appraised() -> None:
    both, alone = examined(claims_for(gpus()), gpus()), examined(CLAIMS, None)
    with refused(EarCode.UNISSUABLE):
        issue(both, devices=None)
    with refused(EarCode.UNISSUABLE):
        issue(alone, devices=both.devices)
    session = open_session(record(claims_for(gpus())), HASH, source(), roots(), NOW)
    devices = evidence.verify(evidence.parse(gpus()), None, roots(), NOW)
    appraisal = appraise_composite(
        session.verified, session.claims, devices, policy(), NOW, report_data=session.report_data
    )
    assert issue_token(appraisal, session.verified, VERIFIER, NOW, policy=policy(), devices=devices)
    single = appraise_one(session.verified, policy(), NOW)
    with refused(EarCode.UNISSUABLE):
        issue_token(single, session.verified, VERIFIER, NOW, policy=policy(), devices=devices)


def test_explain_says_whether_the_two_belong_together() -> None:
    claims = claims_for(gpus())
    for report, words in (
        (examined(claims, gpus(), known=False), "nothing here says that the two belong together"),
        (examined(claims, gpus()), "the two belong together: the quote covers claims that name them"),
        (examined(claims, unrelated()), "the two do NOT belong together"),
    ):
        assert words in " ".join(explanation(report).text().split())


def test_no_change_of_a_policy_ties_devices_to_a_quote() -> None:
    strict = policy(sgx={"mrenclave": ["11" * 32]})
    changes = least_changes(examined(claims_for(gpus()), unrelated(), known=False, policy=strict))
    assert changes is not None
    assert [change.code for change in changes.changes] == ["sgx-mrenclave"]
    assert changes.remaining == ("session-devices",)


# ------------------------------------------------------------------------------------------ command line


@pytest.fixture
def options(tmp_path: Path) -> list[object]:
    """The options of `attest verify` for a quote and its devices in one file, without the claims."""
    sent = dataclasses.replace(record(claims_for(gpus())), hint="sgx simulated")
    (tmp_path / "both.json").write_bytes(together(sent, gpus()))
    (tmp_path / "record").write_bytes(sent.encode())
    (tmp_path / "sgx.pem").write_bytes(sgx.platform().root_pem)
    (tmp_path / "nvidia.pem").write_bytes(kit.platform().root_pem)
    folder = tmp_path / "collateral"
    folder.mkdir()
    held = sgx.platform().collateral(NOW).to_json()
    (folder / f"{sgx.platform().collateral_key}.json").write_text(held, encoding="utf-8")
    (tmp_path / "policy.toml").write_text(
        "version = 1\n[evidence]\nsimulation = true\nsimulated_root = ['sgx.pem', 'nvidia.pem']\n"
        f"tcb_status = ['UpToDate']\n[sgx]\nmrenclave = ['{sgx.MRENCLAVE.hex()}']\n"
        f"[nvidia]\nproducts = ['GH100']\nvbios_versions = ['{Device().vbios_version}']\n"
        f"driver_versions = ['{Device().driver_version}']\n",
        encoding="utf-8",
    )
    (tmp_path / "passphrase").write_text("a passphrase\n", encoding="utf-8")
    write_verifier_key(tmp_path / "v.key", b"a passphrase", cost=keyfile.Cost(1, 8 * 1024))
    return [
        *("--evidence", tmp_path / "both.json", "--collateral", folder, "--policy", tmp_path / "policy.toml"),
        *("--at", NOW),
    ]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(attest, [str(argument) for argument in arguments])


def test_verify_signs_nothing_until_the_claims_tie_both(options: list[object], tmp_path: Path) -> None:
    signing = [
        *("--token-key", tmp_path / "v.key", "--token-out", tmp_path / "token"),
        *("--passphrase-file", tmp_path / "passphrase"),
    ]
    result = run("verify", *options, *signing)
    assert isinstance(result.exception, StrongroomError)
    assert (result.exception.code, result.exception.exit_code) == (EarCode.UNISSUABLE, 10)
    assert "session-devices" in result.output
    assert not (tmp_path / "token").exists()
    result = run("verify", *options, *signing, "--claims", tmp_path / "record", "--handshake-hash", HASH.hex())
    assert result.exit_code == 0, result.output
    assert "the two belong together" in result.output
    assert (tmp_path / "token").exists()


def test_claims_of_another_handshake_or_none_are_refused(options: list[object], tmp_path: Path) -> None:
    known = ["--claims", tmp_path / "record", "--handshake-hash"]
    result = run("verify", *options, *known, bytes(64).hex(), "--json")
    assert result.exit_code == 10
    refusals = [each["code"] for each in json.loads(result.output)["findings"] if each["severity"] == "refusal"]
    assert refusals == ["report-data"]
    (tmp_path / "record").write_bytes(b"no record")
    result = run("verify", *options, *known, HASH.hex())
    assert isinstance(result.exception, StrongroomError)
    assert isinstance(result.exception.code, ManifestCode)


def test_options_of_a_session_need_each_other(options: list[object], tmp_path: Path) -> None:
    claims, handshake = ["--claims", tmp_path / "record"], ["--handshake-hash", HASH.hex()]
    both = [*claims, *handshake, "--report-data", bytes(64).hex()]
    for words in (claims, handshake, both, [*claims, handshake[0], "x"]):
        assert run("verify", *options, *words).exit_code == 2


def test_show_saves_what_the_claims_are_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = dataclasses.replace(record(claims_for(gpus())), hint="sgx simulated")
    monkeypatch.setattr("attestation.client.connection.collect_evidence", lambda *_, **__: (sent, HASH))
    result = run("show", "unix:/run/agent", "--claims", tmp_path / "record", "--json")
    assert json.loads(result.output)["handshake_hash"] == HASH.hex()
    assert EvidenceRecord.decode((tmp_path / "record").read_bytes()) == sent
    assert run("show", tmp_path / "record", "--claims", tmp_path / "again").exit_code == 2


def test_a_bundle_carries_the_devices_and_leads_to_the_same_verdict(tmp_path: Path) -> None:
    sent, collateral = record(claims_for(gpus())), sgx.platform().collateral(NOW)
    (tmp_path / "both.json").write_bytes(together(sent, gpus()))
    (tmp_path / "held.json").write_text(collateral.to_json(), encoding="utf-8")
    (tmp_path / "root.pem").write_bytes(sgx.platform().root_pem)
    options = ["--collateral", "held.json", "--simulated-root", "root.pem", "--output", "bundle.json"]
    made = CliRunner().invoke(
        bundle_command,
        ["--evidence", *(str(tmp_path / each) if "." in each else each for each in ["both.json", *options])],
    )
    assert made.exit_code == 0, made.output
    data = (tmp_path / "bundle.json").read_bytes()
    report = examine(data, now=NOW, policy=policy(), roots=roots())
    assert report.gpu == gpus()
    assert codes(report) == [SessionFinding.DEVICES]
    known = examine(data, now=NOW, policy=policy(), roots=roots(), session=SessionClaims.of(sent, HASH))
    assert known.accepted, codes(known)
