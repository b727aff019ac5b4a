"""Does a profile fit a model?  Asked where a model is sealed, and again where it is loaded."""

from __future__ import annotations

import math

from manifests.abuse.errors import AbuseCode, AbuseError
from manifests.abuse.profile import Profile
from manifests.abuse.served import Served, served_class
from manifests.model import ModelManifest
from manifests.tensors import NUMERIC, Dimension, TensorField
from manifests.values import INTEGERS


def watched_input(manifest: ModelManifest) -> TensorField:
    """Return the one numeric input [batch, ...] that can be watched; raises AbuseError `calibration-unsupported`."""
    if len(manifest.inputs) != 1:
        raise _unsuited(f"the model has {len(manifest.inputs)} inputs", "one")
    tensor = manifest.inputs[0]
    if tensor.dtype not in NUMERIC:
        raise _unsuited(f"the input {tensor.name!r} holds text", "numbers")
    if len(tensor.shape) < 2 or row_size(tensor.shape) is None:
        raise _unsuited(f"the input {tensor.name!r} has rows of no fixed size", "[batch, ...] with fixed lengths")
    return tensor


def watched_output(manifest: ModelManifest, name: str | None = None) -> TensorField:
    """Return the graph's output to watch: the named one, else scores [batch, classes], else labels [batch].

    Raises AbuseError `calibration-unsupported`.
    """
    suited = [tensor for tensor in manifest.outputs if name in (None, tensor.name) and _is_answer(tensor)]
    suited.sort(key=lambda tensor: tensor.dtype in INTEGERS)
    if not suited:
        raise _unsuited("the model has no output of scores or labels" if name is None else f"{name!r} is none", "one")
    return suited[0]


def _is_answer(tensor: TensorField) -> bool:
    if tensor.dtype in INTEGERS:
        return len(tensor.shape) == 1
    return (
        tensor.dtype in NUMERIC and len(tensor.shape) == 2 and isinstance(tensor.shape[1], int) and tensor.shape[1] > 1
    )


def row_size(shape: tuple[Dimension, ...]) -> int | None:
    """Return the elements of one row of [batch, ...], or None where they are not the same for every request."""
    lengths = [axis if isinstance(axis, int) else axis.minimum for axis in shape[1:]]
    fixed = all(isinstance(axis, int) or axis.minimum == axis.maximum for axis in shape[1:])
    return math.prod(lengths) if fixed and math.prod(lengths) > 0 else None


def check_profile(profile: Profile, manifest: ModelManifest) -> Served | None:
    """Return where answers tell the class that the profile watches, None where they do not.

    Refuses a profile of another interface, and a policy that would give what the manifest's answers hide.  Raises
    AbuseError `profile-other-model`, `abuse-label-hidden` or `calibration-unsupported`.
    """
    tensor = watched_input(manifest)
    output = watched_output(manifest, profile.output)
    found = (tensor.name, row_size(tensor.shape), output.dtype in INTEGERS)
    if found != (profile.input, profile.view.features, profile.labels_only):
        raise _other("input or kind of answer")
    if not profile.labels_only and output.shape[1] != profile.classes:
        raise _other("number of classes")
    served = served_class(manifest, output)
    if served is None and manifest.abuse is not None and manifest.abuse.gives_labels:
        raise AbuseError(
            AbuseCode.LABEL_HIDDEN,
            f"the policy gives labels alone, and no answer tells the best class of {output.name!r}",
        )
    return served


def _unsuited(message: str, expected: str) -> AbuseError:
    return AbuseError(AbuseCode.MODEL_UNSUITED, message, expected=expected)


def _other(what: str) -> AbuseError:
    return AbuseError(AbuseCode.PROFILE_MISMATCH, f"the profile was made for a model with another {what}")
