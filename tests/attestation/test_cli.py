"""`strongroom attest` and `strongroom sim` print what the library finds, and end with its exit status."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from attestation.azure import abi as azure
from attestation.binding import InclusionProof
from attestation.cli import attest
from attestation.client.errors import ClientCode
from attestation.collateral.cli import collateral
from attestation.ear.errors import EarCode
from attestation.ear.keys import write_verifier_key
from attestation.errors import EvidenceCode, PolicyCode, WireCode
from attestation.moment import parse_moment
from attestation.sim.cli import sim
from attestation.sim.kinds import TEES
from attestation.tees import TEES as ALL_TEES
from attestation.types import EvidenceRecord
from attestation.validity import rfc3339
from manifests import keyfile
from manifests.errors import ManifestCode, StrongroomError
from tests.attestation import kit
from tests.attestation.kit import NOW
from tests.shared import vectors


def run(group: Any, *arguments: object) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path: Path) -> list[object]:
    """The options of a verification that is accepted."""
    subject = kit.platform()
    (tmp_path / "quote.bin").write_bytes(kit.sim_quote())
    (tmp_path / "root.pem").write_bytes(subject.root_pem)
    folder = tmp_path / "collateral"
    folder.mkdir()
    (folder / f"{subject.collateral_key}.json").write_text(subject.collateral(NOW).to_json(), encoding="utf-8")
    (tmp_path / "policy.toml").write_text(
        "version = 1\n[evidence]\nsimulation = true\nsimulated_root = 'root.pem'\ntcb_status = ['UpToDate']\n"
        f"[sgx]\nmrenclave = ['{kit.MRENCLAVE.hex()}']\n",
        encoding="utf-8",
    )
    return ["--evidence", tmp_path / "quote.bin", "--collateral", folder, "--policy", tmp_path / "policy.toml"]


MOMENTS = {
    "2025-07-01T00:00:00Z": 1751328000,
    "2025-07-01T02:00:00+02:00": 1751328000,
    "2025-06-30T19:30:00-04:30": 1751328000,
    "2025-07-01T00:00:00.5Z": 1751328000,
    "2025-07-01T00:00:00.999999999999Z": 1751328000,
    "2025-07-01t00:00:00z": 1751328000,
    "2025-07-01 00:00:00Z": 1751328000,
    "2025-07-01T00:00:00-00:00": 1751328000,
    "2016-12-31T23:59:60Z": 1483228800,
    "0001-01-01T00:00:00+14:00": -62135647200,
    "1751328000": 1751328000,
}


@pytest.mark.parametrize("text", MOMENTS)
def test_a_time_is_any_of_rfc_3339_or_unix_seconds(text: str) -> None:
    assert parse_moment(text) == MOMENTS[text]


@pytest.mark.parametrize(
    "text",
    [
        "2025-07-01T00:00:00",
        "2025-07-01",
        "2025-07-01T00:00Z",
        "1751328000000",
        "2025-07-01T00:00:61Z",
        "2025-07-01T00:00:00+24:00",
        "2025-07-01T00:00:00+0200",
        "2025-02-29T00:00:00Z",
        "2025-W27-2T00:00:00Z",
        "2025-07-01T00:00:00,5Z",
        "\u0661\u0662",
        "",
        "1e9",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a|out of range|must be|time"):
        parse_moment(text)


@pytest.mark.parametrize("moment", [str(NOW), rfc3339(NOW)])
def test_accepted_evidence_ends_with_0(files: list[object], moment: str) -> None:
    result = run(attest, "verify", *files, "--at", moment)
    assert result.exit_code == 0, result.output
    assert "ACCEPTED" in result.output
    assert "SIMULATED" in result.output


def test_json_holds_verdict_findings_and_every_field(files: list[object]) -> None:
    result = run(attest, "verify", *files, "--at", NOW, "--json")
    shown = json.loads(result.output)
    assert shown["accepted"] is True
    assert shown["simulated"] is True
    assert shown["at"] == rfc3339(NOW)
    assert shown["tcb_status"] == "UpToDate"
    assert shown["quote"]["report_body"]["mr_enclave"] == kit.MRENCLAVE.hex()
    assert shown["collateral"]["issued"] < shown["collateral"]["expires"]
    assert {"code", "part", "phase", "passed", "severity", "expected", "found", "remedy"} == shown["findings"][0].keys()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_refused_evidence_ends_with_10_and_says_why(files: list[object], tmp_path: Path, form: list[str]) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(policy.read_text(encoding="utf-8").replace("07", "08"), encoding="utf-8")
    result = run(attest, "verify", *files, "--at", NOW, *form)
    assert result.exit_code == 10
    assert "sgx-mrenclave" in result.output
    if not form:
        assert "REFUSED" in result.output
        assert "compare the manifest with the measured one" in result.output


def test_a_verdict_in_a_pipe_has_every_value_whole(files: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(attest, "verify", *files, "--at", NOW).output
    (line,) = (line for line in shown.splitlines() if "sgx-mrenclave" in line)
    assert line.count(kit.MRENCLAVE.hex()) == 2
    assert line.startswith("ok ")


def test_a_person_sees_long_values_shortened(files: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestation.report_text.sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    shown = run(attest, "verify", *files, "--at", NOW).output
    assert kit.MRENCLAVE.hex() not in shown
    assert f"{kit.MRENCLAVE.hex()[:12]}..." in shown


def refusal(result: Result) -> StrongroomError:
    assert isinstance(result.exception, StrongroomError), result.output
    return result.exception


def test_broken_evidence_and_collateral_are_reported_with_their_codes(files: list[object], tmp_path: Path) -> None:
    stale = run(attest, "verify", *files, "--at", NOW + 10**8)
    assert (stale.exit_code, str(EvidenceCode.CRL_EXPIRED) in stale.output) == (10, True)
    (tmp_path / "quote.bin").write_bytes(kit.sim_quote() + b"x")
    broken = run(attest, "verify", *files)
    assert (broken.exit_code, str(EvidenceCode.QUOTE_TRAILING_BYTES) in broken.output) == (30, True)
    (tmp_path / "quote.bin").unlink()
    assert refusal(run(attest, "verify", *files)).code is ManifestCode.FILE_UNAVAILABLE


def test_collateral_may_be_one_file(files: list[object], tmp_path: Path) -> None:
    files[3] = next((tmp_path / "collateral").iterdir())
    assert run(attest, "verify", *files, "--at", NOW).exit_code == 0


@pytest.mark.parametrize("moment", ["yesterday", "2025-13-01T00:00:00Z", "-5"])
def test_a_time_that_is_none_is_a_usage_error(files: list[object], moment: str) -> None:
    assert run(attest, "verify", *files, f"--at={moment}").exit_code == 2


def test_show_decodes_without_verifying(files: list[object]) -> None:
    result = run(attest, "show", files[1])
    assert result.exit_code == 0
    assert "Nothing here is verified" in result.output
    assert kit.MRENCLAVE.hex() in result.output
    shown = json.loads(run(attest, "show", files[1], "--json").output)
    assert shown["verified"] is False
    assert shown["collateral"] == "sgx-53494d000000-processor"


def test_show_of_a_deployment_that_does_not_answer_says_so(tmp_path: Path) -> None:
    assert refusal(run(attest, "show", f"unix:{tmp_path}/none")).code is ClientCode.ADDRESS_UNREACHABLE
    assert refusal(run(attest, "show", "tcp:nowhere")).code is WireCode.ADDRESS_INVALID


def test_show_of_a_deployment_decodes_its_quote(monkeypatch: pytest.MonkeyPatch) -> None:
    record = EvidenceRecord(b"claims", kit.sim_quote(), InclusionProof(0, 1, ()), "sgx")
    asked = []

    def collect(address: str, *, route: str) -> tuple[EvidenceRecord, bytes]:
        asked.append((address, route))
        return record, bytes(64)

    monkeypatch.setattr("attestation.client.connection.collect_evidence", collect)
    result = run(attest, "show", "unix:/run/agent", "--route", "blue", "--json")
    assert json.loads(result.output)["quote"]["report_body"]["mr_enclave"] == kit.MRENCLAVE.hex()
    assert asked == [("unix:/run/agent", "blue")]


def test_evidence_of_a_deployment_is_saved_and_verified_as_evidence(
    files: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = EvidenceRecord(b"claims", kit.sim_quote(), InclusionProof(0, 1, ()), "sgx")
    monkeypatch.setattr("attestation.client.connection.collect_evidence", lambda *_, **__: (record, bytes(64)))
    saved = tmp_path / "live.bin"
    assert run(attest, "show", "unix:/run/agent", "--output", saved).exit_code == 0
    assert saved.read_bytes() == kit.sim_quote()
    files[1] = saved
    assert run(attest, "verify", *files, "--at", NOW).exit_code == 0
    assert refusal(run(attest, "show", "unix:/run/agent", "-o", saved)).code is ManifestCode.FILE_EXISTS


def test_evidence_may_come_wrapped_and_by_standard_input(files: list[object]) -> None:
    words = ["verify", "--evidence", "-", *files[2:], "--at", NOW, "--json"]
    result = CliRunner().invoke(attest, [str(word) for word in words], input=kit.sim_quote().hex().encode())
    shown = json.loads(result.output)
    assert (result.exit_code, shown["accepted"], shown["wrapping"]) == (0, True, ["hex"])


def test_without_a_policy_only_genuineness_is_judged(files: list[object], tmp_path: Path) -> None:
    words = [*files[:4], "--simulated-root", tmp_path / "root.pem", "--at", NOW]
    result = run(attest, "verify", *words)
    assert result.exit_code == 0, result.output
    assert "not WHOSE CODE" in result.output
    assert run(attest, "verify", *files[:4], "--at", NOW).exit_code == 10
    assert run(attest, "verify", *files, "--simulated-root", tmp_path / "root.pem").exit_code == 2


def test_evidence_without_its_collateral_ends_with_40_and_says_how_to_get_it(files: list[object]) -> None:
    for command in ("verify", "explain"):
        root = Path(str(files[1])).with_name("root.pem")
        result = run(attest, command, *files[:2], "--simulated-root", root, "--at", NOW)
        assert result.exit_code == 40
        assert str(EvidenceCode.COLLATERAL_MISSING) in result.output
        assert "sgx-53494d000000-processor" in result.output
        assert "strongroom collateral fetch" in result.output


def test_report_data_must_be_what_the_evidence_is_bound_to(files: list[object]) -> None:
    for data, status in ((kit.REPORT_DATA, 0), (bytes(64), 10)):
        assert run(attest, "verify", *files, "--at", NOW, "--report-data", data.hex()).exit_code == status
    for text in ("00", "xx" * 64):
        assert run(attest, "verify", *files, "--report-data", text).exit_code == 2


def test_a_verdict_is_signed_as_a_token(files: list[object], tmp_path: Path) -> None:
    key, out = tmp_path / "verifier.key", tmp_path / "result.jwt"
    public, card = write_verifier_key(key, b"secret", cost=keyfile.Cost(1, 8 * 1024))
    assert len(public) == 32
    (tmp_path / "pass").write_bytes(b"secret\n")
    token = ["--token-key", key, "--token-out", out, "--passphrase-file", tmp_path / "pass"]
    assert run(attest, "verify", *files, "--at", NOW, *token).exit_code == 0
    checked = json.loads(run(attest, "verify-token", out, "--key", card, "--at", NOW, "--simulation", "--json").output)
    assert checked["accepted"] is True
    assert run(attest, "verify", *files, "--at", NOW, "--token-key", key).exit_code == 2
    for option in (("--nonce", "00" * 8), ("--audience", "bank")):
        assert run(attest, "verify", *files, "--at", NOW, *option).exit_code == 2
    unjudged = run(attest, "verify", *files[:4], "--at", NOW, *token)
    assert refusal(unjudged).code is EarCode.UNISSUABLE


def test_a_token_answers_a_nonce_for_one_audience(files: list[object], tmp_path: Path) -> None:
    key, out = tmp_path / "verifier.key", tmp_path / "result.jwt"
    _, card = write_verifier_key(key, b"secret", cost=keyfile.Cost(1, 8 * 1024))
    (tmp_path / "pass").write_bytes(b"secret\n")
    signing = ["--at", NOW, "--token-key", key, "--token-out", out, "--passphrase-file", tmp_path / "pass"]
    asked = ["--nonce", "ab" * 16, "--audience", "bank"]
    assert run(attest, "verify", *files, *signing, *asked).exit_code == 0
    check = ["verify-token", out, "--key", card, "--at", NOW, "--simulation"]
    assert run(attest, *check, *asked).exit_code == 0
    assert refusal(run(attest, *check, "--nonce", "ab" * 16)).code is EarCode.AUDIENCE
    assert refusal(run(attest, *check, "--audience", "bank", "--nonce", "00" * 16)).code is EarCode.NONCE
    assert run(attest, "verify", *files, *signing, "--nonce", "xx").exit_code == 2
    assert refusal(run(attest, "verify", *files, *signing, "--nonce", "ab")).code is EarCode.REQUEST


def test_json_is_one_document_also_where_the_token_cannot_be_made(files: list[object], tmp_path: Path) -> None:
    key, out = tmp_path / "verifier.key", tmp_path / "result.jwt"
    write_verifier_key(key, b"secret", cost=keyfile.Cost(1, 8 * 1024))
    (tmp_path / "right").write_bytes(b"secret\n")
    (tmp_path / "wrong").write_bytes(b"guess\n")
    (tmp_path / "there").write_bytes(b"kept")

    def token(evidence: list[object], target: Path, passphrase: str) -> tuple[int, bool, str | None]:
        options = ["--token-key", key, "--token-out", target, "--passphrase-file", tmp_path / passphrase]
        result = run(attest, "verify", *evidence, "--at", NOW, "--json", *options)
        shown = json.loads(result.stdout)
        assert shown["token"]["file"] == str(target)
        return result.exit_code, shown["accepted"], (shown["token"]["error"] or {}).get("code")

    assert token(files, out, "wrong") == (2, True, "passphrase-wrong")
    assert token(files[:4], out, "right") == (10, False, "ear-unissuable")
    assert token(files, tmp_path / "there", "right") == (2, True, "file-exists")
    assert (tmp_path / "there").read_bytes() == b"kept"
    assert token(files, out, "right") == (0, True, None)


@pytest.mark.parametrize("place", ["none/result.jwt", "quote.bin/result.jwt", "collateral"])
def test_a_token_that_could_not_be_written_is_refused_before_anything_is_read(
    files: list[object], tmp_path: Path, place: str
) -> None:
    files[1] = tmp_path / "no-such-evidence"
    options = ["--token-key", tmp_path / "no-such-key", "--token-out", tmp_path / place]
    error = refusal(run(attest, "verify", *files, "--at", NOW, *options))
    assert (error.code, error.exit_code) == (ManifestCode.FILE_UNAVAILABLE, 2)
    assert error.message.startswith(f"--token-out: {tmp_path / place}")
    assert "a folder that is there" in str(error.remedy)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("version = ", PolicyCode.POLICY_MALFORMED),
        ("version = 1\nunknown = 1\n", PolicyCode.POLICY_MALFORMED),
        ("version = 2\n", PolicyCode.POLICY_VERSION),
        ("version = 1\n[evidence]\ntcb_status = ['UpToDate']\n[sgx]\n", PolicyCode.POLICY_VACUOUS),
        (None, ManifestCode.FILE_UNAVAILABLE),
    ],
)
def test_a_policy_that_cannot_be_used_is_no_verdict_over_evidence(
    files: list[object], tmp_path: Path, text: str | None, code: object
) -> None:
    policy = tmp_path / "policy.toml"
    policy.unlink()
    if text is not None:
        policy.write_text(text, encoding="utf-8")
    for command in ("verify", "explain"):
        error = refusal(run(attest, command, *files, "--at", NOW))
        assert (error.code, error.exit_code, error.to_dict()["fault"]) == (code, 2, "usage")
        assert "--policy" in error.message
        assert str(policy) in error.message


def test_a_simulated_root_that_is_none_names_its_option_and_file(files: list[object], tmp_path: Path) -> None:
    error = refusal(run(attest, "verify", *files[:4], "--simulated-root", tmp_path / "policy.toml"))
    assert (error.code, error.exit_code) == (EvidenceCode.CERTIFICATE_MALFORMED, 2)
    assert f"--simulated-root {tmp_path / 'policy.toml'}" in error.message
    assert "root.pem" in str(error.remedy)


def test_a_card_that_is_none_says_which_key_is_meant(files: list[object], tmp_path: Path) -> None:
    error = refusal(run(attest, "verify-token", files[1], "--key", tmp_path / "root.pem"))
    assert error.exit_code == 2
    assert "attest verifier-key" in str(error.remedy)


def test_dates_that_fail_say_at_what_time_the_rest_holds(files: list[object]) -> None:
    told = run(attest, "explain", *files, "--at", NOW + 10**8)
    as_of = rfc3339(kit.verify_sim().expires - 1)
    assert f"At {as_of}, which --at takes, it would pass" in told.output
    assert run(attest, "verify", *files, "--at", as_of).exit_code == 0


def test_evidence_that_is_cut_short_is_told_by_its_tee(tmp_path: Path) -> None:
    (tmp_path / "cut.bin").write_bytes(kit.sim_quote()[:400])
    shown = json.loads(run(attest, "verify", "--evidence", tmp_path / "cut.bin", "--json").output)
    assert (shown["tee"], shown["version"], shown["exit_code"]) == ("sgx", None, 30)
    told = run(attest, "explain", "--evidence", tmp_path / "cut.bin").output
    assert "Intel SGX, by how it begins; it does not parse" in told
    assert "It begins as Intel SGX does" in told
    (tmp_path / "other.bin").write_bytes(b"nothing that is known")
    assert "not evidence of any platform" in run(attest, "verify", "--evidence", tmp_path / "other.bin").output


def test_show_decodes_a_devices_report_without_its_chain(tmp_path: Path) -> None:
    path = vectors() / "nvidia/hopper-550-coco.report.hex"
    shown = json.loads(run(attest, "show", path, "--json").output)
    assert (shown["tee"], shown["collateral"]) == ("nvidia", None)
    assert len(shown["quote"]["report"]["nonce"]) == 64
    verified = json.loads(run(attest, "verify", "--evidence", path, "--json").output)
    assert (verified["tee"], verified["exit_code"], verified["quote"]) == ("nvidia", 40, shown["quote"])


def test_explain_says_in_words_and_in_json_what_verify_says(files: list[object]) -> None:
    words = run(attest, "explain", *files, "--at", NOW)
    assert words.exit_code == 0, words.output
    for title in ("What it is", "Who made it", "What was checked", "How current the platform is", "Next step"):
        assert title in words.output
    told = json.loads(run(attest, "explain", *files, "--at", NOW, "--json").output)
    assert told.keys() >= json.loads(run(attest, "verify", *files, "--at", NOW, "--json").output).keys()
    assert told["explanation"]["verdict"].startswith("ACCEPTED")


def test_show_takes_wrapped_evidence_of_any_tee(tmp_path: Path) -> None:
    path = tmp_path / "quote.json"
    path.write_text(json.dumps({"quote": kit.sim_quote().hex()}), encoding="utf-8")
    saved = tmp_path / "raw.bin"
    shown = json.loads(run(attest, "show", path, "--json", "-o", saved).output)
    assert shown["wrapping"] == ['JSON "quote"', "hex"]
    assert saved.read_bytes() == kit.sim_quote()


# --------------------------------------------------------------------------------------------------------- sim


def described(*arguments: object) -> dict[str, Any]:
    result = run(sim, *arguments, "--json")
    assert result.exit_code == 0, result.output
    shown: dict[str, Any] = json.loads(result.output)
    return shown


def test_a_platform_is_made_shown_and_put_into_any_state(tmp_path: Path) -> None:
    home = ("--home", tmp_path / "platform")
    made = described("init", *home)
    assert described("init", *home) == described("show", *home) == made
    changed = described("reissue", *home, "--tcb-status", "OutOfDate", "--advisory", "SIM-SA-1", "--debug")
    assert changed["state"] | {"tcb_status": "OutOfDate", "advisories": ["SIM-SA-1"], "debug": True} == changed["state"]
    assert described("reissue", *home, "--no-debug")["state"]["tcb_status"] == "OutOfDate"
    assert not described("show", *home)["state"]["debug"]
    assert described("reissue", *home, "--reset")["state"] == made["state"]
    assert made["root_sha256"] == changed["root_sha256"]
    assert made["platform"] == "SIMULATED"


@pytest.mark.parametrize("words", [(), ("--reset",), ("--debug",)])
def test_no_platform_is_made_by_changing_one(tmp_path: Path, words: tuple[str, ...]) -> None:
    error = refusal(run(sim, "reissue", "--home", tmp_path / "typo", *words))
    assert error.code is EvidenceCode.SIMULATOR_STATE
    assert "sim init" in str(error.remedy)
    assert not (tmp_path / "typo").exists()


def test_states_are_named_or_refused(tmp_path: Path) -> None:
    home = ("--home", tmp_path / "platform")
    described("init", *home)
    state = described("reissue", *home, "--reset", "--expired", "tcb-info", "--early", "pck-crl", "--revoke", "pck")
    assert state["state"]["expired"] == ["tcb-info"]
    assert state["state"]["revoked"] == ["pck"]
    assert run(sim, "reissue", *home, "--tcb-status", "Fine").exit_code == 2
    assert "SIMULATED" in run(sim, "show", *home).output


@pytest.mark.parametrize("home", ["file", "file/below", "x" * 300])
def test_a_platform_that_cannot_be_kept_there_says_so(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    assert refusal(run(sim, "init", "--home", tmp_path / home)).code is ManifestCode.FILE_UNAVAILABLE


def test_collateral_that_cannot_be_a_path_is_unavailable(files: list[object], tmp_path: Path) -> None:
    files[3] = tmp_path / ("x" * 300)
    assert refusal(run(attest, "verify", *files)).code is ManifestCode.FILE_UNAVAILABLE


ESCAPES = "\x1b[2J\x1b]0;title\x07\u202e"


def test_what_unverified_evidence_says_is_shown_and_not_done(tmp_path: Path) -> None:
    """The runtime data of a paravisor's report is any text, until the report's own hash of it is checked."""
    given = (vectors() / "azure-snp/coco-evidence-v1.json").read_bytes()
    hcl = azure.parse_evidence(given).hcl
    forged = dataclasses.replace(hcl, runtime_data=ESCAPES.encode(), padding=0).serialize()
    path = tmp_path / "evidence.json"
    text = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
    path.write_text(json.dumps(json.loads(given) | {"hcl_report": text}))
    result = run(attest, "show", path)
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.output.splitlines())
    assert "\\x1b[2J\\x1b]0;title\\x07" in result.output
    for command in ("verify", "explain"):
        assert all(line.isprintable() for line in run(attest, command, "--evidence", path).output.splitlines())


def test_names_of_files_are_shown_and_not_done(tmp_path: Path) -> None:
    (tmp_path / f"{ESCAPES}.json").write_text("{}")
    result = run(collateral, "status", tmp_path)
    assert result.exit_code == 10
    assert all(line.isprintable() for line in result.output.splitlines())
    assert "\\x1b[2J\\x1b]0;title\\x07\\u202e" in result.output


def test_a_pipe_among_the_collateral_keeps_nobody_waiting(files: list[object], tmp_path: Path) -> None:
    folder = tmp_path / "pipes"
    folder.mkdir()
    os.mkfifo(folder / f"{kit.platform().collateral_key}.json")
    result = run(attest, "verify", "--evidence", files[1], "--collateral", folder, "--at", NOW)
    assert result.exit_code == 40 or refusal(result).code is ManifestCode.FILE_UNAVAILABLE
    shown = run(collateral, "status", folder)
    assert shown.exit_code == 10
    assert "is no regular file" in shown.output


def test_showing_what_is_not_there_says_so(tmp_path: Path) -> None:
    assert refusal(run(sim, "show", "--home", tmp_path / "none")).code is ManifestCode.FILE_UNAVAILABLE


# ------------------------------------------------------------------------------------------- evidence of every TEE


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A platform whose AMD keys exist, since making them takes seconds."""
    home = tmp_path_factory.mktemp("machine") / "platform"
    CliRunner().invoke(sim, ["evidence", "--home", str(home), "--tee", "snp"], catch_exceptions=False)
    return home


