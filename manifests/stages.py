"""The tables `[[stages]]`: further sealed models of the same owner, which read what this one finds in a picture.

    [[stages]]
    model = "digits"            # the reader: a name of the same owner
    least_epoch = 1
    from = "boxes"              # an output of this model, the finder
    to = "X"                    # the reader's one input
    units = "pixels"            # of the picture that the finder's graph gets; or "fractions" of it
    scores = "scores"           # optional: an output with a number for each box
    least_score = 0.5           # optional: boxes below it are no boxes
    limit = 64                  # most boxes of one request

    [stages.crop]               # how a box becomes the reader's picture
    width = 8
    height = 8

A reader has no stages itself: depth is exactly one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests import fields
from manifests.steps import PreStep
from manifests.steps.base import invalid
from manifests.steps.crop import Crop
from manifests.steps.decode import MAX_ELEMENTS, Image
from manifests.tensors import MAX_TENSOR_NAME, TensorField

MAX_STAGES = 4
"""Each one is a model of its own that one request runs."""
MAX_BOXES = 1024
"""Boxes of one request: each is cut and scaled, in some ten microseconds at the least."""
MAX_READER = 128
"""As long as a model's name may be."""
UNITS = ("fractions", "pixels")

_CORNERS = 4
_FLOATS = frozenset({"float32", "float64"})
_REQUIRED = ("model", "least_epoch", "from", "to", "limit", "crop")
_OPTIONAL = ("units", "scores", "least_score")


@dataclass(frozen=True)
class Stage:
    """One reader.

    model: its name.  least_epoch: the lowest that may answer.  boxes: the finder's output (`from`), [n, 4] of left,
    top, right, bottom.  input: the reader's one input (`to`).  limit: most boxes of one request; of more, the
    best-scored are kept where there are `scores`, and the request is refused where there are none.  crop: what is made
    of each.  units: what boxes are measured in.  scores: the finder's output [n] of a number for each box, or "".
    least_score: boxes below it are no boxes; None for any.
    """

    model: str
    least_epoch: int
    boxes: str
    input: str
    limit: int
    crop: Crop
    units: str = UNITS[0]
    scores: str = ""
    least_score: float | None = None

    @classmethod
    def from_map(cls, value: object) -> Stage:
        """Read one table; raises ManifestError `field-invalid` or `manifest-invalid`."""
        table = fields.closed_map(value, "stages", _REQUIRED, _OPTIONAL)
        least = table.get("least_score")
        return cls(
            model=fields.text(table["model"], "model", MAX_READER),
            least_epoch=fields.number(table["least_epoch"], "least_epoch", 0),
            boxes=fields.text(table["from"], "from", MAX_TENSOR_NAME),
            input=fields.text(table["to"], "to", MAX_TENSOR_NAME),
            limit=fields.number(table["limit"], "limit", 1, MAX_BOXES),
            crop=Crop.from_map(table["crop"]),
            units=fields.text(table["units"], "units", MAX_READER) if "units" in table else UNITS[0],
            scores=fields.text(table["scores"], "scores", MAX_TENSOR_NAME) if "scores" in table else "",
            least_score=None if least is None else fields.of_type(least, "least_score", float),
        )

    def to_map(self) -> dict[str, Any]:
        """Return the table without the fields that have their default."""
        table: dict[str, Any] = {
            "model": self.model,
            "least_epoch": self.least_epoch,
            "from": self.boxes,
            "to": self.input,
            "limit": self.limit,
            "crop": self.crop.to_map(),
        }
        optional = {
            "units": (self.units, UNITS[0]),
            "scores": (self.scores, ""),
            "least_score": (self.least_score, None),
        }
        return table | {name: value for name, (value, default) in optional.items() if value != default}

    @property
    def selection(self) -> tuple[object, ...]:
        """What says which boxes are read: the same for all stages of a finder."""
        return self.boxes, self.units, self.scores, self.least_score, self.limit


