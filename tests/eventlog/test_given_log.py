"""An event log that is given beside evidence: replayed to its registers, for TDX, TPMs and Azure's vTPMs."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from attestation.cli import attest
from attestation.errors import EvidenceCode
from attestation.eventlog.errors import EventLogCode, EventLogFinding
from attestation.eventlog.log import MAX_LOG, Event, EventType, parse_event_log
from attestation.eventlog.replay import initial_pcrs, replay_rtmrs
from attestation.explain import explanation
from attestation.findings import Phase, Severity
from attestation.policy import Policy
from attestation.report import Outcome, Report, examine
from attestation.sim.eventlog import BOOT, Entry, make_log
from attestation.sim.tpm import boot_values
from attestation.tpm.algorithms import Hash
from attestation.tpm.errors import TpmFinding
from attestation.whatif import least_changes
from manifests.errors import ErrorCode
from tests.attestation import kit as sgx
from tests.attestation.kit import NOW
from tests.azure import kit as azure
from tests.shared import vectors
from tests.tdx import kit as tdx
from tests.tpm import kit as tpm

TD_BOOT: tuple[Entry, ...] = (
    (1, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, b"SecureBoot 1"),
    *((register, EventType.EV_SEPARATOR, bytes(4)) for register in (1, 2)),
    (2, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"simulated loader"),
    (3, EventType.EV_IPL, b"simulated kernel command line\0"),
)
TD_LOG = make_log(TD_BOOT, (Hash.SHA384,), padding=b"\xff" * 64)
PREFIX = make_log(TD_BOOT[:-1], (Hash.SHA384,))
TPM_LOG = make_log()
INSECURE_LOG = make_log(BOOT[:2] + BOOT[3:])
"""Without the event of PCR 7 that says whether boot is secure."""
CAPTURED = ("v4-cos113", "v4-attrs-live")


def refusals(report: Report) -> list[ErrorCode]:
    return [finding.code for finding in report.refused]


def about_the_log(report: Report) -> list[Any]:
    return [finding for finding in report.findings if isinstance(finding.code, EventLogFinding | EventLogCode)]


# ------------------------------------------------------------------------------------------------------------- TDX


@functools.lru_cache(maxsize=1)
def booted() -> bytes:
    """A quote of a TD that was booted as its log says."""
    registers = replay_rtmrs(parse_event_log(TD_LOG, padded=True))
    values = {f"rtmr{index}": value for index, value in enumerate(registers)}
    return tdx.platform().evidence(tdx.MRTD, tdx.REPORT_DATA, **values)


def td_policy() -> Policy:
    registers = replay_rtmrs(parse_event_log(TD_LOG, padded=True))
    return tdx.policy(tdx={"rtmr1": [registers[1].hex()], "rtmr2": [registers[2].hex()]})


def of_td(log: bytes | None = TD_LOG, **changes: Any) -> Report:
    options = {"collateral": tdx.platform().collateral(NOW), "policy": td_policy(), "now": NOW}
    return examine(booted(), event_log=log, **options | changes)


def test_a_log_that_explains_every_rtmr_passes() -> None:
    report = of_td()
    assert (report.accepted, report.exit_code) == (True, 0)
    assert [finding.code for finding in about_the_log(report)] == [EventLogFinding.REGISTERS] + [
        EventLogFinding.REPLAY
    ] * 4
    assert {finding.phase for finding in about_the_log(report)} == {Phase.VERIFY}
    assert [finding.expected.split()[0] for finding in about_the_log(report)[1:]] == [
        "RTMR0",
        "RTMR1",
        "RTMR2",
        "RTMR3",
    ]
    assert report.phases["verify"] is Outcome.PASSED


def test_a_log_that_lacks_an_event_is_refused_for_its_register_alone() -> None:
    report = of_td(PREFIX)
    assert (report.accepted, report.genuine, report.exit_code) == (False, True, 10)
    (only,) = report.refused
    assert only.code is EventLogFinding.REPLAY
    assert only.expected.startswith("RTMR2 ")
    assert only.found == f"the log replays to {'00' * 48}"
    assert only.remedy
    assert report.phases == {"parse": Outcome.PASSED, "verify": Outcome.FAILED, "appraise": Outcome.PASSED}


def test_no_change_of_a_policy_helps_a_log_that_does_not_fit() -> None:
    report = of_td(PREFIX)
    changes = least_changes(report)
    assert changes is not None
    assert (changes.changes, changes.remaining) == ((), (str(EventLogFinding.REPLAY),))
    assert "eventlog-replay" in explanation(report).text()


@pytest.mark.parametrize(("log", "verdict"), [(TD_LOG, "would pass"), (PREFIX, "would be refused: eventlog-replay")])
def test_a_log_counts_as_of_another_time_too(log: bytes, verdict: str) -> None:
    report = of_td(log, now=NOW + 3650 * 86400)
    assert report.as_of is not None
    assert f"which --at takes, it {verdict}. That says nothing of now." in " ".join(explanation(report).text().split())


def test_a_log_without_events_explains_nothing() -> None:
    untouched = tdx.sim_quote()
    report = examine(
        untouched,
        now=NOW,
        collateral=tdx.platform().collateral(NOW),
        policy=tdx.policy(),
        event_log=make_log([], (Hash.SHA384,)),
    )
    assert refusals(report) == [EventLogFinding.REGISTERS]


@pytest.mark.parametrize(
    ("log", "code"),
    [
        (b"", EventLogCode.MALFORMED),
        (TD_LOG[:-70], EventLogCode.MALFORMED),
        (TD_LOG + b"\x01", EventLogCode.MALFORMED),
        (bytes(MAX_LOG + 1), EventLogCode.TOO_LARGE),
        (b"\0" * 8 + b"\1" + TD_LOG[9:], EventLogCode.FORMAT),
        (make_log(TD_BOOT, (Hash.SHA256,)), EventLogCode.BANK),
        (make_log([(5, EventType.EV_ACTION, b"")], (Hash.SHA384,)), EventLogCode.REGISTER),
    ],
    ids=["empty", "cut", "followed by a byte", "too large", "another format", "another bank", "another register"],
)
def test_a_log_that_cannot_be_replayed_is_a_finding_beside_all_others(log: bytes, code: EventLogCode) -> None:
    report = of_td(log)
    assert report.genuine
    assert refusals(report) == [code]
    assert len(report.findings) == len(of_td(None).findings) + 1
    assert report.exit_code == 10


APRIL_2026 = 1_775_001_600
"""When the certificates of both platforms are valid."""


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_logs_replay_to_captured_quotes_whose_collateral_is_lost(name: str) -> None:
    """No collateral of their days was captured, which decides; the log is held against the quote all the same."""
    quote = (vectors() / "tdx" / f"{name}.quote.bin").read_bytes()
    log = (vectors() / "tdx" / f"{name}.ccel.bin").read_bytes()
    report = examine(quote, now=APRIL_2026, event_log=log)
    assert [str(code) for code in refusals(report)] == ["collateral-missing"]
    assert len(about_the_log(report)) == 5
    assert all(finding.passed for finding in about_the_log(report))
    other = next(each for each in CAPTURED if each != name)
    wrong = examine(quote, now=APRIL_2026, event_log=(vectors() / "tdx" / f"{other}.ccel.bin").read_bytes())
    assert [finding.expected[:5] for finding in wrong.refused[1:]] == ["RTMR0", "RTMR1", "RTMR2"]


@pytest.mark.parametrize("name", CAPTURED)
def test_every_event_of_a_captured_log_is_in_the_json(name: str) -> None:
    quote = (vectors() / "tdx" / f"{name}.quote.bin").read_bytes()
    data = (vectors() / "tdx" / f"{name}.ccel.bin").read_bytes()
    shown = examine(quote, now=NOW, event_log=data).to_dict()["event_log"]
    assert shown["banks"] == ["sha384"]
    assert len(shown["events"]) == len(parse_event_log(data, padded=True).events)
    by_type = {event["type"]: event["described"] for event in shown["events"]}
    assert by_type["EV_EFI_VARIABLE_DRIVER_CONFIG"] == ["sha384"]
    assert by_type["EV_EFI_PLATFORM_FIRMWARE_BLOB2"] == []


# ------------------------------------------------------------------------------------------------------------- TPM


def of_tpm(log: bytes | None = TPM_LOG, data: bytes | None = None, **table: Any) -> Report:
    """Evidence of a TPM after the simulated boot, which carries no log."""
    bare = tpm.sim().evidence(tpm.REPORT_DATA, log=b"", pcrs=boot_values(TPM_LOG)) if data is None else data
    return examine(bare, now=NOW, policy=tpm.policy(**table), event_log=log)


def test_a_log_beside_a_tpms_quote_explains_the_pcrs_that_a_policy_asks_for() -> None:
    assert refusals(of_tpm(None, event_log_pcrs=[0, 7])) == [TpmFinding.EVENT_LOG_PCRS]
    report = of_tpm(event_log_pcrs=[0, 7])
    assert report.accepted
    names = [finding.expected.split(")")[0] for finding in about_the_log(report)[1:]]
    assert "PCR 7 (sha256" in names


def test_a_pcr_that_the_log_does_not_explain_is_refused_unless_the_policy_admits_it() -> None:
    extended = {**boot_values(TPM_LOG), (Hash.SHA256, 9): b"\1" * 32}
    data = tpm.sim().evidence(tpm.REPORT_DATA, log=b"", pcrs=extended)
    assert refusals(of_tpm(data=data)) == [TpmFinding.EVENT_LOG, EventLogFinding.REPLAY]
    admitted = of_tpm(data=data, event_log_partial=[9])
    assert admitted.accepted
    warned = [finding for finding in about_the_log(admitted) if finding.severity is Severity.WARNING]
    assert [finding.expected[:5] for finding in warned] == ["PCR 9"]


def test_a_log_of_other_banks_than_are_quoted_explains_nothing() -> None:
    assert EventLogFinding.REGISTERS in refusals(of_tpm(make_log(BOOT, (Hash.SHA384,))))


def test_a_log_that_the_evidence_carries_is_not_replaced() -> None:
    """Both have to fit: the carried one is what the quote's maker says, the other what was given."""
    other = INSECURE_LOG
    report = of_tpm(other, data=tpm.healthy())
    assert refusals(report) == [EventLogFinding.REPLAY]
    assert of_tpm(TPM_LOG, data=tpm.healthy()).accepted


