"""`strongroom receipt`: exit statuses, JSON, and files that do not fit together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from attestation.client.files import write_outputs
from attestation.receipts.bundle import ReceiptBundle
from attestation.receipts.cli import receipt
from attestation.types import cose
from manifests.errors import StrongroomError
from tests.receipts import kit
from tests.receipts.test_format import GOLDEN, message, rewritten


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_bytes((GOLDEN / "v1.policy.toml").read_bytes())
    kit.bundle().save(tmp_path / "a.receipt")
    (tmp_path / "a.cose").write_bytes(kit.signed())
    (tmp_path / "a.evidence").write_bytes(kit.record().encode())
    (tmp_path / "a.collateral").write_text(kit.platform().collateral(kit.NOW).to_json())
    np.save(tmp_path / "x.npy", kit.INPUTS["x"])
    (tmp_path / "x.json").write_text(json.dumps(kit.INPUTS["x"].tolist()))
    (tmp_path / "note.json").write_text('["good morning"]')
    write_outputs(tmp_path / "y.npz", kit.OUTPUTS)
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(receipt, [str(word) for word in words])


def verify(folder: Path, file: str, *words: object, at: int = kit.NOW) -> Result:
    return run("verify", folder / file, "--policy", folder / "policy.toml", "--at", at, *words)


def code_of(result: Result) -> str:
    assert isinstance(result.exception, StrongroomError), result.output
    return str(result.exception.code)


def test_a_bundle_is_verified_with_nothing_but_a_policy(folder: Path) -> None:
    result = verify(folder, "a.receipt")
    assert result.exit_code == 0
    assert "accepted: SIMULATED" in result.output
    told = json.loads(verify(folder, "a.receipt", "--json").stdout)
    assert (told["accepted"], told["simulated"], told["receipt"]["serial"]) == (True, True, 17)
    assert all(each["passed"] for each in told["findings"])


def test_now_is_the_time_unless_another_is_given(folder: Path) -> None:
    """The kit's collateral is of a time to come or gone by; either way not of this one."""
    result = run("verify", folder / "a.receipt", "--policy", folder / "policy.toml", "--json")
    assert result.exit_code == 10
    assert json.loads(result.stdout)["accepted"] is False


def test_content_in_files_is_compared(folder: Path) -> None:
    given = (
        "--input",
        f"x={folder / 'x.npy'}",
        "--input",
        f"note={folder / 'note.json'}",
        "--output",
        folder / "y.npz",
    )
    assert verify(folder, "a.receipt", *given).exit_code == 0
    assert verify(folder, "a.receipt", "--input", f"x={folder / 'x.json'}").exit_code == 0, "JSON takes the dtype sent"
    np.save(folder / "x.npy", kit.INPUTS["x"] + 1)
    write_outputs(folder / "y.npz", {"y": kit.OUTPUTS["y"] * 2}, overwrite=True)
    told = json.loads(verify(folder, "a.receipt", *given, "--json").stdout)
    refused = [each for each in told["findings"] if not each["passed"]]
    assert [each["code"] for each in refused] == ["receipt-input", "receipt-output"]
    assert all(each["remedy"] for each in refused)


def test_a_bare_receipt_takes_evidence_and_collateral(folder: Path) -> None:
    beside = ("--evidence", folder / "a.evidence", "--collateral", folder / "a.collateral")
    assert verify(folder, "a.cose", *beside).exit_code == 0
    assert verify(folder, "a.cose", *beside[:2]).exit_code == 40
    assert verify(folder, "a.cose").exit_code == 2
    assert verify(folder, "a.receipt", *beside[:2]).exit_code == 2
    assert verify(folder, "a.receipt", *beside[2:]).exit_code == 0
    opened = (*beside, "--salts", folder / "a.receipt", "--output", folder / "y.npz")
    assert verify(folder, "a.cose", *opened).exit_code == 0
    assert code_of(verify(folder, "a.cose", *beside, "--output", folder / "y.npz")) == "receipt-withheld"


