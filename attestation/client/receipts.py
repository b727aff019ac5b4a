"""Receipts as a client gets them: each is held against what the client itself saw before it is believed.

A receipt that does not say what was asked and answered is refused, and so is the answer that it came with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy.typing as npt

from attestation import evidence
from attestation.appraise import SessionAppraisal
from attestation.client.errors import ClientCode, ClientError
from attestation.client.freshness import Beat
from attestation.client.models import Prediction
from attestation.collateral import Collateral, CollateralSource
from attestation.receipts.bundle import ReceiptBundle, open_all
from attestation.receipts.checks import compare, formed, signature
from attestation.receipts.verify import refused
from attestation.types import EvidenceRecord
from attestation.types.receipt import MAX_RECEIPT, Receipt, SignedReceipt
from attestation.types.receipt_errors import ReceiptCode, ReceiptError
from attestation.wire import stateful
from attestation.wire.commitments import SALT_SIZE, Direction, Tensor, combine, received, sent
from attestation.wire.messages import Body
from manifests import fields
from manifests.errors import ManifestError, StrongroomError


@dataclass(frozen=True)
class Origin:
    """The evidence that a session descends from, and where its collateral came from.

    handshake_hash: h of the session that had it (64 bytes); of this one, unless it was resumed.
    """

    record: EvidenceRecord = field(repr=False)
    handshake_hash: bytes
    source: CollateralSource = field(repr=False)

    @cached_property
    def collateral(self) -> Collateral | None:
        """What the vendor says of the platform, fetched once; None where its evidence needs none."""
        return evidence.collateral_for(evidence.parse(self.record.quote), self.source)

    def collateral_if_held(self) -> Collateral | None:
        """Return the collateral, or None where it is not to be had: a receipt that nobody asked for costs no answer."""
        try:
            return self.collateral
        except StrongroomError:
            return None


@dataclass(frozen=True)
class Seen:
    """What a client saw of one request and its answer, and the receipt that came with it, if there is one.

    session: its handshake hash (64 bytes).  number: of the request.  tensors: what was sent and answered, in the form
    that a receipt commits to.  receipt: as the answer carries it.  The rest is what the answer says of its model.
    """

    session: bytes
    number: int
    tensors: Mapping[Direction, Sequence[Tensor]] = field(repr=False)
    receipt: object = field(repr=False)
    model: bytes
    epoch: int
    beat: Beat
    stages: tuple[bytes, ...] = ()
    """Digests of the further models of a pipeline."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as the client saw them.  session: its handshake hash.  number: of the request.

    reset: whether a state was to begin anew with it.
    """

    session: bytes
    number: int
    inputs: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    body: Body = field(repr=False)
    prediction: Prediction = field(repr=False)
    reset: bool = False

    def seen(self) -> Seen:
        """Return it as a receipt is held against it."""
        asked, told = sent(self.inputs), received(self.body)
        if self.prediction.steps is not None:
            asked, told = stateful.asked(asked, reset=self.reset), stateful.answered(told, self.prediction.steps)
        tensors = {Direction.INPUT: asked, Direction.OUTPUT: told}
        answer, receipt = self.prediction, self.body.header.get("receipt")
        stages = tuple(reader.digest for reader in answer.stages)
        return Seen(self.session, self.number, tensors, receipt, answer.model, answer.epoch, answer.beat, stages)


def take_receipt(
    seen: Seen, origin: Origin, attested: SessionAppraisal, now: int, *, wanted: bool
) -> ReceiptBundle | None:
    """Return the receipt that an answer carries, checked; None where it carries none and none was `wanted`.

    Raises ReceiptError `receipt-missing`, `receipt-refused` or as parsing does, and ClientError `response-unexpected`.
    """
    if seen.receipt is None:
        if wanted:
            raise ReceiptError(ReceiptCode.MISSING, ReceiptCode.MISSING.meaning)
        return None
    data, salts = _read(seen.receipt)
    signed = SignedReceipt.parse(data)
    openings = {way: open_all(salts[way], seen.tensors[way]) for way in Direction}
    commitments = {str(way): combine(way, (each.leaf for each in openings[way])) for way in Direction}
    noted = _noted(signed.receipt, seen, origin, attested, commitments)
    findings = [signature(signed, attested.claims), formed(signed.receipt), *compare(signed.receipt, noted)]
    if failed := [finding for finding in findings if not finding.passed]:
        raise refused(failed)
    collateral = origin.collateral if wanted else origin.collateral_if_held()
    return ReceiptBundle(data, origin.record, collateral, noted, now, openings)


def _read(value: object) -> tuple[bytes, dict[Direction, bytes]]:
    try:
        table = fields.closed_map(value, "receipt", ("signed", *map(str, Direction)))
        salts = {way: fields.fixed_bytes(table[way], way, SALT_SIZE) for way in Direction}
        return fields.bounded_bytes(table["signed"], "signed", MAX_RECEIPT), salts
    except ManifestError as error:
        raise ClientError(
            ClientCode.RESPONSE_UNEXPECTED, f"the response's receipt is malformed: {error.message}"
        ) from None


def _noted(
    receipt: Receipt, seen: Seen, origin: Origin, attested: SessionAppraisal, commitments: Mapping[str, bytes]
) -> Receipt:
    """Return what the receipt must say; serial and verdict are the enclave's own to say."""
    return Receipt(
        evidence=attested.evidence_digest,
        session=seen.session,
        origin=origin.handshake_hash,
        boot_id=attested.claims.boot_id,
        serial=receipt.serial,
        request=seen.number,
        model=seen.model,
        owner=seen.beat.owner,
        epoch=seen.epoch,
        broker_time=seen.beat.time,
        broker_epoch=seen.beat.epoch,
        verdict=receipt.verdict,
        stages=seen.stages,
        **commitments,
    )
