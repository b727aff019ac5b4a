"""Ranges and sets learned from samples: what the owner sees, what requests then meet, what is not learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enclave.errors import EnclaveError
from enclave.validate import RequestPlan
from manifests.errors import ManifestError
from manifests.learning import learn_values
from manifests.model import ModelManifest
from tests.enclave.test_validate import body, field, manifest


def rows(count: int = 200) -> np.ndarray:
    """Four columns: an age, a category of two, one that never changes, a measurement around zero."""
    draw = np.random.default_rng(1)
    columns = [draw.uniform(20, 90, count), draw.integers(0, 2, count), np.full(count, 7), draw.normal(0, 1, count)]
    return np.stack(columns, axis=1).astype(np.float32)


def learned(sample: np.ndarray, **more: Any) -> ModelManifest:
    return learn_values(manifest([field("float32", ["n", 4], **more)]), {"x": sample})


def test_every_row_of_the_sample_passes_what_was_learned_from_it() -> None:
    sample = rows()
    checks = RequestPlan.compile(learned(sample))
    for start in range(0, len(sample), 4):
        checks.check(body(x=sample[start : start + 4]))


def test_a_column_gets_a_range_with_room_or_a_set_or_nothing() -> None:
    sample = rows()
    (tensor,) = learned(sample).inputs
    age, sex, measure = tensor.features
    spread = float(np.ptp(sample[:, 0]))
    assert age.index == 0
    assert age.minimum == pytest.approx(sample[:, 0].min() - 0.1 * spread, rel=1e-4)
    assert age.maximum == pytest.approx(sample[:, 0].max() + 0.1 * spread, rel=1e-4)
    assert (sex.index, sex.values) == (1, (0.0, 1.0))
    assert measure.index == 3
    assert "index = 1" in learned(sample).to_toml()


@pytest.mark.parametrize("column", [0, 1, 3])
def test_what_was_never_near_the_sample_is_refused(column: int) -> None:
    sample = rows()
    checks = RequestPlan.compile(learned(sample))
    strange = sample[:1].copy()
    strange[0, column] = 60.5 if column == 1 else 1e6
    with pytest.raises(EnclaveError) as refusal:
        checks.check(body(x=strange))
    assert refusal.value.code in {"tensor-value", "tensor-category"}


def test_what_the_owner_wrote_is_kept() -> None:
    written = [{"index": 0, "name": "age", "minimum": 0.0, "maximum": 130.0}]
    (tensor,) = learned(rows(), features=written, minimum=-50.0).inputs
    assert tensor.minimum == -50.0
    assert (tensor.features[0].name, tensor.features[0].maximum) == ("age", 130.0)


def test_numbers_that_were_never_negative_stay_so() -> None:
    sample = np.abs(rows())
    sample[:, 0] -= sample[:, 0].min()
    (tensor,) = learned(sample).inputs
    assert tensor.minimum == 0.0
    assert tensor.features[0].minimum == 0.0


def test_whole_numbers_are_noticed() -> None:
    (tensor,) = learned(np.round(rows() * 10)).inputs
    assert tensor.whole


def test_missing_values_are_not_learned_from() -> None:
    sample = rows()
    sample[::3, 0] = np.nan
    (tensor,) = learned(sample, allow_nan=True).inputs
    assert np.isfinite([tensor.minimum, tensor.maximum, tensor.features[0].maximum]).all()


def test_a_sample_of_nothing_but_nan_teaches_nothing() -> None:
    (tensor,) = learned(np.full((50, 4), np.nan, np.float32), allow_nan=True).inputs
    assert tensor.minimum is None


def test_integers_stay_within_their_type() -> None:
    sample = np.tile(np.arange(256, dtype=np.uint8), 2)
    (tensor,) = learn_values(manifest([field("uint8", ["n"])]), {"x": sample}).inputs
    assert (tensor.minimum, tensor.maximum, tensor.features) == (0, 255, ())


def test_few_words_make_a_set_and_many_a_length() -> None:
    table = manifest([field("string", ["n"])])
    (few,) = learn_values(table, {"x": np.array(["no", "yes"] * 30, object)}).inputs
    assert few.values == ("no", "yes")
    (many,) = learn_values(table, {"x": np.array([f"text {i}" for i in range(60)], object)}).inputs
    assert (many.values, many.max_text) == ((), 14)
    (plain,) = learn_values(table, {"x": np.array(["a\nb"] * 40, object)}).inputs
    assert plain.values == ()


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ({"y": rows()}, "no input"),
        ({"x": rows().astype(np.float64)}, "dtype"),
        ({"x": rows()[:, 0]}, "rank"),
        ({"x": rows()[:, :3]}, "length"),
        ({"x": rows(29)}, "too few"),
    ],
    ids=["unknown input", "dtype", "rank", "length", "too few rows"],
)
def test_samples_that_do_not_fit_are_refused(sample: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(ManifestError) as refusal:
        learn_values(manifest([field("float32", ["n", 4])]), sample)
    assert refusal.value.code == "sample-invalid"
    assert words in refusal.value.message
