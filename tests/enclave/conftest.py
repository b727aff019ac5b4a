"""Fixtures: an enclave of its own for each test that needs one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.enclave.rig import Client, Owner, Rig, linear, running


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running() as running_rig:
        yield running_rig


@pytest.fixture
def owner() -> Owner:
    return Owner()


class Served:
    """An enclave that serves the linear model."""

    def __init__(self, rig: Rig, owner: Owner, folder: Path) -> None:
        self.rig = rig
        self.owner = owner
        self.folder = folder
        self.data, self.manifest = linear(owner)
        self.digest = owner.seal(rig.host, folder, self.data, manifest=self.manifest)
        self.broker: Client = rig.client()
        owner.provision(self.broker, self.digest)


@pytest.fixture
def served(rig: Rig, owner: Owner, tmp_path: Path) -> Served:
    return Served(rig, owner, tmp_path)
