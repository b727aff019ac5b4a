"""A service, and an environment without proxies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.amd import kit as amd
from tests.collateral.service import Service, serving


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def amd_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The keys of the simulated AMD, which take seconds to make: once for all tests of a run."""
    amd.share_keys(tmp_path_factory.getbasetemp())
