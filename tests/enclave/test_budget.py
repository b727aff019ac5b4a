"""Budgets in the enclave, through real sessions: slices, newcomers, rates, and what a host or a stranger can do."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attestation.types import BudgetTerms, Credential
from attestation.types.budgets import ANONYMOUS, MAX_ASKS, ModelSlices, Slice, decode_states, identity_of
from enclave import budget as budget_module
from enclave.budget import Account, Accounts, Budget
from enclave.lease import Lease
from manifests.errors import StrongroomError
from manifests.gramine.settings import EnclaveSettings
from manifests.signing import Signer
from tests.enclave.rig import Client, Owner, Refused, Rig, linear, running

X = np.ones((1, 4), np.float32)
UNTIL = 1_800_000_500
TERMS = BudgetTerms(until=UNTIL, pool=8, slice=4, client=100, anonymous=100, rate=0, burst=0)
"""One identity may draw a quarter of the pool, 2 requests."""


class Served:
    """An enclave that serves the linear model under a budget."""

    def __init__(self, rig: Rig, owner: Owner, folder: Path, terms: BudgetTerms | None = TERMS) -> None:
        self.rig, self.owner, self.folder = rig, owner, folder
        data, manifest = linear(owner)
        self.digest = owner.seal(rig.host, folder, data, manifest=manifest)
        self.broker = rig.client()
        owner.provision(self.broker, self.digest, budget=terms)

    def named(self, key: Signer, issuer: Signer | None = None) -> Client:
        """A client with a credential of the owner's broker."""
        issuer = issuer or self.owner.broker
        client = self.rig.client()
        client.authenticate(key, Credential(issuer.public, key.public, "ward").sign(issuer))
        return client

    def asks(self, broker: Client | None = None) -> list[tuple[bytes, int, int]]:
        (state,) = decode_states(self.owner.challenge(broker or self.broker)["budgets"])
        return [(ask.identity, ask.want, ask.drawn) for ask in state.asks]

    def allot(self, *slices: Slice, until: int = UNTIL, pool: int = 8) -> None:
        challenge = self.owner.challenge(self.broker)
        document = self.owner.allotment(challenge, ModelSlices("tiny", until, pool, slices))
        self.owner.heartbeat(self.broker, challenge, {self.digest: 1000}, allotment=document)

    def answered(self, client: Client, most: int = 50) -> tuple[int, str, float | None]:
        """Ask until it is refused: how often it was answered, the code, and when to try again."""
        for count in range(most):
            try:
                client.infer(self.digest, x=X)
            except Refused as refused:
                return count, refused.code, refused.retry_after
        return most, "", None


@pytest.fixture
def served(rig: Rig, owner: Owner, tmp_path: Path) -> Served:
    return Served(rig, owner, tmp_path)


def give(key: Signer | None, count: int, *, settled: int = 0, last: bool = False) -> Slice:
    return Slice(ANONYMOUS if key is None else identity_of(key.public), count, settled, last)


ALICE, BOB = Signer.from_seed(b"a" * 32), Signer.from_seed(b"b" * 32)


def test_newcomers_are_answered_at_once_and_then_from_their_slice(served: Served) -> None:
    client = served.named(ALICE)
    assert served.answered(client) == (2, "budget-pending", 2.0)
    assert served.asks() == [(identity_of(ALICE.public), 4, 2)]
    served.allot(give(ALICE, 4, settled=2))
    for _ in range(2):
        client.infer(served.digest, x=X)
    assert served.asks() == []
    client.infer(served.digest, x=X)
    assert served.asks() == [(identity_of(ALICE.public), 3, 0)]
    assert served.answered(client) == (1, "budget-pending", 2.0)


def test_a_budget_that_is_used_up_says_until_when_by_the_brokers_time(served: Served) -> None:
    client = served.named(ALICE)
    client.infer(served.digest, x=X)
    served.allot(give(ALICE, 3, settled=1, last=True))
    assert served.answered(client) == (3, "budget-exhausted", UNTIL - 1_800_000_000)
    assert served.asks() == []
    served.owner.now = UNTIL - 7
    served.owner.heartbeat(served.broker, served.owner.challenge(served.broker), {served.digest: 10})
    assert served.answered(client) == (0, "budget-exhausted", 7.0)
    served.owner.now = UNTIL + 60
    served.owner.heartbeat(served.broker, served.owner.challenge(served.broker), {served.digest: 10})
    assert served.answered(client) == (0, "budget-exhausted", 1.0)


