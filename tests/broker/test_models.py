"""What an owner does with models that a broker has already: taking them out, and giving them further recipients."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.broker import inspection
from attestation.broker.ledger import Ledger
from attestation.broker.models import rewrap_model
from manifests.errors import ManifestCode, ManifestError
from manifests.sealed import inspect_sealed, recover_dek
from manifests.sealed.recipients import RecipientKey
from tests.broker.conftest import Sealing
from tests.broker.support import NOW, new_home


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
