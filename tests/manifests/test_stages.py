"""The tables [[stages]]: what they say, how they are written, and which cannot work."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.sealed import seal
from manifests.stages import MAX_BOXES, MAX_STAGES, Stage
from manifests.steps import Crop
from tests.enclave import pipes
from tests.enclave.pipes import finder_table, stage
from tests.manifests.small import OWNER, RECIPIENT

HEAD = {"name": "finder", "version": "1", "epoch": 1, "owner": OWNER.public}


def manifest(*stages: dict[str, Any], **changes: Any) -> ModelManifest:
    return ModelManifest.from_map({**HEAD, **copy.deepcopy(finder_table(*stages)), **changes})


def refused(*stages: dict[str, Any], **changes: Any) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        manifest(*stages, **changes)
    assert caught.value.remedy
    return caught.value


def test_a_stage_is_read_and_written_as_it_was() -> None:
    found = manifest(stage(units="pixels", least_score=0.5)).stages
    crop = Crop(4, 4, mode="gray", layout="flat")
    assert found == (Stage("echo", 1, "boxes", "X", 4, crop, "pixels", "scores", 0.5),)
    assert manifest(stage(scores=None)).stages[0].scores == ""
    assert manifest().stages[0].to_map() == stage()


def test_every_form_reads_back() -> None:
    for each in (manifest(), manifest(stage(), stage(model="other", to="Y")), manifest(stage(scores=None))):
        assert ModelManifest.decode(each.encode()) == each
        assert ModelManifest.from_toml(each.to_toml()) == each
        assert tomllib.loads(each.to_toml())["stages"][0]["from"] == "boxes"


def test_a_manifest_without_stages_is_written_as_ever() -> None:
    table = {name: value for name, value in finder_table().items() if name != "stages"}
    assert b"stages" not in ModelManifest.from_map(HEAD | table).encode()


@pytest.mark.parametrize("name", ["model", "least_epoch", "from", "to", "limit", "crop"])
def test_a_stage_says_all_that_it_must(name: str) -> None:
    error = refused({each: value for each, value in stage().items() if each != name})
    assert error.code is ManifestCode.FIELD_INVALID
    assert name in error.message


CROP = stage()["crop"]

FIELDS: dict[str, dict[str, Any]] = {
    "a field that is unknown": {"depth": 2},
    "no name": {"model": ""},
    "a name beyond all": {"model": "x" * 129},
    "an epoch below zero": {"least_epoch": -1},
    "no boxes at all": {"limit": 0},
    "too many boxes": {"limit": MAX_BOXES + 1},
    "a score that is a word": {"least_score": "half"},
    "a crop that is a word": {"crop": "8x8"},
    "a crop without a width": {"crop": {"height": 4}},
    "a crop with a field that is unknown": {"crop": CROP | {"fit": "cover"}},
}


@pytest.mark.parametrize("changes", FIELDS.values(), ids=FIELDS)
def test_a_field_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    assert refused(stage(**changes)).code is ManifestCode.FIELD_INVALID


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "the model itself": ({"model": "finder"}, "names the model itself"),
    "every model": ({"model": "*"}, "'*'"),
    "a name that no model has": ({"model": "a/b"}, "'a/b'"),
    "boxes that are not answered": ({"from": "nothing"}, "'nothing'"),
    "boxes without four edges": ({"from": "scores", "scores": None}, "[n, 4]"),
    "scores of another form": ({"scores": "boxes"}, "one for each"),
    "scores that are not answered": ({"scores": "nothing"}, "'nothing'"),
    "a least score without scores": ({"scores": None, "least_score": 0.5}, "needs an output"),
    "a least score without end": ({"least_score": float("inf")}, "finite"),
    "units that are none": ({"units": "inches"}, "fractions, pixels"),
    "a crop that is a step": ({"crop": CROP | {"kind": "crop"}}, "no kind"),
    "a crop of no width": ({"crop": CROP | {"width": 0}}, "width"),
    "a crop beyond all": ({"crop": CROP | {"height": 20_000}}, "height"),
    "a filter that is none": ({"crop": CROP | {"filter": "best"}}, "filter"),
    "a layout that is none": ({"crop": CROP | {"layout": "wide"}}, "layout"),
    "colours out of gray": ({"crop": CROP | {"mode": "rgb"}}, "no colours"),
    "a type that is none": ({"crop": CROP | {"dtype": "float64"}}, "dtype"),
    "means without deviations": ({"crop": CROP | {"mean": [0.5]}}, "as many means"),
    "means of colours in gray": ({"crop": CROP | {"mean": [0.5] * 3, "std": [1.0] * 3}}, "channels"),
    "white below black": ({"crop": CROP | {"white": -1.0}}, "white"),
    "pixels that are scaled": ({"crop": CROP | {"dtype": "uint8", "white": 2.0}}, "uint8"),
    "more numbers than a request makes": (
        {"limit": 1024, "crop": CROP | {"width": 512, "height": 512}},
        "more than",
    ),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_a_stage_that_cannot_work_is_refused(changes: dict[str, Any], words: str) -> None:
    error = refused(stage(**changes))
    assert error.code is ManifestCode.MANIFEST_INVALID
    assert words in error.message


def test_stages_must_be_of_different_models_and_read_the_same_boxes() -> None:
    assert "another model" in refused(stage(), stage(to="Y")).message
    assert "same boxes" in refused(stage(), stage(model="other", limit=3)).message
    assert "is taken" in refused(stage(), stage(model="echo.more")).message
    assert refused(*(stage(model=f"m{number}") for number in range(MAX_STAGES + 1))).code is ManifestCode.FIELD_INVALID
    assert "leave it out" in refused(stages=[]).message


def test_the_finder_must_see_a_whole_picture() -> None:
    image = finder_table()["pre"][0]
    for fit in ("cover", "contain"):
        assert "stretch" in refused(pre=[image | {"fit": fit}]).message
    numbers = [{"name": "x", "dtype": "float32", "shape": [1, 1, pipes.ROWS, 5]}]
    assert "one step `image`" in refused(inputs=numbers, pre=[]).message


def test_no_output_may_have_the_name_of_an_answer() -> None:
    outputs = [*finder_table()["outputs"], {"name": "echo.same", "dtype": "float32", "shape": [1]}]
    assert "is taken" in refused(outputs=outputs).message


def test_stages_read_what_is_left_after_the_steps() -> None:
    assert "'boxes'" in refused(post=[{"kind": "select", "outputs": ["scores"]}]).message
    assert manifest(post=[{"kind": "round", "output": "boxes", "decimals": 3}]).stages


def test_a_model_with_stages_is_served_in_no_other_way() -> None:
    batching = {"max_rows": 2, "max_wait_us": 10}
    assert "[batching]" in refused(batching=batching).message


def test_a_finder_is_sealed_with_its_stages_and_one_that_cannot_work_is_not(tmp_path: Path) -> None:
    who: dict[str, Any] = {"owner_key": OWNER, "recipients": [RECIPIENT.public]}
    assert seal(pipes.finder(), tmp_path / "good", manifest=manifest(), **who).core.name == "finder"
    with pytest.raises(ManifestError) as caught:
        seal(pipes.echo(), tmp_path / "bad", manifest=manifest(), **who)
    assert caught.value.code is ManifestCode.MANIFEST_INVALID
    assert not (tmp_path / "bad").exists()