def test_reconnecting_and_resuming_reset_nothing(served: Served) -> None:
    client = served.named(ALICE)
    ticket = client.ticket()
    client.infer(served.digest, x=X)
    served.allot(give(ALICE, 1, last=True))
    assert served.answered(served.named(ALICE)) == (1, "budget-exhausted", 500.0)
    resumed = Client(served.rig.host, ticket=ticket).connect()
    assert served.answered(resumed) == (0, "budget-exhausted", 500.0)
    assert served.answered(client) == (0, "budget-exhausted", 500.0)


def test_all_anonymous_sessions_are_one_identity_and_others_are_unaffected(served: Served) -> None:
    first, second, keyed = served.rig.client(), served.rig.client(), served.rig.client()
    keyed.authenticate(BOB)
    first.infer(served.digest, x=X)
    served.allot(give(None, 2, settled=1, last=True))
    first.infer(served.digest, x=X)
    second.infer(served.digest, x=X)
    for client in (first, second, keyed):
        assert served.answered(client) == (0, "budget-exhausted", 500.0)
    assert served.answered(served.named(ALICE))[0] == 2


def test_a_refusal_for_a_budget_takes_nothing_of_the_lease_and_the_other_way_round(served: Served) -> None:
    client = served.named(ALICE)
    served.answered(client)
    served.allot(give(ALICE, 1, last=True))
    served.answered(client)
    assert served.rig.leases()[served.digest] == 999
    challenge = served.owner.challenge(served.broker)
    served.owner.heartbeat(served.broker, challenge, {served.digest: 0})
    bob = served.named(BOB)
    assert served.answered(bob)[1] == "lease-exhausted"
    assert identity_of(BOB.public) not in [identity for identity, _, drawn in served.asks() if drawn]


def test_a_model_without_an_anonymous_budget_answers_named_clients_alone(
    rig: Rig, owner: Owner, tmp_path: Path
) -> None:
    served = Served(rig, owner, tmp_path, replace(TERMS, anonymous=0))
    assert served.answered(rig.client()) == (0, "budget-exhausted", None)
    assert served.answered(served.named(ALICE))[0] == 2


