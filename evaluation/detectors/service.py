"""Attacks and honest clients through the whole service: real sessions, host and enclave, each with a fresh identity.

What a client can see of its detection is counted: the query whose answer was coarser than the model's, and the one
that was refused.  Substitutes are trained on what the service answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from attestation.client import RemoteError, Session
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from evaluation.detectors.answering import BlockedError, one_hot
from evaluation.detectors.campaign import GATE, calibrated
from evaluation.detectors.evasions import attack_target
from evaluation.detectors.thefts import THEFTS
from evaluation.detectors.victims import Victim
from manifests.abuse.calibrate.behaviours import BEHAVIOURS, Rows, declared
from manifests.abuse.calibrate.learn import Settings
from manifests.abuse.policy import DEFAULT_LADDER, Action
from manifests.keyfile import read_key_file, read_passphrase
from manifests.signing import Signer

STEALING = ("uniform noise", "line search", "JBDA", "mixup", "25 % diluted")
EVADING = ("HopSkipJump", "Square (scores)", "SimBA (scores)")
LENGTH = 300
LADDER = [rung.to_map() for rung in DEFAULT_LADDER if rung.action is not Action.SLOW]
"""The default one, but nobody is made to wait."""
POOL_FACTOR = 1000
"""So that one attack is not answered less for those before it: only a few honest clients ask between."""
_REFUSALS = frozenset({"abuse-refused", "abuse-revoked"})


@dataclass
class Seen:
    """One session: queries that were sent, and which of them was the first to be answered less, or refused."""

    total: int = 0
    coarser: int | None = None
    refused: int | None = None
    succeeded: bool | None = None


class Remote:
    """Asks the service row by row, as the attacks' `answer`."""

    def __init__(self, session: Session, model: str, victim: Victim, digits: int = 2) -> None:
        """Ask in an open session; `digits` are those of the policy's `fewer_digits`."""
        self._session, self._model, self._victim, self._digits = session, model, victim, digits
        self._asked: set[bytes] = set()
        self.seen = Seen()

    def __call__(self, row: Rows) -> Rows:
        """Answer; raises BlockedError where the service refuses for abuse."""
        subject, seen = self._victim.subject, self.seen
        rows = subject.rows(row[None])
        self._asked.add(rows.tobytes())
        seen.total += 1
        try:
            given = self._session.infer(self._model, {subject.input: rows})
        except RemoteError as error:
            if error.remote_code not in _REFUSALS:
                raise
            seen.refused = seen.total
            raise BlockedError from None
        scores = np.asarray(given["label" if "label" in given else subject.output][0])
        if "label" in given:
            seen.coarser = seen.coarser or seen.total
            return one_hot(int(scores), subject.classes)
        if (scores == self._rounded(scores)).all() and not (scores == self._victim.scores(row[None])[0]).all():
            seen.coarser = seen.coarser or seen.total
        return scores

    def _rounded(self, scores: Rows) -> Rows:
        return np.round(scores.astype(np.float64), self._digits).astype(scores.dtype)

    def is_known(self, row: Rows) -> bool:
        """Tell whether this row was asked about."""
        return self._victim.subject.rows(row[None]).tobytes() in self._asked

    def victim(self) -> Victim:
        """Return the victim as its attacker has it: whatever he asks, the service answers."""

        def run(rows: Rows) -> Rows:
            return np.array([self(row.ravel()) for row in rows])

        return replace(self._victim, subject=replace(self._victim.subject, run=run))


class Service:
    """A running deployment whose clients each have a key and a credential."""

    def __init__(self, deployment: Deployment) -> None:
        """Use a deployment that was started."""
        self.deployment = deployment

    def identity(self, name: str) -> dict[str, Any]:
        """Make a client's key and have the broker name it; return what its sessions connect with."""
        layout, commands = self.deployment.layout, self.deployment.commands
        key, document = layout.home / f"{name}.key", layout.home / f"{name}.credential"
        commands.run("owner", "client", "--key", key)
        card = key.with_suffix(".pub")
        commands.run("broker", "credential", "--home", layout.broker, "--client", card, "--name", name, "-o", document)
        seed = read_key_file(key, "client", read_passphrase(layout.passphrase))
        return {"key": Signer.from_seed(seed), "credential": document.read_bytes()}


