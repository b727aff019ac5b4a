"""A host that freezes the machine's clock, or lets it jump: the enclave's bounds are counts, not times."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.enclave.rig import Owner, Refused, linear, running

X = np.ones((1, 4), np.float32)
LEASE = 5


def clock(readings: Iterator[float]) -> SimpleNamespace:
    """A stand-in for the module `time` whose clocks give these readings."""
    return SimpleNamespace(**{**vars(time), "time": lambda: next(readings), "monotonic": lambda: next(readings)})


def install(monkeypatch: pytest.MonkeyPatch, readings: Iterator[float]) -> int:
    """Give every module of the enclave that reads a clock this one; return how many there are."""
    fake, found = clock(readings), 0
    for name, module in list(sys.modules.items()):
        if name.startswith("enclave.") and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", fake)
            found += 1
    return found


@pytest.mark.parametrize("name", ["frozen", "running backwards"])
def test_a_host_that_keeps_the_clock_gains_one_lease(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Heartbeats still need a fresh nonce each, and without one the lease runs out as it always does."""
    readings = itertools.repeat(1e6) if name == "frozen" else itertools.count(1e9, -3600.0)
    owner = Owner()
    with running() as rig:
        assert install(monkeypatch, readings) > 0
        data, manifest = linear(owner)
        digest = owner.seal(rig.host, tmp_path, data, manifest=manifest)
        broker, client = rig.client(), rig.client()
        owner.provision(broker, digest, lease=LEASE)
        challenge = owner.challenge(broker)
        owner.heartbeat(broker, challenge, {digest: LEASE})
        with pytest.raises(Refused) as replayed:
            owner.heartbeat(broker, challenge, {digest: LEASE})
        assert replayed.value.code == "nonce-refused"
        for _ in range(LEASE):
            client.infer(digest, x=X)
        with pytest.raises(Refused) as caught:
            client.infer(digest, x=X)
        assert caught.value.code == "lease-exhausted"
