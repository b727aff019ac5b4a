"""The decision: each expectation refuses by itself, and together they are all named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.broker.decide import (
    Evidence,
    OwnerClaim,
    Refusal,
    Release,
    Request,
    Rules,
    Standing,
    decide,
    unmet,
)
from attestation.broker.errors import BrokerCode
from attestation.broker.schema import LeaseRow, ModelRow
from attestation.errors import FindingCode
from attestation.types import Delegation, PlatformClass, Right
from tests.broker.support import NOW

OWNER, OTHER, BROKER = b"\1" * 32, b"\2" * 32, b"\3" * 32
MODEL = ModelRow(b"\4" * 64, OWNER, "tumour", 5, bytes(64), bytes(60), b"", NOW)
LEASE = LeaseRow(b"\5" * 16, MODEL.digest, bytes(16), b"\6" * 64, 100, NOW, NOW)

GOOD = {
    "evidence": Evidence(
        accepted=True,
        failures=(),
        platform=PlatformClass.HARDWARE,
        measurement=bytes(32),
        expires=NOW + 1000,
        boot_id=b"\5" * 16,
        admitted=(OWNER,),
        owners=(),
        digest=bytes(64),
        policy=3,
    ),
    "rules": Rules(PlatformClass.HARDWARE, 1000, 30, ("tumour",), 5, 2, 1),
    "standing": Standing(owner_epoch=5, policy=3),
    "request": Request(
        MODEL,
        Right.PROVISION,
        Delegation(OWNER, BROKER, (Right.HEARTBEAT, Right.PROVISION), ("tumour",), 5),
        BROKER,
        b"\7" * 64,
        NOW,
    ),
}
RENEWAL = {"right": Right.HEARTBEAT, "handshake_hash": b"\6" * 64}


def case(**changes: dict[str, Any]) -> Release | Refusal:
    """Decide on the good case with fields of its four arguments changed; `delegation` is part of the request."""
    made: dict[str, Any] = dict(GOOD)
    delegation = changes.pop("delegation", {})
    for name, fields in changes.items():
        made[name] = replace(made[name], **fields)
    made["request"] = replace(made["request"], delegation=replace(made["request"].delegation, **delegation))
    return decide(**made)


ALLOWED: dict[str, dict[str, dict[str, Any]]] = {
    "everything as expected": {},
    "the owner is the first": {"evidence": {"admitted": "first"}},
    "the owner is the one that was first": {"evidence": {"admitted": "first", "owners": (OwnerClaim(OWNER, 5),)}},
    "any owner, and another came first": {"evidence": {"admitted": "any", "owners": (OwnerClaim(OTHER, 9),)}},
    "every model": {"rules": {"models": ("*",)}},
    "the model by its digest": {"rules": {"models": (MODEL.digest.hex(),)}},
    "a delegation for every model": {"delegation": {"models": ("*",)}},
    "one other enclave of two": {"standing": {"holders": 1}},
    "a new session with an enclave that has a lease": {"standing": {"lease": LEASE}},
    "a renewal in the session of the release": {"standing": {"lease": LEASE}, "request": RENEWAL},
    "a renewal in a later session": {"standing": {"lease": LEASE}, "request": {"right": Right.HEARTBEAT}},
    "a release after the enclave could not take it": {
        "standing": {"lease": replace(LEASE, requests=0)},
        "request": {"handshake_hash": b"\6" * 64},
    },
    "as many newer epochs as the policy admits": {"standing": {"newer": (6,)}},
    "a renewal of a model that was superseded": {
        "standing": {"lease": LEASE, "newer": (6, 7, 8)},
        "request": RENEWAL,
    },
    "the last second of the evidence": {"request": {"now": NOW + 999}},
    "simulated where the policy is for simulation": {
        "evidence": {"platform": PlatformClass.SIMULATED},
        "rules": {"platform": PlatformClass.SIMULATED},
    },
}


@pytest.mark.parametrize("changes", ALLOWED.values(), ids=ALLOWED.keys())
def test_it_releases(changes: dict[str, dict[str, Any]]) -> None:
    assert case(**changes) == Release(1000)


FINDING = unmet(FindingCode.DEBUG, "no debug mode", "debug mode")
REFUSED: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "a failed finding keeps its code": ("sgx-debug", {"evidence": {"accepted": False, "failures": (FINDING,)}}),
    "a finding refuses even if the verdict says accepted": ("sgx-debug", {"evidence": {"failures": (FINDING,)}}),
    "a verdict without findings": (BrokerCode.RELEASE_REFUSED, {"evidence": {"accepted": False}}),
    "another policy appraised the evidence": (BrokerCode.POLICY_CHANGED, {"evidence": {"policy": 2}}),
    "the evidence has expired": (BrokerCode.EVIDENCE_EXPIRED, {"request": {"now": NOW + 1000}}),
    "simulated under a policy for hardware": (
        BrokerCode.PLATFORM_MIXED,
        {"evidence": {"platform": PlatformClass.SIMULATED}},
    ),
    "hardware under a policy for simulation": (
        BrokerCode.PLATFORM_MIXED,
        {"rules": {"platform": PlatformClass.SIMULATED}},
    ),
    "the manifest names other owners": (BrokerCode.OWNER_NOT_ADMITTED, {"evidence": {"admitted": (OTHER,)}}),
    "another owner was first": (
        BrokerCode.OWNER_NOT_ADMITTED,
        {"evidence": {"admitted": "first", "owners": (OwnerClaim(OTHER, 0),)}},
    ),
    "the enclave has heard of a newer epoch from us": (
        BrokerCode.EPOCH_BEHIND_ENCLAVE,
        {"evidence": {"owners": (OwnerClaim(OWNER, 6),)}},
    ),
    "the policy does not name the model": (BrokerCode.MODEL_NOT_IN_POLICY, {"rules": {"models": ("lung",)}}),
    "the policy names no model": (BrokerCode.MODEL_NOT_IN_POLICY, {"rules": {"models": ()}}),
    "the model is older than the policy's floor": (BrokerCode.EPOCH_BELOW_POLICY, {"rules": {"min_epoch": 6}}),
    "two newer epochs are held": (BrokerCode.EPOCH_SUPERSEDED, {"standing": {"newer": (6, 7)}}),
    "another owner delegated": (BrokerCode.DELEGATION_OWNER, {"delegation": {"owner": OTHER}}),
    "another broker was delegated": (BrokerCode.DELEGATION_BROKER, {"delegation": {"broker": OTHER}}),
    "the right to provision is missing": (
        BrokerCode.DELEGATION_RIGHT,
        {"delegation": {"rights": (Right.HEARTBEAT,)}},
    ),
    "the right to renew is missing": (
        BrokerCode.DELEGATION_RIGHT,
        {"delegation": {"rights": (Right.PROVISION,)}, "standing": {"lease": LEASE}, "request": RENEWAL},
    ),
    "the delegation is for other models": (BrokerCode.DELEGATION_MODEL, {"delegation": {"models": ("lung",)}}),
    "the model is older than the delegation's floor": (
        BrokerCode.EPOCH_BELOW_DELEGATION,
        {"delegation": {"epoch_floor": 6}},
    ),
    "the model was revoked": (BrokerCode.MODEL_REVOKED, {"standing": {"revoked": True}}),
    "its epoch was revoked": (BrokerCode.EPOCH_REVOKED, {"standing": {"epoch_floor": 6}}),
    "two other enclaves hold it": (BrokerCode.ENCLAVES_EXHAUSTED, {"standing": {"holders": 2}}),
    "a limit of none": (BrokerCode.ENCLAVES_EXHAUSTED, {"rules": {"max_enclaves": 0}}),
    "it was released in this session": (
        BrokerCode.SESSION_USED,
        {"standing": {"lease": LEASE}, "request": {"handshake_hash": b"\6" * 64}},
    ),
    "a renewal without a lease": (BrokerCode.LEASE_UNKNOWN, {"request": RENEWAL}),
}


@pytest.mark.parametrize(("code", "changes"), REFUSED.values(), ids=REFUSED.keys())
def test_it_refuses_for_that_alone(code: str, changes: dict[str, dict[str, Any]]) -> None:
    decision = case(**changes)
    assert isinstance(decision, Refusal)
    assert decision.codes == (str(code),)
    assert decision.unmet[0].expected != decision.unmet[0].found


def test_every_expectation_that_fails_is_named_at_once() -> None:
    decision = case(
        evidence={"accepted": False, "failures": (FINDING,), "admitted": (OTHER,), "owners": (OwnerClaim(OWNER, 9),)},
        rules={"platform": PlatformClass.SIMULATED, "models": ("lung",), "min_epoch": 9, "max_enclaves": 1},
        standing={"revoked": True, "epoch_floor": 9, "holders": 1, "lease": LEASE, "policy": 4, "newer": (6, 8)},
        request={"now": NOW + 5000, "handshake_hash": LEASE.handshake_hash},
        delegation={"owner": OTHER, "broker": OTHER, "rights": (Right.REVOKE,), "models": ("lung",), "epoch_floor": 9},
    )
    assert isinstance(decision, Refusal)
    assert decision.codes == (
        "sgx-debug",
        "evidence-expired",
        "policy-changed",
        "platform-mixed",
        "owner-not-admitted",
        "epoch-behind-enclave",
        "model-not-in-policy",
        "epoch-below-policy",
        "epoch-superseded",
        "delegation-owner",
        "delegation-broker",
        "delegation-right",
        "delegation-model",
        "epoch-below-delegation",
        "release-revoked",
        "epoch-revoked",
        "enclaves-exhausted",
        "session-used",
    )


def test_every_code_of_a_decision_is_in_the_table() -> None:
    """A code that no case reaches is a check that nobody has seen refuse."""
    first, last = BrokerCode.RELEASE_REFUSED, BrokerCode.LEASE_UNKNOWN
    codes = list(BrokerCode)
    expected = set(codes[codes.index(first) : codes.index(last) + 1])
    assert expected <= {code for code, _ in REFUSED.values()}


INDEPENDENT = sorted(
    name
    for name, (code, changes) in REFUSED.items()
    if changes.get("request", {}).get("right") is None and code != BrokerCode.RELEASE_REFUSED
)


@given(st.lists(st.sampled_from(INDEPENDENT), min_size=1, max_size=6, unique=True))
@settings(deadline=None, max_examples=200)
def test_failures_never_hide_each_other(names: list[str]) -> None:
    merged: dict[str, dict[str, Any]] = {}
    codes: set[str] = set()
    for name in names:
        code, changes = REFUSED[name]
        touched = {(part, field) for part, fields in changes.items() for field in fields}
        if code in codes or any(field in merged.get(part, {}) for part, field in touched):
            continue  # two cases that set one field would undo each other
        codes.add(str(code))
        for part, fields in changes.items():
            merged.setdefault(part, {}).update(fields)
    decision = case(**merged)
    assert isinstance(decision, Refusal)
    assert codes <= set(decision.codes)


def test_long_texts_are_cut() -> None:
    entry = unmet("code", "e" * 1000, "f" * 1000)
    assert (len(entry.expected), len(entry.found)) == (256, 256)
    assert entry.to_dict() == {"code": "code", "expected": "e" * 256, "found": "f" * 256}
