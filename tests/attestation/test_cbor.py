"""CBOR has one encoding here: what RFC 8949 lets vary is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceCode, EvidenceError
from attestation.types import cbor, cose
from tests.attestation.kit import outcome, refused

LIMIT = 4096

keys = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | keys | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(cbor.Tag, st.integers(0, 2**64 - 1), inner)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        # RFC 8949, Appendix A, as far as the subset goes.
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1a000f4240", 1000000),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("3bffffffffffffffff", -(2**64)),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("4401020304", b"\1\2\3\4"),
        ("62c3bc", None),
        ("83010203", [1, 2, 3]),
        ("a201020304", {1: 2, 3: 4}),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", cbor.Tag(32, "http://www.example.com")),
    ],
)
def test_the_examples_of_the_standard_decode_and_encode(encoded: str, value: Any) -> None:
    value = "ü" if encoded == "62c3bc" else value
    assert cbor.decode(bytes.fromhex(encoded), max_size=LIMIT) == value
    assert cbor.encode(value).hex() == encoded


@pytest.mark.parametrize(
    "encoded",
    [
        "1817",  # 23 in two bytes
        "1900ff",  # 255 in three
        "1a0000ffff",
        "1b00000000ffffffff",
        "5801",  # ends within a string
        "581700",  # a long head for a short string
        "62ff00",  # text that is not UTF-8
        "5f42010243030405ff",  # an indefinite byte string
        "7f61616162ff",  # and text
        "9f0102ff",  # an indefinite array, where it was not asked for
        "bf616101ff",
        "a2010001ff",
        "a201000102",  # a key twice
        "a1f400",  # a key that is neither number nor text
        "a1800000",
        "f97e00",  # floating point
        "fa47c35000",
        "f7",  # undefined
        "f0",
        "f818",
        "ff",  # a break alone
        "1c",  # a reserved head
        "0000",  # trailing bytes
        "",
        "9b7fffffffffffffff",  # lengths beyond the data
        "bb7fffffffffffffff",
        "81" * 17 + "00",  # nested too deeply
        "c0" * 20 + "00",
    ],
)
def test_anything_but_the_one_form_is_refused(encoded: str) -> None:
    with refused(EvidenceCode.CBOR_MALFORMED):
        cbor.decode(bytes.fromhex(encoded), max_size=LIMIT)


def test_size_and_number_of_items_are_bounded() -> None:
    with refused(EvidenceCode.CBOR_MALFORMED):
        cbor.decode(bytes(11), max_size=10)
    many = cbor.encode([0] * cbor.MAX_ITEMS)
    with refused(EvidenceCode.CBOR_MALFORMED):
        cbor.decode(many, max_size=2 * LIMIT)
    assert len(cbor.decode(cbor.encode([0] * (cbor.MAX_ITEMS - 1)), max_size=2 * LIMIT)) == cbor.MAX_ITEMS - 1


def test_indefinite_lengths_are_read_where_they_are_asked_for() -> None:
    data = bytes.fromhex("bf6161019f0203ffff")
    with refused(EvidenceCode.CBOR_MALFORMED):
        cbor.decode(data, max_size=LIMIT, indefinite=True)  # an array is no key
    assert cbor.decode(bytes.fromhex("bf61619f0203ffff"), max_size=LIMIT, indefinite=True) == {"a": [2, 3]}
    for cut in ("bf6161", "bf616101", "9f", "9f01", "5f4101ff"):
        with refused(EvidenceCode.CBOR_MALFORMED):
            cbor.decode(bytes.fromhex(cut), max_size=LIMIT, indefinite=True)


def test_keys_keep_their_order() -> None:
    assert list(cbor.decode(bytes.fromhex("a26162016161 02"), max_size=LIMIT)) == ["b", "a"]


@given(values)
def test_every_value_comes_back_with_the_same_bytes(value: Any) -> None:
    encoded = cbor.encode(value)
    assert cbor.decode(encoded, max_size=1 << 20) == value
    assert cbor.encode(cbor.decode(encoded, max_size=1 << 20)) == encoded


@given(st.binary(max_size=200))
def test_decoding_is_total_and_what_decodes_encodes_to_itself(data: bytes) -> None:
    value = outcome(lambda: cbor.decode(data, max_size=LIMIT))
    assert value is EvidenceCode.CBOR_MALFORMED or cbor.encode(value) == data
    outcome(lambda: cbor.decode(data, max_size=LIMIT, indefinite=True))


@pytest.mark.parametrize("value", [1.5, 2**64, -(2**64) - 1, object(), {1: 2.0}])
def test_what_is_outside_the_subset_cannot_be_encoded(value: object) -> None:
    with pytest.raises(ValueError, match=r"CBOR|64 bits"):
        cbor.encode(value)


ES256, EDDSA = -7, -8
"""Algorithms of COSE (RFC 9053, section 2) that nothing here signs or verifies with."""
MESSAGE = cose.Sign1(EDDSA, b"payload", b"signature")


@pytest.mark.parametrize("tagged", [False, True])
def test_a_cose_message_comes_back_as_it_was(tagged: bool) -> None:
    message = cose.Sign1(ES256, b"payload", b"signature", tagged)
    assert cose.parse(message.serialize(), max_size=LIMIT) == message


def test_what_is_signed_is_the_standards_structure() -> None:
    """RFC 9052, section 4.4."""
    assert cbor.decode(MESSAGE.signed(b"aad"), max_size=LIMIT) == ["Signature1", b"\xa1\x01\x27", b"aad", b"payload"]


@pytest.mark.parametrize(
    "value",
    [
        [b"\xa1\x01\x27", {}, b"payload"],
        [b"\xa1\x01\x27", {}, b"payload", b"signature", b""],
        [b"\xa1\x01\x27", {4: b"kid"}, b"payload", b"signature"],
        [b"\xa1\x01\x27", {}, None, b"signature"],
        [b"", {}, b"payload", b"signature"],
        [b"\xa0", {}, b"payload", b"signature"],
        [b"\xa2\x01\x27\x04\x40", {}, b"payload", b"signature"],
        [b"\xa1\x01\xf5", {}, b"payload", b"signature"],
        [b"\xa1\x04\x27", {}, b"payload", b"signature"],
        [b"\x80", {}, b"payload", b"signature"],
        cbor.Tag(17, [b"\xa1\x01\x27", {}, b"payload", b"signature"]),
        cbor.Tag(18, cbor.Tag(18, [b"\xa1\x01\x27", {}, b"payload", b"signature"])),
        b"",
    ],
)
def test_a_cose_message_of_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(EvidenceError) as caught:
        cose.parse(cbor.encode(value), max_size=LIMIT)
    assert caught.value.code in {EvidenceCode.COSE_MALFORMED, EvidenceCode.CBOR_MALFORMED}
    if value != [b"", {}, b"payload", b"signature"]:
        assert caught.value.code is EvidenceCode.COSE_MALFORMED


@pytest.mark.parametrize(
    ("encoded", "ordered"),
    [
        ("a201000200", True),
        ("a202000100", False),
        ("a261620061610a", False),
        ("a2200001f5", False),
        ("a201002000", True),
    ],
    ids=["ascending", "descending", "text descending", "a negative key before another", "and after it"],
)
def test_the_order_of_keys_counts_where_it_is_asked_for(encoded: str, ordered: bool) -> None:
    data = bytes.fromhex(encoded)
    assert cbor.encode(cbor.decode(data, max_size=LIMIT)) == data
    if ordered:
        assert cbor.encode_ordered(cbor.decode(data, max_size=LIMIT, ordered=True)) == data
        return
    with refused(EvidenceCode.CBOR_MALFORMED):
        cbor.decode(data, max_size=LIMIT, ordered=True)


@given(values)
def test_the_deterministic_encoding_is_one_that_decodes_in_order(value: Any) -> None:
    data = cbor.encode_ordered(value)
    assert cbor.decode(data, max_size=LIMIT, ordered=True) == value
    assert cbor.encode_ordered(cbor.decode(data, max_size=LIMIT)) == data


def test_a_content_type_stands_there_exactly_where_the_profile_has_one() -> None:
    typed = cose.Sign1(cose.ED25519, b"payload", bytes(64), tagged=True, content_type="application/x")
    assert cose.parse(typed.serialize(), max_size=LIMIT, content_type="application/x") == typed
    for wanted in (None, "application/y"):
        with refused(EvidenceCode.COSE_MALFORMED):
            cose.parse(typed.serialize(), max_size=LIMIT, content_type=wanted)
    with refused(EvidenceCode.COSE_MALFORMED):
        cose.parse(cose.Sign1(cose.ED25519, b"", bytes(64)).serialize(), max_size=LIMIT, content_type="application/x")
