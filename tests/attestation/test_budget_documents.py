"""What grants, challenges and allotments say of budgets: one encoding, closed, bounded, and nothing where unset."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from attestation.types import Allotment, BudgetState, BudgetTerms, Grant
from attestation.types.budgets import (
    ALLOTMENT,
    ANONYMOUS,
    MAX_ASKS,
    MAX_COUNT,
    Ask,
    ModelSlices,
    Slice,
    decode_states,
    identity_of,
)
from manifests.errors import ManifestCode, ManifestError
from manifests.signing import open_document
from tests.vectors.documents.generate import BROKER, GRANT, OWNER

TERMS = BudgetTerms(until=1_800_057_600, pool=256, slice=100, client=10_000, anonymous=0, rate=600, burst=50)
SLICES = ModelSlices(
    "tumour", 1_800_057_600, 256, (Slice(ANONYMOUS, 5, 2, last=True), Slice(bytes(32), 0, 0, last=False))
)
MADE = Allotment(OWNER.public, b"\1" * 64, b"\2" * 32, b"\3" * 16, 1_800_000_000, (SLICES,))


def refused(value: Any, read: Any) -> None:
    with pytest.raises(ManifestError) as error:
        read(value)
    assert error.value.code is ManifestCode.FIELD_INVALID


def test_identities_are_named_by_digests_of_keys() -> None:
    assert identity_of(b"") == ANONYMOUS
    assert len({identity_of(bytes([number]) * 32) for number in range(9)} | {ANONYMOUS}) == 10
    assert identity_of(b"\1" * 32).hex() == "d3debbe3ae75c26ef0a0e3f2a95d59619357d87262a0bc2af210e1dc39635c2c"


@pytest.mark.parametrize("terms", [TERMS, replace(TERMS, client=None), replace(TERMS, client=None, anonymous=None)])
def test_a_grant_carries_terms(terms: BudgetTerms) -> None:
    grant = replace(GRANT, budget=terms)
    assert Grant.open(grant.sign(BROKER), BROKER.public) == grant


def test_documents_of_this_version_are_written_as_they_were() -> None:
    grant = replace(GRANT, budget=TERMS).sign(BROKER)
    made = [hashlib.sha256(document).hexdigest() for document in (grant, MADE.sign(BROKER))]
    assert made == [
        "d3ec42e7a6cef9306977164aed435544555fc4f595462ce4b36945e09b0fd939",
        "42841c3620e652fbae89fd5e252c1a53f3396b7608e3b3949549eeff65d1c36a",
    ]


def test_a_grant_without_terms_has_no_such_field() -> None:
    body = open_document(BROKER.public, b"strongroom grant v1\0", GRANT.sign(BROKER))
    assert "budget" not in body


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("an unknown field", {"unheard": 1}),
        ("a negative count", {"pool": -1}),
        ("a count beyond all periods", {"client": MAX_COUNT + 1}),
        ("text for a count", {"slice": "many"}),
        ("truth for a count", {"rate": True}),
    ],
)
def test_terms_are_closed_and_bounded(name: str, change: dict[str, Any]) -> None:
    del name
    refused({**TERMS.to_map(), **change}, BudgetTerms.from_map)


def test_terms_name_every_field_but_budgets_that_are_none() -> None:
    for missing in ("until", "pool", "slice", "rate", "burst"):
        refused({name: value for name, value in TERMS.to_map().items() if name != missing}, BudgetTerms.from_map)
    assert replace(TERMS, client=None).to_map().keys() == TERMS.to_map().keys() - {"client"}


def test_an_allotment_opens_as_it_was_signed() -> None:
    assert Allotment.open(MADE.sign(BROKER), BROKER.public) == MADE
    with pytest.raises(ManifestError) as error:
        Allotment.open(MADE.sign(OWNER), BROKER.public)
    assert error.value.code is ManifestCode.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("models out of order", {"models": [replace(SLICES, name="b").encode(), replace(SLICES, name="a").encode()]}),
        ("a model twice", {"models": [SLICES.encode()] * 2}),
        ("an identity twice", {"models": [replace(SLICES, slices=SLICES.slices[:1] * 2).encode()]}),
        ("a slice that lacks an item", {"models": [["m", 1, 1, [[ANONYMOUS, 1, 1]]]]}),
        ("an identity of another size", {"models": [["m", 1, 1, [[b"short", 1, 1, True]]]]}),
        ("a number for truth", {"models": [["m", 1, 1, [[ANONYMOUS, 1, 1, 1]]]]}),
        ("too many slices", {"models": [["m", 1, 1, [[bytes([n]) * 32, 1, 1, True] for n in range(MAX_ASKS + 1)]]]}),
        ("a short nonce", {"nonce": b"n"}),
    ],
)
def test_an_allotment_without_sense_is_refused(name: str, changes: dict[str, Any]) -> None:
    del name
    body = {**vars(MADE), "version": 1, "models": [SLICES.encode()], **changes}
    document = BROKER.sign_document(ALLOTMENT, body)
    refused(document, lambda data: Allotment.open(data, BROKER.public))


def state(name: str, count: int) -> list[Any]:
    return BudgetState(name, 1, 0, tuple(Ask(bytes([n]) * 32, 1, 0) for n in range(count))).encode()


def test_how_budgets_stand_is_read_as_it_was_written() -> None:
    states = (BudgetState("a", 5, 2, (Ask(ANONYMOUS, 4, 1),)), BudgetState("b", 0, 0, ()))
    assert decode_states([item.encode() for item in states]) == states


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no list", {}),
        ("a name twice", [state("a", 1)] * 2),
        ("names out of order", [state("b", 1), state("a", 1)]),
        ("more asks than a heartbeat answers", [state("a", 40), state("b", 40)]),
        ("an identity twice", [["a", 1, 0, [[ANONYMOUS, 1, 0]] * 2]]),
        ("a negative want", [["a", 1, 0, [[ANONYMOUS, -1, 0]]]]),
        ("an empty name", [["", 1, 0, []]]),
        ("an item too many", [["a", 1, 0, [], 0]]),
    ],
)
def test_what_an_enclave_says_is_bounded(name: str, value: Any) -> None:
    del name
    refused(value, decode_states)
