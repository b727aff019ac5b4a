"""Noise for differential privacy, drawn by Google's library in C++ (python-dp), whose draws are safe as floats are.

A textbook draw of doubles gives its secret away in its last bits (Mironov, 2012); this library rounds to a grid.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from pydp.algorithms.numerical_mechanisms import GaussianMechanism, LaplaceMechanism

from enclave.components import Parts, Step
from enclave.errors import EnclaveCode, EnclaveError
from enclave.validate import Tensors
from enclave.values import Array
from manifests.steps import ComponentStep, Noise


def compile(step: ComponentStep, parts: Parts) -> Step:  # noqa: A001, ARG001 - one signature for all components
    """Return the function that adds noise to an answer's one output."""
    assert isinstance(step, Noise)  # noqa: S101 - tells the type checker what the registry of steps holds
    mechanism, lock = _mechanism(step), threading.Lock()

    def run(tensors: Tensors) -> Tensors:
        with lock:  # the library does not say that its mechanisms may be shared by threads
            return {**tensors, step.output: _noised(step, mechanism, tensors[step.output])}

    return run


def rehearse() -> None:
    """Draw once from each mechanism."""
    for mechanism, delta in (("laplace", 0.0), ("gaussian", 1e-6)):
        step = Noise("y", 1.0, 1.0, 0.0, 1.0, 1.0, mechanism, delta, delta)
        compile(step, {})({"y": np.zeros((1, 2), np.float32)})


def _mechanism(step: Noise) -> Any:
    if step.mechanism == "laplace":
        return LaplaceMechanism(epsilon=step.epsilon, sensitivity=step.sensitivity)
    return GaussianMechanism(step.epsilon, step.delta, step.sensitivity)


def _noised(step: Noise, mechanism: Any, values: Array) -> Array:
    plain = np.nan_to_num(values.astype(np.float64), nan=step.minimum, posinf=step.maximum, neginf=step.minimum)
    held = np.clip(plain, step.minimum, step.maximum)
    try:
        drawn = np.array([mechanism.add_noise(float(value)) for value in held.ravel()], np.float64)
    except Exception:  # noqa: BLE001 - the library's exceptions have no common root
        raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "no noise could be drawn for the answer") from None
    return np.clip(drawn, step.minimum, step.maximum).reshape(values.shape).astype(values.dtype)
