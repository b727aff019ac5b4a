"""Budgets in the broker's ledger: charged before anything is sent, never given back, and bounded whatever is asked."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.broker.admin import forget_enclave, set_policy
from attestation.broker.audit import verify_log
from attestation.broker.budgets import BudgetRules, Charges, needs_visit
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.home import Home
from attestation.broker.ledger import Ledger
from attestation.broker.releases import Granted, release
from attestation.broker.renewals import Renewed, renew
from attestation.broker.revoking import revoke
from attestation.broker.state import State
from attestation.errors import PolicyCode, PolicyError
from attestation.types import Allotment, BudgetState, Grant, Heartbeat
from attestation.types.budgets import ANONYMOUS, MAX_COUNT, Ask, BudgetTerms, ModelSlices, Slice, identity_of
from enclave.budget import Account
from enclave.errors import EnclaveError
from enclave.lease import Lease
from tests.broker import slicer
from tests.broker.support import NOW, OWNER, policy, session, sql, stocked

ROOT = Path(__file__).resolve().parents[2]
DAY = 86400
UNTIL = (NOW // DAY + 1) * DAY
ALICE, BOB = identity_of(b"\1" * 32), identity_of(b"\2" * 32)
LIMITS = {"client_budget": 10, "slice": 4, "newcomers": 8}


class Broker:
    """A ledger with one model, and enclaves by number that ask it."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.home, self.keys, models = stocked(folder / "home", **(limits or LIMITS))
        self.digest = models["tumour"].digest
        self.ledger = Ledger.open(self.home, self.keys)

    def grant(self, boot: int = 1, number: int = 1, now: int = NOW) -> Grant:
        result = release(self.ledger, session(boot, number), self.digest, now)
        assert isinstance(result, Granted)
        return Grant.open(result.grant, self.keys.signer.public)

    def renew(self, *asks: Ask, boot: int = 1, now: int = NOW, until: int = UNTIL, settled: int = 0) -> Renewed:
        asked = BudgetState("tumour", until, settled, asks)
        return renew(self.ledger, session(boot), [self.digest], bytes(32), now, budgets=[asked])

    def slices(self, *asks: Ask, **terms: Any) -> ModelSlices:
        document = self.renew(*asks, **terms).allotment
        return Allotment.open(document, self.keys.signer.public).models[0]

    def get(self, identity: bytes = ALICE, want: int = 100, drawn: int = 0, **terms: Any) -> Slice:
        return self.slices(Ask(identity, want, drawn), **terms).slices[0]

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.home, self.keys)


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    made = Broker(tmp_path)
    made.grant()
    yield made
    made.ledger.close()


# ------------------------------------------------------------------------------------------------ what is granted


def test_a_grant_carries_terms_and_a_pool_that_is_charged(broker: Broker) -> None:
    terms = broker.grant(boot=2).budget
    assert terms == BudgetTerms(UNTIL, pool=8, slice=4, client=10, anonymous=10, rate=0, burst=0)
    row = broker.ledger.look(lambda state: state.budget(OWNER.public, "tumour", session(2).evidence.boot_id))
    assert row is not None
    assert (row.granted, row.settled) == (8, 0)


def test_slices_end_with_the_budget_and_say_so(broker: Broker) -> None:
    assert [broker.get() for _ in range(4)] == [
        Slice(ALICE, 4, 0, last=False),
        Slice(ALICE, 4, 0, last=False),
        Slice(ALICE, 2, 0, last=True),
        Slice(ALICE, 0, 0, last=True),
    ]
    assert broker.get(BOB) == Slice(BOB, 4, 0, last=False)


def test_two_enclaves_share_one_budget(broker: Broker) -> None:
    broker.grant(boot=2)
    assert [broker.get(boot=boot).count for boot in (1, 2, 1, 2)] == [4, 4, 2, 0]