def test_a_log_whose_registers_no_tpm_has_is_refused() -> None:
    log = make_log([(24, EventType.EV_ACTION, b"")])
    assert refusals(of_tpm(log)) == [EventLogCode.REGISTER]


# ---------------------------------------------------------------------------- a log of a boot that never happened

EVIL_LOG = make_log(
    [(register, kind, b"evil") if register in (4, 8, 9) else (register, kind, data) for register, kind, data in BOOT]
)
"""What really booted."""
CUT_LOG = make_log([entry for entry in BOOT if entry[0] not in (4, 8, 9)])
SHA1_LOG = make_log(banks=(Hash.SHA1,))
"""Of the honest boot, in a bank that firmware left alone and software could extend to match."""
ASKS = {"event_log_pcrs": [0, 4, 7, 8, 9]}
EXTENDED = {*range(10)}


def of_evil_boot(log: bytes, *, own: bool, policy: Policy | None) -> Report:
    values = {**boot_values(EVIL_LOG), **boot_values(SHA1_LOG, Hash.SHA1)}
    data = tpm.sim().evidence(tpm.REPORT_DATA, log=EVIL_LOG if own else b"", pcrs=values)
    return examine(data, now=NOW, roots=tpm.roots(), policy=policy, event_log=log)


def unexplained(report: Report) -> set[int]:
    failed = (finding for finding in report.refused if finding.code is EventLogFinding.REPLAY)
    return {int(finding.expected.split()[1]) for finding in failed if "sha256" in finding.expected}


