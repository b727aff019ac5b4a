"""Theft through the whole service: calibrated and sealed by commands, refused by the enclave, unseen by others."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attestation.client import RemoteError, Session
from attestation.policy import load_policy
from attestation.receipts.bundle import ReceiptBundle
from attestation.receipts.checks import Held
from attestation.receipts.verify import examine
from attestation.types.receipt import Verdict
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from evaluation.demo.processes import Commands
from evaluation.detectors.service import Attackers
from evaluation.detectors.service import Service as Clients
from evaluation.detectors.victims import Victim
from tests.abuse import kit
from tests.receipts.independent_verifier import verify as verify_independently

pytestmark = pytest.mark.xdist_group("deployment")

LADDER = [
    {"action": "log"},
    {"action": "fewer_digits"},
    {"action": "label_only", "after": 1},
    {"action": "refuse", "detectors": 2, "after": 2},
    {"action": "revoke", "detectors": 2, "after": 4},
]


BUDGETS = {"release": {"anonymous_budget": 5000, "slice": 500, "newcomers": 2000}}
"""For anonymous sessions alone, and more than they ask for here."""


def calibrate(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Do what an owner does: record benign rows, and learn from them; return the profile, and what was said of it."""
    model, manifest, sample, profile = (folder / name for name in ("m.onnx", "m.toml", "benign.npz", "m.profile"))
    model.write_bytes(kit.onnx_bytes())
    np.savez(sample, x=kit.world()[:1200].astype(np.float32))
    passphrase = folder / "passphrase"
    passphrase.write_text("a passphrase")
    commands = Commands(passphrase, lambda _words: None)
    commands.run("model", "draft", model, "--name", "small", "-o", manifest)
    words = ("model", "calibrate", sample, "--model", model, "--manifest", manifest, "-o", profile)
    told = commands.json(*words, "--width", "12", "--sessions", "10", "--fpr", "0.01")
    return profile.read_bytes(), dict(told)


class Service(Clients):
    def __init__(self, deployment: Deployment, told: dict[str, Any]) -> None:
        super().__init__(deployment)
        self.told = told

    def each(self, rows: np.ndarray, **identity: Any) -> list[str]:
        """Ask row by row in one session; return the outputs' names, or the code of the refusal."""
        found = []
        with self.deployment.session(**identity) as session:
            for row in rows:
                try:
                    found.append("/".join(session.infer("small", {"x": row[None]})))
                except RemoteError as error:
                    found.append(error.remote_code)
        return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    profile, told = calibrate(tmp_path_factory.mktemp("owner"))
    model = ModelToSeal("small", kit.onnx_bytes(), review={"abuse": {"ladder": LADDER}}, parts={"profile": profile})
    with temporary_home() as home, Deployment(home, [model], release=BUDGETS) as running:
        yield Service(running, told)


def test_calibration_tells_the_false_positive_rate_on_what_it_held_out(service: Service) -> None:
    rate = service.told["false_positive_rate"]
    assert rate["sessions"] == 7 * 4
    low, high = rate["interval_95"]
    assert low <= rate["alarmed"] / rate["sessions"] <= high
    assert service.told["bytes_per_identity"] <= 40 * 1024
    assert service.told["rows"] == {"reference": 480, "calibration": 480, "validation": 240}


def test_a_thief_goes_up_the_ladder_and_reconnecting_does_not_help(service: Service) -> None:
    thief, honest = service.identity("thief"), service.identity("honest")
    answers = service.each(kit.strange(1, 100), **thief)
    assert list(dict.fromkeys(answers)) == ["y", "label", "abuse-refused"]
    assert answers.index("label") <= 80
    assert set(service.each(kit.benign("iid", 1, 5), **thief)) == {"abuse-refused"}
    assert set(service.each(kit.strange(2, 80), **thief)) == {"abuse-refused", "abuse-revoked"}
    assert set(service.each(kit.benign("iid", 2, 40), **honest)) == {"y"}
    with service.deployment.session(**honest) as session:
        rows = kit.benign("iid", 3, 16)
        assert np.allclose(session.infer("small", {"x": rows})["y"], kit.run(rows), atol=1e-5)
    log = service.deployment.layout.log("host").read_text()
    told = [line for line in log.splitlines() if '"abuse"' in line]
    assert told
    assert all(str(thief["key"].public.hex()) not in line for line in told)


