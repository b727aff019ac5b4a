"""The simulated AMD's keys take seconds to make: one set serves every test, and every process of a run."""

from __future__ import annotations

import pytest

from tests.amd import kit


@pytest.fixture(scope="session", autouse=True)
def amd_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    kit.share_keys(tmp_path_factory.getbasetemp())
