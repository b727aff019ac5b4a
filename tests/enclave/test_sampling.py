"""Drawing a token: what holds for any scores and any parameters."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from enclave.errors import EnclaveCode, EnclaveError
from enclave.sampling import MAX_SEED, Sampler, fraction

SCORES = arrays.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(1, 40),
    elements=st.floats(-1e4, 1e4, width=16) | st.just(-np.inf),
).filter(lambda scores: np.isfinite(scores.max()))
SAMPLERS = st.builds(
    Sampler,
    st.floats(1e-300, 100.0, exclude_min=True),
    st.none() | st.integers(1, 60),
    st.none() | st.floats(0.0, 1.0, exclude_min=True),
    st.integers(0, MAX_SEED),
)
STEPS = st.integers(0, 1 << 20)


def plain(scores: np.ndarray, sampler: Sampler, step: int) -> int:
    """The algorithm of docs/generation.md, token by token."""
    order = sorted(range(len(scores)), key=lambda token: (-float(scores[token]), token))[: sampler.top_k]
    greatest = max(map(float, scores))
    assert sampler.temperature is not None
    with np.errstate(all="ignore"):
        weights = np.exp((np.array([float(scores[token]) for token in order]) - greatest) / sampler.temperature)
    total, sums = 0.0, []
    for weight in weights:
        total += float(weight)
        sums.append(total)
    if sampler.top_p is not None:
        sums = sums[: next(n for n, value in enumerate(sums) if value >= sampler.top_p * total) + 1]
    digest = hashlib.sha512(
        b"strongroom sample v1\0" + sampler.seed.to_bytes(8, "big") + step.to_bytes(8, "big")
    ).digest()
    drawn = (int.from_bytes(digest[:8], "big") >> 11) / 2**53 * sums[-1]
    return order[next((n for n, value in enumerate(sums) if value > drawn), len(sums) - 1)]


@given(SCORES, SAMPLERS, STEPS)
def test_a_token_is_drawn_as_the_page_says(scores: np.ndarray, sampler: Sampler, step: int) -> None:
    assert sampler.pick(scores, step) == plain(scores, sampler, step)


@given(SCORES, SAMPLERS, STEPS)
def test_no_token_is_drawn_that_a_request_excludes(scores: np.ndarray, sampler: Sampler, step: int) -> None:
    token = sampler.pick(scores, step)
    better = int((scores > scores[token]).sum())
    assert better < (sampler.top_k or len(scores))
    if scores[token] == -np.inf:  # it has no weight, and is never drawn
        raise AssertionError


@given(SCORES, STEPS)
def test_greedy_takes_the_first_of_the_greatest(scores: np.ndarray, step: int) -> None:
    assert Sampler().pick(scores, step) == int(np.flatnonzero(scores == scores.max())[0])
    assert Sampler(1.0, top_k=1).pick(scores, step) == Sampler().pick(scores, step)
    assert Sampler(1.0, top_p=1e-12).pick(scores, step) == Sampler().pick(scores, step)


@given(st.integers(0, MAX_SEED), STEPS)
def test_a_fraction_is_at_least_zero_and_below_one(seed: int, step: int) -> None:
    assert 0 <= fraction(seed, step) < 1


def test_tokens_come_as_often_as_their_weights_say() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.2]))
    counts = np.bincount([Sampler(1.0, seed=4).pick(scores, step) for step in range(4000)], minlength=3)
    np.testing.assert_allclose(counts / 4000, [0.5, 0.3, 0.2], atol=0.03)


@pytest.mark.parametrize("scores", [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_scores_without_a_greatest_are_refused(scores: list[float]) -> None:
    with pytest.raises(EnclaveError) as refusal:
        Sampler(1.0).pick(np.array(scores), 0)
    assert refusal.value.code is EnclaveCode.INFERENCE_FAILED