def verified(service: Service, bundle: ReceiptBundle | None) -> Verdict:
    """Return a receipt's verdict, once two verifiers that know nothing of each other have accepted it."""
    assert bundle is not None
    found = examine(Held.of(bundle), load_policy(service.deployment.policy_path), int(time.time()))
    assert found.accepted, found.refused
    assert verify_independently(bundle.encode())["verdict"] == found.receipt.verdict.to_map()
    return found.receipt.verdict


def test_receipts_state_how_coarse_each_answer_really_was_and_whose_budget_paid(service: Service) -> None:
    told: list[tuple[int, str]] = []
    with service.deployment.session(**service.identity("curious")) as session:
        for row in kit.strange(7, 100):
            with contextlib.suppress(RemoteError):  # the last rungs have no answer, and so no receipt
                told.append(receipted(service, session, row))
    assert list(dict.fromkeys(told)) == [(0, "scores"), (1, "rounded"), (2, "label-only")]
    with service.deployment.session() as session:
        anonymous = session.infer("small", {"x": kit.benign("iid", 4, 1)}, receipt=True)
    assert verified(service, anonymous.receipt) == Verdict(("budget", "lease", "schema", "values"), "scores")


def receipted(service: Service, session: Session, row: np.ndarray) -> tuple[int, str]:
    """Ask with a receipt; return the level and the form that it states, which is the form that the answer has."""
    answer = session.infer("small", {"x": row[None]}, receipt=True)
    verdict = verified(service, answer.receipt)
    assert verdict.checks == ("lease", "schema", "values"), "no budget is given to named clients"
    assert verdict.output == ("label-only" if "label" in answer else "rounded" if is_rounded(answer["y"]) else "scores")
    return verdict.abuse, verdict.output


def is_rounded(scores: np.ndarray) -> bool:
    return bool((scores == np.round(scores.astype(np.float64), 2).astype(scores.dtype)).all())


def test_whoever_probes_one_point_is_noticed_too(service: Service) -> None:
    prober = service.identity("prober")
    answers = service.each(kit.probing(5, 110), **prober)
    assert "label" in answers


@pytest.fixture(scope="module")
def attackers(service: Service) -> Attackers:
    pool = kit.pool()
    return Attackers(service, "small", Victim("small", kit.subject(), kit.world()[:1200], pool, pool, 1.0), 1)


@pytest.mark.parametrize("name", ["uniform noise", "line search", "photo patches"])
def test_who_copies_the_model_gets_less_of_it(attackers: Attackers, name: str) -> None:
    seen = attackers.steal(name, 130)
    assert seen.coarser is not None
    assert seen.coarser <= 96
    assert seen.coarser % 32 == 0


def test_who_looks_for_an_adversarial_example_is_noticed(attackers: Attackers) -> None:
    seen = attackers.evade("HopSkipJump", 3, 130)
    assert seen.coarser is not None
    assert seen.coarser % 32 == 0


@pytest.mark.parametrize("name", ["iid", "retries", "mixed"])
def test_honest_clients_get_all_of_it_meanwhile(attackers: Attackers, name: str) -> None:
    seen = attackers.behave(name, 130)
    assert (seen.total, seen.coarser, seen.refused) == (130, None, None)


def test_all_who_are_anonymous_share_one_identity(service: Service) -> None:
    for seed in range(5):
        service.each(kit.strange(seed, 30))
    assert set(service.each(kit.benign("iid", 1, 3))) <= {"abuse-refused", "abuse-revoked"}
    assert json.dumps(service.told)
