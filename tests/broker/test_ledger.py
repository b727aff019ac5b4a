"""The ledger: what is recorded stays recorded, and a database that another hand wrote to is refused."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attestation.broker.anchor import FILE_SIZE, SLOT_SIZE, Anchor, read_anchor
from attestation.broker.audit import AuditError, EventKind, Head
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.home import Home
from attestation.broker.keystore import BrokerKeys
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.schema import EnclaveRow, LeaseRow
from manifests.errors import ManifestError
from tests.broker.support import NOW, model_row, new_home, record, sql


@pytest.fixture
def made(tmp_path: Path) -> tuple[Home, BrokerKeys]:
    return new_home(tmp_path / "home")


@pytest.fixture
def ledger(made: tuple[Home, BrokerKeys]) -> Iterator[Ledger]:
    with Ledger.open(*made) as opened:
        yield opened


def lease(boot: int, model: bytes, *, requests: int = 10, renewed: int = NOW) -> LeaseRow:
    return LeaseRow(bytes([boot]) * 16, model, bytes([boot]) * 16, bytes(64), requests, NOW, renewed)


def test_what_was_recorded_is_there_after_reopening(made: tuple[Home, BrokerKeys]) -> None:
    _, keys = made
    row = model_row(keys)
    with Ledger.open(*made) as ledger:
        head = record(ledger, row)
    with Ledger.open(*made) as ledger:
        assert ledger.look(lambda state: state.models()) == [row]
        assert ledger.head.digest == head
        assert [entry.index for entry in ledger.audit_rows()] == [0, 1]


def test_a_plan_that_raises_records_nothing(ledger: Ledger, made: tuple[Home, BrokerKeys]) -> None:
    def plan(_state: object) -> Plan:
        raise BrokerError(BrokerCode.MODEL_UNKNOWN, "no")

    head = ledger.head
    with pytest.raises(BrokerError, match="model-not-held"):
        ledger.record(NOW, plan)
    assert ledger.head == head
    assert sql(made[0], 'SELECT count(*) FROM audit WHERE "index" > 0') == [(0,)]


def test_a_plan_that_names_a_row_twice_records_nothing(ledger: Ledger, made: tuple[Home, BrokerKeys]) -> None:
    head = ledger.head
    with pytest.raises(ValueError, match="each row once"):
        record(ledger, lease(1, bytes(64)), lease(1, bytes(64), requests=5))
    assert ledger.head == head
    Ledger.open(*made).close()


def test_holders_are_the_enclaves_with_unspent_leases(ledger: Ledger) -> None:
    model = bytes(64)
    record(ledger, lease(1, model), lease(2, model, renewed=NOW - 100), lease(3, model, requests=0))
    assert ledger.look(lambda state: state.holders(model)) == 2
    assert ledger.look(lambda state: state.holders(model, besides=b"\1" * 16)) == 1
    assert ledger.look(lambda state: state.holders(model, besides=b"\3" * 16)) == 2
    record(ledger, lease(1, model, requests=0))
    assert ledger.look(lambda state: state.holders(model)) == 1


def test_two_processes_see_each_others_events(made: tuple[Home, BrokerKeys]) -> None:
    _, keys = made
    with Ledger.open(*made) as first, Ledger.open(*made) as second:
        record(first, model_row(keys, "one"))
        record(second, model_row(keys, "two"))
        assert second.look(lambda state: [row.name for row in state.models()]) == ["one", "two"]
        assert first.refresh()
        assert not first.refresh()
        assert first.look(lambda state: [row.name for row in state.models()]) == ["one", "two"]
        assert first.head == second.head


def test_threads_record_one_after_the_other(ledger: Ledger) -> None:
    rows = [[lease(10 * worker + number, bytes(64)) for number in range(8)] for worker in range(1, 5)]
    threads = [threading.Thread(target=lambda mine=mine: [record(ledger, row) for row in mine]) for mine in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.index for row in ledger.audit_rows()] == list(range(33))
    assert ledger.look(lambda state: len(state.leases())) == 32


# ------------------------------------------------------------------------------ the database is untrusted

SWAP = """UPDATE models SET wrapped = CASE name
    WHEN 'one' THEN (SELECT wrapped FROM models WHERE name = 'two') WHEN 'two' THEN (SELECT wrapped FROM models
    WHERE name = 'one') END"""
SWAP_ALL = """UPDATE models SET name = CASE name WHEN 'one' THEN 'two' ELSE 'one' END"""

ALTERED: dict[str, str] = {
    "an epoch is raised": "UPDATE models SET epoch = 9 WHERE name = 'one'",
    "a name is changed": "UPDATE models SET name = 'three' WHERE name = 'one'",
    "two wrapped keys are swapped": SWAP,
    "two names are swapped": SWAP_ALL,
    "a seal is cleared": "UPDATE models SET seal = x'' WHERE name = 'one'",
    "a column holds text": "UPDATE models SET owner = 'me' WHERE name = 'one'",
    "a column holds text that is no UTF-8": "UPDATE models SET name = CAST(x'ff' AS TEXT) WHERE name = 'one'",
    "a column holds a fraction": "UPDATE models SET epoch = 1.5 WHERE name = 'one'",
    "a model is deleted": "DELETE FROM models WHERE name = 'one'",
    "every model is deleted": "DELETE FROM models",
    "a model is copied": """INSERT INTO models SELECT x'00', owner, name, epoch, lineage, wrapped, delegation, added,
        seal FROM models WHERE name = 'one'""",
    "an enclave is forgotten": "DELETE FROM enclaves",
    "a lease is raised": "UPDATE leases SET requests = 1000000",
    "a lease is forgotten": "DELETE FROM leases",
    "an enclave's releases are forgotten": "UPDATE enclaves SET provisions = 0",
}


@pytest.fixture
def filled(made: tuple[Home, BrokerKeys]) -> tuple[Home, BrokerKeys]:
    home, keys = made
    with Ledger.open(home, keys) as ledger:
        record(ledger, model_row(keys, "one"))
        record(ledger, model_row(keys, "two"))
        enclave = EnclaveRow(b"\1" * 16, "simulated", bytes(32), "unix:/x", NOW, 1, 1)
        record(ledger, enclave, lease(1, bytes(64)), kind=EventKind.RELEASE)
    return home, keys


@pytest.mark.parametrize("statement", ALTERED.values(), ids=ALTERED.keys())
def test_a_changed_row_is_found_when_the_database_is_opened(filled: tuple[Home, BrokerKeys], statement: str) -> None:
    sql(filled[0], statement)
    with pytest.raises(BrokerError) as error:
        Ledger.open(*filled)
    assert error.value.code is BrokerCode.STORE_ALTERED
    assert error.value.remedy


def test_an_edited_row_is_named(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    sql(home, "UPDATE models SET epoch = 9 WHERE name = 'two'")
    with pytest.raises(BrokerError) as error:
        Ledger.open(home, keys)
    assert error.value.found == f"models {model_row(keys, 'two').digest.hex()}"


def test_a_row_put_back_as_it_was_is_found(made: tuple[Home, BrokerKeys]) -> None:
    home, keys = made
    with Ledger.open(home, keys) as ledger:
        record(ledger, lease(1, bytes(64), requests=1000))
        before = sql(home, "SELECT * FROM leases")[0]
        record(ledger, lease(1, bytes(64), requests=0))
    sql(home, "DELETE FROM leases")
    sql(home, "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *before)
    with pytest.raises(BrokerError) as error:
        Ledger.open(home, keys)
    assert error.value.code is BrokerCode.STORE_ALTERED
    assert "put back" in error.value.message


def test_rows_changed_under_a_running_broker_are_found_at_its_next_reload(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    with Ledger.open(home, keys) as running, Ledger.open(home, keys) as other:
        sql(home, "UPDATE models SET epoch = 9 WHERE name = 'one'")
        assert [row.epoch for row in running.look(lambda state: state.models())] == [1, 1]
        record(other, model_row(keys, "three"))
        with pytest.raises(BrokerError, match="store-altered"):
            running.refresh()


def test_updating_a_row_that_vanished_is_refused(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    with Ledger.open(home, keys) as ledger:
        sql(home, "DELETE FROM leases")
        with pytest.raises(BrokerError, match="vanished"):
            record(ledger, lease(1, bytes(64), requests=5))


ROLLED_BACK: dict[str, Callable[[Home], object]] = {
    "the newest audit rows are cut off": lambda home: sql(home, 'DELETE FROM audit WHERE "index" > 1'),
    "the log is emptied": lambda home: sql(home, "DELETE FROM audit"),
    "the anchor is lost": lambda home: home.anchor.unlink(),
    "the anchor is not the broker's": lambda home: home.anchor.write_bytes(b"\x92\xc4\x00\xc4\x00"),
    "the newest row is edited": lambda home: sql(home, "UPDATE audit SET body = x'80' WHERE \"index\" = 3"),
}


@pytest.mark.parametrize("attack", ROLLED_BACK.values(), ids=ROLLED_BACK.keys())
def test_a_log_without_the_remembered_head_is_refused(
    filled: tuple[Home, BrokerKeys], attack: Callable[[Home], object]
) -> None:
    attack(filled[0])
    with pytest.raises(BrokerError) as error:
        Ledger.open(*filled)
    assert error.value.code is BrokerCode.STORE_ROLLED_BACK


def copy_database(home: Home, target: Path) -> None:
    sql(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(home.database, target)


def put_back(home: Home, source: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{home.database}{suffix}").unlink(missing_ok=True)
    shutil.copy(source, home.database)


def test_a_whole_database_put_back_is_found_by_the_anchor(filled: tuple[Home, BrokerKeys], tmp_path: Path) -> None:
    home, keys = filled
    copy_database(home, tmp_path / "old.db")
    with Ledger.open(home, keys) as ledger:
        record(ledger, model_row(keys, "three"))
    put_back(home, tmp_path / "old.db")
    with pytest.raises(BrokerError) as error:
        Ledger.open(home, keys)
    assert error.value.code is BrokerCode.STORE_ROLLED_BACK


def test_a_restored_backup_is_taken_when_its_rollback_is_accepted_by_name(
    filled: tuple[Home, BrokerKeys], tmp_path: Path
) -> None:
    home, keys = filled
    copy_database(home, tmp_path / "old.db")
    with Ledger.open(home, keys) as ledger:
        record(ledger, model_row(keys, "three"))
    put_back(home, tmp_path / "old.db")
    with Ledger.open(home, keys, dangerously_accept_rollback=True) as ledger:
        record(ledger, kind=EventKind.RESTORED)
    with Ledger.open(home, keys) as ledger:
        assert [row.name for row in ledger.look(lambda state: state.models())] == ["one", "two"]


def test_a_database_put_back_under_a_running_broker_is_found(filled: tuple[Home, BrokerKeys], tmp_path: Path) -> None:
    home, keys = filled
    with Ledger.open(home, keys) as ledger:
        sql(home, 'DELETE FROM audit WHERE "index" = 3')
        for attempt in (ledger.refresh, lambda: record(ledger, model_row(keys, "three"))):
            with pytest.raises(BrokerError) as error:
                attempt()
            assert error.value.code is BrokerCode.STORE_ROLLED_BACK


def test_an_older_process_does_not_lower_the_anchor(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    with Ledger.open(home, keys) as older:
        with Ledger.open(home, keys) as newer:
            record(newer, model_row(keys, "three"))
            record(newer, model_row(keys, "four"))  # both slots now remember more than the older process does
        anchor = home.anchor.read_bytes()
        older.write_anchor()
        assert home.anchor.read_bytes() == anchor


def test_a_head_is_on_the_disk_before_it_counts_as_anchored(
    made: tuple[Home, BrokerKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, keys = made
    synced = []

    def sync(_descriptor: int) -> None:
        synced.append(read_anchor(home.anchor, keys.signer.public))

    monkeypatch.setattr("attestation.broker.anchor.os.fdatasync", sync)
    with Ledger.open(home, keys) as ledger:
        for name in ("one", "two"):
            record(ledger, model_row(keys, name))
            assert synced.pop() == ledger.head
            assert not synced


@pytest.mark.parametrize("kind", [EventKind.RELEASE, EventKind.RENEWAL, EventKind.POLICY_SET])
def test_a_database_put_back_by_one_row_is_found_though_the_process_was_killed(
    filled: tuple[Home, BrokerKeys], tmp_path: Path, kind: EventKind
) -> None:
    home, keys = filled
    killed = Ledger.open(home, keys)
    copy_database(home, tmp_path / "old.db")
    record(killed, kind=kind)
    killed._store.close()  # as by kill -9: nothing is written at the end
    put_back(home, tmp_path / "old.db")
    with pytest.raises(BrokerError) as error:
        Ledger.open(home, keys)
    assert error.value.code is BrokerCode.STORE_ROLLED_BACK


def test_the_anchor_keeps_its_size_and_its_place(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    before = home.anchor.stat()
    with Ledger.open(home, keys) as ledger:
        for _ in range(5):
            record(ledger, kind=EventKind.RENEWAL)
            assert Anchor(home.anchor, keys.signer).read() == ledger.head
    after = home.anchor.stat()
    assert (after.st_ino, after.st_size, after.st_blocks) == (before.st_ino, FILE_SIZE, before.st_blocks)


@pytest.mark.parametrize("slot", [0, 1])
def test_a_torn_write_of_the_anchor_leaves_the_head_before_it(filled: tuple[Home, BrokerKeys], slot: int) -> None:
    """Either slot may be the one that was being written; the database is then one row ahead, which is verified."""
    home, keys = filled
    anchor = Anchor(home.anchor, keys.signer)
    with Ledger.open(home, keys) as ledger:
        heads = []
        for _ in range(2):
            record(ledger, kind=EventKind.RENEWAL)
            heads.append(ledger.head)
    torn = bytearray(home.anchor.read_bytes())
    torn[SLOT_SIZE * slot + 100 : SLOT_SIZE * (slot + 1)] = bytes(SLOT_SIZE - 100)
    home.anchor.write_bytes(torn)
    assert anchor.read() in heads
    with Ledger.open(home, keys) as ledger:
        assert ledger.head == heads[-1]
        record(ledger, kind=EventKind.RENEWAL)
        assert anchor.read() == ledger.head


def test_processes_that_anchor_at_once_never_lower_it(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    anchor = Anchor(home.anchor, keys.signer)
    heads = [Head(count, bytes([count]) * 64) for count in range(10, 50)]

    def write(mine: list[Head]) -> None:
        for head in mine:
            Anchor(home.anchor, keys.signer).write(head)

    threads = [threading.Thread(target=write, args=(heads[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert anchor.read() == heads[-1]


def test_rows_after_the_anchor_are_verified(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    anchor = home.anchor.read_bytes()
    with Ledger.open(home, keys) as ledger:
        record(ledger, model_row(keys, "three"))
        record(ledger, model_row(keys, "four"))
    home.anchor.write_bytes(anchor)  # as if the process had been killed before it wrote the newer one
    sql(home, 'UPDATE audit SET signature = zeroblob(64) WHERE "index" = 4')
    with pytest.raises(AuditError) as error:
        Ledger.open(home, keys)
    assert error.value.index == 4


def test_the_database_of_another_broker_is_refused(filled: tuple[Home, BrokerKeys], tmp_path: Path) -> None:
    home, keys = filled
    other, _ = new_home(tmp_path / "other", another=True)
    put_back(home, other.database)
    with pytest.raises(BrokerError) as error:
        Ledger.open(home, keys)
    assert error.value.code is BrokerCode.STORE_ROLLED_BACK
    with pytest.raises(AuditError):
        Ledger.open(home, keys, dangerously_accept_rollback=True)


def test_a_missing_database_is_a_clear_error(filled: tuple[Home, BrokerKeys]) -> None:
    filled[0].database.unlink()
    with pytest.raises(BrokerError) as error:
        Ledger.open(*filled)
    assert error.value.code is BrokerCode.STORE_UNAVAILABLE
    assert error.value.exit_code == 40


def test_a_file_that_is_no_database_is_refused(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    for suffix in ("-wal", "-shm"):
        Path(f"{home.database}{suffix}").unlink(missing_ok=True)
    home.database.write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(BrokerError) as error:
        Ledger.open(home, keys)
    assert error.value.code is BrokerCode.STORE_ALTERED


def test_a_missing_table_is_refused(filled: tuple[Home, BrokerKeys]) -> None:
    sql(filled[0], "DROP TABLE leases")
    with pytest.raises(BrokerError, match="store-altered"):
        Ledger.open(*filled)


def test_a_database_of_another_schema_is_refused(filled: tuple[Home, BrokerKeys]) -> None:
    sql(filled[0], "UPDATE schema_info SET version = 2")
    with pytest.raises(BrokerError) as error:
        Ledger.open(*filled)
    assert error.value.code is BrokerCode.STORE_VERSION
    assert error.value.exit_code == 20


def fail_to_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("attestation.broker.anchor._overwrite", full)


def test_a_change_that_could_not_be_anchored_is_said_to_be_in_force(
    filled: tuple[Home, BrokerKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, keys = filled
    with Ledger.open(home, keys) as ledger:
        fail_to_anchor(monkeypatch)
        with pytest.raises(BrokerError, match="recorded and in force") as error:
            record(ledger, model_row(keys, "three"))
        assert error.value.code is BrokerCode.ANCHOR_BEHIND
        assert len(ledger.look(lambda state: state.models())) == 3
        head = ledger.head
        with pytest.raises(ManifestError, match="disk-full"):  # no second row is left without its anchor
            record(ledger, model_row(keys, "four"))
        assert ledger.head == head
        monkeypatch.undo()
        record(ledger, model_row(keys, "four"))
        assert Anchor(home.anchor, keys.signer).read() == ledger.head
    with Ledger.open(home, keys) as ledger:
        assert len(ledger.look(lambda state: state.models())) == 4


def test_a_crash_between_commit_and_anchor_is_recovered_from(
    filled: tuple[Home, BrokerKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, keys = filled
    killed = Ledger.open(home, keys)
    fail_to_anchor(monkeypatch)
    with pytest.raises(BrokerError, match="anchor-behind"):
        record(killed, model_row(keys, "three"))
    killed._store.close()
    monkeypatch.undo()
    with Ledger.open(home, keys) as ledger:
        assert ledger.head.count == Anchor(home.anchor, keys.signer).read().count + 1
        assert len(ledger.look(lambda state: state.models())) == 3
    assert Anchor(home.anchor, keys.signer).read() == ledger.head


def test_an_anchor_that_was_lost_under_a_running_broker_is_made_anew(filled: tuple[Home, BrokerKeys]) -> None:
    home, keys = filled
    with Ledger.open(home, keys) as ledger:
        home.anchor.unlink()
        record(ledger, model_row(keys, "three"))
        assert Anchor(home.anchor, keys.signer).read() == ledger.head


UNDOES_ROWS = 'CREATE TRIGGER undo AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE "index" = NEW."index"; END'


def test_a_database_that_undoes_what_is_written_gets_no_release(made: tuple[Home, BrokerKeys]) -> None:
    """The trigger is planted while the broker runs; the row is looked at before the commit."""
    with Ledger.open(*made) as ledger:
        record(ledger, row := model_row(made[1]))
        head = ledger.head
        sql(made[0], UNDOES_ROWS)
        with pytest.raises(BrokerError) as refusal:
            record(ledger, EnclaveRow(bytes(16), "simulated", row.digest[:32], "unix:/host", NOW, 1, 1))
        assert refusal.value.code is BrokerCode.STORE_ALTERED
        assert ledger.head == head
    assert sql(made[0], "SELECT count(*) FROM enclaves") == [(0,)]


@pytest.mark.parametrize("statement", [UNDOES_ROWS, "CREATE VIEW another AS SELECT * FROM models"])
def test_a_database_with_triggers_or_views_is_not_opened(made: tuple[Home, BrokerKeys], statement: str) -> None:
    sql(made[0], statement)
    with pytest.raises(BrokerError) as refusal:
        Ledger.open(*made)
    assert refusal.value.code is BrokerCode.STORE_ALTERED
    assert "undo" in str(refusal.value.found) or "another" in str(refusal.value.found)
