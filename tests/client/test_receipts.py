"""A client believes no receipt that is not of its own request, and gives out no answer that comes with another."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from attestation.client import AsyncSession, Session
from attestation.client.errors import ClientCode
from attestation.collateral import FixedSource
from attestation.receipts.bundle import ReceiptBundle
from attestation.receipts.checks import Held
from attestation.receipts.verify import examine
from attestation.types import EvidenceRecord
from attestation.types.receipt import Receipt, Verdict
from attestation.types.receipt_errors import ReceiptCode
from attestation.wire import stateful
from attestation.wire.commitments import Direction, commit, received, sent
from attestation.wire.messages import Body
from manifests.errors import ManifestCode, StrongroomError
from manifests.signing import Signer
from tests.client.conftest import BOOT_ID, DIGEST, NOW, World
from tests.client.scripted import Peer

X = np.ones((2, 3), np.float32)
KEY = Signer.from_seed(bytes([4]) * 32)
Course: TypeAlias = tuple[bool, int]
SALTS = {Direction.INPUT: bytes([1]) * 32, Direction.OUTPUT: bytes([2]) * 32}


class Issuer:
    """Answers as an enclave that gives receipts; `changes` are the fields that it lies about."""

    def __init__(
        self, world: World, key: Signer = KEY, *, steps: int | None = None, course: Course = (False, 1), **changes: Any
    ) -> None:
        """steps: what a stateful model's answer says; course: the reset and the steps that its receipt binds."""
        self.world, self.key, self.changes = world, key, changes
        self.steps, self.course = steps, course
        self.records: dict[bytes, EvidenceRecord] = {}
        self.asked: list[Any] = []
        self.shape: Callable[[dict[str, Any]], Any] = lambda value: value

    def evidence(self, handshake_hash: bytes) -> EvidenceRecord:
        return self.records.setdefault(handshake_hash, World.evidence(self.world, handshake_hash))

    def __call__(self, peer: Peer, body: Body) -> None:
        if body.header["op"] != "infer":
            self.world.doubling(peer, body)
            return
        self.asked.append(body.header.get("receipt"))
        outputs = {name: np.asarray(value * 2) for name, value in body.arrays().items()}
        session = peer.session.handshake_hash
        given, told = received(body), sent(outputs)
        if self.steps is not None:
            given, told = stateful.asked(given, reset=self.course[0]), stateful.answered(told, self.course[1])
        receipt = Receipt(
            evidence=self.records[session].digest(),
            session=session,
            origin=session,
            boot_id=BOOT_ID,
            serial=1,
            request=body.header["id"],
            model=DIGEST,
            owner=self.world.owner.public,
            epoch=self.world.epoch,
            broker_time=self.world.beat_time,
            broker_epoch=self.world.epoch,
            verdict=Verdict(("lease", "schema", "values"), "scores"),
            input=commit(Direction.INPUT, SALTS[Direction.INPUT], given),
            output=commit(Direction.OUTPUT, SALTS[Direction.OUTPUT], told),
        )
        signed = replace(receipt, **self.changes).sign(functools.partial(self.key.sign, b""))
        value = self.shape({"signed": signed, **{str(way): salt for way, salt in SALTS.items()}})
        beat = [self.world.beat_time, self.world.epoch, self.world.owner.public]
        header = {"id": body.header["id"], "model": DIGEST, "epoch": self.world.epoch, "beat": beat}
        header |= {} if self.steps is None else {"steps": self.steps}
        peer.respond(header | ({} if value is None else {"receipt": value}), outputs)


@pytest.fixture
def issuing(world: World, serve: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Issuer], str]:
    """Serve an issuer; returns the address."""

    def start(issuer: Issuer) -> str:
        monkeypatch.setattr(world, "evidence", issuer.evidence)
        return str(serve(issuer).address)

    return start


def code_of(address: str, terms: dict[str, Any], receipt: Any = True) -> Any:
    with Session.connect(address, **terms) as session, pytest.raises(StrongroomError) as error:
        session.infer("doubler", {"x": X}, receipt=receipt)
    return error.value


def test_a_receipt_is_checked_and_kept_with_all_that_verifies_it(world: World, issuing: Any, tmp_path: Path) -> None:
    address = issuing(Issuer(world))
    with Session.connect(address, **world.terms()) as session:
        answer = session.infer("doubler", {"x": X}, receipt=str(tmp_path / "a.receipt"))
    assert answer.receipt is not None
    assert answer.receipt.openings[Direction.OUTPUT][0].data == answer["x"].tobytes()
    kept = ReceiptBundle.load(tmp_path / "a.receipt")
    assert kept == answer.receipt.closed()
    assert kept.time == NOW
    assert examine(Held.of(kept), world.policy(), NOW).accepted


LIES: dict[str, Any] = {
    "evidence": bytes(64),
    "session": bytes(64),
    "origin": bytes(64),
    "boot_id": bytes(16),
    "request": 7,
    "model": bytes(64),
    "owner": Signer.from_seed(bytes([11]) * 32).public,
    "epoch": 4,
    "broker_time": NOW,
    "broker_epoch": 6,
    "input": bytes(64),
    "output": bytes(64),
}


