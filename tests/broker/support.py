"""What the broker's tests share: a home with cheap keys, and rows that fill it without any sealed model."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from attestation.broker.admin import set_policy
from attestation.broker.audit import EventKind
from attestation.broker.decide import Evidence
from attestation.broker.home import Home
from attestation.broker.keystore import BrokerKeys, KeyContext
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.policy import lineage_of
from attestation.broker.schema import ModelRow, Row
from attestation.broker.terms import AttestedSession
from attestation.policy import Policy, load_policy
from attestation.types import Delegation, PlatformClass, Right
from manifests.keyfile import Cost
from manifests.signing import Signer, digest

CHEAP = Cost(1, 8 * 1024)
PASSPHRASE = b"correct horse"
NOW = 1_800_000_000
OWNER = Signer.from_seed(bytes(range(32)))
RIGHTS = (Right.HEARTBEAT, Right.PROVISION, Right.REVOKE)


def new_home(folder: Path, *, another: bool = False) -> tuple[Home, BrokerKeys]:
    """A complete home, as `broker init` leaves it: a copy of one that is made once, unless `another` is needed."""
    if another:
        return _make_home(folder)
    template, keys, _folder = _template()
    shutil.copytree(template.folder, folder)
    return Home(folder), keys


def _make_home(folder: Path) -> tuple[Home, BrokerKeys]:
    home = Home(folder)
    keys = home.make_keys(PASSPHRASE, cost=CHEAP)
    Ledger.create(home, keys, NOW).close()
    home.seal_layout()
    return home, keys


@functools.cache
def _template() -> tuple[Home, BrokerKeys, tempfile.TemporaryDirectory[str]]:
    """One home for the whole run; making each anew would wait for the disk a thousand times."""
    folder = tempfile.TemporaryDirectory(prefix="strongroom-broker-")
    atexit.register(folder.cleanup)
    return *_make_home(Path(folder.name) / "home"), folder


def delegation(
    keys: BrokerKeys,
    *,
    rights: tuple[Right, ...] = RIGHTS,
    models: tuple[str, ...] = ("*",),
    floor: int = 0,
    owner: Signer = OWNER,
) -> bytes:
    return Delegation(owner.public, keys.signer.public, rights, models, floor).sign(owner)


def model_row(
    keys: BrokerKeys,
    name: str = "tumour",
    *,
    epoch: int = 1,
    key: bytes | None = None,
    lineage: bytes = bytes(64),
    document: bytes = b"",
) -> ModelRow:
    """A model that was never sealed: its digest follows from name and epoch."""
    model = digest(b"test model", f"{name} {epoch}".encode())
    wrapped = keys.store.wrap(key or os.urandom(32), KeyContext(OWNER.public, model, lineage))
    return ModelRow(model, OWNER.public, name, epoch, lineage, wrapped, document or delegation(keys), NOW)


def record(ledger: Ledger, *rows: Row, kind: EventKind = EventKind.MODEL_ADDED, **event: Any) -> bytes:
    """Record rows in one event; returns the new head."""
    return ledger.record(NOW, lambda _state: Plan(kind, event, rows)).head


def policy(**release: Any) -> Policy:
    """A policy that releases to any simulated enclave of one measurement."""
    return load_policy(
        {
            "version": 1,
            "evidence": {"tcb_status": ["UpToDate"], "simulation": True, "simulated_root": "00" * 32},
            "sgx": {"mrenclave": ["11" * 32]},
            "release": {"models": ["*"], "lease": 1000, "max_enclaves": 2, **release},
        }
    )


def evidence(boot: int = 1, **changes: Any) -> Evidence:
    """Evidence of an enclave that the policy accepts, as if it had been appraised."""
    good = Evidence(
        accepted=True,
        failures=(),
        platform=PlatformClass.SIMULATED,
        measurement=b"\x11" * 32,
        expires=NOW + 10**6,
        boot_id=boot.to_bytes(16, "big"),
        admitted="first",
        owners=(),
        digest=bytes(64),
        policy=1,
    )
    return replace(good, **changes)


def session(boot: int = 1, number: int = 1, **changes: Any) -> AttestedSession:
    return AttestedSession(evidence(boot, **changes), digest(b"session", f"{boot} {number}".encode()), "unix:/host")


def stocked(folder: Path, *names: str, **release: Any) -> tuple[Home, BrokerKeys, dict[str, ModelRow]]:
    """A home with a policy in force and models whose keys open under it."""
    home, keys = new_home(folder)
    lineage = lineage_of(keys.signer.public)
    models = {name: model_row(keys, name, lineage=lineage, key=data_key(name)) for name in names or ("tumour",)}
    with Ledger.open(home, keys) as ledger:
        set_policy(ledger, policy(**release), NOW)
        for row in models.values():
            record(ledger, row)
    return home, keys, models


def data_key(name: str) -> bytes:
    return digest(b"data key", name.encode())[:32]


def sql(home: Home, statement: str, *parameters: Any) -> list[Any]:
    """Do to the database what its operator could do behind the broker's back."""
    connection = sqlite3.connect(home.database)
    try:
        with connection:
            return connection.execute(statement, parameters).fetchall()
    finally:
        connection.close()
