"""DER, PEM, JSON, times and the PCK's extension: strict readers that refuse everything with one meaning too many."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import strict_json
from attestation.der import INTEGER, OCTET_STRING, SEQUENCE, DerReader
from attestation.errors import EvidenceCode
from attestation.intel import pem
from attestation.intel.ecdsa import load_point, verify_raw
from attestation.intel.pck import PckExtension, parse_extension, peek
from attestation.sim.extension import element, encode_extension
from attestation.sim.signature import raw_point
from attestation.validity import Validity, parse_rfc3339, rfc3339
from tests.attestation import kit
from tests.attestation.kit import outcome, refused

EXTENSION = PckExtension(
    ppid=bytes(range(16)),
    components=tuple(range(240, 256)),
    pce_svn=65535,
    cpu_svn=bytes(range(16, 32)),
    pce_id=b"\x00\x01",
    fmspc=bytes.fromhex("00906ed50000"),
    sgx_type=2,
    platform_instance_id=bytes(range(32, 48)),
    configuration=(True, False, True),
)
OID = bytes.fromhex("2a864886f84d010d01")
CODE = EvidenceCode.CERTIFICATE_MALFORMED
"""A reader refuses with the code that it was given."""


def member(suffix: bytes, value: bytes) -> bytes:
    return element(SEQUENCE, element(0x06, OID + suffix) + value)


# ------------------------------------------------------------------------------------------------------ der


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02",
        b"\x02\x01",
        b"\x02\x80\x00\x00",  # indefinite length
        b"\x02\x81\x01\x05",  # length not minimal
        b"\x02\x82\x00\x81" + bytes(129),  # length with a leading zero
        b"\x02\x84\x00\x00\x00\x01\x05",  # length of four bytes
        b"\x02\x81",
        b"\x04\x01\x05",  # another type
        b"\x02\x00",  # empty
        b"\x02\x01\x80",  # negative
        b"\x02\x02\x00\x01",  # not minimal
        b"\x02\x02\x01\x00",  # above the limit
    ],
)
def test_a_bad_integer_is_refused(data: bytes) -> None:
    with refused(CODE):
        DerReader(data, CODE).integer(255)


def test_good_integers_are_read() -> None:
    assert DerReader(b"\x02\x01\x00", CODE).integer(255) == 0
    assert DerReader(b"\x02\x02\x00\xff", CODE).integer(255) == 255


@pytest.mark.parametrize("data", [b"\x01\x01\x01", b"\x01\x02\xff\xff", b"\x01\x00"])
def test_a_boolean_is_00_or_ff(data: bytes) -> None:
    with refused(CODE):
        DerReader(data, CODE).boolean()


def test_what_follows_the_last_element_is_refused() -> None:
    reader = DerReader(b"\x02\x01\x00\x05\x00", CODE)
    reader.integer(1)
    with refused(CODE):
        reader.finish()


# ---------------------------------------------------------------------------------------------- pck extension


def test_the_extension_round_trips() -> None:
    assert parse_extension(encode_extension(EXTENSION)) == EXTENSION
    plain = dataclasses.replace(EXTENSION, platform_instance_id=None, configuration=None)
    assert parse_extension(encode_extension(plain)) == plain


def _without(index: int) -> bytes:
    """The extension without its member of this number."""
    reader = DerReader(encode_extension(EXTENSION), CODE).inside(SEQUENCE)
    members = []
    while reader.more:
        members.append(reader.element(SEQUENCE))
    del members[index]
    return element(SEQUENCE, b"".join(members))


def _with(*extra: bytes) -> bytes:
    content = DerReader(encode_extension(EXTENSION), CODE).content(SEQUENCE)
    return element(SEQUENCE, content + b"".join(extra))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_extension(EXTENSION) + b"\0",
        encode_extension(EXTENSION)[:-1],
        *(_without(index) for index in range(5)),
        _with(member(b"\x08", element(OCTET_STRING, b""))),
        _with(member(b"\x01", element(OCTET_STRING, bytes(16)))),
        element(SEQUENCE, member(b"\x01", element(OCTET_STRING, bytes(15)))),
        element(SEQUENCE, member(b"\x01", element(OCTET_STRING, bytes(16)) + b"\x05\x00")),
        element(SEQUENCE, member(b"\x02", element(SEQUENCE, b""))),
        element(SEQUENCE, member(b"\x02", element(SEQUENCE, member(b"\x02\x01", element(INTEGER, b"\x01\x00"))))),
        element(SEQUENCE, member(b"\x02", element(SEQUENCE, member(b"\x02\x13", element(INTEGER, b"\x01"))))),
        element(SEQUENCE, member(b"\x02", element(SEQUENCE, member(b"\x03\x01", element(INTEGER, b"\x01"))))),
        element(SEQUENCE, member(b"\x05", element(0x0A, b"\x03"))),
        element(SEQUENCE, member(b"\x07", element(SEQUENCE, member(b"\x07\x04", element(0x01, b"\xff"))))),
        element(SEQUENCE, member(b"\x07", element(SEQUENCE, member(b"\x07\x01", element(INTEGER, b"\x01"))))),
    ],
)
def test_a_bad_extension_is_refused(data: bytes) -> None:
    with refused(EvidenceCode.PCK_EXTENSION):
        parse_extension(data)


@given(st.data())
def test_any_splice_of_the_extension_is_parsed_or_refused(data: st.DataObject) -> None:
    good = encode_extension(EXTENSION)
    at = data.draw(st.integers(0, len(good)))
    candidate = good[:at] + data.draw(st.binary(max_size=4)) + good[at + data.draw(st.integers(0, 4)) :]
    result = outcome(lambda: encode_extension(parse_extension(candidate)))
    assert result in {candidate, EvidenceCode.PCK_EXTENSION}


@given(st.binary(max_size=64), st.integers(0, 800))
def test_looking_at_unverified_certificates_never_fails_otherwise(data: bytes, cut: int) -> None:
    for candidate in (data, kit.platform().pki.pck.der[:cut] + data):
        result = outcome(lambda: peek(candidate))  # noqa: B023 - called at once
        known = (bytes.fromhex("53494d000000"), "processor")
        assert result in {known, EvidenceCode.COLLATERAL_KEY, EvidenceCode.PCK_EXTENSION}


def test_a_certificate_without_the_extension_names_no_collateral() -> None:
    with refused(EvidenceCode.COLLATERAL_KEY):
        peek(kit.platform().pki.pck_ca.der)


# ------------------------------------------------------------------------------------------------------ pem

GOOD = pem.encode_chain(b"first certificate" * 9, b"second")


def test_a_chain_round_trips() -> None:
    assert pem.decode_chain(GOOD, 2) == (b"first certificate" * 9, b"second")
    assert pem.decode_chain(GOOD + b"\0", 2) == pem.decode_chain(GOOD + b"\n", 2) == pem.decode_chain(GOOD[:-1], 2)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", EvidenceCode.PEM_MALFORMED),
        (GOOD + b"x", EvidenceCode.PEM_MALFORMED),
        (b"x" + GOOD, EvidenceCode.PEM_MALFORMED),
        (b"\n" + GOOD, EvidenceCode.PEM_MALFORMED),
        (GOOD + b"\0\0", EvidenceCode.PEM_MALFORMED),
        (GOOD.replace(b"\n", b"\r\n"), EvidenceCode.PEM_MALFORMED),
        (GOOD.replace(b"c2Vjb25k", b"c2Vjb25"), EvidenceCode.PEM_MALFORMED),
        (GOOD.replace(b"c2Vjb25k", b"c2Vj\nb25k"), EvidenceCode.PEM_MALFORMED),
        (GOOD.replace(b"c2Vjb25k", b"c2Vjb25 "), EvidenceCode.PEM_MALFORMED),
        (pem.encode_chain(b"ab", b"cd").replace(b"YWI=", b"YWJ="), EvidenceCode.PEM_MALFORMED),
        (bytes(pem.MAX_CHAIN + 1), EvidenceCode.PEM_MALFORMED),
        (pem.encode_chain(b"one"), EvidenceCode.CHAIN_LENGTH),
        (pem.encode_chain(b"one", b"two", b"three"), EvidenceCode.CHAIN_LENGTH),
    ],
)
def test_text_that_is_not_the_one_form_is_refused(text: bytes, code: EvidenceCode) -> None:
    with refused(code):
        pem.decode_chain(text, 2)


@given(st.binary(max_size=200))
def test_any_text_is_a_chain_or_refused(data: bytes) -> None:
    for candidate in (data, pem.encode_chain(data), GOOD + data):
        result = outcome(lambda: pem.encode_chain(*pem.decode_chain(candidate, 1)).rstrip(b"\n"))  # noqa: B023 - called at once
        text = candidate.removesuffix(b"\0").rstrip(b"\n")
        assert result in {text, EvidenceCode.PEM_MALFORMED, EvidenceCode.CHAIN_LENGTH}


# ----------------------------------------------------------------------------------------------------- json


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        "1.5",
        "1e3",
        "NaN",
        "-Infinity",
        "1" * 21,
        "[" * 17 + "]" * 17,
        "[" * 100_000,
        '{"a":1} x',
        '"' + "a" * 200_000 + '"',
    ],
)
def test_json_with_more_than_one_meaning_is_refused(text: str) -> None:
    with refused(EvidenceCode.JSON_MALFORMED):
        strict_json.loads(text, max_size=150_000)


def test_plain_json_is_read() -> None:
    assert strict_json.loads('{"a":[1,true,null,"x"]}', max_size=100) == {"a": [1, True, None, "x"]}
    assert strict_json.loads("[" * 16 + "1" + "]" * 16, max_size=100)
    for space in ("", " "):  # one bound, whichever way the text is read
        assert strict_json.loads(f"[{space}-{'9' * 20}]", max_size=100) == [-int("9" * 20)]


@pytest.mark.parametrize(
    "item",
    ["{}", "[]", "1", '"a"', '{"a":1}', "[[], 0.5]"],
    ids=["maps", "lists", "numbers", "texts", "pairs", "long way"],
)
def test_json_of_too_many_items_is_not_read(item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"[{','.join([item] * (strict_json.MAX_ITEMS + 1))}]"
    monkeypatch.setattr(json, "loads", lambda *_args, **_options: pytest.fail("it is read"))
    with refused(EvidenceCode.JSON_MALFORMED) as caught:
        strict_json.loads(text, max_size=len(text))
    assert "too many items" in caught.value.message


def test_quotes_that_make_no_items_are_not_taken_apart() -> None:
    """Text is split at its quotes before it is read; where there are too many for its items, it is not."""
    text = '"' * (4 * strict_json.MAX_ITEMS + 4)
    with refused(EvidenceCode.JSON_MALFORMED) as caught:
        strict_json.loads(text, max_size=len(text))
    assert "too many items" in caught.value.message


def test_json_of_many_items_is_read() -> None:
    text = f"[{','.join(['1'] * (strict_json.MAX_ITEMS - 1))}]"
    assert len(strict_json.loads(text, max_size=len(text))) == strict_json.MAX_ITEMS - 1
    long = f'{{"a":"{"x" * strict_json.MAX_ITEMS * 8}"}}'
    assert strict_json.loads(long, max_size=len(long)), "one long string is one item"


@given(st.text(max_size=60))
def test_any_text_is_json_or_refused(text: str) -> None:
    result = outcome(lambda: strict_json.loads(text, max_size=60))
    if result is not EvidenceCode.JSON_MALFORMED:
        assert result == json.loads(text)


# ---------------------------------------------------------------------------------------------------- times


def test_times_have_one_form() -> None:
    assert parse_rfc3339("2025-10-09T08:53:20Z") == kit.NOW
    assert rfc3339(kit.NOW) == "2025-10-09T08:53:20Z"
    assert rfc3339(10**18) == str(10**18)
    for text in ("2025-10-9T08:53:20Z", "2025-10-09T08:53:20", "2025-10-09 08:53:20Z", "2025-02-30T00:00:00Z", ""):
        with pytest.raises(ValueError, match=r".*"):
            parse_rfc3339(text)


def test_a_span_is_half_open() -> None:
    span = Validity("x", 10, 20, EvidenceCode.CRL_EARLY, EvidenceCode.CRL_EXPIRED)
    span.check(10)
    span.check(19)
    with refused(EvidenceCode.CRL_EARLY):
        span.check(9)
    with refused(EvidenceCode.CRL_EXPIRED):
        span.check(20)


# ---------------------------------------------------------------------------------------------------- ecdsa


@pytest.mark.parametrize("raw", [bytes(64), b"\xff" * 64, b"", bytes(63), bytes(65)])
def test_what_is_no_point_is_refused(raw: bytes) -> None:
    with refused(EvidenceCode.ATTESTATION_KEY):
        load_point(raw)


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), b"\xff" * 64, bytes(65)])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    key = load_point(raw_point(kit.platform().pki.root.key))
    with refused(EvidenceCode.QUOTE_SIGNATURE):
        verify_raw(key, signature, b"message", EvidenceCode.QUOTE_SIGNATURE)


# ------------------------------------------------------------------------------------------------ two ways of JSON

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**22), 10**22) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab[]{}:", max_size=2), inner, max_size=3),
    max_leaves=12,
)
_DISTURBED = st.tuples(
    st.integers(0, 60), st.sampled_from(["", "{", "]", '"a":1,', "1e5", "1.5", "\\", " ", "NaN", "9" * 21])
)


@given(_JSON, _DISTURBED)
def test_the_quick_way_through_json_says_what_the_long_way_says(value: object, disturbed: tuple[int, str]) -> None:
    text, (at, inserted) = json.dumps(value, separators=(",", ":")), disturbed
    text = text[:at] + inserted + text[at:]
    quick = outcome(lambda: strict_json.loads(text, max_size=10_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_json, "_read_plain", lambda _text: None)
        long = outcome(lambda: strict_json.loads(text, max_size=10_000))
    assert quick == long
    assert type(quick) is type(long)


def test_text_as_the_vendor_writes_it_goes_the_quick_way() -> None:
    documents = kit.platform().collateral(kit.NOW)
    for body in (documents.tcb_info, documents.qe_identity):
        assert strict_json._read_plain(body.decode()) == json.loads(body)
    assert strict_json._read_plain('{"a":1,"a":2}') is None
    assert strict_json._read_plain("[" * 20 + "]" * 20) is None


@pytest.mark.parametrize(("depth", "quick"), [(strict_json.MAX_DEPTH, True), (strict_json.MAX_DEPTH + 1, False)])
@pytest.mark.parametrize("unit", ['{"a":|}', "[|]", '[{"a":|}]'])
def test_both_ways_allow_the_same_depth(unit: str, depth: int, quick: bool) -> None:
    """Whatever the containers are, one level is one level."""
    before, after = unit.split("|")
    levels = before.count("[") + before.count("{")
    text = before * (depth // levels) + "1" + after * (depth // levels)
    if depth % levels:
        text = f"[{text}]"
    assert (strict_json._read_plain(text) is not None) == quick
    result = outcome(lambda: strict_json.loads(text, max_size=10_000))
    assert (result is EvidenceCode.JSON_MALFORMED) != quick
