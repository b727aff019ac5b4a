"""A receipt with all around it, whose keys the test holds: so each field can be made to lie under any signature."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from attestation.binding import batch, session_leaf
from attestation.policy import Policy, load_policy
from attestation.receipts.bundle import ReceiptBundle, open_all
from attestation.receipts.checks import NOTHING, Expected, Held
from attestation.receipts.verify import ReceiptReport, examine
from attestation.sim.platform import SimulatedPlatform
from attestation.types import Claims, EvidenceRecord, OwnerState
from attestation.types.receipt import Receipt, Verdict
from attestation.wire import stateful
from attestation.wire.commitments import Direction, Tensor, combine, sent
from manifests.signing import Signer

NOW = 1_800_000_000
MRENCLAVE = bytes([7]) * 32
SESSION = bytes([8]) * 64
BOOT_ID = bytes([3]) * 16
RECEIPT_KEY = Signer.from_seed(bytes([4]) * 32)
OTHER_KEY = Signer.from_seed(bytes([14]) * 32)
OWNER = Signer.from_seed(bytes([1]) * 32).public
OTHER_OWNER = Signer.from_seed(bytes([11]) * 32).public
CLAIMS = Claims(RECEIPT_KEY.public, bytes(1216), BOOT_ID, "first", (OwnerState(OWNER, 5, b"", b""),))

INPUTS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "note": np.array(["good morning"], object)}
OUTPUTS = {"y": np.array([[0.25, 0.75]])}
SALTS = {Direction.INPUT: bytes([21]) * 32, Direction.OUTPUT: bytes([22]) * 32}
TENSORS: dict[Direction, list[Tensor]] = {Direction.INPUT: sent(INPUTS), Direction.OUTPUT: sent(OUTPUTS)}


@functools.lru_cache(maxsize=1)
def platform() -> SimulatedPlatform:
    return SimulatedPlatform(bytes([5]) * 32, NOW - 1000)


@functools.lru_cache(maxsize=8)
def record(claims: Claims = CLAIMS, session: bytes = SESSION) -> EvidenceRecord:
    """Evidence of a session, quoted together with another one: the inclusion proof has a path."""
    encoded = claims.encode()
    leaves = [session_leaf(session, encoded), session_leaf(bytes(64), encoded)]
    report_data, proofs = batch(leaves)
    quote = platform().quote(platform().report_body(MRENCLAVE), report_data)
    return EvidenceRecord(encoded, quote, proofs[0], "sgx simulated")


def policy(service: Mapping[str, Any] | None = None) -> Policy:
    table: dict[str, Any] = {
        "version": 1,
        "evidence": {
            "simulation": True,
            "simulated_root": platform().root_fingerprint.hex(),
            "tcb_status": ["UpToDate"],
        },
        "sgx": {"mrenclave": [MRENCLAVE.hex()]},
    }
    named = {"owners": [OWNER.hex()]} if service is None else dict(service)
    return load_policy(table | ({"service": named} if named else {}))


@functools.lru_cache(maxsize=1)
def receipt() -> Receipt:
    opened = openings()
    return Receipt(
        evidence=record().digest(),
        session=SESSION,
        origin=SESSION,
        boot_id=BOOT_ID,
        serial=17,
        request=2,
        model=bytes([9]) * 64,
        owner=OWNER,
        epoch=3,
        broker_time=NOW - 10,
        broker_epoch=5,
        verdict=Verdict(("lease", "schema", "values"), "scores"),
        input=combine(Direction.INPUT, (each.leaf for each in opened[Direction.INPUT])),
        output=combine(Direction.OUTPUT, (each.leaf for each in opened[Direction.OUTPUT])),
    )


def openings() -> dict[Direction, Any]:
    return {way: open_all(SALTS[way], TENSORS[way]) for way in Direction}


def signed(key: Signer = RECEIPT_KEY, **changes: Any) -> bytes:
    return replace(receipt(), **changes).sign(functools.partial(key.sign, b""))


@functools.lru_cache(maxsize=1)
def bundle() -> ReceiptBundle:
    """A whole bundle that is accepted, contents included."""
    return ReceiptBundle(signed(), record(), platform().collateral(NOW), receipt(), NOW, openings())


@functools.lru_cache(maxsize=1)
def stateful_bundle() -> ReceiptBundle:
    """One of a stateful model's answer: the third since its state began."""
    asked, answered = stateful.asked(TENSORS[Direction.INPUT], reset=False), stateful.answered(sent(OUTPUTS), 3)
    opened = {
        Direction.INPUT: open_all(SALTS[Direction.INPUT], asked),
        Direction.OUTPUT: open_all(SALTS[Direction.OUTPUT], answered),
    }
    commitments = {str(way): combine(way, (each.leaf for each in opened[way])) for way in Direction}
    noted = replace(receipt(), **commitments)  # type: ignore[arg-type]
    return ReceiptBundle(signed(**commitments), record(), platform().collateral(NOW), noted, NOW, opened)


def report(
    held: ReceiptBundle | Held, wanted: Policy | None = None, *, at: int = NOW, expected: Expected = NOTHING
) -> ReceiptReport:
    return examine(held if isinstance(held, Held) else Held.of(held), wanted or policy(), at, expected=expected)


def codes(found: ReceiptReport) -> set[str]:
    return {str(finding.code) for finding in found.refused}
