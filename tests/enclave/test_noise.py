"""Noise on scores: its size is what epsilon asks for, and a client's answers end with its budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attestation.types import Credential
from enclave import privacy
from enclave.components import load_components, noise
from enclave.errors import EnclaveError
from enclave.privacy import ANONYMOUS, Accountant
from enclave.process import compile_post, run_steps
from manifests.errors import ManifestCode, ManifestError
from manifests.gramine.settings import EnclaveSettings
from manifests.model import ModelManifest
from manifests.signing import Signer
from manifests.steps import Noise
from tests.enclave.rig import Client, Owner, Refused, linear, running

STEP: dict[str, Any] = {
    "kind": "noise",
    "output": "y",
    "epsilon": 0.5,
    "sensitivity": 1.0,
    "minimum": -100.0,
    "maximum": 100.0,
    "max_epsilon": 2.0,
}
GAUSSIAN = {**STEP, "mechanism": "gaussian", "delta": 1e-6, "max_delta": 3e-6}
SELECT = {"kind": "select", "outputs": ["y"]}
X = np.ones((1, 4), np.float32)
FIXED = {"axes": {}, "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}]}


def manifest(*post: dict[str, Any], shape: list[Any] | None = None, more: int = 0) -> ModelManifest:
    outputs = [{"name": "y", "dtype": "float32", "shape": shape or [1, 1000]}]
    outputs += [{"name": f"z{each}", "dtype": "float32", "shape": [1]} for each in range(more)]
    return ModelManifest.from_map(
        {
            "name": "m",
            "version": "1",
            "epoch": 1,
            "owner": Owner().public,
            "axes": {"n": {"minimum": 1, "maximum": 4}},
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["n"]}],
            "outputs": outputs,
            "post": list(post),
        }
    )


def noised(step: dict[str, Any], values: np.ndarray) -> np.ndarray:
    steps = compile_post(manifest(step, shape=list(values.shape)), load_components(["noise"]))
    return np.asarray(run_steps(steps, {"y": values})["y"])


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_laplace_noise_has_the_scale_that_epsilon_asks_for(epsilon: float) -> None:
    """Of a Laplace distribution of scale b the mean distance from the middle is b."""
    drawn = noised({**STEP, "epsilon": epsilon}, np.zeros((4, 1000), np.float32))
    assert drawn.dtype == np.float32
    assert abs(np.abs(drawn).mean() * epsilon - 1) < 0.1
    assert abs(np.mean(drawn)) < 0.2 / epsilon
    assert len(np.unique(drawn)) > 3900, "no draw comes twice"


def test_gaussian_noise_has_the_deviation_of_the_analytic_mechanism() -> None:
    """By Balle and Wang (2018), epsilon 0.5 and delta 10^-6 at a sensitivity of 1 take 8.06 to 8.1."""
    drawn = noised(GAUSSIAN, np.zeros((4, 1000), np.float32))
    assert abs(drawn.std() - analytic(0.5, 1e-6)) < 0.05 * analytic(0.5, 1e-6)


def analytic(epsilon: float, delta: float) -> float:
    """Return the least deviation for a sensitivity of 1, by bisection over the mechanism's exact delta."""
    from math import erf, exp, sqrt

    def normal(x: float) -> float:
        return 0.5 * (1 + erf(x / sqrt(2)))

    def spent(sigma: float) -> float:
        a, b = 1 / (2 * sigma), epsilon * sigma
        return normal(a - b) - exp(epsilon) * normal(-a - b)

    low, high = 0.01, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > delta else (low, middle)
    return high


def test_values_are_held_within_their_range_and_nan_tells_nothing() -> None:
    step = {**STEP, "minimum": 0.0, "maximum": 1.0, "epsilon": 0.01}
    for value in (np.nan, np.inf, -np.inf, 1e30, 0.5):
        drawn = noised(step, np.full((1, 1000), value, np.float32))
        assert np.isfinite(drawn).all()
        assert drawn.min() == 0
        assert drawn.max() == 1


def test_a_library_that_fails_gives_no_answer_without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, **_options: Any) -> None: ...

        def add_noise(self, value: float) -> float:
            raise RuntimeError(str(value))

    monkeypatch.setattr(noise, "LaplaceMechanism", Broken)
    with pytest.raises(EnclaveError) as refusal:
        noised(STEP, np.zeros((1, 3), np.float32))
    assert refusal.value.code == "inference-failed"


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        ({}, 4),
        ({"epsilon": 0.1, "max_epsilon": 1.0}, 10),
        ({"epsilon": 0.3, "max_epsilon": 1.0}, 3),
        ({"mechanism": "gaussian", "delta": 1e-6, "max_delta": 3e-6}, 3),
        ({"mechanism": "gaussian", "delta": 1e-6, "max_delta": 1e-3}, 4),
    ],
)
def test_a_budget_is_a_number_of_answers(changes: dict[str, Any], answers: int) -> None:
    (step,) = manifest({**STEP, **changes}).post
    assert isinstance(step, Noise)
    assert step.answers == answers


