"""How boxes become pictures for another model: what is cut out of a picture, and what is made of each piece."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from manifests import fields
from manifests.steps.base import invalid, one_of, read_step, to_map, within
from manifests.steps.decode import FILTERS, LAYOUTS, MAX_SIDE, MODES, Image
from manifests.steps.numbers import check_moments


@dataclass(frozen=True)
class Crop:
    """Cut pieces out of a picture, one for each box, and bring them to one size: [boxes, ...] of numbers.

    width, height: pixels of each piece, to which it is stretched.  The others are those of the step `image`.
    """

    kind: ClassVar[str] = "crop"
    component: ClassVar[str] = "image"
    width: int
    height: int
    mode: str = "rgb"
    filter: str = "bilinear"
    layout: str = "nchw"
    dtype: str = "float32"
    white: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def from_map(cls, value: object) -> Crop:
        """Read the table `crop`; raises ManifestError `field-invalid`."""
        table = fields.of_type(value, "crop", dict)
        if "kind" in table:
            raise invalid("crop is no step, and has no kind")
        crop: Crop = read_step({"kind": cls.kind, **table}, {cls.kind: cls})
        return crop

    def to_map(self) -> dict[str, Any]:
        """Return the table without the fields that have their default."""
        return {name: value for name, value in to_map(self).items() if name != "kind"}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one piece, without the axis that counts boxes."""
        channels = MODES[self.mode]
        shapes: dict[str, tuple[int, ...]] = {
            "nchw": (channels, self.height, self.width),
            "nhwc": (self.height, self.width, channels),
            "flat": (self.height * self.width * channels,),
        }
        return shapes[self.layout]

    def check(self, image: Image) -> None:
        """Refuse what cannot be made of this step's picture; raises ManifestError `manifest-invalid`."""
        within(self.width, "crop: width", 1, MAX_SIDE)
        within(self.height, "crop: height", 1, MAX_SIDE)
        for what, value, words in (
            ("mode", self.mode, tuple(MODES)),
            ("filter", self.filter, FILTERS),
            ("layout", self.layout, LAYOUTS),
            ("dtype", self.dtype, ("float32", "uint8")),
        ):
            one_of(value, f"crop: {what}", words)
        check_moments("crop", self.mean, self.std)
        if len(self.mean) not in {0, 1, MODES[self.mode]}:
            raise invalid(f"crop: a picture in {self.mode} has {MODES[self.mode]} channels, and so many means")
        if not math.isfinite(self.white) or self.white <= 0:
            raise invalid("crop: white must be a finite number above 0")
        if self.dtype == "uint8" and (self.mean or self.white != 1.0):
            raise invalid("crop: pixels as uint8 are given as they are, without white, mean and std")
        if self.mode == "rgb" and image.mode == "gray":
            raise invalid("crop: the picture is decoded in gray, and has no colours to cut out")


@dataclass(frozen=True)
class Whole:
    """The step `image`, which keeps the whole picture beside what the graph gets of it: for crops."""

    component: ClassVar[str] = "image"
    image: Image
