"""One deployment of real processes serves all tests of this folder that do not break it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from tests.deployment.small import linear
from tests.testkit.commands import commands_in_this_process


@pytest.fixture(scope="session", autouse=True)
def cheap_commands() -> Iterator[None]:
    """Prepare deployments without an interpreter for each step."""
    with commands_in_this_process():
        yield


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """A running deployment with the model "linear"."""
    with temporary_home() as home, Deployment(home, [ModelToSeal("linear", linear(), epoch=3)]) as running:
        yield running
