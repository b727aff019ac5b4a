"""The commands: what they print, what they write, and how they end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from attestation.broker import cli, keystore
from attestation.broker.cli import broker
from attestation.broker.errors import BrokerCode
from attestation.broker.home import Home
from attestation.broker.ledger import Ledger
from attestation.broker.schema import BudgetRow, EnclaveRow, LeaseRow
from attestation.errors import PolicyCode
from attestation.types import Credential, Delegation, Right
from attestation.types.budgets import ANONYMOUS, identity_of
from manifests import keyfile
from manifests.cli import rewrap
from manifests.errors import ManifestCode, StrongroomError
from manifests.sealed.recipients import RecipientKey
from tests.broker.conftest import Sealing
from tests.broker.support import CHEAP, NOW, OWNER, PASSPHRASE, record, sql

POLICY = f"""
version = 1
[evidence]
tcb_status = ["UpToDate"]
simulation = true
simulated_root = "{"00" * 32}"
[sgx]
mrenclave = ["{"11" * 32}"]
[release]
models = ["*"]
lease = 100
"""


class Console:
    """A shell in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"

    def run(self, *words: object, passphrase: bytes | None = PASSPHRASE) -> Result:
        env = {"STRONGROOM_PASSPHRASE": passphrase.decode() if passphrase else None}
        return CliRunner().invoke(broker, [str(word) for word in words], env=env)

    def good(self, *words: object) -> str:
        result = self.run(*words)
        assert result.exception is None, result.output
        assert result.exit_code == 0, result.output
        return result.output

    def json(self, *words: object) -> Any:
        return json.loads(self.good(*words, "--json"))

    def fails(self, *words: object, passphrase: bytes | None = PASSPHRASE) -> StrongroomError:
        result = self.run(*words, passphrase=passphrase)
        assert isinstance(result.exception, StrongroomError), result.output
        return result.exception

    def add(self, model: Path) -> Any:
        return self.json("add", model, "--home", self.home, "--delegation", self.folder / "delegation")


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    """A broker that was made, and an owner who delegated to it."""
    monkeypatch.setattr(keystore.keyfile.write_key_file, "__kwdefaults__", {"public": None, "cost": CHEAP})
    monkeypatch.setattr(cli.admin.init_home, "__kwdefaults__", {"cost": CHEAP})
    made = Console(tmp_path)
    made.good("init", "--home", made.home)
    keyfile.write_key_file(tmp_path / "owner.key", "owner", OWNER.seed(), PASSPHRASE, cost=CHEAP)
    made.good(
        *("delegate", "--owner-key", tmp_path / "owner.key", "--broker", made.home / "broker.pub"),
        *("--model", "*", "-o", tmp_path / "delegation"),
    )
    (tmp_path / "policy.toml").write_text(POLICY)
    return made


def recipient(console: Console) -> bytes:
    return Home(console.home).public_keys()["strongroom-recipient"]


def test_init_makes_a_home_once(console: Console) -> None:
    assert sorted(path.name for path in console.home.iterdir()) == [
        "anchor",
        "broker.db",
        "broker.key",
        "broker.pub",
        "version",
    ]
    assert console.fails("init", "--home", console.home).code is BrokerCode.HOME_EXISTS


def test_the_card_is_shown_written_and_summarised(console: Console) -> None:
    card = (console.home / "broker.pub").read_text()
    assert console.good("card", "--home", console.home) == card
    assert console.good("card", "--home", console.home, "-o", console.folder / "copy") == ""
    assert (console.folder / "copy").read_text() == card
    assert set(console.json("card", "--home", console.home)) == {"broker", "recipient"}


def test_a_delegation_without_rights_named_gives_what_serving_needs(console: Console) -> None:
    document = Delegation.open((console.folder / "delegation").read_bytes(), OWNER.public)
    assert document.rights == (Right.HEARTBEAT, Right.PROVISION, Right.REVOKE)
    assert document.models == ("*",)


def test_a_delegation_names_what_it_was_told(console: Console) -> None:
    console.good(
        *("delegate", "--owner-key", console.folder / "owner.key", "--broker", console.home / "broker.pub"),
        *("--model", "b", "--model", "a", "--right", "provision", "--epoch-floor", 7, "-o", console.folder / "d"),
    )
    document = Delegation.open((console.folder / "d").read_bytes(), OWNER.public)
    assert (document.rights, document.models, document.epoch_floor) == ((Right.PROVISION,), ("a", "b"), 7)