def test_the_salts_of_another_receipt_are_none_of_this(folder: Path) -> None:
    replace(kit.bundle(), receipt=kit.signed(serial=18)).save(folder / "b.receipt")
    assert code_of(verify(folder, "a.receipt", "--salts", folder / "b.receipt")) == "receipt-withheld"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--model", "00" * 64), "receipt-model"),
        (("--owner", kit.OTHER_OWNER.hex()), "receipt-owner"),
        (("--session", "00" * 64), "receipt-session"),
        (("--stage", "00" * 64), "receipt-stages"),
    ],
)
def test_what_the_caller_expects_is_held_against_the_receipt(folder: Path, words: Any, code: str) -> None:
    result = verify(folder, "a.receipt", *words)
    assert result.exit_code == 10
    assert code in result.stderr
    assert "REFUSED" in result.stdout


@pytest.mark.parametrize(
    "words",
    [("--model", "00"), ("--owner", "no hex"), ("--input", "x"), ("--input", "=x"), ("--at", "yesterday")],
)
def test_a_wrong_command_line_ends_with_2(folder: Path, words: Any) -> None:
    assert verify(folder, "a.receipt", *words).exit_code == 2


def test_files_that_are_none_have_their_codes(folder: Path) -> None:
    (folder / "broken").write_bytes(b"\x92\0")
    assert code_of(verify(folder, "broken")) == "receipt-bundle-malformed"
    (folder / "broken").write_bytes(rewritten()[:-1] + b"\0")
    assert code_of(verify(folder, "broken")) == "receipt-bundle-damaged"
    (folder / "broken").write_bytes(b"\xd2")
    assert code_of(verify(folder, "broken", "--evidence", folder / "a.evidence")) == "receipt-malformed"
    (folder / "broken").write_bytes(message(algorithm=cose.ES384))
    result = run("show", folder / "broken")
    assert code_of(result) == "receipt-algorithm"
    assert code_of(verify(folder, "a.receipt", "--output", folder / "x.npy")) == "tensor-invalid"
    assert code_of(verify(folder, "none")) == "file-unavailable"
    (folder / "policy.toml").write_text("version = 1")
    assert verify(folder, "a.receipt").exception.exit_code == 2  # type: ignore[union-attr]


def test_showing_verifies_nothing_and_takes_the_parts_out(folder: Path) -> None:
    result = run("show", folder / "a.receipt", "-o", folder / "b.cose", "--evidence", folder / "b.evidence")
    assert result.exit_code == 0
    assert "Nothing here is verified" in result.stderr
    assert "input opens    x, note; 0 withheld" in result.stdout
    assert (folder / "b.cose").read_bytes() == kit.signed()
    assert (folder / "b.evidence").read_bytes() == kit.record().encode()
    assert code_of(run("show", folder / "a.receipt", "-o", folder / "b.cose")) == "file-exists"
    told = json.loads(run("show", folder / "a.receipt", "--json").stdout)
    assert (told["verified"], told["noted_at"]) == (False, "2027-01-15T08:00:00Z")
    assert json.loads(run("show", folder / "b.cose", "--json").stdout)["receipt"]["owner"] == kit.OWNER.hex()
    assert run("show", folder / "b.cose", "-o", folder / "c").exit_code == 2


def test_disclosing_writes_the_named_tensors_alone(folder: Path) -> None:
    words = ("disclose", folder / "a.receipt", "-o", folder / "shown.receipt", "--input", "note")
    assert run(*words).exit_code == 0
    shown = ReceiptBundle.load(folder / "shown.receipt")
    assert shown == kit.bundle().closed().disclosing({"input": frozenset({"note"})})  # type: ignore[dict-item]
    assert verify(folder, "shown.receipt", "--input", f"note={folder / 'note.json'}").exit_code == 0
    assert code_of(verify(folder, "shown.receipt", "--input", f"x={folder / 'x.npy'}")) == "receipt-withheld"
    assert code_of(run(*words)) == "file-exists"
    assert code_of(run("disclose", folder / "a.receipt", "-o", folder / "c", "--answer", "x")) == "receipt-withheld"


def test_an_answer_in_the_place_of_a_receipt_is_no_receipt(folder: Path) -> None:
    result = verify(folder, "y.npz")
    assert isinstance(result.exception, StrongroomError)
    assert "y.npz is no receipt" in result.exception.message
    assert result.exception.exit_code == 30


def test_a_receipt_that_is_good_shows_no_line_that_looks_like_a_failed_check(folder: Path) -> None:
    lines = verify(folder, "a.receipt").output.splitlines()
    before = lines[: next(at for at, line in enumerate(lines) if line.startswith("accepted"))]
    assert all(line.startswith(("note, no failed check: ", "  ")) for line in before)
