"""`strongroom attest verify-token` and `verifier-key` print what the library says, and end with its status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attestation.cli import attest
from attestation.ear import EarCode
from attestation.ear.keys import CARD_ENTRY, read_verifier_card, read_verifier_key, write_verifier_key
from manifests import keyfile
from manifests.errors import ManifestCode, StrongroomError
from tests.attestation.kit import NOW, refused
from tests.ear.kit import NONCE, STRANGER, VERIFIER, policy, simulated_token, token

CHEAP = keyfile.Cost(1, 8 * 1024)


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(attest, [str(argument) for argument in arguments], input=stdin)


def check(tmp_path: Path, text: str, *options: object) -> Result:
    (tmp_path / "token").write_text(text, encoding="utf-8")
    keyfile.write_card(tmp_path / "verifier.pub", {CARD_ENTRY: VERIFIER.public})
    return run("verify-token", tmp_path / "token", "--key", tmp_path / "verifier.pub", "--at", NOW, *options)


def test_an_accepted_token_ends_with_0(tmp_path: Path) -> None:
    result = check(tmp_path, token() + "\n")
    assert result.exit_code == 0, result.output
    assert "AFFIRMING" in result.output
    assert policy().digest.hex() in result.output


def test_a_token_is_read_from_standard_input(tmp_path: Path) -> None:
    check(tmp_path, "")
    result = run("verify-token", "-", "--key", tmp_path / "verifier.pub", "--at", NOW, stdin=token())
    assert result.exit_code == 0, result.output


def test_json_holds_everything(tmp_path: Path) -> None:
    result = check(tmp_path, token(nonce=NONCE, audience="me"), "--nonce", NONCE.hex(), "--audience", "me", "--json")
    shown = json.loads(result.output)
    assert shown["accepted"] is True
    assert shown["error"] is None
    assert shown["token"]["nonce"] == NONCE.hex()
    assert shown["token"]["trustworthiness_vector"]["hardware"] == 2


def test_a_token_that_says_no_is_shown_and_ends_with_10(tmp_path: Path) -> None:
    text = token(under=policy(sgx={"isv_svn_min": 1}))
    result = check(tmp_path, text)
    assert isinstance(result.exception, StrongroomError)
    assert result.exception.code is EarCode.STATUS
    assert "CONTRAINDICATED" in result.output
    assert "sgx-isv-svn" in result.output
    as_json = check(tmp_path, text, "--json")
    assert as_json.exit_code == 10
    assert json.loads(as_json.output)["error"]["code"] == "ear-status"


def test_a_simulated_token_says_so_and_must_be_asked_for(tmp_path: Path) -> None:
    result = check(tmp_path, simulated_token())
    assert "SIMULATED" in result.output
    assert isinstance(result.exception, StrongroomError)
    assert result.exception.code is EarCode.SIMULATED
    asked = check(tmp_path, simulated_token(), "--simulation")
    assert asked.exit_code == 0
    assert "SIMULATED" in asked.output


def test_a_strangers_token_is_refused(tmp_path: Path) -> None:
    keyfile.write_card(tmp_path / "stranger.pub", {CARD_ENTRY: STRANGER.public})
    (tmp_path / "token").write_text(token(), encoding="utf-8")
    result = run("verify-token", tmp_path / "token", "--key", tmp_path / "stranger.pub", "--at", NOW)
    assert isinstance(result.exception, StrongroomError)
    assert result.exception.code is EarCode.KEY


@pytest.mark.parametrize("options", [("--nonce", "xyz"), ("--leeway", "301"), ("--at", "soon")])
def test_a_wrong_command_line_ends_with_2(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert check(tmp_path, token(), *options).exit_code == 2


@pytest.mark.parametrize("nonce", ["", "00", "00" * 7, "00" * 65])
def test_a_nonce_of_a_size_that_none_has_ends_with_2(tmp_path: Path, nonce: str) -> None:
    result = check(tmp_path, token(), "--nonce", nonce)
    assert isinstance(result.exception, StrongroomError)
    assert (result.exception.code, result.exception.exit_code) == (EarCode.REQUEST, 2)
    assert "8 to 64 bytes" in str(result.exception.remedy)


def test_a_verifiers_key_is_made_with_its_card(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("correct horse", encoding="utf-8")
    key = tmp_path / "verifier.key"
    result = run("verifier-key", "--key", key, "--passphrase-file", tmp_path / "passphrase", "--json")
    assert result.exit_code == 0, result.output
    signer = read_verifier_key(key, b"correct horse")
    assert json.loads(result.output)["public"] == signer.public.hex()
    assert read_verifier_card(tmp_path / "verifier.pub") == signer.public


def test_a_key_replaces_no_other(tmp_path: Path) -> None:
    write_verifier_key(tmp_path / "a.key", b"x", cost=CHEAP)
    for name in ("a.key", "a.other"):
        with refused(ManifestCode.FILE_EXISTS):
            write_verifier_key(tmp_path / name, b"x", cost=CHEAP)


def test_a_card_of_something_else_is_no_verifiers(tmp_path: Path) -> None:
    keyfile.write_card(tmp_path / "owner.pub", {"strongroom-owner": VERIFIER.public})
    with refused(ManifestCode.KEY_INVALID):
        read_verifier_card(tmp_path / "owner.pub")