def test_a_model_is_added_and_listed(console: Console, sealed: Sealing) -> None:
    added = console.add(sealed(recipient(console)))
    assert added["owner"] == OWNER.public.hex()
    (model,) = console.json("list", "--home", console.home)["models"]
    assert (model["name"], model["digest"], model["holders"], model["revoked"]) == (
        "doubler",
        added["digest"],
        0,
        False,
    )
    shown = console.good("list", "--home", console.home)
    assert "doubler" in shown
    assert added["digest"][:16] in shown
    assert "Enclaves: none" in shown


def test_an_enclave_is_forgotten_by_the_beginning_of_its_boot_id(console: Console) -> None:
    home = Home(console.home)
    with Ledger.open(home, home.unlock(PASSPHRASE)) as ledger:
        enclave = EnclaveRow(b"\1" * 16, "simulated", bytes(32), "unix:/x", NOW, 1, 1)
        record(ledger, enclave, LeaseRow(b"\1" * 16, bytes(64), bytes(16), bytes(64), 10, NOW, NOW))
    assert console.json("forget", "01" * 8, "--home", console.home) == {"forgotten": "01" * 16, "leases": 1}
    (shown,) = console.json("list", "--home", console.home)["enclaves"]
    assert [lease["requests"] for lease in shown["leases"]] == [0]


def test_adding_a_model_for_somebody_else_fails(console: Console, sealed: Sealing) -> None:
    model = sealed(RecipientKey.generate().public)
    delegation = console.folder / "delegation"
    error = console.fails("add", model, "--home", console.home, "--delegation", delegation)
    assert error.code is ManifestCode.SEALED_RECIPIENT


def test_a_policy_is_checked_set_and_shown(console: Console) -> None:
    path = console.folder / "policy.toml"
    checked = console.json("policy", "check", path)
    assert (checked["platform"], checked["lease"], checked["max_enclaves"]) == ("SIMULATED", 100, 1)
    assert console.fails("policy", "show", "--home", console.home).code is BrokerCode.POLICY_MISSING
    assert console.json("policy", "set", path, "--home", console.home)["epoch"] == 1
    assert console.json("policy", "set", path, "--home", console.home)["epoch"] == 2
    assert console.json("policy", "show", "--home", console.home)["policy"]["release"]["lease"] == 100
    shown = console.good("policy", "show", "--home", console.home)
    assert shown.startswith("# epoch 2, set ")
    (console.folder / "shown.toml").write_text(shown)
    assert console.json("policy", "check", console.folder / "shown.toml") == checked


def test_a_policy_that_is_none_is_refused(console: Console) -> None:
    path = console.folder / "policy.toml"
    path.write_text("version = ")
    assert console.fails("policy", "check", path).code is PolicyCode.POLICY_MALFORMED
    assert console.fails("policy", "set", path, "--home", console.home).code is PolicyCode.POLICY_MALFORMED


def test_models_are_revoked_by_name_and_by_digest(console: Console, sealed: Sealing) -> None:
    first = console.add(sealed(recipient(console)))
    console.add(sealed(recipient(console), name="tripler"))
    done = console.json("revoke", "--home", console.home, "--model", first["digest"][:16])
    assert done == {"revoked": [f"doubler {first['digest']}"], "enclaves": "told by a running `broker serve`"}
    done = console.json("revoke", "--home", console.home, "--name", "tripler", "--below", 2)
    assert done["revoked"] == ["tripler below epoch 2"]
    assert [model["revoked"] for model in console.json("list", "--home", console.home)["models"]] == [True, True]


@pytest.mark.parametrize(
    "words",
    [
        ("--model", "00" * 64),
        ("--model", "abc"),
        ("--name", "nothing", "--below", "2"),
        ("--name", "doubler", "--below", "2", "--owner", "00" * 32),
    ],
    ids=["an unknown digest", "too few digits", "an unknown name", "an unknown owner"],
)
def test_what_is_not_held_is_not_revoked(console: Console, sealed: Sealing, words: tuple[str, ...]) -> None:
    console.add(sealed(recipient(console)))
    assert console.fails("revoke", "--home", console.home, *words).code is BrokerCode.MODEL_UNKNOWN


