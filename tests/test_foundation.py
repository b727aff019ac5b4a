"""Canonical encoding, fields, signatures, Merkle binding, and the documents built on them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import binding
from attestation.types import (
    Claims,
    ClientAuthentication,
    Credential,
    Delegation,
    EvidenceRecord,
    Grant,
    Heartbeat,
    OwnerState,
    PlatformClass,
    Revocation,
    Right,
    document_digest,
)
from manifests import canonical, fields, signing
from manifests.errors import Fault, ManifestCode, ManifestError

OWNER = signing.Signer.from_seed(bytes(range(32)))
BROKER = signing.Signer.from_seed(bytes(range(1, 33)))

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def code_of(call: object, *args: object, **kwargs: object) -> ManifestCode:
    with pytest.raises(ManifestError) as caught:
        call(*args, **kwargs)  # type: ignore[operator]
    code = caught.value.code
    assert isinstance(code, ManifestCode)
    return code


@given(values)
def test_canonical_encoding_round_trips(value: object) -> None:
    data = canonical.encode(value)
    assert canonical.encode(canonical.decode(data, max_size=1 << 20)) == data


@given(st.binary(max_size=200))
def test_decoding_is_total(data: bytes) -> None:
    try:
        value = canonical.decode(data, max_size=100)
    except ManifestError:
        return
    assert canonical.encode(value) == data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\xa1a\x01\xa1a\x02", ManifestCode.ENCODING_MALFORMED),  # a key twice
        (b"\x82\xa1b\x01\xa1a\x02", ManifestCode.ENCODING_MALFORMED),  # keys out of order
        (b"\xcd\x00\x01", ManifestCode.ENCODING_MALFORMED),  # a long form of 1
        (b"\xd9\x01a", ManifestCode.ENCODING_MALFORMED),  # a long form of "a"
        (b"\x01\x01", ManifestCode.ENCODING_MALFORMED),  # trailing bytes
        (b"\xdd\xff\xff\xff\xff", ManifestCode.ENCODING_MALFORMED),  # 4 G items announced
        (b"\xc7\x01\x05a", ManifestCode.ENCODING_MALFORMED),  # an extension
        (b"\xd6\xff\x00\x00\x00\x00", ManifestCode.ENCODING_MALFORMED),  # a timestamp
        (b"\x81\x01\x01", ManifestCode.ENCODING_MALFORMED),  # an integer key
        (b"\xa1\xff", ManifestCode.ENCODING_MALFORMED),  # not UTF-8
        (b"", ManifestCode.ENCODING_MALFORMED),
        (b"\x91" * 20 + b"\xc0", ManifestCode.ENCODING_TOO_DEEP),
        (b"\x91" * 5000 + b"\xc0", ManifestCode.ENCODING_TOO_DEEP),
        (b"\xc4\xff" + bytes(255), ManifestCode.ENCODING_TOO_LARGE),
    ],
)
def test_non_canonical_bytes_are_refused(data: bytes, code: ManifestCode) -> None:
    limit = 100 if code is ManifestCode.ENCODING_TOO_LARGE else 10_000
    assert code_of(canonical.decode, data, max_size=limit) is code


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, object(), 2**64, "\ud800", [[[[1]]]] * 0 or (b"x", {b"k": 1})])
def test_values_outside_the_subset_cannot_be_encoded(value: object) -> None:
    assert code_of(canonical.encode, value) is ManifestCode.ENCODING_MALFORMED


def test_ours_is_the_shortest_msgpack() -> None:
    assert canonical.encode({"b": 1, "a": [b"x", None]}) == msgpack.packb({"a": [b"x", None], "b": 1})


@pytest.mark.parametrize(
    ("check", "args"),
    [
        (fields.closed_map, (3, "m", ["a"])),
        (fields.closed_map, ({"b": 1}, "m", ["a"])),
        (fields.closed_map, ({"a": 1, "b": 1}, "m", ["a"])),
        (fields.of_type, (True, "n", int)),
        (fields.fixed_bytes, (b"ab", "k", 3)),
        (fields.fixed_bytes, ("abc", "k", 3)),
        (fields.bounded_bytes, (b"abcd", "k", 3)),
        (fields.text, ("", "t", 3)),
        (fields.text, ("abcd", "t", 3)),
        (fields.text, ("a\n", "t", 3)),
        (fields.number, (-1, "n", 0)),
        (fields.number, (2**63, "n", 0)),
        (fields.list_of, ([1, 2], "l", 1)),
    ],
)
def test_field_checks_refuse(check: object, args: tuple[object, ...]) -> None:
    assert code_of(check, *args) is ManifestCode.FIELD_INVALID


# ---------------------------------------------------------------------------------------- signatures


def test_signatures_are_bound_to_their_label() -> None:
    signature = OWNER.sign(signing.label("a"), b"body")
    signing.verify(OWNER.public, signing.label("a"), b"body", signature)
    wrong = (ManifestCode.SIGNATURE_INVALID,)
    assert code_of(signing.verify, OWNER.public, signing.label("b"), b"body", signature) in wrong
    assert code_of(signing.verify, OWNER.public, signing.label("a"), b"bodY", signature) in wrong
    assert code_of(signing.verify, BROKER.public, signing.label("a"), b"body", signature) in wrong
    assert code_of(signing.verify, OWNER.public, signing.label("a"), b"body", signature[:-1]) in wrong


@pytest.mark.parametrize("point", [b"\x01" + bytes(31), bytes(32), b"\xff" * 32, bytes(31)])
def test_weak_public_keys_are_refused(point: bytes) -> None:
    """The identity verifies S = 0, R = identity over any message in a library that accepts it."""
    forged = point[:1].ljust(32, b"\0") + bytes(32)
    assert code_of(signing.verify, point, b"x", b"y", forged) is ManifestCode.KEY_INVALID


def test_a_private_key_does_not_show_itself() -> None:
    key = signing.Signer.generate()
    assert key.seed().hex() not in repr(key)
    assert repr(key.seed()) not in repr(key)


def test_a_seed_of_the_wrong_length_is_refused() -> None:
    assert code_of(signing.Signer.from_seed, b"short") is ManifestCode.KEY_INVALID


def documents() -> dict[str, tuple[bytes, type, bytes]]:
    delegation = Delegation(OWNER.public, BROKER.public, (Right.PROVISION, Right.REVOKE), ("a", "b"), 3)
    named = document_digest(delegation.sign(OWNER))
    grant = Grant(
        owner=OWNER.public,
        delegation=named,
        model=bytes(64),
        name="a",
        epoch=4,
        handshake_hash=bytes(64),
        serial=bytes(16),
        lease=10,
        platform=PlatformClass.SIMULATED,
        audit_head=bytes(64),
        time=1_700_000_000,
    )
    leases = ((bytes(64), 5), (b"\x01" * 64, 0))
    heartbeat = Heartbeat(OWNER.public, named, bytes(32), bytes(16), 1_700_000_000, 4, leases)
    revocation = Revocation(OWNER.public, named, "a", 5, (bytes(64),), 1_700_000_000)
    credential = Credential(BROKER.public, OWNER.public, "ward 7")
    return {
        "delegation": (delegation.sign(OWNER), Delegation, OWNER.public),
        "grant": (grant.sign(BROKER), Grant, BROKER.public),
        "heartbeat": (heartbeat.sign(BROKER), Heartbeat, BROKER.public),
        "revocation": (revocation.sign(BROKER), Revocation, BROKER.public),
        "credential": (credential.sign(BROKER), Credential, BROKER.public),
    }


@pytest.mark.parametrize("name", documents())
def test_a_signed_document_opens_to_itself(name: str) -> None:
    document, kind, key = documents()[name]
    opened = kind.open(document, key)  # type: ignore[attr-defined]
    assert opened.sign(OWNER if key == OWNER.public else BROKER) == document


@pytest.mark.parametrize("name", documents())
def test_every_flipped_bit_of_a_signed_document_is_refused(name: str) -> None:
    document, kind, key = documents()[name]
    for bit in range(len(document) * 8):
        changed = bytearray(document)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ManifestError):
            kind.open(bytes(changed), key)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", documents())
def test_a_document_of_one_kind_is_never_taken_for_another(name: str) -> None:
    document, kind, key = documents()[name]
    for other, (_, other_kind, _) in documents().items():
        if other_kind is not kind:
            assert code_of(other_kind.open, document, key) is ManifestCode.SIGNATURE_INVALID, other


@pytest.mark.parametrize("name", documents())
def test_fields_of_a_signed_document_are_closed(name: str) -> None:
    """Well signed, but with a field too many, too few, or of another type."""
    document, kind, key = documents()[name]
    signer = OWNER if key == OWNER.public else BROKER
    body, _ = signing.split_document(document)
    value = canonical.decode(body, max_size=65536)
    context = signing.label(name)
    for changed in ({**value, "extra": 1}, {k: v for k, v in value.items() if k != "version"}, [value]):
        assert code_of(kind.open, signer.sign_document(context, changed), key) is ManifestCode.FIELD_INVALID
    for field in value:
        broken = signer.sign_document(context, {**value, field: {"not": "this"}})
        assert code_of(kind.open, broken, key) is ManifestCode.FIELD_INVALID, field


@pytest.mark.parametrize("name", documents())
def test_a_signed_document_of_a_later_version_asks_for_a_newer_release(name: str) -> None:
    _, kind, key = documents()[name]
    signer = OWNER if key == OWNER.public else BROKER
    later = signer.sign_document(signing.label(name), {"version": 2, "unheard": "of"})
    assert code_of(kind.open, later, key) is ManifestCode.VERSION_UNSUPPORTED
    forged = bytes([*later[:-1], later[-1] ^ 1])
    assert code_of(kind.open, forged, key) is ManifestCode.SIGNATURE_INVALID


@pytest.mark.parametrize("decode", [Claims.decode, EvidenceRecord.decode, ClientAuthentication.decode])
def test_a_record_of_a_later_version_asks_for_a_newer_release(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(ManifestError) as refusal:
        decode(canonical.encode({"version": 2, "unheard": "of"}))
    assert refusal.value.code is ManifestCode.VERSION_UNSUPPORTED
    assert refusal.value.code.fault is Fault.UNSUPPORTED
    assert "newer release" in str(refusal.value.remedy)


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "2", None, [2]])
def test_a_version_that_none_can_be_is_malformed(version: object) -> None:
    assert code_of(fields.versioned_map, {"version": version}, "it", ()) is ManifestCode.FIELD_INVALID


def test_a_version_of_a_thousand_digits_is_not_written_out() -> None:
    with pytest.raises(ManifestError) as refusal:
        fields.versioned_map({"version": 10**5000}, "it", ())
    assert len(str(refusal.value.to_dict())) < 500


def test_vacuous_or_contradicting_documents_are_refused() -> None:
    base = Delegation(OWNER.public, BROKER.public, (Right.PROVISION,), ("a",), 0)
    for broken in (
        dataclasses.replace(base, models=()),
        dataclasses.replace(base, rights=()),
        dataclasses.replace(base, owner=BROKER.public),
        dataclasses.replace(base, models=("a", "a")),
    ):
        assert code_of(Delegation.open, broken.sign(OWNER), OWNER.public) is ManifestCode.FIELD_INVALID
    nothing = Revocation(OWNER.public, bytes(64), "a", 0, (), 1)
    assert code_of(Revocation.open, nothing.sign(BROKER), BROKER.public) is ManifestCode.FIELD_INVALID
    other = Credential(OWNER.public, OWNER.public, "x")
    assert code_of(Credential.open, other.sign(BROKER), BROKER.public) is ManifestCode.FIELD_INVALID


def test_a_delegation_covers_names_from_its_epoch_floor() -> None:
    some = Delegation(OWNER.public, BROKER.public, (Right.PROVISION,), ("a",), 3)
    assert some.covers("a", 3)
    assert not some.covers("a", 2)
    assert not some.covers("b", 3)
    assert not some.names("*")
    every = dataclasses.replace(some, models=("*",))
    assert every.covers("b", 3)
    assert every.names("*")
    assert not every.covers("b", 2)


def test_a_delegation_of_every_model_names_no_other() -> None:
    """Else readers could disagree on whether it reaches a third one."""
    for models in (("*", "a"), ("!", "*")):
        mixed = Delegation(OWNER.public, BROKER.public, (Right.PROVISION,), models, 0)
        assert code_of(Delegation.open, mixed.sign(OWNER), OWNER.public) is ManifestCode.FIELD_INVALID
        assert not mixed.is_owner_wide
        assert not mixed.covers("third", 0)


@pytest.mark.parametrize(
    ("name", "epoch", "models", "ended"),
    [
        ("a", 5, (), True),
        ("*", 5, (), True),
        ("b", 5, (), False),
        ("a", 4, (), False),
        ("a", 0, (b"d" * 64,), True),
        ("*", 0, (b"d" * 64,), True),
        ("b", 0, (b"d" * 64,), False),
        ("a", 0, (b"e" * 64,), False),
    ],
)
def test_a_revocation_ends_what_it_names(name: str, epoch: int, models: tuple[bytes, ...], ended: bool) -> None:
    revocation = Revocation(OWNER.public, bytes(64), name, epoch, models, 1)
    assert revocation.ends("a", 4, b"d" * 64) is ended


# ------------------------------------------------------------------------------------ claims, evidence


def claims(**changes: object) -> Claims:
    base = Claims(
        receipt_key=BROKER.public,
        hpke_key=bytes(1216),
        boot_id=bytes(16),
        admitted=(OWNER.public,),
        owners=(OwnerState(OWNER.public, 3, b"heartbeat", b"delegation"),),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("admitted", ["first", "any", (OWNER.public,)])
def test_claims_round_trip(admitted: object) -> None:
    made = claims(admitted=admitted)
    assert Claims.decode(made.encode()) == made


@pytest.mark.parametrize(
    "changes",
    [
        {"admitted": ()},
        {"admitted": "all"},
        {"admitted": (OWNER.public, OWNER.public)},
        {"boot_id": bytes(15)},
        {"receipt_key": bytes(32)},
        {"gpu_evidence": bytes(3)},
        {"owners": (OwnerState(OWNER.public, -1, b"", b""),)},
    ],
)
def test_broken_claims_are_refused(changes: dict[str, object]) -> None:
    assert code_of(Claims.decode, claims(**changes).encode()) in {ManifestCode.FIELD_INVALID, ManifestCode.KEY_INVALID}


def test_an_evidence_record_round_trips_and_names_its_digest() -> None:
    proof = binding.InclusionProof(0, 1, ())
    record = EvidenceRecord(claims().encode(), b"quote", proof, "sgx")
    assert EvidenceRecord.decode(record.encode()) == record
    assert record.digest() != dataclasses.replace(record, quote=b"quotE").digest()
    assert record.digest() != dataclasses.replace(record, claims=b"").digest()


@given(st.binary(max_size=300))
def test_document_decoders_are_total(data: bytes) -> None:
    for decode in (Claims.decode, EvidenceRecord.decode, ClientAuthentication.decode):
        with pytest.raises(ManifestError):
            decode(data)


def test_client_authentication_is_bound_to_the_session() -> None:
    made = ClientAuthentication.sign(OWNER, b"", b"h" * 64, b"claims")
    assert ClientAuthentication.decode(made.encode()) == made
    made.verify(b"h" * 64, b"claims")
    assert code_of(made.verify, b"i" * 64, b"claims") is ManifestCode.SIGNATURE_INVALID
    assert code_of(made.verify, b"h" * 64, b"claimS") is ManifestCode.SIGNATURE_INVALID
    stolen = dataclasses.replace(made, client=BROKER.public)
    assert code_of(stolen.verify, b"h" * 64, b"claims") is ManifestCode.SIGNATURE_INVALID


# -------------------------------------------------------------------------------------------- binding


def test_report_data_of_one_handshake_follows_the_design() -> None:
    leaf = binding.session_leaf(b"h" * 64, b"claims")
    inner = b"\x00strongroom leaf session v1\0" + b"h" * 64 + hashlib.sha512(b"claims").digest()
    assert leaf == hashlib.sha512(inner).digest()
    data, (proof,) = binding.batch([leaf])
    assert data == hashlib.sha512(b"strongroom report v1\0" + (1).to_bytes(8, "big") + leaf).digest()
    assert binding.expected_report_data(leaf, proof) == data


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100])
def test_every_leaf_of_a_batch_is_included(size: int) -> None:
    leaves = [hashlib.sha512(bytes([n])).digest() for n in range(size)]
    data, proofs = binding.batch(leaves)
    for leaf, proof in zip(leaves, proofs, strict=True):
        assert binding.expected_report_data(leaf, proof) == data


def _report_data_or_none(leaf: bytes, proof: binding.InclusionProof) -> bytes | None:
    try:
        return binding.expected_report_data(leaf, proof)
    except ManifestError:
        return None


@pytest.mark.parametrize("size", [2, 3, 6, 8])
def test_an_altered_proof_leads_elsewhere(size: int) -> None:
    leaves = [hashlib.sha512(bytes([n])).digest() for n in range(size)]
    data, proofs = binding.batch(leaves)
    for index, proof in enumerate(proofs):
        altered = [
            dataclasses.replace(proof, index=(index + 1) % size),
            dataclasses.replace(proof, size=size + 1),
            dataclasses.replace(proof, path=proof.path[:-1]),
            dataclasses.replace(proof, path=(*proof.path, bytes(64))),
            dataclasses.replace(proof, path=(bytes(64), *proof.path[1:])),
            dataclasses.replace(proof, path=(b"short", *proof.path[1:])),
        ]
        assert all(_report_data_or_none(leaves[index], other) != data for other in altered)
        assert _report_data_or_none(os.urandom(64), proof) != data


@pytest.mark.parametrize("proof", [(1, 1, ()), (-1, 1, ()), (0, 1 << 17, ()), (0, 2, (bytes(64),) * 17)])
def test_impossible_proofs_are_refused(proof: tuple[int, int, tuple[bytes, ...]]) -> None:
    assert _report_data_or_none(bytes(64), binding.InclusionProof(*proof)) is None


def test_misuse_of_the_tree_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        binding.session_leaf(b"short", b"")
    with pytest.raises(ValueError, match="leaves"):
        binding.batch([])