@pytest.mark.parametrize(
    ("log", "own", "asks", "missing"),
    [
        (CUT_LOG, False, None, {4, 8, 9}),
        (SHA1_LOG, False, None, EXTENDED),
        (CUT_LOG, True, ASKS, {4, 8, 9}),
        (SHA1_LOG, True, ASKS, EXTENDED),
        (CUT_LOG, True, None, {4, 8, 9}),
        (SHA1_LOG, False, {}, EXTENDED),
    ],
    ids=[
        "events cut out, no policy",
        "the SHA-1 bank alone, no policy",
        "events cut out beside an own log that the policy asks for",
        "the SHA-1 bank alone beside an own log that the policy asks for",
        "events cut out beside an own log, no policy",
        "the SHA-1 bank alone, with a policy",
    ],
)
def test_a_log_of_a_boot_that_never_happened_is_refused(
    log: bytes, *, own: bool, asks: dict[str, Any] | None, missing: set[int]
) -> None:
    report = of_evil_boot(log, own=own, policy=None if asks is None else tpm.policy(**asks))
    assert (report.accepted, report.exit_code) == (False, 10)
    assert unexplained(report) == missing
    assert {finding.found for finding in report.refused if finding.code is EventLogFinding.REPLAY} == {
        "the log has no event for it"
    }
    assert (EventLogFinding.REGISTERS in refusals(report)) == (log == SHA1_LOG)
    shown = report.to_dict()["event_log"]
    assert len(shown["events"]) == len(parse_event_log(log).events)
    assert not any("sha1" in event["described"] for event in shown["events"])