def test_all_epochs_of_a_name_share_one_budget_and_other_names_have_their_own(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", "one", "two", **LIMITS)
    with Ledger.open(home, keys) as ledger:
        digests = [row.digest for row in models.values()]
        for digest in digests:
            release(ledger, session(), digest, NOW)
        asked = [BudgetState(name, UNTIL, 0, (Ask(ALICE, 4, 0),)) for name in ("one", "two")]
        for count in (4, 4, 2, 0):
            document = renew(ledger, session(), digests, bytes(32), NOW, budgets=asked).allotment
            found = Allotment.open(document, keys.signer.public).models
            assert [(model.name, model.slices[0].count) for model in found] == [("one", count), ("two", count)]


def test_what_was_granted_outlives_broker_and_enclave(broker: Broker) -> None:
    broker.get()
    broker.get()
    broker.reopen()
    broker.grant(boot=7)
    assert [broker.get(boot=7).count for _ in range(2)] == [2, 0]


def test_anonymous_sessions_have_a_budget_of_their_own_or_that_of_one_client(tmp_path: Path) -> None:
    default, own = (
        Broker(tmp_path / "a", client_budget=10),
        Broker(tmp_path / "b", client_budget=10, anonymous_budget=3),
    )
    for broker, count in ((default, 10), (own, 3)):
        broker.grant()
        assert broker.get(ANONYMOUS) == Slice(ANONYMOUS, count, 0, last=True)
        assert broker.get(ALICE).count == 10
        broker.ledger.close()


def test_where_anonymous_sessions_alone_have_a_budget_named_clients_are_not_bounded(tmp_path: Path) -> None:
    broker = Broker(tmp_path, anonymous_budget=3, slice=5)
    assert broker.grant().budget == BudgetTerms(UNTIL, 256, 5, None, 3, 0, 0)
    assert [broker.get(ALICE).count for _ in range(3)] == [5, 5, 5]
    broker.ledger.close()


def test_a_rate_alone_counts_nothing(tmp_path: Path) -> None:
    broker = Broker(tmp_path, client_rate=60)
    assert broker.grant().budget == BudgetTerms(0, 0, 100, None, None, 60, 60)
    assert broker.renew(Ask(ALICE, 5, 0)).allotment == b""
    assert broker.ledger.look(lambda state: state.budgets()) == []
    broker.ledger.close()


def test_without_budgets_nothing_changes(tmp_path: Path) -> None:
    """Grant, heartbeat, audit rows and tables are those of a release that knew no budgets."""
    broker = Broker(tmp_path, lease=1000)
    assert broker.grant().budget is None
    assert broker.renew(Ask(ALICE, 5, 0)).allotment == b""
    entries = list(verify_log(broker.ledger.audit_rows(), broker.keys.signer.public))
    assert all("budgets" not in entry.tables for entry in entries)
    assert not {"budget", "slices"} & {name for entry in entries for name in entry.event}
    assert ("budgets",) not in sql(broker.home, "SELECT name FROM sqlite_master WHERE type = 'table'")
    broker.ledger.close()


def test_a_model_that_is_no_longer_released_gets_no_slices(broker: Broker) -> None:
    revoke(broker.ledger, OWNER.public, "tumour", epoch=2, digests=[], now=NOW)
    assert broker.renew(Ask(ALICE, 4, 0)).allotment == b""
    assert broker.ledger.look(lambda state: state.budget(OWNER.public, "tumour", ALICE)) is None


def test_an_allotment_goes_with_its_heartbeat(broker: Broker) -> None:
    renewed = broker.renew(Ask(ALICE, 4, 0))
    beat = Heartbeat.open(renewed.document, broker.keys.signer.public)
    allotment = Allotment.open(renewed.allotment, broker.keys.signer.public)
    assert [vars(allotment)[name] for name in ("owner", "delegation", "nonce", "boot_id", "time")] == [
        beat.owner,
        beat.delegation,
        beat.nonce,
        beat.boot_id,
        beat.time,
    ]
    assert ALICE not in renewed.document, "the claims show heartbeats to everybody"


# ------------------------------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize(
    ("name", "ask", "count"),
    [
        ("more than a slice", Ask(ALICE, MAX_COUNT, 0), 4),
        ("nothing", Ask(ALICE, 0, 0), 0),
        ("to have drawn more than the whole budget", Ask(ALICE, 4, MAX_COUNT), 0),
    ],
)
def test_whatever_an_enclave_asks_it_gets_a_slice_at_most(broker: Broker, name: str, ask: Ask, count: int) -> None:
    del name
    assert broker.slices(ask).slices[0].count == count
    row = broker.ledger.look(lambda state: state.budget(OWNER.public, "tumour", ALICE))
    assert row is None or row.granted <= 10