def read_stages(value: object) -> tuple[Stage, ...]:
    """Read the tables; raises ManifestError `field-invalid` or `manifest-invalid`."""
    items = fields.list_of(value, "stages", MAX_STAGES)
    if not items:
        raise invalid("[[stages]] is empty: leave it out")
    return tuple(map(Stage.from_map, items))


def check_stages(
    stages: Sequence[Stage], finder: str, image_steps: Sequence[PreStep], served: Sequence[TensorField]
) -> None:
    """Hold the stages against their finder; raises ManifestError `manifest-invalid`.

    image_steps: its pre-processing.  served: its outputs as clients get them.
    """
    image = _picture(image_steps)
    given = {tensor.name: tensor for tensor in served}
    _check_names(stages, finder, given)
    if len({stage.selection for stage in stages}) > 1:
        raise invalid("all stages read the same boxes: `from`, units, scores, least_score and limit must be equal")
    for stage in stages:
        _check_boxes(stage, given)
        stage.crop.check(image)
        if stage.limit * math.prod(stage.crop.shape) > MAX_ELEMENTS:
            raise invalid(f"stage {stage.model!r} would make more than {MAX_ELEMENTS} numbers of one request")


def picture_step(steps: Sequence[PreStep]) -> Image:
    """Return the one step `image` of a checked finder."""
    return next(step for step in steps if isinstance(step, Image))


def _picture(steps: Sequence[PreStep]) -> Image:
    found = [step for step in steps if isinstance(step, Image)]
    if len(found) != 1:
        raise invalid("stages read what is found in a picture: the model needs one step `image` before its graph")
    if found[0].fit != "stretch":
        raise invalid('boxes are found in the whole picture: the step `image` must have fit = "stretch"')
    return found[0]


def _check_names(stages: Sequence[Stage], finder: str, given: Mapping[str, TensorField]) -> None:
    """Have each reader's outputs, which are answered as "<model>.<output>", meet no other name."""
    names = [stage.model for stage in stages]
    for name in names:
        _check_name(name)
        if name == finder:
            raise invalid("a stage names the model itself: a reader has no stages of its own")
        if any(other.startswith(f"{name}.") for other in (*given, *names)):
            raise invalid(f"the answers of stage {name!r} are named {name}.<output>, and that name is taken")
    if len(set(names)) != len(names):
        raise invalid("each stage names another model")


def _check_name(name: str) -> None:
    if name == "*" or "/" in name:
        raise invalid(f"a stage names a model {name!r}, and none can have that name")


def _check_boxes(stage: Stage, given: Mapping[str, TensorField]) -> None:
    if stage.units not in UNITS:
        raise invalid(f"units must be one of {', '.join(UNITS)}")
    boxes = _output(stage.boxes, "from", given)
    if len(boxes.shape) != 2 or boxes.shape[1] != _CORNERS:
        raise invalid(f"boxes {boxes.name!r} must have the shape [n, 4]: left, top, right, bottom")
    if stage.scores:
        scores = _output(stage.scores, "scores", given)
        if scores.shape != boxes.shape[:1]:
            raise invalid(f"scores {scores.name!r} must have the shape [n], with one for each of {boxes.name!r}")
    elif stage.least_score is not None:
        raise invalid("least_score needs an output with scores")
    if stage.least_score is not None and not math.isfinite(stage.least_score):
        raise invalid("least_score must be finite")


def _output(name: str, what: str, given: Mapping[str, TensorField]) -> TensorField:
    if name not in given:
        raise invalid(f"a stage's `{what}` names {name!r}, but the model answers {', '.join(map(repr, given))}")
    if given[name].dtype not in _FLOATS:
        raise invalid(f"a stage's `{what}` must be float32 or float64, and {name!r} is {given[name].dtype}")
    return given[name]


def answers_of(stage: Stage, name: str) -> str:
    """Return the name that a reader's output has in the answer."""
    return f"{stage.model}.{name}"