def test_the_log_of_the_boot_that_happened_is_accepted_without_a_policy_and_beside_itself() -> None:
    assert of_evil_boot(EVIL_LOG, own=False, policy=None).accepted
    assert of_evil_boot(EVIL_LOG, own=True, policy=tpm.policy(**ASKS)).accepted


def test_a_digest_of_a_bank_that_is_not_quoted_describes_nothing() -> None:
    """Only the quoted bank's digests are vouched for: another's can be made to fit any data."""
    log = make_log(BOOT, (Hash.SHA256, Hash.SHA384))
    report = of_tpm(log)
    assert report.accepted
    described = [event["described"] for event in report.to_dict()["event_log"]["events"]]
    assert ["sha256"] in described
    assert not any("sha384" in banks for banks in described)


def test_an_event_that_extends_nothing_describes_nothing() -> None:
    """Whoever carries the log can add one, whose digest fits its data: no register knows of it."""
    log = parse_event_log(TPM_LOG)
    forged = b"SecureBoot 1"
    added = Event(7, EventType.EV_NO_ACTION, ((int(Hash.SHA256), Hash.SHA256.digest(forged)),), forged)
    report = of_tpm(replace(log, events=(*log.events, added)).serialize())
    assert report.accepted
    *events, last = report.to_dict()["event_log"]["events"]
    assert (last["type"], last["described"]) == ("EV_NO_ACTION", [])
    assert ["sha256"] in [event["described"] for event in events]


def test_an_event_of_a_pcr_that_is_not_quoted_describes_nothing() -> None:
    values = {at: value for at, value in boot_values(TPM_LOG).items() if at[1] != 7}
    data = tpm.sim().evidence(tpm.REPORT_DATA, log=b"", pcrs=values)
    log = make_log([*BOOT, (7, EventType.EV_EFI_VARIABLE_AUTHORITY, b"forged")])
    report = of_tpm(log, data=data, pcrs={"sha256": {"pcr4": [values[Hash.SHA256, 4].hex()]}})
    assert report.accepted
    events = report.to_dict()["event_log"]["events"]
    assert not any(event["described"] for event in events if event["register"] == 7)
    assert any(event["described"] for event in events if event["register"] == 4)
    told = next(line for line in explanation(report).text().splitlines() if "digest of the data" in line)
    assert int(told.split()[0]) == sum(bool(event["described"]) for event in events)