@pytest.mark.parametrize(
    "words", [(), ("--name", "x"), ("--below", "2"), ("--model", "00", "--name", "x", "--below", "2")]
)
def test_a_revocation_that_is_not_said_clearly_is_a_usage_error(console: Console, words: tuple[str, ...]) -> None:
    assert console.run("revoke", "--home", console.home, *words).exit_code == 2


def test_a_credential_is_written(console: Console) -> None:
    path = console.folder / "credential"
    console.good("credential", "--home", console.home, "--client", OWNER.public.hex(), "--name", "ward 7", "-o", path)
    issuer = Home(console.home).public_keys()["strongroom-broker-signing"]
    assert Credential.open(path.read_bytes(), issuer).name == "ward 7"


def test_the_credential_of_a_card_is_shown_for_programs(console: Console) -> None:
    keyfile.write_card(console.folder / "client.pub", {"strongroom-client": OWNER.public})
    words = ("credential", "--home", console.home, "--client", console.folder / "client.pub", "--name", "ward 7")
    made = console.json(*words, "-o", console.folder / "credential")
    issuer = Home(console.home).public_keys()["strongroom-broker-signing"]
    assert made == {
        "file": str(console.folder / "credential"),
        "client": OWNER.public.hex(),
        "name": "ward 7",
        "issuer": issuer.hex(),
    }


def test_a_delegation_is_shown_for_programs(console: Console) -> None:
    words = ("delegate", "--owner-key", console.folder / "owner.key", "--broker", console.home / "broker.pub")
    made = console.json(*words, "--model", "a", "--right", "provision", "-o", console.folder / "d")
    assert (made["rights"], made["models"], made["epoch_floor"]) == (["provision"], ["a"], 0)
    assert made["owner"] == OWNER.public.hex()


@pytest.mark.parametrize("command", ["card", "delegate", "credential", "rewrap"])
def test_a_file_that_is_there_is_replaced_by_force_alone(console: Console, sealed: Sealing, command: str) -> None:
    output = console.folder / "there"
    output.write_text("precious")
    card = console.home / "broker.pub"
    words: dict[str, tuple[object, ...]] = {
        "card": ("--home", console.home),
        "delegate": ("--owner-key", console.folder / "owner.key", "--broker", card, "--model", "*"),
        "credential": ("--home", console.home, "--client", OWNER.public.hex(), "--name", "ward 7"),
        "rewrap": (sealed(recipient(console)), "--home", console.home, "--add", card),
    }
    rows = len(console.json("audit", "show", "--home", console.home))
    error = console.fails(command, *words[command], "-o", output)
    assert error.code is ManifestCode.FILE_EXISTS
    assert "--force" in str(error.remedy)
    assert output.read_text() == "precious"
    assert len(console.json("audit", "show", "--home", console.home)) == rows, "nothing was decided either"
    console.good(command, *words[command], "-o", output, "--force")
    assert output.read_bytes() != b"precious"


def test_a_model_for_the_brokers_card_is_rewrapped_with_the_brokers_home(console: Console, sealed: Sealing) -> None:
    model, other = sealed(recipient(console)), RecipientKey.generate()
    keyfile.write_card(console.folder / "other.pub", {"strongroom-recipient": other.public})
    words = ("rewrap", model, "--home", console.home)
    assert len(console.json(*words, "--add", console.folder / "other.pub")["recipients"]) == 2
    assert len(console.json(*words, "--remove", other.key_id.hex())["recipients"]) == 1
    assert console.run(*words).exit_code == 2


def test_a_brokers_key_file_is_refused_with_the_command_that_takes_it(console: Console, sealed: Sealing) -> None:
    words = [sealed(recipient(console)), "--key", console.home / "broker.key", "--add", console.home / "broker.pub"]
    error = CliRunner().invoke(rewrap, [str(word) for word in words], env={"STRONGROOM_PASSPHRASE": "x"}).exception
    assert isinstance(error, StrongroomError)
    assert error.code is ManifestCode.KEY_INVALID
    assert "strongroom broker" in str(error.remedy)


