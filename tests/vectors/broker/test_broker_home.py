"""A broker's home and an exported log of version 1 are read for ever, and their keys go on being released."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attestation.broker.audit import EventKind
from attestation.broker.home import Home
from attestation.broker.inspection import verify_export
from attestation.broker.ledger import Ledger
from attestation.broker.policy import active_policy, lineage_of
from attestation.broker.releases import Granted, release
from tests.broker.support import NOW, PASSPHRASE, data_key, policy, session
from tests.vectors.broker.generate import HOME, LOG

HEAD = bytes.fromhex(
    "9fdcc0f32f421b9335677786d5d158969565c81d0573a7bc3c9f2d251e58dd79"
    "1ea13c29a0790cd36671c5ae0d8984c005de8d87bf6ce3a420c7123e011b05c3"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A copy that may be written to, with the mode that version control does not keep."""
    folder = tmp_path / "home"
    shutil.copytree(HOME, folder)
    folder.chmod(0o700)
    return Home(folder)


def test_a_home_of_version_1_opens_with_everything_in_it(home: Home) -> None:
    keys = home.unlock(PASSPHRASE)
    with Ledger.open(home, keys) as ledger:
        assert ledger.head.digest == HEAD
        active = ledger.look(lambda state: active_policy(state, keys.signer.public))
        assert (active.epoch, active.policy) == (1, policy())
        assert active.lineage == lineage_of(keys.signer.public)
        assert [(row.name, row.epoch) for row in ledger.look(lambda state: state.models())] == [
            ("magika", 1),
            ("tumour", 1),
        ]
        assert [row.boot_id for row in ledger.look(lambda state: state.enclaves())] == [session().evidence.boot_id]
        assert [item.document.name for item in ledger.look(lambda state: state.revocations())] == ["magika"]


def test_a_home_of_version_1_releases_its_keys(home: Home) -> None:
    keys = home.unlock(PASSPHRASE)
    with Ledger.open(home, keys) as ledger:
        (tumour,) = (row for row in ledger.look(lambda state: state.models()) if row.name == "tumour")
        result = release(ledger, session(number=2), tumour.digest, NOW + 3)
    assert isinstance(result, Granted)
    assert result.key == data_key("tumour")


def test_an_exported_log_of_version_1_verifies_against_its_head() -> None:
    summary = verify_export(LOG, HOME / "broker.pub", [HEAD])
    assert (summary["head"], summary["rows"]) == (HEAD.hex(), 6)
    kinds = {str(kind): summary.get(kind, 0) for kind in EventKind}
    assert {kind: count for kind, count in kinds.items() if count} == {
        "created": 1,
        "policy-set": 1,
        "model-added": 2,
        "release": 1,
        "revocation": 1,
    }