def test_a_register_that_does_not_replay_describes_nothing_even_where_the_policy_admits_it() -> None:
    extended = {**boot_values(TPM_LOG), (Hash.SHA256, 4): b"\1" * 32}
    data = tpm.sim().evidence(tpm.REPORT_DATA, log=b"", pcrs=extended)
    report = of_tpm(data=data, event_log_partial=[4])
    assert report.accepted
    events = report.to_dict()["event_log"]["events"]
    assert not any(event["described"] for event in events if event["register"] == 4)
    assert any(event["described"] for event in events if event["register"] == 7)


def test_a_log_that_cannot_be_replayed_describes_nothing() -> None:
    log = make_log([*BOOT, (24, EventType.EV_ACTION, b"a")])
    assert not any(event["described"] for event in of_tpm(log).to_dict()["event_log"]["events"])


def test_an_rtmr_that_does_not_replay_describes_nothing() -> None:
    quote = (vectors() / "tdx" / f"{CAPTURED[0]}.quote.bin").read_bytes()
    data = (vectors() / "tdx" / f"{CAPTURED[0]}.ccel.bin").read_bytes()
    log = parse_event_log(data, padded=True)
    forged = Event(1, EventType.EV_ACTION, ((int(Hash.SHA384), Hash.SHA384.digest(b"forged")),), b"forged")
    report = examine(
        quote, now=APRIL_2026, event_log=replace(log, events=(*log.events, forged), padding=b"").serialize()
    )
    events = report.to_dict()["event_log"]["events"]
    assert not any(event["described"] for event in events if event["register"] == 1)
    assert any(event["described"] for event in events if event["register"] == 2)


def test_pcrs_without_events_are_admitted_by_the_policy_with_a_warning() -> None:
    report = of_tpm(CUT_LOG, event_log_partial=[4, 8, 9])
    assert report.accepted
    warned = [finding for finding in about_the_log(report) if finding.severity is Severity.WARNING]
    assert [finding.expected[:5] for finding in warned] == ["PCR 4", "PCR 8", "PCR 9"]


def test_a_sha1_bank_counts_only_where_it_differs() -> None:
    values = {**boot_values(TPM_LOG), **boot_values(SHA1_LOG, Hash.SHA1)}
    both = make_log(banks=(Hash.SHA1, Hash.SHA256))
    data = tpm.sim().evidence(tpm.REPORT_DATA, log=b"", pcrs=values)
    report = of_tpm(both, data=data)
    assert report.accepted
    assert not any("sha1" in finding.expected for finding in about_the_log(report))
    values[Hash.SHA1, 4] = b"\1" * 20
    changed = of_tpm(both, data=tpm.sim().evidence(tpm.REPORT_DATA, log=b"", pcrs=values))
    assert [finding.expected[:12] for finding in changed.refused if finding.code is EventLogFinding.REPLAY] == [
        "PCR 4 (sha1)"
    ]


# ----------------------------------------------------------------------------------------------------------- Azure


def of_azure(log: bytes, **tables: dict[str, Any]) -> Report:
    booted_values = initial_pcrs(parse_event_log(TPM_LOG), Hash.SHA256)
    booted_values |= {index: value for (bank, index), value in boot_values(TPM_LOG).items() if bank is Hash.SHA256}
    data = azure.vm().evidence(azure.REPORT_DATA, pcrs=booted_values)
    pcr7 = {"pcrs": {"sha256": {"pcr7": [booted_values[7].hex()]}}}
    policy = azure.policy(tpm=pcr7 | tables.get("tpm", {}))
    return examine(data, now=NOW, collateral=azure.tdx().collateral(NOW), policy=policy, event_log=log)


def test_on_azure_the_log_is_the_vtpms() -> None:
    report = of_azure(TPM_LOG, tpm={"event_log_pcrs": [0, 4, 7]})
    assert report.accepted, refusals(report)
    assert all(finding.expected.startswith("PCR ") for finding in about_the_log(report)[1:])
    assert refusals(of_azure(INSECURE_LOG)) == [TpmFinding.EVENT_LOG, EventLogFinding.REPLAY]