def test_who_has_no_budget_is_not_counted(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    served = Served(rig, owner, tmp_path, replace(TERMS, client=None))
    assert served.answered(served.named(ALICE), 20) == (20, "", None)
    assert served.answered(rig.client())[0] == 2


def test_without_terms_nothing_is_counted_and_a_challenge_says_nothing_of_budgets(
    rig: Rig, owner: Owner, tmp_path: Path
) -> None:
    served = Served(rig, owner, tmp_path, None)
    assert served.answered(rig.client(), 20) == (20, "", None)
    assert owner.challenge(served.broker).keys() == {"id", "nonce", "boot_id", "models", "epoch"}


def test_a_client_whom_another_owner_has_named_is_anonymous_here(tmp_path: Path) -> None:
    """Else an owner who shares the process could make up as many identities as it likes."""
    mine, other = Owner(), Owner()
    with running(EnclaveSettings("any")) as rig:
        served = Served(rig, mine, tmp_path)
        Served(rig, other, tmp_path, None)
        keys = [Signer.generate() for _ in range(3)]
        for key in keys:
            client = served.named(key, issuer=other.broker)
            served.answered(client, 1)
        assert {identity for identity, _, _ in served.asks()} == {ANONYMOUS}


def test_two_epochs_of_a_name_share_one_account(served: Served) -> None:
    client = served.named(ALICE)
    client.infer(served.digest, x=X)
    served.allot(give(ALICE, 2, settled=1, last=True))
    data, manifest = linear(served.owner, epoch=2)
    newer = served.owner.seal(served.rig.host, served.folder, data, manifest=manifest)
    served.owner.provision(served.broker, newer, epoch=2, budget=TERMS)
    client.infer(newer, x=X)
    client.infer(served.digest, x=X)
    with pytest.raises(Refused) as refused:
        client.infer(newer, x=X)
    assert refused.value.code == "budget-exhausted"


def test_a_grant_anew_resets_nothing(served: Served) -> None:
    client = served.named(ALICE)
    client.infer(served.digest, x=X)
    served.allot(give(ALICE, 1, last=True))
    served.owner.provision(served.rig.client(), served.digest, budget=TERMS)
    assert served.answered(client) == (1, "budget-exhausted", 500.0)


# ------------------------------------------------------------------------------------------------ periods, hosts


def test_a_later_period_begins_for_everybody_when_the_broker_names_it(served: Served) -> None:
    alice, bob = served.named(ALICE), served.named(BOB)
    alice.infer(served.digest, x=X)
    bob.infer(served.digest, x=X)
    served.allot(give(ALICE, 1, last=True), give(BOB, 4))
    assert served.answered(alice)[1] == "budget-exhausted"
    served.allot(give(ALICE, 3), until=UNTIL + 100)
    assert served.answered(alice) == (3, "budget-pending", 2.0)
    assert served.answered(bob) == (2, "budget-pending", 2.0)


def test_slices_that_a_host_kept_back_into_a_later_period_are_void(served: Served) -> None:
    client = served.named(ALICE)
    client.infer(served.digest, x=X)
    held = [served.rig.client() for _ in range(2)]
    kept = []
    for session in held:
        challenge = served.owner.challenge(session)
        kept.append((challenge, served.owner.allotment(challenge, ModelSlices("tiny", UNTIL, 8, (give(ALICE, 4),)))))
    served.owner.heartbeat(held[0], kept[0][0], {served.digest: 1000}, allotment=kept[0][1])
    assert served.answered(client)[0] == 4
    served.allot(give(ALICE, 1, last=True), until=UNTIL + 100)
    with pytest.raises(Refused):  # a heartbeat that answers an earlier challenge
        served.owner.heartbeat(held[1], kept[1][0], {served.digest: 1000}, allotment=kept[1][1])
    served.allot(give(ALICE, 4), until=UNTIL)
    assert served.answered(client) == (1, "budget-exhausted", 600.0)


def test_slices_that_come_together_are_one_slice_at_most(served: Served) -> None:
    client = served.named(ALICE)
    client.infer(served.digest, x=X)
    served.allot(give(ALICE, 4))
    served.allot(give(ALICE, 4))
    assert served.answered(client)[0] == 4


def test_a_host_that_drops_every_heartbeat_gains_what_is_outstanding(served: Served) -> None:
    clients = [served.named(Signer.generate()) for _ in range(6)]
    assert [served.answered(client)[0] for client in clients] == [2, 2, 2, 2, 0, 0]
    assert {served.answered(client)[1] for client in clients} == {"budget-pending"}


def test_slices_for_a_client_that_is_not_here_are_lost(served: Served) -> None:
    served.allot(give(ALICE, 4))
    assert served.answered(served.named(ALICE))[0] == 2


# ------------------------------------------------------------------------------------------------ who may say and see


def test_a_stranger_learns_nothing_of_who_asks(served: Served) -> None:
    served.named(ALICE).infer(served.digest, x=X)
    stranger = served.rig.client()
    assert "budgets" not in served.owner.challenge(stranger)
    assert "budgets" in served.owner.challenge(served.broker)
    assert identity_of(ALICE.public) not in stranger.record.claims  # type: ignore[union-attr]


def test_a_broker_sees_and_bounds_only_what_it_is_delegated(served: Served) -> None:
    served.named(ALICE).infer(served.digest, x=X)
    narrow = replace_models(served.owner, "other")
    session = served.rig.client()
    challenge = narrow.challenge(session)
    narrow.heartbeat(session, challenge, {})
    assert "budgets" not in narrow.challenge(session)
    challenge = narrow.challenge(session)
    document = narrow.allotment(challenge, ModelSlices("tiny", UNTIL + 1, 9, (give(ALICE, 4),)))
    with pytest.raises(Refused) as refused:
        narrow.heartbeat(session, challenge, {}, allotment=document)
    assert refused.value.code == "delegation-scope"


def replace_models(owner: Owner, *models: str) -> Owner:
    return replace(owner, models=models)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("for another nonce", {"nonce": bytes(32)}),
        ("for another process", {"boot_id": bytes(16)}),
        ("of another owner", {"owner": ALICE.public}),
        ("under another delegation", {"delegation": bytes(64)}),
    ],
)
def test_an_allotment_that_is_not_for_this_heartbeat_is_refused(
    served: Served, name: str, changes: dict[str, bytes]
) -> None:
    del name
    client = served.named(ALICE)
    assert served.answered(client)[0] == 2
    challenge = served.owner.challenge(served.broker)
    document = served.owner.allotment(challenge, ModelSlices("tiny", UNTIL, 8, (give(ALICE, 4),)), **changes)
    with pytest.raises(Refused) as refused:
        served.owner.heartbeat(served.broker, challenge, {served.digest: 1000}, allotment=document)
    assert refused.value.code == "nonce-refused"
    assert served.answered(client)[0] == 0


def test_an_allotment_that_another_key_signed_is_refused(served: Served) -> None:
    challenge = served.owner.challenge(served.broker)
    stranger = replace(served.owner, broker=Signer.generate())
    document = stranger.allotment(challenge, ModelSlices("tiny", UNTIL, 8, (give(ALICE, 4),)))
    with pytest.raises(Refused) as refused:
        served.owner.heartbeat(served.broker, challenge, {served.digest: 1}, allotment=document)
    assert refused.value.code == "signature-invalid"