def test_serving_an_unreachable_host_once_fails_with_its_code(console: Console) -> None:
    console.good("policy", "set", console.folder / "policy.toml", "--home", console.home)
    (console.folder / "collateral").mkdir()
    words = ("serve", "--home", console.home, "--collateral", console.folder / "collateral", "--once")
    error = console.fails(*words, "--host", f"unix:{console.folder}/nobody")
    assert error.exit_code == 40
    assert console.fails(*words, "--host", "nowhere").exit_code == 2
    (line,) = console.run(*words, "--host", f"unix:{console.folder}/nobody", "--json").output.splitlines()
    assert json.loads(line)["code"] == "address-unreachable"


def test_a_wrong_or_missing_passphrase_is_a_clear_end(console: Console) -> None:
    error = console.fails("list", "--home", console.home, passphrase=b"wrong")
    assert (error.code, error.exit_code) == (ManifestCode.PASSPHRASE_WRONG, 10)
    assert console.run("list", "--home", console.home, passphrase=None).exit_code == 2
    file = console.folder / "passphrase"
    file.write_bytes(PASSPHRASE + b"\n")
    assert console.run("list", "--home", console.home, "--passphrase-file", file, passphrase=None).exit_code == 0


def test_a_folder_that_is_no_home_is_refused_before_a_passphrase_is_asked_for(console: Console) -> None:
    assert console.fails("list", "--home", console.folder, passphrase=None).code is BrokerCode.HOME_INVALID


# ------------------------------------------------------------------------------------------------ audit


def test_the_log_is_shown_verified_and_exported(console: Console, sealed: Sealing) -> None:
    console.add(sealed(recipient(console)))
    assert [row["kind"] for row in console.json("audit", "show", "--home", console.home)] == ["created", "model-added"]
    assert [row["index"] for row in console.json("audit", "show", "--home", console.home, "--last", 1)] == [1]
    assert len(console.json("audit", "show", "--home", console.home, "--kind", "created")) == 1
    assert "model-added" in console.good("audit", "show", "--home", console.home)
    verified = console.json("audit", "verify", "--home", console.home)
    assert (verified["rows"], verified["model-added"]) == (2, 1)
    export = console.json("audit", "export", "--home", console.home, "-o", console.folder / "log")
    words = ("audit", "verify", "--export", console.folder / "log", "--broker", console.home / "broker.pub")
    assert console.json(*words, "--head", verified["head"])["head"] == export["head"] == verified["head"]
    assert console.fails(*words, "--head", "00" * 64).code is BrokerCode.AUDIT_HEAD
    assert console.fails(*words, "--head", "zz").code is BrokerCode.AUDIT_HEAD


def test_a_tampered_log_is_named_by_its_row(console: Console, sealed: Sealing) -> None:
    console.add(sealed(recipient(console)))
    sql(Home(console.home), "UPDATE audit SET body = x'80' WHERE \"index\" = 0")
    error = console.fails("audit", "verify", "--home", console.home)
    assert (error.code, error.to_dict()["index"]) == (BrokerCode.AUDIT_ALTERED, 0)
    assert console.fails("audit", "show", "--home", console.home).code is BrokerCode.AUDIT_ALTERED


def test_a_log_whose_end_was_cut_lacks_the_anchors_head(console: Console, sealed: Sealing) -> None:
    console.add(sealed(recipient(console)))
    sql(Home(console.home), 'DELETE FROM audit WHERE "index" = 1')
    assert console.fails("audit", "verify", "--home", console.home).code is BrokerCode.AUDIT_HEAD
    assert console.fails("list", "--home", console.home).code is BrokerCode.STORE_ROLLED_BACK


def test_a_restored_backup_is_accepted_only_by_name(console: Console) -> None:
    backup = (console.home / "broker.db").read_bytes()
    console.good("policy", "set", console.folder / "policy.toml", "--home", console.home)
    (console.home / "broker.db").write_bytes(backup)
    assert console.fails("list", "--home", console.home).code is BrokerCode.STORE_ROLLED_BACK
    assert console.run("audit", "accept", "--home", console.home).exit_code == 2
    accepted = console.json("audit", "accept", "--home", console.home, "--dangerously-accept-rollback")
    assert accepted["rows"] == 2
    assert console.json("audit", "show", "--home", console.home)[-1]["kind"] == "restored"
    console.good("list", "--home", console.home)


