"""What an owner does with models that a broker has already: taking them out, and giving them further recipients."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.broker import inspection
from attestation.broker.admin import forget_enclave
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.ledger import Ledger
from attestation.broker.models import add_model, remove_model, rewrap_model
from attestation.broker.releases import Granted, release
from attestation.broker.state import State
from manifests.errors import ManifestCode, ManifestError
from manifests.sealed import inspect_sealed, recover_dek
from manifests.sealed.recipients import RecipientKey
from tests.broker.conftest import Sealing
from tests.broker.support import NOW, delegation, model_row, new_home, record, session, sql, stocked


def granted(ledger: Ledger, model: bytes, boot: int = 1) -> None:
    assert isinstance(release(ledger, session(boot), model, NOW), Granted)


def test_a_removed_model_is_gone_its_key_deleted_and_the_log_says_so(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", "tumour", "magika")
    gone = models["tumour"]
    with Ledger.open(home, keys) as ledger:
        version = ledger.version
        remove_model(ledger, gone.digest.hex()[:16], NOW)
        assert ledger.version != version, "a running broker takes notice"
    with Ledger.open(home, keys) as ledger:
        assert [row.name for row in ledger.look(State.models)] == ["magika"]
        with pytest.raises(BrokerError) as error:
            release(ledger, session(), gone.digest, NOW)
        assert error.value.code is BrokerCode.MODEL_UNKNOWN
        with pytest.raises(BrokerError) as error:
            remove_model(ledger, gone.digest.hex(), NOW)
        assert error.value.code is BrokerCode.MODEL_UNKNOWN
    assert sql(home, "SELECT wrapped FROM models WHERE digest = ?", gone.digest) == [(b"",)]
    (entry,) = inspection.newest(home, 1, None)
    assert (entry.kind, entry.event["model"], entry.event["holders"]) == ("model-removed", gone.digest, 0)
    inspection.verify_home(home, home.card, [])


def test_a_model_with_an_unspent_lease_is_removed_by_force_alone(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    digest = models["tumour"].digest
    with Ledger.open(home, keys) as ledger:
        granted(ledger, digest)
        with pytest.raises(BrokerError) as error:
            remove_model(ledger, digest.hex(), NOW)
        assert error.value.code is BrokerCode.MODEL_LEASED
        assert "broker forget" in str(error.value.remedy)
        remove_model(ledger, digest.hex(), NOW, force=True)
        assert ledger.look(State.models) == []
        assert ledger.look(lambda state: state.holders(digest)) == 1, "the enclave still has its lease"


def test_a_model_whose_enclaves_were_forgotten_is_removed(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    digest = models["tumour"].digest
    with Ledger.open(home, keys) as ledger:
        granted(ledger, digest)
        forget_enclave(ledger, session().evidence.boot_id.hex(), NOW)
        remove_model(ledger, digest.hex(), NOW)


def test_a_removed_epoch_stands_in_nobodys_way_and_the_owners_epoch_stays(tmp_path: Path) -> None:
    home, keys = new_home(tmp_path / "home")
    with Ledger.open(home, keys) as ledger:
        old, mistaken = model_row(keys, epoch=1), model_row(keys, epoch=9)
        record(ledger, old)
        record(ledger, mistaken)
        assert ledger.look(lambda state: state.newer_epochs(old)) == (9,)
        remove_model(ledger, mistaken.digest.hex(), NOW)
    with Ledger.open(home, keys) as ledger:
        assert ledger.look(lambda state: state.newer_epochs(old)) == ()
        assert ledger.look(lambda state: state.owner_epoch(old.owner)) == 9


def test_a_removed_model_can_be_added_again(tmp_path: Path, sealed: Sealing) -> None:
    home, keys = new_home(tmp_path / "home")
    model = sealed(keys.recipient.public)
    (tmp_path / "delegation").write_bytes(delegation(keys))
    with Ledger.open(home, keys) as ledger:
        row = add_model(ledger, model, tmp_path / "delegation", NOW)
        remove_model(ledger, row.digest.hex(), NOW)
        add_model(ledger, model, tmp_path / "delegation", NOW)
    with Ledger.open(home, keys) as ledger:
        assert [one.digest for one in ledger.look(State.models)] == [row.digest]


def test_the_broker_gives_its_model_a_further_recipient_and_the_log_names_it(tmp_path: Path, sealed: Sealing) -> None:
    home, keys = new_home(tmp_path / "home")
    model, other = sealed(keys.recipient.public), RecipientKey.generate()
    with Ledger.open(home, keys) as ledger:
        info = rewrap_model(ledger, model, NOW, add=[other.public])
        assert recover_dek(model, other) == recover_dek(model, keys.recipient)
        rewrap_model(ledger, model, NOW, remove=[other.key_id])
    assert inspect_sealed(model).recipients == [keys.recipient.key_id]
    added, removed = inspection.newest(home, 2, "rewrapped")
    assert added.event["model"] == info.digest
    assert (added.event["added"], removed.event["removed"]) == ([other.key_id], [other.key_id])


def test_a_model_for_somebody_else_is_neither_rewrapped_nor_recorded(tmp_path: Path, sealed: Sealing) -> None:
    home, keys = new_home(tmp_path / "home")
    model = sealed(RecipientKey.generate().public)
    before = model.read_bytes()
    with Ledger.open(home, keys) as ledger, pytest.raises(ManifestError) as error:
        rewrap_model(ledger, model, NOW, add=[keys.recipient.public])
    assert error.value.code is ManifestCode.SEALED_RECIPIENT
    assert "broker rewrap" in str(error.value.remedy)
    assert model.read_bytes() == before
    assert [entry.kind for entry in inspection.newest(home, 9, None)] == ["created"]
