"""The serving broker and clients' budgets, on the wire: it looks between heartbeats, and takes no enclave's word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attestation.broker.audit import EventKind
from attestation.broker.call import Surroundings
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.events import EventName
from attestation.broker.link import Link
from attestation.sim.platform import SimulatedPlatform
from attestation.types import BudgetState, Right
from attestation.types.budgets import MAX_ASKS, MAX_COUNT, Ask, identity_of
from enclave.errors import EnclaveCode, EnclaveError
from enclave.lease import Lease
from tests.broker.test_service import START, Clock, Deployment, until

ALICE = b"\1" * 32
TERMS = {"client_budget": 20, "slice": 4, "newcomers": 8, "heartbeat_seconds": 3600}


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform(b"\x05" * 32, START - 1000)


@pytest.fixture
def made(tmp_path: Path, platform: SimulatedPlatform) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path, platform)
    deployment.set_policy(**TERMS)
    deployment.hold("one")
    yield deployment
    deployment.enclave.close()


def ask(made: Deployment, times: int, principal: bytes = ALICE) -> tuple[int, str]:
    """Spend as an inference would; returns how many were answered, and how it ended."""
    (model,) = made.enclave.owners.models()
    for count in range(times):
        try:
            model.budget.spend(principal, Lease(1))
        except EnclaveError as refused:
            return count, str(refused.code)
    return times, ""


def eventually(made: Deployment, times: int) -> str:
    """Ask until so many were answered, patiently; returns the code that ended it before, if any but pending."""
    found, codes = [0], [""]

    def done() -> bool:
        count, codes[0] = ask(made, times - found[0])
        found[0] += count
        return found[0] == times or codes[0] == "budget-exhausted"

    until(done, "the slices")
    return codes[0]


def test_slices_come_between_heartbeats(made: Deployment) -> None:
    """The first heartbeat brings nothing, the next in its turn is an hour away."""
    with made.serving():
        until(made.enclave.leases, "the model")
        until(lambda: made.said(EventName.RENEWED), "the first heartbeat")
        assert eventually(made, 20) == ""
        assert eventually(made, 1) == "budget-exhausted"
    slices = [event.details.get("slices", 0) for event in made.said(EventName.RENEWED)]
    assert sum(slices) >= 4
    granted = [item for entry in made.entries(EventKind.RENEWAL) for item in entry.event.get("slices", [])]
    assert sum(item[2] + item[3] for item in granted if item[1] == identity_of(ALICE)) == 20


def test_nobody_who_asks_nothing_is_sent_heartbeats_before_their_time(made: Deployment) -> None:
    with made.serving():
        until(lambda: made.enclave.operations.count("challenge") >= 4, "three looks")
    assert made.enclave.operations.count("heartbeat") == 1


def test_without_budgets_nobody_is_looked_at_between_heartbeats(made: Deployment) -> None:
    made.set_policy(heartbeat_seconds=3600)
    with made.serving():
        until(lambda: made.said(EventName.RENEWED), "the first heartbeat")
        time.sleep(1.5)
    assert made.enclave.operations.count("challenge") == 1


def test_a_budget_that_the_policy_drops_is_dropped_in_enclaves_that_run(made: Deployment) -> None:
    with made.serving():
        until(made.enclave.leases, "the model")
        assert ask(made, 50)[1] == "budget-pending"
        made.set_policy(heartbeat_seconds=3600)
        until(lambda: ask(made, 50) == (50, ""), "the grant without terms")


def test_a_broker_without_the_right_to_heartbeats_grants_no_slices(made: Deployment) -> None:
    made.hold("one", rights=(Right.PROVISION,))
    with made.serving():
        until(made.enclave.leases, "the model")
        assert ask(made, 50) == (2, "budget-pending")
        until(lambda: made.enclave.operations.count("challenge") >= 2, "a look")
    assert ask(made, 50) == (0, "budget-pending")


def test_an_enclave_that_refuses_slices_is_not_asked_again_before_the_next_heartbeat(made: Deployment) -> None:
    def refuse(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        if operation == "heartbeat" and made.enclave.operations.count("heartbeat") > 1:
            raise EnclaveError(EnclaveCode.HEARTBEAT_OLD, "no")
        return answer

    made.enclave.misbehave = refuse
    with made.serving():
        until(lambda: made.said(EventName.RENEWED), "the first heartbeat")
        ask(made, 1)
        until(lambda: made.said(EventName.FAILED), "the refusal")
        time.sleep(2.5)
    assert made.enclave.operations.count("heartbeat") == 2


def test_a_period_ends_by_the_brokers_clock_and_enclaves_hear_of_it(made: Deployment) -> None:
    clock, stop = Clock(), threading.Event()
    with made.ledger() as ledger:
        around = Surroundings(ledger, made.opener(), made.events.append, stop, lambda _error: stop.set(), clock)
        link = Link(made.enclave.address, around)
        thread = threading.Thread(target=link.run)
        thread.start()
        try:
            until(made.enclave.leases, "the model")
            assert eventually(made, 21) == "budget-exhausted"
            clock.now = (START // 86400 + 1) * 86400 + 1
            until(lambda: ask(made, 1) == (1, ""), "the next period")
            assert eventually(made, 20) == "budget-exhausted"
            clock.now = START
            time.sleep(1.2)
            assert ask(made, 1) == (0, "budget-exhausted")
        finally:
            stop.set()
            link.wake()
            thread.join(10)


def state(*asks: Ask, name: str = "one", until: int = 0, settled: int = 0) -> list[Any]:
    return BudgetState(name, until, settled, asks).encode()


def crowd(count: int) -> list[Ask]:
    return [Ask(bytes([number]) * 32, 1, 0) for number in range(count)]


STRANGE: dict[str, Callable[[], Any]] = {
    "no list": lambda: 7,
    "too many asks": lambda: [state(*crowd(MAX_ASKS // 2 + 1), name=name) for name in ("a", "b")],
    "an identity twice": lambda: [state(Ask(ALICE, 1, 0), Ask(ALICE, 1, 0))],
    "a name twice": lambda: [state(), state()],
    "a count below nothing": lambda: [["one", 0, 0, [[ALICE, -1, 0]]]],
    "a count without bound": lambda: [["one", 0, 0, [[ALICE, MAX_COUNT + 1, 0]]]],
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE.keys())
def test_asks_that_make_no_sense_end_the_session(made: Deployment, strange: Callable[[], Any]) -> None:
    made.enclave.misbehave = lambda op, answer: {**answer, "budgets": strange()} if op == "challenge" else answer
    with pytest.raises(BrokerError) as error:
        made.once()
    assert error.value.code is BrokerCode.ENCLAVE_UNEXPECTED
    with made.ledger() as ledger:
        assert ledger.look(lambda kept: kept.budget(kept.models()[0].owner, "one", ALICE)) is None


def test_an_enclave_that_asks_for_everything_gets_slices_within_the_budgets(made: Deployment) -> None:
    """Whatever it claims to have drawn or settled: an identity's budget and the pools are all that it can charge."""
    asks = [Ask(bytes([number]) * 32, MAX_COUNT, MAX_COUNT) for number in range(MAX_ASKS)]
    made.enclave.misbehave = lambda op, answer: (
        {**answer, "budgets": [state(*asks, settled=MAX_COUNT)]} if op == "challenge" else answer
    )
    for _ in range(3):
        made.once()
    with made.ledger() as ledger:
        rows = ledger.look(lambda kept: kept.budgets())
    assert len([row for row in rows if len(row.identity) == 32]) == MAX_ASKS
    assert max(row.granted for row in rows if len(row.identity) == 32) <= 20
    (pools,) = [row for row in rows if not row.identity]
    assert 0 <= pools.granted - pools.settled <= 8
