"""The checks of a receipt: one for each field that it binds, and each reports.

docs/receipts.md numbers the steps; 1 to 3 are the appraisal of the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from attestation.collateral import CollateralKey, CollateralSource, FixedSource
from attestation.findings import Finding, Phase, check, one_of
from attestation.policy import Policy
from attestation.receipts.bundle import Opening, ReceiptBundle
from attestation.refused import refusals
from attestation.types import Claims, EvidenceRecord
from attestation.types.receipt import FORMS, Receipt, SignedReceipt, Verdict
from attestation.types.receipt_errors import ReceiptFinding
from attestation.wire.commitments import Direction, Tensor, combine
from manifests.errors import ManifestError

CLOCK_SKEW: Final = 300
"""Seconds by which a broker's clock may be ahead of the time that is verified at, as clients allow it in a session."""
NEEDED: Final = frozenset({"lease", "schema", "values"})
"""The checks without which no enclave of ours answers."""

_CODES: Final[Mapping[str, ReceiptFinding]] = {
    "evidence": ReceiptFinding.EVIDENCE,
    "session": ReceiptFinding.SESSION,
    "origin": ReceiptFinding.ORIGIN,
    "boot_id": ReceiptFinding.BOOT,
    "serial": ReceiptFinding.SERIAL,
    "request": ReceiptFinding.REQUEST,
    "model": ReceiptFinding.MODEL,
    "owner": ReceiptFinding.OWNER,
    "epoch": ReceiptFinding.EPOCH,
    "broker_time": ReceiptFinding.BROKER_TIME,
    "broker_epoch": ReceiptFinding.BROKER_EPOCH,
    "checks": ReceiptFinding.VERDICT,
    "form": ReceiptFinding.FORM,
    "input": ReceiptFinding.INPUT,
    "output": ReceiptFinding.OUTPUT,
    "stages": ReceiptFinding.STAGES,
}
"""By field of a receipt, the code of a departure from what is expected there; a verdict has two."""

_REMEDIES: Final[Mapping[ReceiptFinding, str]] = {
    ReceiptFinding.SIGNATURE: "believe nothing in it: it was changed, or another enclave process has signed it",
    ReceiptFinding.EVIDENCE: "give the evidence of the session that the receipt names; `attest show` saves another one",
    ReceiptFinding.ORIGIN: "give the evidence of the session that the receipt descends from",
    ReceiptFinding.SESSION: "look for the receipt of the session that you mean",
    ReceiptFinding.BOOT: "look for the evidence of this start of the process",
    ReceiptFinding.SERIAL: "look for the receipt that the client saved",
    ReceiptFinding.REQUEST: "look for the receipt of the request that you mean",
    ReceiptFinding.MODEL: "ask the owner which models it released: another one than you expect has answered",
    ReceiptFinding.STAGES: "ask the owner which models it released: another reader than you expect has answered",
    ReceiptFinding.OWNER: "name the owner with --owner, or in [service] owners of the policy, if you trust it",
    ReceiptFinding.EPOCH: "ask the owner for the current epoch: an older model may have answered",
    ReceiptFinding.BROKER_TIME: "verify as of a time that is not before the receipt",
    ReceiptFinding.BROKER_EPOCH: "treat it as forged: an owner's epoch never goes down",
    ReceiptFinding.VERDICT: "treat the answer as one that the enclave's checks did not pass",
    ReceiptFinding.FORM: "treat the answer as coarser than the model's own: ask the client which answer it got",
    ReceiptFinding.INPUT: "compare the files: this is not what was sent",
    ReceiptFinding.OUTPUT: "compare the files: this is not what was answered",
    ReceiptFinding.ADMITS: "use an enclave whose manifest names its owners, or set allow_any_owner in the policy",
}


class NoSource(CollateralSource):
    """No collateral at all, for evidence that needs none."""

    def _fetch(self, key: CollateralKey) -> bytes | None:  # noqa: ARG002 - there is nothing to look up
        return None


@dataclass(frozen=True)
class Expected:
    """What the caller wants the receipt to say, beside the policy and what the client noted; None is open."""

    model: bytes | None = None
    owner: bytes | None = None
    session: bytes | None = None
    stages: tuple[bytes, ...] | None = None