def made(home: Path, tee: str, *more: Any) -> dict[str, Any]:
    result = run(sim, "evidence", "--home", home, "--tee", tee, *more, "--json")
    assert result.exit_code == 0, result.output
    shown: dict[str, Any] = json.loads(result.output)
    return shown


def verdict(shown: dict[str, Any], *more: Any) -> tuple[int, dict[str, Any]]:
    """What the printed command says."""
    words = shlex.split(shown["verify"])
    assert words[:3] == ["strongroom", "attest", "verify"]
    result = run(attest, *words[2:], *more, "--json")
    return result.exit_code, json.loads(result.output)


@pytest.mark.parametrize("tee", TEES)
def test_evidence_of_every_tee_can_be_made_and_the_printed_command_accepts_it(tee: str, machine: Path) -> None:
    shown = made(machine, tee)
    assert shown["platform"] == "SIMULATED"
    status, found = verdict(shown)
    assert (status, found["accepted"], found["tee"], found["simulated"]) == (0, True, tee, True)
    assert Path(shown["evidence"]).parent == machine / "evidence" / tee


@pytest.mark.parametrize("tee", TEES)
def test_no_policy_for_hardware_accepts_it(tee: str, machine: Path) -> None:
    shown = made(machine, tee)
    words = ["verify", "--evidence", shown["evidence"]]
    words += ["--collateral", shown["collateral"]] if "collateral" in shown else []
    result = run(attest, *words, "--json")
    assert result.exit_code == 10
    assert not json.loads(result.output)["accepted"]