# ----------------------------------------------------------------------------------------------- evidence without any


def test_evidence_without_registers_has_none_that_a_log_explains() -> None:
    report = examine(
        sgx.sim_quote(), now=NOW, collateral=sgx.platform().collateral(NOW), policy=sgx.policy(), event_log=TD_LOG
    )
    assert refusals(report) == [EventLogFinding.REGISTERS]
    assert report.refused[0].found == "Intel SGX has none"


def test_a_log_beside_bytes_that_are_no_evidence_changes_nothing() -> None:
    found, plain = examine(b"nothing", now=NOW, event_log=TD_LOG), examine(b"nothing", now=NOW)
    assert (found.findings, found.exit_code) == (plain.findings, plain.exit_code)
    assert found.to_dict()["event_log"] is None


# ------------------------------------------------------------------------------------------------------ the commands


def run(*arguments: object) -> Result:
    return CliRunner().invoke(attest, [str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path: Path) -> list[object]:
    """The options of a verification whose log is still to be given."""
    (tmp_path / "quote.bin").write_bytes(booted())
    (tmp_path / "root.pem").write_bytes(tdx.platform().root_pem)
    (tmp_path / "collateral.json").write_text(tdx.platform().collateral(NOW).to_json(), encoding="utf-8")
    (tmp_path / "log").write_bytes(TD_LOG)
    (tmp_path / "short").write_bytes(PREFIX)
    given = ["--evidence", tmp_path / "quote.bin", "--collateral", tmp_path / "collateral.json"]
    return [*given, "--simulated-root", tmp_path / "root.pem", "--at", NOW]


@pytest.mark.parametrize("command", ["verify", "explain"])
def test_the_commands_take_a_log(files: list[object], tmp_path: Path, command: str) -> None:
    good = run(command, *files, "--event-log", tmp_path / "log", "--json")
    assert good.exit_code == 0, good.output
    assert len(json.loads(good.output)["event_log"]["events"]) == len(TD_BOOT)
    bad = run(command, *files, "--event-log", tmp_path / "short")
    assert bad.exit_code == 10
    assert "eventlog-replay" in bad.output
    assert run(command, *files, "--event-log", tmp_path / "absent").exception is not None


def test_explain_counts_the_events_of_each_register(files: list[object], tmp_path: Path) -> None:
    text = " ".join(run("explain", *files, "--event-log", tmp_path / "log").output.split())
    assert (
        "Its event log has 5 events that extend registers: 2 for register 1, 2 for register 2, 1 for register 3."
        in text
    )
    assert "5 of them have the digest of the data that they log" in text


@pytest.mark.parametrize("log", ["another TD's", "no log"])
def test_a_foreign_log_is_refused_also_where_collateral_is_missing(log: str) -> None:
    quote = (vectors() / "tdx" / "v4-cos113.quote.bin").read_bytes()
    data = (vectors() / "tdx" / "v4-attrs-live.ccel.bin").read_bytes() if log == "another TD's" else b"no log"
    report = examine(quote, now=APRIL_2026, event_log=data)
    assert report.error is not None
    assert report.error.code is EvidenceCode.COLLATERAL_MISSING
    assert report.exit_code == 10
    right = examine(quote, now=APRIL_2026, event_log=(vectors() / "tdx" / "v4-cos113.ccel.bin").read_bytes())
    assert right.exit_code == 40


def test_what_a_forgery_claims_is_not_said_to_hold() -> None:
    quote = bytearray((vectors() / "tdx" / "v4-cos113.quote.bin").read_bytes())
    quote[48 + 584 + 4] ^= 1  # the quote's signature
    log = (vectors() / "tdx" / "v4-cos113.ccel.bin").read_bytes()
    report = examine(bytes(quote), now=APRIL_2026, event_log=log)
    text = " ".join(explanation(report).text().split())
    assert report.exit_code == 10
    assert "which is not verified, claims: RTMR0" in text
    assert "this much holds: RTMR0" not in text