def test_asks_for_other_models_are_ignored(broker: Broker) -> None:
    asked = BudgetState("another", UNTIL, 0, (Ask(ALICE, 4, 0),))
    assert renew(broker.ledger, session(), [broker.digest], bytes(32), NOW, budgets=[asked]).allotment == b""


def test_what_newcomers_drew_is_charged_to_them_and_their_pool_filled_again(broker: Broker) -> None:
    given = broker.slices(Ask(ALICE, 4, 3), Ask(BOB, 4, 2))
    assert given.slices == (Slice(ALICE, 4, 3, last=False), Slice(BOB, 4, 2, last=False))
    assert given.pool == 8 + 5
    assert broker.get(ALICE, settled=5).count == 3


def test_an_answer_that_was_lost_does_not_fill_a_pool_twice(broker: Broker) -> None:
    """The enclave asks for the same again: its clients are charged anew, its pool is not."""
    for _ in range(3):
        assert broker.slices(Ask(ALICE, 0, 3)).pool == 8 + 3


def test_what_exceeds_a_budget_stays_in_the_pool(broker: Broker) -> None:
    """A client whose budget is used up goes to an enclave that does not know it yet."""
    for _ in range(3):
        broker.get()
    broker.grant(boot=2)
    given = broker.slices(Ask(ALICE, 4, 2), boot=2)
    assert given.slices == (Slice(ALICE, 0, 0, last=True),)
    assert given.pool == 8


def test_pools_are_bounded_however_often_an_enclave_restarts(tmp_path: Path) -> None:
    broker = Broker(tmp_path, client_budget=10, newcomers=8, max_enclaves=3)
    pools = []
    for boot in range(1, 6):
        terms = broker.grant(boot=boot).budget
        assert terms is not None
        pools.append(terms.pool)
        forget_enclave(broker.ledger, session(boot).evidence.boot_id.hex(), NOW)
    assert pools == [8, 8, 8, 0, 0]
    broker.ledger.close()


def test_a_grant_anew_fills_no_pool_that_is_not_charged(broker: Broker) -> None:
    assert [broker.grant(number=number).budget.pool for number in (2, 3, 4)] == [8, 8, 8]  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------ periods


def test_a_period_ends_when_the_brokers_clock_has_passed_its_end(broker: Broker) -> None:
    broker.get()
    assert broker.get(now=UNTIL - 1).count == 4
    given = broker.slices(Ask(ALICE, 4, 3), now=UNTIL)
    assert (given.until, given.slices[0]) == (UNTIL + DAY, Slice(ALICE, 4, 0, last=False))


def test_a_clock_that_goes_back_and_forth_gives_nobody_a_budget_twice(broker: Broker) -> None:
    broker.get(now=UNTIL + 5)
    later = UNTIL + DAY
    assert [broker.get(now=now, until=later).count for now in (NOW, UNTIL + 5, NOW - 3 * DAY, NOW)] == [4, 2, 0, 0]
    assert broker.renew(Ask(ALICE, 4, 0), until=UNTIL, now=NOW).allotment, "an enclave of the period before is told"


