"""The guard of a language model: what it counts, what follows, and that nothing of it shows in a single answer."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from enclave.errors import EnclaveCode, EnclaveError
from enclave.promptwatch import COVERAGE, RATE, TOKENS, PromptGuard, TokenWatch, Told
from manifests.abuse.state import CADENCE
from manifests.gramine.settings import EnclaveSettings, Limits
from manifests.watch import CELLS, PromptWatch
from tests.enclave.rig import Refused, Rig, running
from tests.enclave.test_generation import Poet, parts, tokens_of
from tests.enclave.test_telemetry import told

MALLORY, ALICE = b"m" * 32, b"a" * 32
REFUSING = [{"action": "refuse"}]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asker:
    """Asks a guard as a stream does."""

    def __init__(self, **table: Any) -> None:
        self.clock = Clock()
        self.guard = PromptGuard(PromptWatch.from_map(table), b"k" * 32, self.clock)

    def ask(self, principal: bytes, steps: int, start: int = 0) -> str:
        """One request of so many steps, each behind a context of its own from `start`; "served", or a code."""
        try:
            self.guard.admit(principal)
        except EnclaveError as error:
            return str(error.code)
        for step in range(steps):
            self.guard.see(principal, 1, (start + step,))
        return "served"


def watch(clock: Clock, **table: Any) -> TokenWatch:
    return TokenWatch(PromptWatch.from_map(table), clock)


def test_each_bound_is_counted_for_itself() -> None:
    clock = Clock()
    state = watch(clock, tokens=10, rate=8, coverage=4)
    for _ in range(8):
        state.see(Told(1, 7), 0)
    assert state.alarms() == 0
    state.see(Told(1, 7), 0)
    assert state.alarms() == RATE
    clock.now += 60
    state.see(Told(2, 7), 0)
    assert state.alarms() == TOKENS
    for cell in range(5):
        state.see(Told(0, cell), 0)
    assert state.alarms() == TOKENS | COVERAGE
    assert state.alarms(factor=2) == 0
    state.calm()
    assert state.alarms() == TOKENS | COVERAGE, "what was told stays told"


@pytest.mark.parametrize("count", [100, 20_000, 200_000, 1_000_000])
def test_different_contexts_are_counted_within_some_per_cent(count: int) -> None:
    asker = Asker(coverage=1000)
    state = watch(asker.clock, coverage=1)
    for number in range(count):
        state.see(Told(1, asker.guard._cell((number,))), 0)
    assert state.contexts == pytest.approx(count, rel=0.05)


def test_all_cells_taken_is_more_than_any_bound() -> None:
    state = watch(Clock(), coverage=1)
    state._taken = CELLS
    assert state.alarms(factor=1000) == COVERAGE


def test_who_joins_the_rest_brings_along_what_it_was_told() -> None:
    clock = Clock()
    one, other = watch(clock, tokens=10, coverage=4), watch(clock, tokens=10, coverage=4)
    for cell in range(3):
        one.see(Told(3, cell), 0)
        other.see(Told(3, cell + 2), 0)
    one.absorb(other)
    assert round(one.contexts) == 5
    assert one.alarms() == TOKENS | COVERAGE


def test_a_bound_shows_on_the_schedule_and_not_at_the_step_that_passes_it() -> None:
    asker = Asker(tokens=5, ladder=REFUSING)
    answers = [asker.ask(MALLORY, 1) for _ in range(CADENCE + 3)]
    assert answers == ["served"] * CADENCE + ["abuse-refused"] * 3
    assert asker.ask(ALICE, 3) == "served"


def test_the_same_questions_again_are_no_coverage() -> None:
    asker = Asker(coverage=40, ladder=REFUSING)
    assert [asker.ask(MALLORY, 30) for _ in range(10)] == ["served"] * 10
    answers = [asker.ask(MALLORY, 30, start=100 * turn) for turn in range(10)]
    assert answers[0] == "served"
    assert answers[-1] == "abuse-refused"


def test_one_client_in_haste_is_slowed_and_served_again_when_it_has_calmed_down() -> None:
    asker = Asker(rate=60, hold=2, pause_ms=1000, ladder=[{"action": "slow"}])
    assert asker.ask(MALLORY, 4 * CADENCE) == "served"
    assert asker.ask(MALLORY, 1) == "served", "the first one under slow begins the pause"
    assert asker.ask(MALLORY, 1) == "abuse-slowed"
    for _ in range(8 * CADENCE):
        asker.clock.now += 2
        assert asker.ask(MALLORY, 1) == "served"
    assert [asker.ask(MALLORY, 1) for _ in range(5)] == ["served"] * 5


def test_many_identities_share_a_fate_as_far_as_the_policy_lets_it_go() -> None:
    asker = Asker(tokens=64, pool="slow", pool_factor=2, ladder=REFUSING)
    for number in range(6):
        asker.ask(number.to_bytes(32, "big"), 60)
    assert [asker.ask(ALICE, 1) for _ in range(2)] == ["served", "abuse-slowed"]
    counts = asker.guard.counts()
    assert counts["abuse_identities"] == 4
    assert counts["abuse_refuse"] == 0


def test_nothing_of_a_text_is_kept() -> None:
    told = Told(3, 99)
    assert "99" not in repr(told)
    assert PromptGuard(PromptWatch(tokens=1), b"k" * 32)._cell((1, 2)) != PromptGuard(
        PromptWatch(tokens=1), b"l" * 32
    )._cell((1, 2))


# -------------------------------------------------------------------------------------------------- in an enclave


def test_an_identity_is_refused_before_it_takes_a_cache_or_a_lease(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path, {"watch": {"tokens": 20, "ladder": REFUSING}})
    client = rig.client()
    whole = tokens_of(client, poet.ask(client, max_new_tokens=36))
    assert len(whole) == 36, "what has begun is finished"
    left, free = rig.leases()[poet.digest], poet.slots
    with pytest.raises(Refused) as refusal:
        list(parts(client, poet.ask(client)))
    assert refusal.value.code == str(EnclaveCode.ABUSE_REFUSED)
    assert (rig.leases()[poet.digest], poet.slots) == (left, free)
    assert rig.service.stats()["abuse_refuse"] == 1


def test_telemetry_tells_a_score_in_windows_and_the_counters_do_not(tmp_path: Path) -> None:
    with running(EnclaveSettings("first", limits=Limits(telemetry_window=0))) as rig:
        assert told(rig)["abuse_score"] == told(rig)["abuse_refuse"] == 0
        poet = Poet(rig, tmp_path, {"watch": {"tokens": 40, "ladder": REFUSING}})
        client = rig.client()
        assert tokens_of(client, poet.ask(client, max_new_tokens=24))  # 7 of the prompt, and 23 that were fed again
        assert told(rig)["abuse_score"] == 3
        assert tokens_of(client, poet.ask(client, max_new_tokens=36))
        assert told(rig)["abuse_score"] in {7, 8}
        assert told(rig)["abuse_refuse"] == 1
        assert "abuse_score" not in rig.service.stats()


def test_a_model_without_the_table_counts_nothing(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path)
    client = rig.client()
    for _ in range(3):
        assert tokens_of(client, poet.ask(client, max_new_tokens=36))
    assert "abuse_refuse" not in rig.service.stats()


def test_what_a_watch_may_take_counts_against_the_enclaves_memory(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path, {"watch": {"tokens": 20, "identities": 100}})
    [model] = rig.service.owners.models()
    guard = model.generation.guard if model.generation is not None else None
    assert guard is not None
    assert model.digest == poet.digest
    assert model.size > guard.most_bytes == 103 * (CELLS // 8 + 2048)


def test_the_table_of_the_page_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "generation.md").read_text(encoding="utf-8")
    block = next(text for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[watch]" in text)
    assert PromptWatch.from_map(tomllib.loads(block)["watch"]).coverage == 50_000