def test_every_tee_that_is_handled_can_be_made() -> None:
    assert set(TEES) == {tee.name for tee in ALL_TEES}


def test_evidence_is_bound_to_the_bytes_that_are_given(machine: Path, tmp_path: Path) -> None:
    data = bytes(range(64)).hex()
    shown = made(machine, "tdx", "--report-data", data, "--output", tmp_path / "here")
    assert shown["verify"].endswith(f"--report-data {data}")
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        *("quote.bin", "root.pem", "policy.toml", "collateral.json")
    }
    other = shown | {"verify": shown["verify"].replace(data, bytes(64).hex())}
    status, found = verdict(other)
    assert status == 10
    assert "report-data" in {each["code"] for each in found["findings"] if not each["passed"]}


@pytest.mark.parametrize("words", [("tdx", "00"), ("tdx", "zz" * 64), ("ratls", "00" * 64)])
def test_report_data_that_cannot_be_bound_are_a_mistake(words: tuple[str, str], machine: Path) -> None:
    tee, data = words
    assert run(sim, "evidence", "--home", machine, "--tee", tee, "--report-data", data).exit_code == 2


@pytest.mark.parametrize(
    ("tee", "state", "code"),
    [
        ("sgx", ("--debug",), "sgx-debug"),
        ("tdx", ("--tcb-status", "OutOfDate"), "tcb-status"),
        ("snp", ("--tcb-status", "OutOfDate"), "tcb-status"),
        ("azure-snp", ("--debug",), "snp-debug"),
        ("nitro", ("--debug",), "nitro-debug"),
    ],
)
def test_the_platforms_state_shows_in_the_evidence(
    tee: str, state: tuple[str, ...], code: str, machine: Path, tmp_path: Path
) -> None:
    home = tmp_path / "platform"
    shutil.copytree(machine, home)
    assert run(sim, "reissue", "--home", home, *state).exit_code == 0
    status, found = verdict(made(home, tee))
    assert status == 10
    assert code in {each["code"] for each in found["findings"] if not each["passed"]}