NOTHING: Final = Expected()


@dataclass(frozen=True)
class Held:
    """A receipt with what belongs to it.

    evidence: the record of the session that it descends from.  source: collateral for it.  noted: what the client saw;
    None where that is not known.  openings: by direction, all tensors in order; empty where nothing opens them.
    contents: by direction, tensors that somebody has, to be compared.
    """

    signed: SignedReceipt
    evidence: EvidenceRecord
    source: CollateralSource
    noted: Receipt | None = None
    openings: Mapping[Direction, tuple[Opening, ...]] = field(default_factory=dict)
    contents: Mapping[Direction, Sequence[Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, bundle: ReceiptBundle, contents: Mapping[Direction, Sequence[Tensor]] | None = None) -> Held:
        """Take a bundle apart; raises ReceiptError or ManifestError for its receipt."""
        source = NoSource() if bundle.collateral is None else FixedSource(bundle.collateral)
        return cls(bundle.signed(), bundle.evidence, source, bundle.noted, bundle.openings, contents or {})


def checks(held: Held, policy: Policy, at: int, expected: Expected) -> Iterator[Finding]:
    """Make every check of steps 4 to 9, as of `at` (Unix seconds)."""
    receipt = held.signed.receipt
    try:
        claims = Claims.decode(held.evidence.claims)
    except ManifestError as error:
        yield from refusals(error, Phase.PARSE)
        return
    yield signature(held.signed, claims)
    yield _equal("evidence", held.evidence.digest(), receipt)
    yield _equal("boot_id", claims.boot_id, receipt)
    if held.noted is not None:
        yield from compare(receipt, held.noted)
    yield from _wanted(receipt, expected)
    yield from _served(receipt, claims, policy, expected)
    yield from _lasting(receipt, claims, at)
    yield _passed(receipt)
    yield formed(receipt)
    for way in Direction:
        yield from _opened(receipt, way, held.openings.get(way, ()), held.contents.get(way, ()))


def signature(signed: SignedReceipt, claims: Claims) -> Finding:
    """Step 4: hold the signature against the key in the claims."""
    verified = signed.verify(claims.receipt_key)
    key = claims.receipt_key.hex()
    found = key if verified else "a signature that this key did not make"
    return _finding(ReceiptFinding.SIGNATURE, passed=verified, expected=f"a signature of {key}", found=found)


def compare(receipt: Receipt, noted: Receipt) -> Iterator[Finding]:
    """Step 6: hold every field against what a client saw."""
    return (_equal(name, _value(noted, name), receipt) for name in _CODES)


def _wanted(receipt: Receipt, expected: Expected) -> Iterator[Finding]:
    for name in ("model", "session", "stages"):
        value = getattr(expected, name)
        if value is not None:
            yield _equal(name, value, receipt)


def _served(receipt: Receipt, claims: Claims, policy: Policy, expected: Expected) -> Iterator[Finding]:
    """Step 7: owner, model and epoch against the policy's [service], and what the enclave admits."""
    service = policy.service
    owners = () if service is None else service.owners
    owners = owners if expected.owner is None else (expected.owner,)
    yield _finding(
        ReceiptFinding.OWNER,
        passed=receipt.owner in owners,
        expected=one_of(owners) if owners else "an owner that the policy or the caller names; none is named",
        found=receipt.owner,
    )
    if service is not None and service.models:
        yield _finding(
            ReceiptFinding.MODEL,
            passed=receipt.model in service.models,
            expected=one_of(service.models),
            found=receipt.model,
        )
        yield from _pinned(receipt, service.models)
    least = 0 if service is None else service.min_epoch
    yield _finding(
        ReceiptFinding.EPOCH, passed=receipt.epoch >= least, expected=f"at least {least}", found=receipt.epoch
    )
    yield _admitted(receipt, claims, any_owner=service is not None and service.allow_any_owner)


def _pinned(receipt: Receipt, models: tuple[bytes, ...]) -> Iterator[Finding]:
    """Hold further models, where there are any, against the digests that a policy names."""
    if receipt.stages:
        yield _finding(
            ReceiptFinding.STAGES,
            passed=set(receipt.stages) <= set(models),
            expected=f"none but {one_of(models)}",
            found=_shown(receipt.stages),
        )


def _admitted(receipt: Receipt, claims: Claims, *, any_owner: bool) -> Finding:
    named = claims.admitted if isinstance(claims.admitted, tuple) else None
    return _finding(
        ReceiptFinding.ADMITS,
        passed=(any_owner or claims.admitted != "any") and (named is None or receipt.owner in named),
        expected=f"{receipt.owner.hex()} among those that are named" if named else "one owner, or those that are named",
        found=one_of(named) if named is not None else claims.admitted,
    )


def _lasting(receipt: Receipt, claims: Claims, at: int) -> Iterator[Finding]:
    """Step 8: the broker's sign of life is none of the future, and its epoch none that the claims are ahead of."""
    yield _finding(
        ReceiptFinding.BROKER_TIME,
        passed=receipt.broker_time <= at + CLOCK_SKEW,
        expected=f"at most {at + CLOCK_SKEW}: the time that is verified at, and {CLOCK_SKEW} s",
        found=receipt.broker_time,
    )
    least = next((state.epoch for state in claims.owners if state.owner == receipt.owner), 0)
    yield _finding(
        ReceiptFinding.BROKER_EPOCH,
        passed=receipt.broker_epoch >= least,
        expected=f"at least {least}, as in the claims",
        found=receipt.broker_epoch,
    )


def _passed(receipt: Receipt) -> Finding:
    checks = receipt.verdict.checks
    return _finding(
        ReceiptFinding.VERDICT,
        passed=frozenset(checks) >= NEEDED,
        expected=", ".join(sorted(NEEDED)),
        found=", ".join(checks) or "no check",
    )


def formed(receipt: Receipt) -> Finding:
    """Step 9: the outputs left in a form that is known, and that goes with the level of the abuse policy's verdict."""
    verdict = receipt.verdict
    return _finding(
        ReceiptFinding.FORM,
        passed=verdict.agrees,
        expected=f"one of {', '.join(FORMS.get(verdict.abuse, ())) or 'no form: the level is not known'}",
        found=_form(verdict),
    )


def _opened(
    receipt: Receipt, way: Direction, openings: tuple[Opening, ...], contents: Sequence[Tensor]
) -> Iterator[Finding]:
    """Step 9: what opens a commitment adds up to it, and each tensor that is there is the one committed to."""
    if openings:
        yield _equal(str(way), combine(way, (each.leaf for each in openings)), receipt)
    kept = [(each.spec, each.data) for each in openings if each.spec is not None and each.data is not None]
    for spec, data in [*kept, *contents]:
        opening = next((each for each in openings if each.spec is not None and each.spec.name == spec.name), None)
        holds = opening is not None and opening.holds((spec, data))
        found = "the same" if holds else "another tensor" if opening else "nothing that opens it"
        yield _finding(_CODES[way], passed=holds, expected=f"{way} {spec.name!r} as committed to", found=found)


def _equal(name: str, value: Any, receipt: Receipt) -> Finding:
    """Hold a field of the receipt against what it must be; none of them is secret."""
    found = _value(receipt, name)
    return _finding(_CODES[name], passed=found == value, expected=_shown(value), found=_shown(found))


def _value(receipt: Receipt, name: str) -> Any:
    """Return a field as it is shown, or one of the two halves of the verdict as text."""
    if name == "checks":
        return ", ".join(receipt.verdict.checks)
    return _form(receipt.verdict) if name == "form" else getattr(receipt, name)


def _form(verdict: Verdict) -> str:
    return f"{verdict.output}, level {verdict.abuse}"


def _shown(value: Any) -> Any:
    """Return a value as a finding has it: the digests of a pipeline's further models as one text."""
    if isinstance(value, tuple):
        return ", ".join(digest.hex() for digest in value) or "no further model"
    return value


def _finding(code: ReceiptFinding, *, passed: bool, expected: object, found: object) -> Finding:
    remedy = _REMEDIES[code]
    return check(code, passed=passed, expected=expected, found=found, remedy=remedy, phase=Phase.SESSION)
