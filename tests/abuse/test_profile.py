"""The profile's format: one encoding, every departure refused, and whether it fits a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests import canonical
from manifests.abuse.errors import AbuseError
from manifests.abuse.fitting import watched_input, watched_output
from manifests.abuse.policy import AbusePolicy
from manifests.abuse.profile import MAX_PROFILE, Profile, blank
from manifests.abuse.sealing import check_sealed_profile
from manifests.errors import ManifestError, StrongroomError
from manifests.tensors import Axis, TensorField
from tests.abuse import kit
from tests.abuse.test_guard import manifest

N = Axis("n", 1, 8)


def table(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = canonical.decode(data, max_size=MAX_PROFILE)
    return found


@pytest.mark.parametrize("make", [kit.profile, lambda: blank(3, 2)], ids=["learned", "blank"])
def test_a_profile_is_read_as_it_was_written(make: Callable[[], Profile]) -> None:
    data = make().encode()
    assert Profile.decode(data).encode() == data
    assert data == canonical.encode(table(data))


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a missing field": lambda t: t.pop("limits"),
    "an unknown field": lambda t: t.update(more=1),
    "a short array": lambda t: t.update(mean=t["mean"][:-1]),
    "a long array": lambda t: t.update(basis=t["basis"] + bytes(4)),
    "not a number": lambda t: t.update(mean=np.full(kit.FEATURES, np.nan, "<f4").tobytes()),
    "an infinity": lambda t: t.update(scale=np.full(kit.FEATURES, np.inf, "<f4").tobytes()),
    "numbers that overflow": lambda t: t.update(scale=np.full(kit.FEATURES, 3e38, "<f4").tobytes()),
    "other sizes": lambda t: t.update(features=kit.FEATURES + 1),
    "too many features": lambda t: t.update(features=1 << 30),
    "no features": lambda t: t.update(features=0),
    "one class": lambda t: t.update(classes=1),
    "a wide view": lambda t: t.update(view=65),
    "a core wider than the view": lambda t: t.update(core=t["view"] + 1),
    "too few limits": lambda t: t["limits"].pop(),
    "a negative limit": lambda t: t["limits"].__setitem__(0, -1.0),
    "a whole limit": lambda t: t["limits"].__setitem__(0, 1),
    "a limit that is no number": lambda t: t["limits"].__setitem__(0, float("nan")),
    "nearness beyond all bits": lambda t: t["nearness"].__setitem__(0, 257),
    "a radius of nothing": lambda t: t.update(radius=0.0),
    "a tail missing": lambda t: t["tails"].pop("own"),
    "a tail that falls": lambda t: t["tails"].update(own=np.linspace(1, 0, 128).astype("<f4").tobytes()),
    "no name": lambda t: t.update(input=""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_profile_with_a_fault_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    fields = table(kit.profile().encode())
    change(fields)
    with pytest.raises(AbuseError) as error:
        Profile.decode(canonical.encode(fields))
    assert str(error.value.code) == "profile-invalid"


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc0", b"\x93\x01\x02\x03", bytes(1000), b"\xdf\xff\xff\xff\xff"])
def test_bytes_that_are_no_profile_are_refused(data: bytes) -> None:
    with pytest.raises(AbuseError) as error:
        Profile.decode(data)
    assert str(error.value.code) == "profile-invalid"


def test_a_profile_of_a_later_version_says_so() -> None:
    with pytest.raises(ManifestError) as error:
        Profile.decode(canonical.encode({"version": 2}))
    assert str(error.value.code) == "version-unsupported"


# ---------------------------------------------------------------------------------------------- models


def outputs(*tensors: TensorField) -> dict[str, Any]:
    return {"outputs": tensors}


UNSUITED: dict[str, dict[str, Any]] = {
    "two inputs": {"inputs": (TensorField("x", "float32", (N, 3)), TensorField("z", "float32", (N, 3)))},
    "text": {"inputs": (TensorField("x", "string", (N, 1), max_text=10),)},
    "rows of any length": {"inputs": (TensorField("x", "float32", (N, Axis("t", 1, 9))),)},
    "no rows": {"inputs": (TensorField("x", "float32", (N,)),)},
    "empty rows": {"inputs": (TensorField("x", "float32", (N, 0)),)},
}


@pytest.mark.parametrize("changes", UNSUITED.values(), ids=UNSUITED)
def test_a_model_that_cannot_be_watched_is_told_so(changes: dict[str, Any]) -> None:
    with pytest.raises(AbuseError) as error:
        watched_input(manifest(**changes))
    assert str(error.value.code) == "calibration-unsupported"


@pytest.mark.parametrize(
    "tensor",
    [TensorField("y", "float32", (N,)), TensorField("y", "float32", (N, 1)), TensorField("y", "string", (N,))],
    ids=["a number", "one score", "text"],
)
def test_an_output_that_is_no_answer_is_told_so(tensor: TensorField) -> None:
    with pytest.raises(AbuseError) as error:
        watched_output(manifest(outputs=(tensor,)))
    assert str(error.value.code) == "calibration-unsupported"


def test_scores_are_watched_rather_than_labels() -> None:
    label, scores = TensorField("l", "int64", (N,)), TensorField("s", "float32", (N, 3))
    assert watched_output(manifest(outputs=(label, scores))) == scores
    assert watched_output(manifest(outputs=(label, scores)), "l") == label


def seals(data: bytes | Path | None, **changes: Any) -> None:
    check_sealed_profile(manifest(**changes), {} if data is None else {"profile": data})


def test_sealing_takes_a_profile_that_fits_and_no_other(tmp_path: Path) -> None:
    data = kit.profile().encode()
    seals(data)
    seals(None, abuse=None)
    path = tmp_path / "a profile"
    path.write_bytes(data)
    seals(path)
    path.write_bytes(data[:-1])
    for wrong, changes, code in (
        (None, {}, "sealed-part"),
        (b"none", {}, "profile-invalid"),
        (path, {}, "profile-invalid"),
        (data, outputs(TensorField("y", "float32", (N, 4))), "profile-other-model"),
        (data, outputs(TensorField("y", "int64", (N,))), "profile-other-model"),
        (data, {"abuse": AbusePolicy(profile="another")}, "sealed-part"),
    ):
        with pytest.raises(StrongroomError) as error:
            seals(wrong, **changes)
        assert str(error.value.code) == code
