"""Pre- and post-processing that an owner may ask of the enclave: what each step takes, and what it makes of it.

Steps are data.  The enclave executes them; here they are defined, checked and folded over the tensors that a
manifest describes, so that a manifest whose steps cannot work is refused before anything is sealed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from manifests.steps.base import invalid, read_step, to_map
from manifests.steps.crop import Crop, Whole
from manifests.steps.decode import Audio, Image, Tokenize
from manifests.steps.numbers import Cast, Scale
from manifests.steps.privacy import Noise
from manifests.steps.scores import ArgMax, Label, LabelOnly, Round, Select, Sigmoid, Softmax, Threshold, TopK

__all__ = [
    "ArgMax",
    "Audio",
    "Cast",
    "ComponentStep",
    "Crop",
    "DecodeStep",
    "Image",
    "Label",
    "LabelOnly",
    "Noise",
    "PostStep",
    "PreStep",
    "Round",
    "Scale",
    "Select",
    "Sigmoid",
    "Softmax",
    "Threshold",
    "Tokenize",
    "TopK",
    "Whole",
    "invalid",
    "part_names",
    "post_step",
    "pre_step",
    "step_to_map",
]

DecodeStep: TypeAlias = Tokenize | Image | Audio
"""Steps that make tensors of content."""
ComponentStep: TypeAlias = DecodeStep | Noise | Crop | Whole
"""What needs an optional component of the enclave."""
PreStep: TypeAlias = Scale | Cast | DecodeStep
PostStep: TypeAlias = Select | Softmax | Sigmoid | Round | TopK | ArgMax | Threshold | Label | LabelOnly | Noise

_PRE: dict[str, type[PreStep]] = {step.kind: step for step in (Scale, Cast, Tokenize, Image, Audio)}
_POST: dict[str, type[PostStep]] = {
    step.kind: step for step in (Select, Softmax, Sigmoid, Round, TopK, ArgMax, Threshold, Label, LabelOnly, Noise)
}


def step_to_map(step: PreStep | PostStep) -> dict[str, Any]:
    """Return a step as a map with its kind."""
    return to_map(step)


def pre_step(value: object) -> PreStep:
    """Read a pre-processing step from a map; raises ManifestError `field-invalid`."""
    step: PreStep = read_step(value, _PRE)
    return step


def post_step(value: object) -> PostStep:
    """Read a post-processing step from a map; raises ManifestError `field-invalid`."""
    step: PostStep = read_step(value, _POST)
    return step


def part_names(steps: Iterable[PreStep]) -> frozenset[str]:
    """Return the names of the sealed parts that steps read, which are none of the graph's."""
    return frozenset(step.tokenizer for step in steps if isinstance(step, Tokenize))