class Attackers:
    """Replays sessions against one model of a service; what they draw follows from the seed."""

    def __init__(self, service: Service, model: str, victim: Victim, seed: int) -> None:
        """Attack this victim, which the service has under the name `model`."""
        self._service, self._model, self._victim = service, model, victim
        self._random = np.random.default_rng(seed)
        self._count = 0

    def behave(self, name: str, length: int = LENGTH) -> Seen:
        """Ask as an honest client of this behaviour."""
        pool = self._victim.test
        rows = pool.fit(BEHAVIOURS[name](self._random, pool, min(length, len(pool.rows))))
        with self._remote() as remote:
            for row in rows:
                remote(row)
        return remote.seen

    def steal(self, name: str, length: int = LENGTH) -> Seen:
        """Copy the model by one of THEFTS."""
        with self._remote() as remote:
            for row in THEFTS[name](self._random, remote.victim(), length):
                if not remote.is_known(row):
                    remote(row)
        return remote.seen

    def evade(self, name: str, target: int, budget: int = LENGTH) -> Seen:
        """Look for an adversarial example of a test row by one of EVASIONS."""
        row = self._victim.test.rows[target]
        with self._remote() as remote:
            oracle = attack_target(name, self._victim, remote, row, budget=budget, seed=target)
        remote.seen.succeeded = any(oracle.best[norm] <= GATE[norm] for norm in GATE)
        return remote.seen

    @contextlib.contextmanager
    def _remote(self) -> Iterator[Remote]:
        self._count += 1
        identity = self._service.identity(f"client-{self._count}")
        with self._service.deployment.session(**identity) as session, contextlib.suppress(BlockedError):
            yield Remote(session, self._model, self._victim)


def through(victim: Victim, seed: int, sessions: int) -> dict[str, Any]:
    """Deploy a victim of images, and replay `sessions` of each attack, and of honest clients before and after them."""
    profile, _ = calibrated(victim, Settings(seed=seed, sessions=60, is_image=True))
    review = {"abuse": {"ladder": LADDER, "pool_factor": POOL_FACTOR}}
    model = ModelToSeal("victim", network(victim), review=review, parts={"profile": profile.encode()})
    names = tuple(declared((), is_image=True))
    with temporary_home() as home, Deployment(home, [model]) as deployment:
        attackers = Attackers(Service(deployment), "victim", victim, seed)
        before = [attackers.behave(names[at % len(names)]) for at in range(sessions)]
        thefts = {name: _maps(attackers.steal(name) for _ in range(sessions)) for name in STEALING}
        evasions = {name: _maps(attackers.evade(name, at) for at in range(sessions)) for name in EVADING}
        after = [attackers.behave(names[(sessions + at) % len(names)]) for at in range(sessions)]
    found: Mapping[str, Any] = {"benign": {"honest": _maps([*before, *after])}, "thefts": thefts, "evasions": evasions}
    return {"victim": victim.name, "seed": seed, "service": found}


def _maps(sessions: Any) -> list[dict[str, Any]]:
    return [asdict(one) for one in sessions]


def network(victim: Victim) -> bytes:
    """Return the ONNX bytes of a victim with one hidden layer: softmax(relu(x w + b) v + c)."""
    layers: Sequence[Rows] = victim.layers
    names = ("w", "b", "v", "c")
    weights = [
        numpy_helper.from_array(layer.astype(np.float32), name) for layer, name in zip(layers, names, strict=True)
    ]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["inner"]),
        helper.make_node("Relu", ["inner"], ["active"]),
        helper.make_node("Gemm", ["active", "v", "c"], ["outer"]),
        helper.make_node("Softmax", ["outer"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *victim.subject.shape])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", victim.subject.classes])
    graph = helper.make_graph(nodes, "victim", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
