"""The static bound of one request: refused by its shapes, before anything runs or is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from manifests.errors import ManifestError
from manifests.model import ModelManifest
from manifests.onnx.check import check_model, require_model
from manifests.onnx.errors import OnnxCode, OnnxError
from manifests.onnx.requests import MAX_POINTS, RequestBounds, bound_requests
from tests.enclave.poet import poet_manifest
from tests.enclave.rig import Owner, Refused, Rig, graph

AXES = {"n": {"minimum": 1, "maximum": 512}, "m": {"minimum": 1, "maximum": 512}}
DATA = graph(
    [helper.make_node("Transpose", ["b"], ["t"]), helper.make_node("MatMul", ["a", "t"], ["y"])],
    [("a", TensorProto.FLOAT, ["n", 4]), ("b", TensorProto.FLOAT, ["m", 4])],
    [("y", TensorProto.FLOAT, ["n", "m"])],
)
"""y = a b^T: n x m numbers out of 4 (n + m)."""


def described(owner: Owner, limit: int | None, **changes: Any) -> ModelManifest:
    table: dict[str, Any] = {
        "name": "tiny",
        "version": "1",
        "epoch": 1,
        "owner": owner.public,
        "axes": AXES,
        "inputs": [{"name": x, "dtype": "float32", "shape": [axis, 4]} for x, axis in (("a", "n"), ("b", "m"))],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["n", "m"]}],
        "limits": {} if limit is None else {"max_request_memory": limit},
    }
    return ModelManifest.from_map({**table, **changes})


def bounds(limit: int = 1 << 20, **changes: Any) -> RequestBounds:
    found = bound_requests(DATA, described(Owner(), limit, **changes), {})
    assert found is not None
    return found


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(1, 512), st.integers(1, 512))
def test_a_request_has_a_bound_that_is_never_below_what_it_takes(n: int, m: int) -> None:
    found = bounds()
    assert len(found.memory) <= MAX_POINTS
    assert found.of({"a": (n, 4), "b": (m, 4)}) >= 4 * (n * m + 4 * (n + 2 * m))
    exact = check_model(DATA, manifest=described(Owner(), None, axes=fixed(n, m))).cost
    assert exact is not None
    assert found.of({"a": (n, 4), "b": (m, 4)}) >= exact.memory


def fixed(n: int, m: int) -> dict[str, Any]:
    return {"n": {"minimum": n, "maximum": n}, "m": {"minimum": m, "maximum": m}}


def test_bounds_grow_with_the_axes_and_end_at_that_of_the_models_check() -> None:
    found = bounds()
    sizes = [found.of({"a": (n, 4), "b": (n, 4)}) for n in (1, 8, 64, 512)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 100
    cost = check_model(DATA, manifest=described(Owner(), None)).cost
    assert cost is not None
    assert sizes[-1] == cost.memory


def test_a_graph_without_dynamic_axes_has_one_bound() -> None:
    data = graph(
        [helper.make_node("Relu", ["a"], ["y"])],
        [("a", TensorProto.FLOAT, [2, 4])],
        [("y", TensorProto.FLOAT, [2, 4])],
    )
    table = {
        "axes": {},
        "inputs": [{"name": "a", "dtype": "float32", "shape": [2, 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [2, 4]}],
    }
    found = bound_requests(data, described(Owner(), 1 << 20, **table), {})
    assert found is not None
    assert found.of({"a": (2, 4)}) == found.least


def test_a_limit_that_nothing_fits_is_refused_before_the_model_is_sealed() -> None:
    with pytest.raises(OnnxError, match="not even the smallest") as refusal:
        require_model(DATA, described(Owner(), 16), {})
    assert refusal.value.code is OnnxCode.MEMORY


def test_a_model_that_generates_takes_no_such_limit() -> None:
    with pytest.raises(ManifestError, match="grows by tokens"):
        poet_manifest(Owner().public, {"limits": {"max_request_memory": 1 << 20}})


# -------------------------------------------------------------------------------------------------- in an enclave


def ones(n: int, m: int) -> dict[str, np.ndarray]:
    return {"a": np.ones((n, 4), np.float32), "b": np.ones((m, 4), np.float32)}


def test_a_request_beyond_the_limit_is_refused_before_it_costs_anything(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    digest = owner.seal(rig.host, tmp_path, DATA, manifest=described(owner, 1 << 18))
    owner.provision(rig.client(), digest)
    client = rig.client()
    assert client.infer(digest, **ones(512, 8))["y"].shape == (512, 8)
    left = rig.leases()[digest]
    with pytest.raises(Refused) as refusal:
        client.infer(digest, **ones(512, 512))
    assert (refusal.value.code, refusal.value.field) == ("request-memory", None)
    assert str(1 << 18) in refusal.value.message
    assert rig.leases()[digest] == left
    assert client.infer(digest, **ones(8, 512))["y"].shape == (8, 512)


def test_without_the_limit_all_that_the_manifest_admits_is_answered(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    digest = owner.seal(rig.host, tmp_path, DATA, manifest=described(owner, None))
    owner.provision(rig.client(), digest)
    assert rig.client().infer(digest, **ones(512, 512))["y"].shape == (512, 512)


def test_what_steps_make_of_a_request_is_bounded_too(rig: Rig, owner: Owner, tmp_path: Path) -> None:
    pre = [{"kind": "scale", "input": "a", "mean": 0.0, "std": 1.0}]
    digest = owner.seal(rig.host, tmp_path, DATA, manifest=described(owner, 1 << 18, pre=pre))
    owner.provision(rig.client(), digest)
    with pytest.raises(Refused, match="request-memory"):
        rig.client().infer(digest, **ones(512, 512))
    assert rig.client().infer(digest, **ones(8, 8))["y"].shape == (8, 8)
