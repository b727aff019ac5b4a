"""The detectors inside an enclave: identities of sessions, reconnecting, resumption, telemetry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attestation.types import Credential
from enclave.errors import EnclaveCode
from manifests import canonical
from manifests.abuse.policy import AbusePolicy, Action, Rung
from manifests.signing import Signer
from tests.abuse import kit
from tests.abuse.test_guard import manifest
from tests.enclave.rig import Client, Owner, Refused, Rig, running

LADDER = (Rung(Action.LOG), Rung(Action.LABEL_ONLY), Rung(Action.REFUSE, after=1))


class Watched:
    """An enclave that serves the small model under the eyes of its detectors."""

    def __init__(self, rig: Rig, folder: Path, **policy: Any) -> None:
        self.rig, self.owner = rig, Owner()
        described = manifest(owner=self.owner.public, abuse=AbusePolicy(ladder=LADDER, **policy))
        parts = {"profile": kit.profile().encode()}
        self.digest = self.owner.seal(rig.host, folder, kit.onnx_bytes(), manifest=described, extra_parts=parts)
        self.broker = rig.client()
        self.owner.provision(self.broker, self.digest, name="small")

    def client(self, key: Signer | None = None, **options: Any) -> Client:
        client = self.rig.client(**options)
        if key is not None:
            credential = Credential(self.owner.broker.public, key.public, "somebody").sign(self.owner.broker)
            client.authenticate(key, credential)
        return client

    def ask(self, client: Client, rows: np.ndarray) -> dict[str, Any]:
        return client.infer(self.digest, x=rows)

    def each(self, client: Client, rows: np.ndarray) -> list[str]:
        found = []
        for row in rows:
            try:
                found.append("/".join(self.ask(client, row[None])))
            except Refused as error:
                found.append(error.code)
        return found


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with running() as rig:
        yield Watched(rig, tmp_path)


def test_an_attack_goes_up_the_ladder_and_benign_clients_stay_where_they_are(watched: Watched) -> None:
    mallory, alice = watched.client(Signer.generate()), watched.client(Signer.generate())
    answers = watched.each(mallory, kit.strange(1, 100))
    assert list(dict.fromkeys(answers)) == ["y", "label", "abuse-refused"]
    rows = kit.benign("iid", 1, 40)
    answer = watched.ask(alice, rows[:8])["y"]
    assert np.allclose(answer, kit.run(rows[:8]), atol=1e-5)
    assert set(watched.each(alice, rows)) == {"y"}
    assert set(watched.each(watched.client(), rows[:5])) == {"y"}


def test_reconnecting_and_resuming_do_not_reset_an_identity(watched: Watched) -> None:
    key = Signer.generate()
    first = watched.client(key)
    ticket = first.ticket()
    watched.each(first, kit.strange(1, 80))
    first.close()
    for again in (watched.client(key), watched.client(ticket=ticket)):
        with pytest.raises(Refused) as error:
            watched.ask(again, kit.benign("iid", 1, 1))
        assert error.value.code == str(EnclaveCode.ABUSE_REFUSED)


def test_all_who_are_anonymous_are_one_identity(watched: Watched) -> None:
    for seed in range(20):
        watched.each(watched.client(), kit.strange(seed, 4))
    assert watched.each(watched.client(), kit.benign("iid", 1, 1)) == ["abuse-refused"]
    assert watched.each(watched.client(Signer.generate()), kit.benign("iid", 1, 3)) == ["y"] * 3


def test_a_refusal_says_nothing_of_detectors_limits_or_content(watched: Watched) -> None:
    client = watched.client()
    watched.each(client, kit.strange(1, 80))
    with pytest.raises(Refused) as error:
        watched.ask(client, kit.strange(2, 1))
    assert not any(word in error.value.message for word in ("anchor", "distance", "limit", "0", "1"))
    assert error.value.field is None


def test_telemetry_has_coarse_counters_alone(watched: Watched) -> None:
    mallory = Signer.generate()
    watched.each(watched.client(mallory), kit.strange(1, 80))
    stats = watched.rig.service.stats()
    mine = {name: count for name, count in stats.items() if name.startswith("abuse_")}
    assert mine["abuse_refuse"] == 1
    assert mine["abuse_identities"] == 1
    assert all(count == 0 or count.bit_count() == 1 for count in mine.values())
    assert mallory.public not in canonical.encode(stats)


def test_a_damaged_profile_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's own tools refuse to seal it, so they are made to look away."""
    monkeypatch.setattr("manifests.sealed.sealing.check_sealed_profile", lambda *_: None)
    monkeypatch.setattr(type(kit.profile()), "encode", lambda _: b"nonsense")
    with running() as rig, pytest.raises(Refused) as error:
        Watched(rig, tmp_path)
    assert error.value.code == "model-unusable"