def test_an_enclave_that_has_heard_of_a_later_period_is_told_nothing(broker: Broker) -> None:
    assert broker.renew(Ask(ALICE, 4, 0), until=UNTIL + DAY).allotment == b""


def test_a_shorter_period_begins_when_the_present_one_ends(broker: Broker) -> None:
    broker.get()
    set_policy(broker.ledger, policy(**LIMITS, budget_seconds=60), NOW)
    changed = session(policy=2)
    assert release(broker.ledger, replace(changed, handshake_hash=bytes(64)), broker.digest, NOW)
    asked = BudgetState("tumour", UNTIL, 0, (Ask(ALICE, 4, 0),))
    for now, until, count in ((NOW + 120, UNTIL, 4), (UNTIL, UNTIL + 60, 4), (UNTIL + 30, UNTIL + 60, 4)):
        document = renew(broker.ledger, changed, [broker.digest], bytes(32), now, budgets=[asked]).allotment
        found = Allotment.open(document, broker.keys.signer.public).models[0]
        assert (found.until, found.slices[0].count) == (until, count)
        asked = replace(asked, until=found.until)


def test_a_visit_is_needed_for_asks_and_for_a_period_that_has_ended() -> None:
    quiet = BudgetState("m", UNTIL, 0, ())
    assert not needs_visit([quiet], UNTIL - 1)
    assert needs_visit([quiet], UNTIL)
    assert needs_visit([quiet, replace(quiet, name="n", asks=(Ask(ALICE, 1, 0),))], NOW)


# ------------------------------------------------------------------------------------------------ durability


def test_a_killed_broker_gives_nothing_back(tmp_path: Path) -> None:
    """Kill -9 at any moment, again and again: what was acknowledged is charged, and all together is one budget."""
    broker = Broker(tmp_path, client_budget=2000, slice=5, max_enclaves=100)
    draw, seen, charged = random.Random(3), 0, 0
    for boot in range(1, 4):
        seen += sum(acknowledged(broker.home.folder, broker.digest, boot, draw.uniform(0.02, 0.2)))
        broker.ledger.refresh()
        row = broker.ledger.look(lambda state: state.budget(OWNER.public, "tumour", slicer.IDENTITY))
        assert row is not None
        charged = row.granted
        assert seen <= charged <= 2000
    entries = list(verify_log(broker.ledger.audit_rows(), broker.keys.signer.public))
    told = [item for entry in entries for item in entry.event.get("slices", []) if item[1] == slicer.IDENTITY]
    assert sum(item[2] for item in told) == charged
    broker.ledger.close()