@pytest.mark.parametrize("words", [(), ("--export", "log"), ("--home", "x", "--export", "log", "--broker", "card")])
def test_verification_needs_one_log_and_a_key_from_elsewhere(console: Console, words: tuple[str, ...]) -> None:
    assert console.run("audit", "verify", *words).exit_code == 2


# ------------------------------------------------------------------------------------------------ budgets


@pytest.fixture
def budgeted(console: Console) -> Console:
    """A broker that has granted a named client 30 requests of a model, and an unknown one 20."""
    text = (console.folder / "policy.toml").read_text() + "client_budget = 30\nslice = 10\nanonymous_budget = 5\n"
    (console.folder / "policy.toml").write_text(text)
    console.good("policy", "set", "--home", console.home, console.folder / "policy.toml")
    key = OWNER.public.hex()
    console.good(
        *("credential", "--home", console.home, "--client", key, "--name", "ward", "-o", console.folder / "credential")
    )
    home = Home(console.home)
    until = int(time.time()) + 3600
    rows = [
        BudgetRow(OWNER.public, "tumour", b"", until, 256, 4),
        BudgetRow(OWNER.public, "tumour", bytes(16), until, 256, 4),
        BudgetRow(OWNER.public, "tumour", identity_of(OWNER.public), until, 30, 0),
        BudgetRow(OWNER.public, "tumour", identity_of(b"\7" * 32), until, 20, 0),
        BudgetRow(OWNER.public, "tumour", ANONYMOUS, until, 5, 0),
        BudgetRow(OWNER.public, "old", identity_of(OWNER.public), until - 10**6, 9, 0),
    ]
    with Ledger.open(home, home.unlock(PASSPHRASE)) as ledger:
        record(ledger, *rows)
    return console


def test_budgets_are_shown_by_client_with_the_end_of_the_period(budgeted: Console) -> None:
    shown = budgeted.json("budgets", "--home", budgeted.home)
    found = {row["client"]: (row["model"], row["granted"], row["budget"]) for row in shown["clients"]}
    assert found == {"ward": ("tumour", 30, 30), "": ("tumour", 20, 30), "anonymous": ("tumour", 5, 5)}
    assert [(row["granted"], row["settled"]) for row in shown["newcomers"]] == [(256, 4)]
    text = budgeted.good("budgets", "--home", budgeted.home)
    assert "ward" in text
    assert identity_of(b"\7" * 32).hex()[:16] in text


@pytest.mark.parametrize("client", ["ward", OWNER.public.hex()])
def test_one_clients_budget_is_shown_by_name_or_key(budgeted: Console, client: str) -> None:
    shown = budgeted.json("budgets", "--home", budgeted.home, "--client", client)
    assert [row["key"] for row in shown["clients"]] == [OWNER.public.hex()]
    assert shown["newcomers"] == []
    assert "Newcomers" not in budgeted.good("budgets", "--home", budgeted.home, "--client", client)


def test_a_reset_gives_one_client_or_all_a_budget_anew_on_the_record(budgeted: Console) -> None:
    assert budgeted.json("budgets", "reset", "--home", budgeted.home, "--client", "ward") == {"reset": 1}
    assert budgeted.json("budgets", "--home", budgeted.home, "--client", "ward")["clients"][0]["granted"] == 0
    assert budgeted.json("budgets", "reset", "--home", budgeted.home, "--all", "--model", "tumour") == {"reset": 2}
    (_, row) = budgeted.json("audit", "show", "--home", budgeted.home, "--kind", "budgets-reset")
    assert sorted(item[3] for item in row["event"]["budgets"]) == [5, 20]
    untouched = budgeted.fails("budgets", "reset", "--home", budgeted.home, "--all")
    assert untouched.code is BrokerCode.BUDGETS_UNTOUCHED


def test_a_client_that_nobody_knows_is_a_clear_error(budgeted: Console) -> None:
    assert budgeted.fails("budgets", "--home", budgeted.home, "--client", "nobody").code is BrokerCode.CLIENT_UNKNOWN


@pytest.mark.parametrize("words", [("reset",), ("reset", "--all", "--client", "ward"), ("show", "--all")])
def test_a_reset_says_for_whom(budgeted: Console, words: tuple[str, ...]) -> None:
    assert budgeted.run("budgets", *words, "--home", budgeted.home).exit_code == 2