def test_an_allotment_that_is_no_document_is_refused(served: Served) -> None:
    challenge = served.owner.challenge(served.broker)
    with pytest.raises(Refused) as refused:
        served.owner.heartbeat(served.broker, challenge, {served.digest: 1}, allotment=b"nonsense")
    assert refused.value.code.startswith("encoding-")


# ------------------------------------------------------------------------------------------------ bounds


def account(terms: BudgetTerms = TERMS, name: str = "m") -> Account:
    made = Account(name)
    made.grant(terms, 1_800_000_000)
    return made


def test_what_an_account_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "MAX_IDENTITIES", 10)
    made, keys = account(replace(TERMS, pool=400)), [bytes([number]) * 32 for number in range(40)]
    for key in keys:
        made.spend(key, Lease(1))
    state = made.state(MAX_ASKS)
    assert [ask.identity for ask in state.asks] == [identity_of(key) for key in keys[-10:]]


def test_asks_are_bounded_and_shared_out_among_models() -> None:
    accounts = Accounts()
    delegation: Any = SimpleNamespace(names=lambda _name: True)
    for name, people in (("a", 200), ("b", 200), ("c", 3)):
        budget = Budget()
        grant: Any = SimpleNamespace(name=name, budget=replace(TERMS, pool=4000), time=1)
        accounts.take_in(grant, budget)
        for number in range(people):
            budget.spend(number.to_bytes(32, "big"), Lease(1))
    states = accounts.states([delegation])
    assert [len(state.asks) for state in states] == [21, 21, 3]
    decode_states([state.encode() for state in states])


def test_an_identity_that_is_used_up_is_asked_for_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator may have reset it; a host that moves its clock only makes the broker hear of it sooner."""
    now = itertools.count(0.0, 20.0)
    monkeypatch.setattr(budget_module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    made = account()
    made.spend(ALICE.public, Lease(1))
    made.allot(ModelSlices("m", UNTIL, 8, (give(ALICE, 0, settled=1, last=True),)))
    for expected in (0, 1):
        with pytest.raises(StrongroomError) as refused:
            made.spend(ALICE.public, Lease(1))
        assert refused.value.code == "budget-exhausted"
        assert len(made.state(MAX_ASKS).asks) == expected
    made.allot(ModelSlices("m", UNTIL, 8, (give(ALICE, 4),)))
    made.spend(ALICE.public, Lease(1))


# ------------------------------------------------------------------------------------------------ rates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock of the module."""
    reading = [100.0]
    monkeypatch.setattr(budget_module, "time", SimpleNamespace(monotonic=lambda: reading[0]))
    return functools.partial(reading.__setitem__, 0)


def answers(made: Account, key: bytes) -> tuple[int, str, float | None]:
    for count in range(100):
        try:
            made.spend(key, Lease(1))
        except StrongroomError as refused:
            return count, str(refused.code), getattr(refused, "retry_after", None)
    return 100, "", None


def test_a_rate_admits_a_burst_and_then_so_many_a_minute(clock: Callable[[float], None]) -> None:
    made = account(replace(TERMS, client=None, rate=30, burst=5))
    assert answers(made, ALICE.public) == (5, "rate-exceeded", 2.0)
    assert answers(made, BOB.public)[0] == 5, "another identity has a rate of its own"
    clock(106.0)
    assert answers(made, ALICE.public)[0] == 3
    clock(10_000.0)
    assert answers(made, ALICE.public)[0] == 5


def test_a_clock_that_goes_back_gives_nothing(clock: Callable[[float], None]) -> None:
    made = account(replace(TERMS, client=None, rate=30, burst=5))
    assert answers(made, ALICE.public)[0] == 5
    clock(1.0)
    assert answers(made, ALICE.public)[0] == 0


def test_a_rate_is_never_the_only_bound(clock: Callable[[float], None]) -> None:
    """A host that lets the clock run gives a client its rate as often as it likes, and no more of its budget."""
    made = account(replace(TERMS, rate=60, burst=1))
    count = 0
    for minute in range(100):
        clock(1000.0 * minute + 1000)
        count += answers(made, ALICE.public)[0]
    assert count == 2


def test_a_rate_holds_in_a_session_and_says_when(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    served = Served(rig, owner, tmp_path, BudgetTerms(0, 0, 100, None, None, rate=1, burst=3))
    count, code, wait = served.answered(rig.client())
    assert (count, code) == (3, "rate-exceeded")
    assert wait is not None
    assert 50 < wait <= 60
    assert "budgets" not in owner.challenge(served.broker)