@pytest.mark.parametrize("command", ["verify", "explain"])
def test_programs_read_no_acceptance_and_the_status_also_where_nothing_could_be_examined(
    files: list[object], command: str
) -> None:
    result = run(attest, command, *files[:1], "nowhere", *files[2:], "--json")
    told = json.loads(result.output)
    assert (told["accepted"], told["exit_code"]) == (False, result.exit_code)
    assert told["error"]["code"] == ManifestCode.FILE_UNAVAILABLE
    assert result.exit_code == int(ManifestCode.FILE_UNAVAILABLE.fault)


# ------------------------------------------------------------------------------------------------ what was meant


def test_evidence_in_the_place_of_collateral_is_called_so(files: list[object], tmp_path: Path) -> None:
    (tmp_path / "quote.hex").write_text(kit.sim_quote().hex(), encoding="ascii")
    for name in ("quote.bin", "quote.hex"):
        result = run(attest, "verify", "--evidence", files[1], "--collateral", tmp_path / name)
        error = refusal(result)
        assert (error.code, error.exit_code) == (EvidenceCode.COLLATERAL_MALFORMED, 30)
        assert "evidence, and no collateral" in error.message
        assert "--evidence" in str(error.remedy)


def test_collateral_may_come_through_a_pipe(files: list[object]) -> None:
    """As a shell's <(...) has it; it can be read once."""
    reading, writing = os.pipe()
    os.write(writing, kit.platform().collateral(NOW).to_json().encode())
    os.close(writing)
    try:
        changed = [*files[:2], "--collateral", f"/dev/fd/{reading}", *files[4:]]
        result = run(attest, "verify", *changed, "--at", NOW)
    finally:
        os.close(reading)
    assert result.exit_code == 0, result.output


def test_a_pipe_with_a_name_is_refused_and_not_waited_for(files: list[object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    error = refusal(run(attest, "verify", *files[:2], "--collateral", tmp_path / "pipe"))
    assert error.code is ManifestCode.FILE_UNAVAILABLE
    assert "<(...)" in str(error.remedy)


def test_a_route_is_of_an_address_alone(files: list[object]) -> None:
    result = run(attest, "show", files[1], "--route", "blue")
    assert result.exit_code == 2
    assert "--route" in result.output