def acknowledged(home: Path, digest: bytes, boot: int, seconds: float) -> list[int]:
    words = [sys.executable, "-m", "tests.broker.slicer", str(home), digest.hex(), str(boot)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout as output:
        first = output.readline()
        time.sleep(seconds)
        process.kill()
        lines = [first, *output.readlines()]
    return [int(line) for line in lines if line.endswith(b"\n")]


def test_brokers_that_grant_at_once_never_exceed_a_budget(tmp_path: Path) -> None:
    broker = Broker(tmp_path, client_budget=50, slice=4, max_enclaves=9)
    other = Ledger.open(broker.home, broker.keys)
    for boot in range(1, 9):
        broker.grant(boot=boot)
    counts: list[int] = []

    def ask(boot: int) -> None:
        asked = BudgetState("tumour", UNTIL, 0, (Ask(ALICE, 4, 0),))
        for _ in range(4):
            ledger = (broker.ledger, other)[boot % 2]
            document = renew(ledger, session(boot), [broker.digest], bytes(32), NOW, budgets=[asked]).allotment
            counts.append(Allotment.open(document, broker.keys.signer.public).models[0].slices[0].count)

    threads = [threading.Thread(target=ask, args=(boot,)) for boot in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 32
    assert sum(counts) == 50
    other.close()
    broker.ledger.close()


def test_the_row_is_written_before_an_allotment_exists(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the two leaves the charge; nothing is signed that is not in the log."""
    signed: list[Any] = []

    def crash(_ledger: Ledger) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Allotment, "sign", lambda allotment, _key: signed.append(allotment))
    monkeypatch.setattr(Ledger, "_anchor_recorded", crash)
    with pytest.raises(KeyboardInterrupt):
        broker.get()
    assert signed == []
    monkeypatch.undo()
    broker.reopen()
    assert [broker.get().count for _ in range(3)] == [4, 2, 0]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE budgets SET granted = 0",
        "DELETE FROM budgets WHERE length(identity) = 32",
        "DROP TABLE budgets",
        "UPDATE budgets SET until = 0",
    ],
)
def test_a_ledger_whose_budgets_were_altered_is_refused(broker: Broker, statement: str) -> None:
    broker.get()
    broker.ledger.close()
    sql(broker.home, statement)
    with pytest.raises(BrokerError) as refused:
        Ledger.open(broker.home, broker.keys)
    assert refused.value.code is BrokerCode.STORE_ALTERED


def test_a_row_that_was_put_back_is_refused(broker: Broker) -> None:
    broker.get()
    (before,) = sql(broker.home, "SELECT granted, seal FROM budgets WHERE length(identity) = 32")
    broker.get()
    broker.ledger.close()
    sql(broker.home, "UPDATE budgets SET granted = ?, seal = ? WHERE length(identity) = 32", *before)
    with pytest.raises(BrokerError) as refused:
        Ledger.open(broker.home, broker.keys)
    assert refused.value.code is BrokerCode.STORE_ALTERED


def test_a_table_that_no_row_of_the_log_knows_is_refused(tmp_path: Path) -> None:
    """Somebody makes the table, with a row in it, before the broker has ever charged anything."""
    broker = Broker(tmp_path, lease=1000)
    broker.ledger.close()
    foreign = Broker(tmp_path / "foreign")
    foreign.grant()
    foreign.get()
    foreign.ledger.close()
    (made,) = sql(foreign.home, "SELECT sql FROM sqlite_master WHERE name = 'budgets'")
    rows = sql(foreign.home, "SELECT * FROM budgets")
    with sqlite3.connect(broker.home.database) as connection:
        connection.execute(made[0])
        connection.executemany("INSERT INTO budgets VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    with pytest.raises(BrokerError) as refused:
        Ledger.open(broker.home, broker.keys)
    assert refused.value.code is BrokerCode.STORE_ALTERED


def test_a_home_that_was_made_before_there_were_budgets_takes_them_up(tmp_path: Path) -> None:
    """Its table is made with the first charge, in the same transaction."""
    broker = Broker(tmp_path, lease=1000)
    broker.grant()
    set_policy(broker.ledger, policy(**LIMITS), NOW)
    beside = Ledger.open(Home(broker.home.folder), broker.keys)
    changed = session(policy=2, number=2)
    assert isinstance(release(broker.ledger, changed, broker.digest, NOW), Granted)
    assert beside.refresh()
    assert beside.look(lambda state: len(state.budgets())) == 2
    beside.close()
    broker.reopen()
    assert broker.ledger.look(lambda state: len(state.budgets())) == 2
    broker.ledger.close()


# ------------------------------------------------------------------------------------------------ policy


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("a slice without a budget", {"slice": 5}),
        ("a period without a budget", {"budget_seconds": 60, "client_rate": 5}),
        ("newcomers without a budget", {"newcomers": 5}),
        ("a burst without a rate", {"client_budget": 5, "client_burst": 5}),
    ],
)
def test_a_policy_that_bounds_nothing_is_refused(name: str, limits: dict[str, int]) -> None:
    del name
    with pytest.raises(PolicyError) as refused:
        policy(**limits)
    assert refused.value.code is PolicyCode.POLICY_VACUOUS


def test_a_policy_without_budgets_has_the_digest_that_it_always_had() -> None:
    assert not {"client_budget", "slice", "client_rate"} & policy().to_dict()["release"].keys()
    assert policy(client_budget=5).digest != policy().digest


# ------------------------------------------------------------------------------------------------ both ends together

PEOPLE = [bytes([number]) * 32 for number in range(1, 4)]
RULES = BudgetRules(client=12, anonymous=12, seconds=DAY, slice=4, newcomers=8, rate=0, burst=0, pools=24)
STEPS: dict[str, tuple[int, Callable[[random.Random], tuple[Any, ...]]]] = {
    "ask": (40, lambda draw: (draw.randrange(3), draw.randrange(3), draw.randint(1, 6))),
    "look": (30, lambda draw: (draw.randrange(3), draw.choice(["told", "told", "lost", "late"]))),
    "late": (5, lambda draw: (draw.randrange(4),)),
    "kill": (5, lambda draw: (draw.randrange(3),)),
    "grant": (5, lambda draw: (draw.randrange(3),)),
}
"""What may happen: how often, and with what."""


class World:
    """One ledger's state, three enclaves of which each may be killed, and a host that loses and keeps messages."""

    def __init__(self) -> None:
        self.state = State(bytes(32))
        self.boots = iter(range(1, 1 << 20))
        self.answered = dict.fromkeys(PEOPLE, 0)
        self.late: list[Callable[[], None]] = []
        self.enclaves = [self.fresh() for _ in range(3)]

    def fresh(self) -> tuple[bytes, Account]:
        made = next(self.boots).to_bytes(16, "big"), Account("m")
        self.grant(*made)
        return made

    def grant(self, boot: bytes, account: Account) -> None:
        charges = Charges(self.state, RULES, boot, NOW)
        terms = charges.terms(OWNER.public, "m")
        self.commit(charges)
        account.grant(terms, NOW)

    def commit(self, charges: Charges) -> None:
        for row in charges.rows:
            self.state.put(row)

    def ask(self, number: int, person: int, times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(EnclaveError):
                self.enclaves[number][1].spend(PEOPLE[person], Lease(1))
                self.answered[PEOPLE[person]] += 1

    def look(self, number: int, how: str) -> None:
        boot, account = self.enclaves[number]
        charges = Charges(self.state, RULES, boot, NOW)
        given = charges.allot(OWNER.public, account.state(64))
        self.commit(charges)
        if given is not None and how == "told":
            account.allot(given)
        elif given is not None and how == "late":
            self.late.append(lambda: account.allot(given))

    def take(self, name: str, *words: Any) -> None:
        match name:
            case "ask":
                self.ask(*words)
            case "look":
                self.look(*words)
            case "late" if words[0] < len(self.late):
                self.late.pop(words[0])()
            case "kill":
                self.enclaves[words[0]] = self.fresh()
            case "grant":
                self.grant(*self.enclaves[words[0]])

    def check(self) -> None:
        beyond = sum(max(0, count - 12) for count in self.answered.values())
        pools = self.state.budget(OWNER.public, "m", b"")
        assert pools is not None
        assert 0 <= pools.granted - pools.settled <= RULES.pools
        assert beyond <= pools.granted - pools.settled
        for person in PEOPLE:
            row = self.state.budget(OWNER.public, "m", identity_of(person))
            assert row is None or row.granted <= 12


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_lost_delayed_or_killed_nobody_gains_more_than_the_pools(seed: int) -> None:
    """Long runs, in which budgets and pools are used up."""
    world, draw = World(), random.Random(seed)
    weights = [weight for weight, _ in STEPS.values()]
    for name in draw.choices(list(STEPS), weights, k=200):
        world.take(name, *STEPS[name][1](draw))
        world.check()
    assert sum(world.answered.values()) >= 6
