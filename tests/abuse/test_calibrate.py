"""Calibration: what it takes, what it refuses, and that it gives the same for the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from manifests.abuse.calibrate import fit
from manifests.abuse.calibrate.behaviours import BEHAVIOURS, IMAGES, Pool, declared
from manifests.abuse.calibrate.intervals import clopper_pearson, upper_quantile
from manifests.abuse.calibrate.learn import LEAST_ROWS, Settings, check_size, learn, split
from manifests.abuse.calibrate.runner import subject_of
from manifests.abuse.calibrate.sample import read_sample
from manifests.abuse.calibrate.suspects import blended, foreign, perturbed
from manifests.abuse.cli import calibrate_command
from manifests.abuse.errors import AbuseError
from manifests.abuse.profile import Profile
from manifests.errors import ManifestError, StrongroomError
from manifests.model import ModelManifest
from manifests.signing import Signer
from manifests.steps import Cast, Scale
from manifests.tensors import Axis, TensorField
from manifests.values import Feature
from tests.abuse import kit
from tests.abuse.test_guard import manifest

N = Axis("n", 1, 8)
QUICK = Settings(sessions=2, width=12, length=60, rate=0.01)


def images(count: int = 60) -> Pool:
    random = np.random.default_rng(3)
    rows = random.uniform(0, 1, (count, 16))
    ones = np.ones(16)
    return Pool(rows, random.integers(0, 3, count), 0 * ones, ones, ones, (4, 4), True)


def made(name: str, pool: Pool, length: int = 50, seed: int = 1) -> np.ndarray:
    return BEHAVIOURS[name](np.random.default_rng(seed), pool, length)


# ---------------------------------------------------------------------------------------------- behaviours


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_behaviour_gives_as_many_rows_as_it_is_asked_for(name: str) -> None:
    rows = made(name, images())
    assert rows.shape == (50, 16)
    assert np.isfinite(rows).all()
    assert (rows == made(name, images())).all()
    assert (rows != made(name, images(), seed=2)).any()


def test_objects_come_without_replacement() -> None:
    rows = made("iid", images(60), 60)
    assert len(np.unique(rows, axis=0)) == 60


def test_tables_are_not_moved_or_brightened() -> None:
    assert set(BEHAVIOURS) - set(declared((), is_image=False)) == IMAGES
    assert list(declared(("iid", "translation"), is_image=False)) == ["iid"]


def test_whole_numbers_stay_whole() -> None:
    pool = replace(images(), whole=True)
    assert (pool.fit(made("noise", pool)) % 1 == 0).all()


@pytest.mark.parametrize("make", [perturbed, blended, foreign])
@pytest.mark.parametrize("pool", [images(), kit.pool()], ids=["images", "table"])
def test_suspects_lie_within_range_and_are_no_objects(make: Any, pool: Pool) -> None:
    rows = make(np.random.default_rng(1), pool, 40)
    assert rows.shape == (40, pool.rows.shape[1])
    assert ((rows >= pool.low) & (rows <= pool.high)).all()
    assert not (rows[:, None] == pool.rows[None]).all(axis=2).any()


# ---------------------------------------------------------------------------------------------- fitting


def test_tails_are_conformal_and_take_the_mildest_behaviour() -> None:
    random = np.random.default_rng(1)
    narrow, wide = (random.normal(0, scale, 3000).astype(np.float32) for scale in (1, 3))
    scores, heights = fit.fit_tail([narrow, wide])
    for scale, share in ((1, 0.1), (1, 0.01)):
        del scale
        at = float(np.quantile(wide, 1 - share))
        assert np.interp(at, scores, heights) == pytest.approx(-np.log10(share), abs=0.1)
    assert (np.diff(scores) >= 0).all()


def test_a_score_that_never_varies_has_a_tail_all_the_same() -> None:
    tail = fit.fit_tail([np.zeros(100, np.float32)])
    assert np.isfinite(tail).all()


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 2400, 0.0, 0.001536), (536, 540, 0.98114, 0.99798), (3, 10, 0.06674, 0.65245), (7, 7, 0.59038, 1.0)],
)
def test_intervals_are_exact(hits: int, trials: int, low: float, high: float) -> None:
    assert clopper_pearson(hits, trials) == pytest.approx((low, high), abs=2e-5)


def test_without_trials_nothing_is_known() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_quantiles_reach_beyond_what_was_seen() -> None:
    maxima = np.random.default_rng(1).exponential(1, 1000)
    assert upper_quantile(maxima, 0.0001) == pytest.approx(-np.log(0.0001), rel=0.15)
    assert upper_quantile(np.zeros(10), 0.001) == 0


def test_rows_of_one_object_stay_in_one_split() -> None:
    groups = np.repeat(np.arange(100), 3)
    parts = split(groups, np.random.default_rng(1))
    assert sorted(np.concatenate(parts)) == list(range(300))
    assert not set(groups[parts[0]]) & (set(groups[parts[1]]) | set(groups[parts[2]]))


@pytest.mark.parametrize(("rows", "width"), [(LEAST_ROWS - 1, 2), (999, 50)])
def test_too_little_data_does_not_arm_a_detector(rows: int, width: int) -> None:
    with pytest.raises(AbuseError) as error:
        check_size(rows, width)
    assert str(error.value.code) == "calibration-sample-short"
    assert "width" in str(error.value.remedy)
    check_size(1000, 50)


def test_the_same_rows_and_seed_give_the_same_profile_byte_for_byte() -> None:
    rows, numbers = kit.world()[:600], np.arange(600)
    first, again, other = (
        learn(rows, numbers, kit.subject(), replace(QUICK, seed=seed))[0].encode() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_labels_alone_and_whole_numbers_can_be_watched() -> None:
    def run(rows: np.ndarray) -> np.ndarray:
        return kit.run(rows.astype(np.float32) / 100).argmax(axis=1)

    rows = np.rint(kit.world()[:600] * 100)
    subject = kit.subject(labels_only=True, run=run, dtype="int64")
    profile, report = learn(rows, np.arange(600), subject, replace(QUICK, levels=7))
    assert profile.labels_only
    assert profile.squeeze.levels == 7
    assert Profile.decode(profile.encode()).encode() == profile.encode()
    assert sum(report.sessions.values()) == 7


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    learn(kit.world()[:600], np.arange(600), kit.subject(), QUICK, lambda done, total: told.append((done, total)))
    assert told[-1] == (7 * 3, 7 * 3)


# ---------------------------------------------------------------------------------------------- samples


X = TensorField("x", "float32", (N, kit.FEATURES))


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_sample_is_rows_and_their_objects(tmp_path: Path) -> None:
    rows = kit.world()[:10]
    assert (read_sample(saved(tmp_path / "a.npz", x=rows), X).rows == rows).all()
    twice = read_sample(saved(tmp_path / "b.npz", x=np.concatenate((rows, rows))), X)
    assert twice.groups.tolist() == [*range(10), *range(10)]
    named = read_sample(saved(tmp_path / "c.npz", x=rows, objects=np.array(list("aabbccddee"))), X)
    assert named.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


SAMPLES: dict[str, dict[str, Any]] = {
    "another name": {"z": kit.world()[:10]},
    "another width": {"x": kit.world()[:10, :5]},
    "no rows": {"x": kit.world()[:0]},
    "one row without an axis": {"x": kit.world()[0]},
    "text": {"x": np.full((10, kit.FEATURES), "text")},
    "not a number": {"x": np.full((10, kit.FEATURES), np.nan)},
    "objects of other rows": {"x": kit.world()[:10], "objects": np.arange(9)},
    "pickles": {"x": np.full((10, kit.FEATURES), None, dtype=object)},
}


@pytest.mark.parametrize("arrays", SAMPLES.values(), ids=SAMPLES)
def test_a_sample_is_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(AbuseError) as error:
        read_sample(saved(tmp_path / "a.npz", **arrays), X)
    assert str(error.value.code) == "calibration-sample-invalid"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more", b"text", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(AbuseError) as error:
        read_sample(path, X)
    assert str(error.value.code) == "calibration-sample-invalid"


def test_a_file_of_one_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", kit.world()[:10])
    with pytest.raises(AbuseError):
        read_sample(tmp_path / "a.npy", X)


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as error:
        read_sample(tmp_path / "none.npz", X)
    assert str(error.value.code) == "file-unavailable"


# ---------------------------------------------------------------------------------------------- the model


def model(folder: Path, *, labels: bool = False) -> Path:
    path = folder / "small.onnx"
    path.write_bytes(kit.onnx_bytes(labels=labels))
    return path


def test_the_model_is_run_with_its_pre_processing(tmp_path: Path) -> None:
    rows = kit.benign("iid", 1, 20)
    plain = subject_of(model(tmp_path), manifest())
    assert np.allclose(plain.run(rows), kit.run(rows), atol=1e-5)
    pre = (Cast("x", "float32"), Scale("x", (1.0,), (2.0,)))
    doubles = (TensorField("x", "float64", (N, kit.FEATURES)),)
    scaled = subject_of(model(tmp_path), manifest(pre=pre, inputs=doubles))
    assert np.allclose(scaled.run(2 * rows.astype(np.float64) + 1), kit.run(rows), atol=1e-3)


def test_labels_of_a_graph_are_watched(tmp_path: Path) -> None:
    described = manifest(outputs=(TensorField("y", "int64", (N,)),), labels=("a", "b", "c"))
    subject = subject_of(model(tmp_path, labels=True), described)
    rows = kit.benign("iid", 1, 20)
    assert subject.labels_only
    assert (subject.run(rows) == kit.run(rows).argmax(axis=1)).all()


def test_a_graph_that_does_not_run_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(AbuseError) as error:
        subject_of(tmp_path / "bad.onnx", manifest())
    assert str(error.value.code) == "calibration-model-failed"
    subject = subject_of(model(tmp_path), manifest(outputs=(TensorField("other", "float32", (N, 3)),)))
    with pytest.raises(AbuseError):
        subject.run(kit.benign("iid", 1, 2))


# ---------------------------------------------------------------------------------------------- the command


def command(folder: Path, *words: str, rows: int = 600, **changes: Any) -> Any:
    described = manifest(**{"abuse": None, "owner": Signer.generate().public, **changes})
    (folder / "m.toml").write_text(described.to_toml(with_owner="--force" in words))
    saved(folder / "s.npz", x=kit.world()[:rows].astype(np.float32))
    fixed = ("--manifest", str(folder / "m.toml"), "-o", str(folder / "p"), "--width", "12", "--sessions", "10")
    given = (str(folder / "s.npz"), "--model", str(model(folder)), *fixed, "--queries", "60", *words)
    return CliRunner().invoke(calibrate_command, given)


def test_the_command_writes_a_profile_and_tells_what_it_is_worth(tmp_path: Path) -> None:
    outcome = command(tmp_path, "--json")
    assert outcome.exit_code == 0, outcome.output
    told = json.loads(outcome.output)
    profile = Profile.decode((tmp_path / "p").read_bytes())
    assert told["size"] == len(profile.encode())
    assert told["false_positive_rate"]["asked"] == profile.rate == 0.001
    again = command(tmp_path)
    assert isinstance(again.exception, StrongroomError)
    assert str(again.exception.code) == "file-exists"
    text = command(tmp_path, "--force", "--behaviours", "iid,noise", "--fpr", "0.4").output
    assert "of 8 held-out sessions" in text
    assert "95 % confidence" in text


def test_the_command_refuses_what_cannot_be_watched(tmp_path: Path) -> None:
    short = command(tmp_path, rows=499).exception
    assert isinstance(short, StrongroomError)
    assert str(short.code) == "calibration-sample-short"
    text = command(tmp_path, inputs=(TensorField("x", "string", (N, 1), max_text=9),)).exception
    assert isinstance(text, StrongroomError)
    assert str(text.code) == "calibration-unsupported"
    assert not (tmp_path / "p").exists()
    wrong = command(tmp_path, "--behaviours", "iid,none")
    assert wrong.exit_code == 2
    assert "is none of iid" in wrong.output


def test_a_manifest_that_is_not_text_is_refused(tmp_path: Path) -> None:
    command(tmp_path)
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe")
    words = (str(tmp_path / "s.npz"), "--model", str(tmp_path / "small.onnx"), "--manifest", str(tmp_path / "m.toml"))
    outcome = CliRunner().invoke(calibrate_command, (*words, "-o", str(tmp_path / "q")))
    assert isinstance(outcome.exception, StrongroomError)
    assert str(outcome.exception.code) == "manifest-invalid"


def calibrated(folder: Path, *words: str, **arrays: Any) -> Any:
    """Run the command on other rows, after one that has written model and manifest."""
    command(folder, rows=10)
    saved(folder / "s.npz", **arrays)
    given = (str(folder / "s.npz"), "--model", str(folder / "small.onnx"), "--manifest", str(folder / "m.toml"))
    return CliRunner().invoke(
        calibrate_command, (*given, "--width", "12", "--sessions", "10", "--queries", "60", *words)
    )


ROWS = kit.world()[:600].astype(np.float32)
WITH_NAN = np.where(np.arange(600)[:, None] == 3, np.float32(np.nan), ROWS)
SAME_MISTAKES: dict[str, tuple[dict[str, Any], str, int]] = {
    "another dtype": ({"x": ROWS.astype(np.float64)}, "calibration-sample-invalid", 2),
    "not a number": ({"x": WITH_NAN}, "calibration-sample-invalid", 2),
    "another name": ({"X": ROWS}, "calibration-sample-invalid", 2),
    "another width": ({"x": ROWS[:, :5]}, "calibration-sample-invalid", 2),
    "too few rows": ({"x": ROWS[:7]}, "calibration-sample-short", 10),
}


@pytest.mark.parametrize("option", ["-o", "--ranges"])
@pytest.mark.parametrize("sentence", SAME_MISTAKES)
def test_one_mistake_has_one_code_whatever_is_learned(sentence: str, option: str, tmp_path: Path) -> None:
    arrays, code, status = SAME_MISTAKES[sentence]
    error = calibrated(tmp_path, option, str(tmp_path / "new"), **arrays).exception
    assert isinstance(error, StrongroomError)
    assert (str(error.code), error.exit_code) == (code, status)
    assert not (tmp_path / "new").exists()
    if sentence == "another name":
        assert (error.expected, error.found) == (["x"], ["X"])


@pytest.mark.parametrize("option", ["-o", "--ranges"])
@pytest.mark.parametrize("promise", [{"minimum": 0.0}, {"features": (Feature(2, values=(1.0,)),)}])
def test_rows_outside_the_manifests_own_bounds_are_refused(promise: Any, option: str, tmp_path: Path) -> None:
    tensor = TensorField("x", "float32", (N, kit.FEATURES), **promise)
    error = (
        command(tmp_path, option, str(tmp_path / "new"), "--force", inputs=(tensor,)).exception
        if option != "-o"
        else (command(tmp_path, inputs=(tensor,)).exception)
    )
    assert isinstance(error, StrongroomError)
    assert str(error.code) == "calibration-sample-invalid"
    assert "of 600 rows outside" in str(error.found)


DEGENERATE: dict[str, dict[str, Any]] = {
    "one row again and again": {"x": np.repeat(ROWS[:1], 700, axis=0)},
    "sixty rows ten times each": {"x": np.tile(ROWS[:60], (10, 1))},
    "sixty objects ten times each": {"x": ROWS, "objects": np.repeat(np.arange(60), 10)},
    "one session": {"x": ROWS, "sessions": np.zeros(600, np.int64)},
}


@pytest.mark.parametrize("sentence", DEGENERATE)
def test_rows_that_do_not_differ_are_too_few(sentence: str, tmp_path: Path) -> None:
    error = calibrated(tmp_path, "-o", str(tmp_path / "new"), **DEGENERATE[sentence]).exception
    assert isinstance(error, StrongroomError)
    assert (str(error.code), error.exit_code) == ("calibration-sample-short", 10)


def test_a_model_that_is_not_there_or_unsound_is_named(tmp_path: Path) -> None:
    command(tmp_path, rows=10)
    for data, code, status in ((None, "file-unavailable", 40), (b"no graph", "onnx-group", 30)):
        (tmp_path / "small.onnx").unlink(missing_ok=True)
        if data is not None:
            (tmp_path / "small.onnx").write_bytes(data)
        given = (
            str(tmp_path / "s.npz"),
            "--model",
            str(tmp_path / "small.onnx"),
            "--manifest",
            str(tmp_path / "m.toml"),
        )
        error = CliRunner().invoke(calibrate_command, (*given, "-o", str(tmp_path / "new"))).exception
        assert isinstance(error, StrongroomError)
        assert (str(error.code), error.exit_code) == (code, status)
        assert "small.onnx" in error.message


def test_the_runtimes_reason_is_given(tmp_path: Path) -> None:
    subject = subject_of(model(tmp_path), manifest(outputs=(TensorField("other", "float32", (N, 3)),)))
    with pytest.raises(AbuseError) as error:
        subject.run(kit.benign("iid", 1, 2))
    assert "other" in str(error.value.found)


def test_the_rate_that_was_asked_for_is_told_and_whether_it_is_shown(tmp_path: Path) -> None:
    text = command(tmp_path).output
    assert "0.100% of sessions, which 28 held-out ones cannot show" in text
    assert "3,688 of them without an alarm" in text
    assert json.loads(command(tmp_path, "--force", "--json").output)["false_positive_rate"]["shown"] is False


def test_a_profile_that_alarms_more_often_than_was_asked_is_not_written(tmp_path: Path) -> None:
    """So few sessions of two behaviours that what they teach does not hold for the others."""
    outcome = command(tmp_path, "--behaviours", "iid,noise")
    assert isinstance(outcome.exception, AbuseError)
    assert str(outcome.exception.code) == "calibration-rate-missed"
    assert " of 8, so more than " in str(outcome.exception.found)
    assert not (tmp_path / "p").exists()


def test_ranges_are_written_into_a_manifest_that_its_owner_reads(tmp_path: Path) -> None:
    ranges = tmp_path / "ranged.toml"
    outcome = command(tmp_path, "--json", "--ranges", str(ranges))
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.output)["promises"] == {"x": kit.FEATURES}
    owner = Signer.generate().public
    learned = ModelManifest.from_toml(ranges.read_text(), owner=owner)
    assert [feature.index for feature in learned.inputs[0].features] == list(range(kit.FEATURES))
    assert "owner" not in ranges.read_text()
    again = command(tmp_path, "--force", "--ranges", str(ranges))
    assert f"{kit.FEATURES} features of x" in again.output
    assert "owner" in ranges.read_text()


def test_ranges_are_learned_without_a_model_and_of_every_input(tmp_path: Path) -> None:
    inputs = (TensorField("x", "float32", (N, 2)), TensorField("ward", "string", (N,), max_text=9))
    described = manifest(inputs=inputs, abuse=None, owner=Signer.generate().public)
    (tmp_path / "m.toml").write_text(described.to_toml(with_owner=False))
    draw = np.random.default_rng(3)
    saved(tmp_path / "s.npz", x=draw.normal(size=(100, 2)).astype(np.float32), ward=np.array(["a", "b"] * 50))
    words = (str(tmp_path / "s.npz"), "--manifest", str(tmp_path / "m.toml"))
    outcome = CliRunner().invoke(calibrate_command, (*words, "--ranges", str(tmp_path / "r.toml")))
    assert outcome.exit_code == 0, outcome.output
    assert "2 features of x, 0 features of ward" in outcome.output
    learned = ModelManifest.from_toml((tmp_path / "r.toml").read_text(), owner=described.owner)
    assert learned.inputs[1].values == ("a", "b")
    for wrong in ((), ("-o", str(tmp_path / "p"))):
        assert CliRunner().invoke(calibrate_command, (*words, *wrong)).exit_code == 2
    taken = CliRunner().invoke(calibrate_command, (*words, "--ranges", str(tmp_path / "r.toml"))).exception
    assert isinstance(taken, StrongroomError)
    assert str(taken.code) == "file-exists"
