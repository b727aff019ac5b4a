"""What people make and export passes: with the limits of a draft, and once more as the enclave checks it."""

from __future__ import annotations

import warnings

import pytest

from manifests.onnx.check import check_model
from tests.modelcheck.ordinary import ALL, made

REFUSED_AS_IT_IS = {"sklearn KNNImputer"}
"""Its export joins two branches of different ranks; see LIMITATIONS.md."""


@pytest.mark.parametrize("name", [name for name in ALL if name not in REFUSED_AS_IT_IS])
def test_passes(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = check_model(made(name))
    assert report.findings == ()
    assert report.passed
    assert report.cost is not None
    assert 0 < report.cost.memory < report.permits.memory
    assert 0 < report.cost.work < report.permits.work


def test_many_are_asked() -> None:
    assert len(ALL) > 90
