"""Fair queueing, counted: what each key gets of a number of services, whatever it asks for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.fair import LEAST, REMEMBERED, FairQueue


def serve(queue: FairQueue[str], times: int, costs: dict[bytes, float]) -> Counter[bytes]:
    """Serve so many items, each key's always filled up again; return how many each key got."""
    got: Counter[bytes] = Counter()
    for _ in range(times):
        taken = queue.pop()
        assert taken is not None
        key, item = taken
        got[key] += 1
        queue.charge(key, costs[key])
        queue.push(key, item)
        queue.done(key)
    return got


def test_a_key_with_a_hundred_items_is_served_as_often_as_one_with_a_single_item() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.push(b"many", str(number))
    queue.push(b"one", "x")
    assert serve(queue, 200, {b"many": 0.01, b"one": 0.01}) == {b"many": 100, b"one": 100}


def test_one_that_comes_while_a_hundred_wait_is_next_but_one() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.push(b"many", str(number))
    serve(queue, 50, {b"many": 0.01})
    queue.push(b"late", "x")
    taken = [queue.pop() for _ in range(2)]
    assert b"late" in {key for key, _ in filter(None, taken)}


def test_shares_are_of_time_and_not_of_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push(b"slow", "s")
    queue.push(b"fast", "f")
    got = serve(queue, 1100, {b"slow": 0.1, b"fast": 0.01})
    assert got[b"fast"] / got[b"slow"] == pytest.approx(10, rel=0.1)


def test_nobody_saves_up_while_away() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push(b"busy", "b")
    serve(queue, 1000, {b"busy": 1.0})
    queue.push(b"back", "x")
    assert serve(queue, 100, {b"busy": 1.0, b"back": 1.0})[b"busy"] >= 49


def test_within_a_key_first_come_is_first_served() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in "abc":
        queue.push(b"k", item)
    assert [queue.pop() for _ in range(4)] == [(b"k", "a"), (b"k", "b"), (b"k", "c"), None]


def test_a_key_at_its_limit_waits_until_one_of_its_items_is_done() -> None:
    queue: FairQueue[str] = FairQueue(limit=2, unlimited=frozenset({b"free"}))
    for key in (b"k", b"free"):
        for item in "abc":
            queue.push(key, item)
    taken = Counter(key for key, _ in iter(queue.pop, None))
    assert taken == {b"k": 2, b"free": 3}
    assert len(queue) == 1
    assert queue.done(b"k")
    assert queue.pop() == (b"k", "c")


def test_the_estimate_of_the_wait_follows_the_queue() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(200):
        queue.charge(b"k", 0.5)
    for number in range(9):
        queue.push(b"k", str(number))
    assert queue.wait_seconds(b"k", 1) == pytest.approx(5.0, rel=0.01)
    assert queue.wait_seconds(b"k", 4) == pytest.approx(1.25, rel=0.01)
    queue.push(b"other", "x")
    assert queue.wait_seconds(b"k", 4) == pytest.approx(2.5, rel=0.01)


def test_an_item_that_gives_up_waiting_is_taken_out() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push(b"k", "a")
    assert queue.remove(b"k", "a")
    assert not queue.remove(b"k", "a")
    assert not queue.remove(b"other", "a")
    assert queue.pop() is None


def test_keys_that_come_once_are_forgotten() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(3 * REMEMBERED):
        key = number.to_bytes(32, "big")
        queue.push(key, "x")
        queue.pop()
        queue.charge(key, 10.0)
        queue.done(key)
    assert len(queue._kinds) <= REMEMBERED + 2
    assert len(queue._heap) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["push", "pop", "done"]), st.floats(0, 5)), max_size=200))
def test_whatever_happens_every_item_comes_out_once_and_no_limit_is_passed(
    steps: list[tuple[int, str, float]],
) -> None:
    queue: FairQueue[int] = FairQueue(limit=2)
    serving: Counter[bytes] = Counter()
    out: list[int] = []
    pushed = 0
    for who, what, cost in steps:
        key = bytes([who])
        if what == "push":
            queue.push(key, pushed)
            pushed += 1
        elif what == "pop" and (taken := queue.pop()) is not None:
            serving[taken[0]] += 1
            out.append(taken[1])
        elif what == "done" and serving[key]:
            serving[key] -= 1
            queue.charge(key, cost)
            queue.done(key)
        assert max(serving.values(), default=0) <= 2
        assert len(queue) == pushed - len(out)
    for key, count in serving.items():
        for _ in range(count):
            queue.done(key)
    while (taken := queue.pop()) is not None:
        out.append(taken[1])
        queue.charge(taken[0], LEAST)
        queue.done(taken[0])
    assert sorted(out) == list(range(pushed))