@pytest.mark.parametrize("name", LIES)
def test_a_receipt_that_lies_about_a_field_refuses_its_answer(world: World, issuing: Any, name: str) -> None:
    error = code_of(issuing(Issuer(world, **{name: LIES[name]})), world.terms())
    assert error.code is ReceiptCode.REFUSED
    assert f"receipt-{name.removesuffix('_id').replace('_', '-')}" in error.message


@pytest.mark.parametrize(
    ("steps", "course", "code"),
    [(3, (True, 3), None), (3, (True, 2), "receipt-output"), (3, (False, 3), "receipt-input")],
    ids=["the same", "another step", "no reset"],
)
def test_a_receipt_of_another_step_or_without_the_reset_refuses_its_answer(
    world: World, issuing: Any, steps: int, course: Course, code: str | None
) -> None:
    with Session.connect(issuing(Issuer(world, steps=steps, course=course)), **world.terms()) as session:
        if code is None:
            answer = session.infer("doubler", {"x": X}, receipt=True, reset=True)
            assert answer.receipt is not None
            assert [each.spec and each.spec.name for each in answer.receipt.openings[Direction.OUTPUT]] == [
                "x",
                "steps",
            ]
            return
        with pytest.raises(StrongroomError, match=code) as error:
            session.infer("doubler", {"x": X}, receipt=True, reset=True)
    assert error.value.code is ReceiptCode.REFUSED


def test_a_receipt_of_another_key_refuses_its_answer(world: World, issuing: Any) -> None:
    error = code_of(issuing(Issuer(world, Signer.generate())), world.terms())
    assert error.message == "the receipt is refused: receipt-signature"


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        (lambda _: None, ReceiptCode.MISSING),
        (lambda _: {}, ClientCode.RESPONSE_UNEXPECTED),
        (lambda value: value | {"input": bytes(31)}, ClientCode.RESPONSE_UNEXPECTED),
        (lambda value: value | {"more": 1}, ClientCode.RESPONSE_UNEXPECTED),
        (lambda value: value | {"signed": b"none"}, ReceiptCode.MALFORMED),
        (lambda value: value | {"input": bytes(32)}, ReceiptCode.REFUSED),
    ],
    ids=["none", "an empty one", "a short salt", "a further field", "no message", "another salt"],
)
def test_what_is_no_receipt_refuses_its_answer(world: World, issuing: Any, shape: Any, code: Any) -> None:
    issuer = Issuer(world)
    issuer.shape = shape
    assert code_of(issuing(issuer), world.terms()).code is code


def test_a_receipt_that_cannot_be_kept_is_not_asked_for(world: World, issuing: Any, tmp_path: Path) -> None:
    issuer = Issuer(world)
    address = issuing(issuer)
    taken = tmp_path / "taken"
    taken.touch()
    assert code_of(address, world.terms(), taken).code is ManifestCode.FILE_EXISTS
    assert code_of(address, world.terms(), tmp_path / "no folder" / "a").code is ManifestCode.FILE_UNAVAILABLE
    assert issuer.asked == []


def test_collateral_is_fetched_before_the_request_is_spent(world: World, issuing: Any) -> None:
    issuer = Issuer(world)
    address = issuing(issuer)
    with Session.connect(address, **world.terms()) as session:
        source: Any = FixedSource(world.platform.collateral(NOW))
        source._data = b"{}"
        object.__setattr__(session._origin, "source", source)
        with pytest.raises(StrongroomError):
            session.infer("doubler", {"x": X}, receipt=True)
        assert issuer.asked == []
        kept = session.infer("doubler", {"x": X}).receipt
    assert kept is not None
    assert kept.collateral is None, "one that nobody asked for costs no answer"


def test_a_receipt_that_was_not_asked_for_is_checked_all_the_same(world: World, issuing: Any) -> None:
    issuer = Issuer(world)
    with Session.connect(issuing(issuer), **world.terms()) as session:
        assert session.infer("doubler", {"x": X}).receipt is not None
    assert issuer.asked == [None]
    assert (
        code_of(issuing(Issuer(world, serial=2, request=9)), world.terms(), receipt=False).code is ReceiptCode.REFUSED
    )


def test_an_asynchronous_session_checks_receipts_too(world: World, issuing: Any, tmp_path: Path) -> None:
    async def go(address: str) -> Any:
        async with AsyncSession.connect(address, **world.terms()) as session:
            return await session.infer("doubler", {"x": X}, receipt=tmp_path / "a.receipt")

    assert asyncio.run(go(issuing(Issuer(world)))).receipt.closed() == ReceiptBundle.load(tmp_path / "a.receipt")
    (tmp_path / "a.receipt").unlink()
    with pytest.raises(StrongroomError) as error:
        asyncio.run(go(issuing(Issuer(world, model=bytes(64)))))
    assert error.value.code is ReceiptCode.REFUSED
    assert not (tmp_path / "a.receipt").exists()