REFUSED: dict[str, dict[str, Any]] = {
    "no epsilon": {"epsilon": 0},
    "an epsilon that protects nothing": {"epsilon": 101, "max_epsilon": 200},
    "an answer beyond the budget": {"max_epsilon": 0.4},
    "no sensitivity": {"sensitivity": 0},
    "a sensitivity that is no number": {"sensitivity": float("nan")},
    "an empty range": {"minimum": 1.0, "maximum": 1.0},
    "an endless range": {"maximum": float("inf")},
    "an unknown mechanism": {"mechanism": "uniform"},
    "a delta for laplace": {"delta": 1e-6, "max_delta": 1e-6},
    "no delta for gaussian": {"mechanism": "gaussian"},
    "a delta beyond its budget": {"mechanism": "gaussian", "delta": 1e-3, "max_delta": 1e-4},
}


@pytest.mark.parametrize("case", REFUSED)
def test_noise_that_hides_nothing_is_refused(case: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifest({**STEP, **REFUSED[case]})
    assert caught.value.code is ManifestCode.MANIFEST_INVALID


def test_what_would_tell_the_same_without_noise_is_refused() -> None:
    assert manifest(SELECT, STEP, more=1).served_outputs()[0].name == "y"
    for refused in (
        lambda: manifest(STEP, more=1),
        lambda: manifest(STEP, shape=["n", 2]),
        lambda: manifest(STEP, shape=[4097]),
        lambda: manifest(STEP, shape=[0]),
        lambda: manifest({"kind": "top_k", "output": "y", "k": 1}, {**STEP, "output": "y_values"}),
        lambda: manifest({"kind": "argmax", "output": "y"}, STEP),
    ):
        with pytest.raises(ManifestError) as caught:
            refused()
        assert caught.value.code is ManifestCode.MANIFEST_INVALID


def test_clients_beyond_the_bound_share_what_the_anonymous_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "MAX_CLIENTS", 2)
    counted = Accountant(2)
    counted.spend(b"a")
    counted.spend(b"b")
    counted.spend(b"c")
    counted.spend(ANONYMOUS)
    for client in (b"d", ANONYMOUS):
        with pytest.raises(EnclaveError):
            counted.spend(client)
    counted.spend(b"a")
    with pytest.raises(EnclaveError) as refusal:
        counted.spend(b"a")
    assert refusal.value.code == "privacy-exhausted"
    assert len(counted._spent) == 3


def known(client: Client, owner: Owner, key: Signer) -> Client:
    """Say who is asking, under a credential of this owner's."""
    client.authenticate(key, Credential(owner.public, key.public, "somebody").sign(owner.key))
    return client


def test_each_client_has_answers_of_its_own_and_all_anonymous_ones_share(tmp_path: Path) -> None:
    with running(EnclaveSettings("any", components=("noise",))) as rig:
        owner = Owner()
        outputs = [{"name": "y", "dtype": "float32", "shape": [1, 3]}]
        post = [STEP, {"kind": "label_only", "output": "y"}]
        data, described = linear(owner, **FIXED, outputs=outputs, post=post)
        digest = owner.seal(rig.host, tmp_path, data, manifest=described)
        owner.provision(rig.client(), digest)
        for _ in range(2):  # sessions change nothing
            anonymous = rig.client()
            for _ in range(2):
                assert anonymous.infer(digest, x=X)["label"].shape == (1,)
        with pytest.raises(Refused) as refusal:
            rig.client().infer(digest, x=X)
        assert refusal.value.code == "privacy-exhausted"
        assert rig.leases()[digest] == 1000 - 4, "what is refused costs nothing of the lease"
        for key in (Signer.generate(), Signer.generate()):
            for _ in range(4):
                assert known(rig.client(), owner, key).infer(digest, x=X)["label"].shape == (1,)
            with pytest.raises(Refused) as refusal:
                known(rig.client(), owner, key).infer(digest, x=X)
            assert refusal.value.code == "privacy-exhausted"


def test_clients_that_another_owner_names_are_anonymous_to_this_ones_models(tmp_path: Path) -> None:
    """Or any tenant of the enclave could make as many clients as it takes."""
    with running(EnclaveSettings("any", components=("noise",))) as rig:
        owner, other = Owner(), Owner()
        outputs = [{"name": "y", "dtype": "float32", "shape": [1, 3]}]
        data, described = linear(owner, **FIXED, outputs=outputs, post=[STEP])
        digest = owner.seal(rig.host, tmp_path, data, manifest=described)
        owner.provision(rig.client(), digest)
        second, plain = linear(other)
        other.provision(rig.client(), other.seal(rig.host, tmp_path, second, manifest=plain))
        for _ in range(4):
            known(rig.client(), other, Signer.generate()).infer(digest, x=X)
        with pytest.raises(Refused) as refusal:
            known(rig.client(), other, Signer.generate()).infer(digest, x=X)
        assert refusal.value.code == "privacy-exhausted"
