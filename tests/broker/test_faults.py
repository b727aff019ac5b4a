"""Kill -9, full disks, held locks: no acknowledged release is lost, no key leaves without its row."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from attestation.broker import store as store_module
from attestation.broker.audit import EventKind, verify_log
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.keystore import KeyContext
from attestation.broker.ledger import Ledger
from attestation.broker.releases import Granted, release
from tests.broker.support import NOW, session, stocked

ROOT = Path(__file__).resolve().parents[2]


def acknowledged(home: Path, digest: bytes, seconds: float) -> list[bytes]:
    """Run a releasing process, kill it without warning, and return the serials that it had acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.broker.releaser", str(home), digest.hex()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        first = output.readline()
        time.sleep(seconds)
        process.kill()
        lines = [first, *output.readlines()]
    return [bytes.fromhex(line.decode().strip()) for line in lines if line.endswith(b"\n")]


def test_a_killed_broker_loses_no_acknowledged_release(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", max_enclaves=10**6)
    seen: list[bytes] = []
    draw = random.Random(5)
    for _ in range(3):
        before = len(seen)
        seen += acknowledged(home.folder, models["tumour"].digest, draw.uniform(0.02, 0.3))
        assert len(seen) > before
        with Ledger.open(home, keys) as ledger:
            entries = list(verify_log(ledger.audit_rows(), keys.signer.public, expected=[ledger.head.digest]))
        recorded = [entry.event["serial"] for entry in entries if entry.kind is EventKind.RELEASE]
        assert set(seen) <= set(recorded)
        assert len(recorded) == len(set(recorded))


def fill(ledger: Ledger, pages: int) -> None:
    """Let the database have so many pages more, and none after: SQLite then fails as on a full disk."""
    with ledger._store.read() as connection:
        used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with ledger._store._engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={used + pages}")


def test_on_a_full_disk_no_key_leaves_and_the_code_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, keys, models = stocked(tmp_path / "home", max_enclaves=10**6)
    unwrapped: list[bytearray] = []
    unwrap = type(keys.store).unwrap

    def spy(store: Any, wrapped: bytes, context: KeyContext) -> bytearray:
        unwrapped.append(unwrap(store, wrapped, context))
        return unwrapped[-1]

    monkeypatch.setattr(type(keys.store), "unwrap", spy)
    released = 0
    with Ledger.open(home, keys) as ledger:
        fill(ledger, 4)
        with pytest.raises(BrokerError) as error:
            for boot in range(1, 1000):
                release(ledger, session(boot), models["tumour"].digest, NOW)
                released += 1
        assert error.value.code is BrokerCode.STORE_FULL
        assert error.value.exit_code == 40
        assert unwrapped[-1] == bytearray(32)
        head = ledger.head
        fill(ledger, 1000)  # space again: it goes on where it was
        assert isinstance(release(ledger, session(2000), models["tumour"].digest, NOW), Granted)
        assert ledger.head.count == head.count + 1
    with Ledger.open(home, keys) as ledger:
        entries = [entry.kind for entry in verify_log(ledger.audit_rows(), keys.signer.public)]
    assert entries.count(EventKind.RELEASE) == released + 1


def test_a_process_that_holds_the_lock_for_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_MS", 50)
    home, keys, models = stocked(tmp_path / "home")
    holder = sqlite3.connect(home.database, isolation_level=None)
    with Ledger.open(home, keys) as ledger:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(BrokerError) as error:
            release(ledger, session(), models["tumour"].digest, NOW)
        assert error.value.code is BrokerCode.STORE_BUSY
        holder.execute("ROLLBACK")
        assert isinstance(release(ledger, session(), models["tumour"].digest, NOW), Granted)
    holder.close()


def test_a_home_whose_name_reads_like_a_url_holds_its_database(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "a?mode=memory&b#c%2e")
    with Ledger.open(home, keys) as ledger:
        assert isinstance(release(ledger, session(), models["tumour"].digest, NOW), Granted)
        assert {path.name for path in home.folder.iterdir()} >= {"broker.db", "broker.db-wal"}
    assert [path.name for path in tmp_path.iterdir()] == [home.folder.name]
    assert home.database.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    home, keys, _ = stocked(tmp_path / "home")
    home.database.unlink()
    for suffix in ("-wal", "-shm"):
        Path(f"{home.database}{suffix}").unlink(missing_ok=True)
    home.database.mkdir()
    with pytest.raises(BrokerError) as error:
        Ledger.open(home, keys)
    assert error.value.code is BrokerCode.STORE_UNAVAILABLE


def test_a_commit_survives_the_loss_of_the_shared_memory_file(tmp_path: Path) -> None:
    """What a crash of the machine may leave: the log of writes without its index."""
    home, keys, models = stocked(tmp_path / "home")
    with Ledger.open(home, keys) as ledger:
        granted = release(ledger, session(), models["tumour"].digest, NOW)
        assert isinstance(granted, Granted)
        copy = tmp_path / "copy"
        copy.mkdir(mode=0o700)
        for path in home.folder.iterdir():
            if not path.name.endswith("-shm"):
                (copy / path.name).write_bytes(path.read_bytes())
    home.folder.rename(tmp_path / "gone")
    copy.rename(home.folder)
    with Ledger.open(home, keys) as ledger:
        assert ledger.look(lambda state: len(state.leases())) == 1
