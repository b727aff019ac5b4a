"""Quotes of trust domains parse to their fields and back, and nothing else parses."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import evidence
from attestation.errors import EvidenceCode
from attestation.intel.abi import is_quote, strip_padding
from attestation.intel.errors import TdxCode
from attestation.intel.quote import MAX_QUOTE
from attestation.intel.td_abi import TD_HEADER, TD_REPORT_10, TD_REPORT_15, TdReport, parse_td_quote
from attestation.layout import Kind, Row
from manifests.errors import ErrorCode
from tests.attestation.kit import outcome, refused, sim_quote
from tests.tdx import kit

SIGNED = TD_HEADER.size + TD_REPORT_10.size
SIGNED_V5 = TD_HEADER.size + 6 + TD_REPORT_15.size
WRAPPED = SIGNED + 4 + 64 + 64
"""Where the certification data of version 4 begin: type and length."""
QE = WRAPPED + 6
AUTH_SIZE = QE + 384 + 64
CHAIN = AUTH_SIZE + 2 + 32


@pytest.mark.parametrize("version", [4, 5])
def test_a_quote_serialises_to_itself(version: int) -> None:
    data = kit.sim_quote(version)
    quote = evidence.parse(data)
    assert quote.serialize() == data
    assert (quote.tee, quote.version, quote.report_data) == ("tdx", version, kit.REPORT_DATA)


def test_version_5_says_which_report_it_holds() -> None:
    assert kit.parsed(5).body_type == 3
    assert kit.parsed(5).body.tee_tcb_svn2 == kit.parsed(5).body.tee_tcb_svn
    older = kit.platform().quote(kit.report(4), version=5)
    assert parse_td_quote(older.serialize()) == older
    assert older.body_type == 2
    assert kit.verify_sim(older.serialize()).tcb.current is None


def test_every_field_shows_in_hex_under_its_name() -> None:
    shown = kit.parsed(5).to_dict()
    assert shown["header"]["tee_type"] == "81000000"
    assert shown["td_report"]["mr_td"] == kit.MRTD.hex()
    assert shown["td_report"]["mr_service_td"] == "00" * 48
    assert "mr_service_td" not in kit.parsed(4).to_dict()["td_report"]
    assert (shown["body_type"], kit.parsed(4).to_dict()["body_type"]) == ("0300", None)


@pytest.mark.parametrize("layout", [TD_REPORT_10, TD_REPORT_15], ids=["1.0", "1.5"])
def test_every_field_of_a_report_keeps_its_value(layout: object) -> None:
    assert layout in {TD_REPORT_10, TD_REPORT_15}
    values = {
        row.name: (1 << 8 * row.size) - 2 if row.kind is Kind.UINT else bytes(range(1, row.size + 1))
        for row in layout.rows  # type: ignore[attr-defined]
    }
    report = TdReport(**values)
    assert layout.parse(report.serialize()) == values  # type: ignore[attr-defined]


def edited(offset: int, data: bytes, version: int = 4) -> bytes:
    quote = bytearray(kit.sim_quote(version))
    quote[offset : offset + len(data)] = data
    return bytes(quote)


def resized(change: int) -> bytes:
    (size,) = struct.unpack_from("<I", kit.sim_quote(), SIGNED)
    return edited(SIGNED, struct.pack("<I", size + change))


def number(value: int, size: int = 2) -> bytes:
    return value.to_bytes(size, "little")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (lambda: b"", EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote()[:47], EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote()[: SIGNED - 1], EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote(5)[: SIGNED_V5 - 1], EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote()[:-1], EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote() + b"\0", EvidenceCode.QUOTE_TRAILING_BYTES),
        (lambda: resized(1) + b"\0", EvidenceCode.QUOTE_LENGTHS),
        (lambda: resized(-1), EvidenceCode.QUOTE_TRAILING_BYTES),
        (lambda: bytes(MAX_QUOTE + 1), EvidenceCode.QUOTE_TOO_LARGE),
        (lambda: edited(0, number(3)), EvidenceCode.QUOTE_VERSION),
        (lambda: edited(0, number(6)), EvidenceCode.QUOTE_VERSION),
        (lambda: edited(2, number(3)), EvidenceCode.QUOTE_KEY_TYPE),
        (lambda: edited(4, number(0)), TdxCode.TEE_TYPE),
        (lambda: edited(4, number(0x82)), TdxCode.TEE_TYPE),
        (lambda: edited(7, b"\1"), TdxCode.TEE_TYPE),
        (lambda: edited(8, b"\1"), EvidenceCode.QUOTE_RESERVED),
        (lambda: edited(11, b"\x80"), EvidenceCode.QUOTE_RESERVED),
        (lambda: edited(12, b"\0"), EvidenceCode.QUOTE_QE_VENDOR),
        (lambda: edited(48, number(1), 5), TdxCode.BODY_TYPE),
        (lambda: edited(48, number(4), 5), TdxCode.BODY_TYPE),
        (lambda: edited(48, number(2), 5), EvidenceCode.QUOTE_LENGTHS),
        (lambda: edited(50, number(584, 4), 5), EvidenceCode.QUOTE_LENGTHS),
        (lambda: edited(WRAPPED, number(5)), EvidenceCode.QUOTE_CERTIFICATION),
        (lambda: edited(WRAPPED + 2, number(0xFFFFFFFF, 4)), EvidenceCode.QUOTE_TRUNCATED),
        (lambda: edited(WRAPPED + 2, number(9, 4)), EvidenceCode.QUOTE_LENGTHS),
        (lambda: edited(QE + 21, b"\1"), EvidenceCode.QUOTE_RESERVED),
        (lambda: edited(AUTH_SIZE, number(0xFFFF)), EvidenceCode.QUOTE_TRUNCATED),
        (lambda: edited(CHAIN, number(6)), EvidenceCode.QUOTE_CERTIFICATION),
        (lambda: edited(CHAIN, number(1)), EvidenceCode.QUOTE_CERTIFICATION),
        (lambda: edited(CHAIN + 2, number(0xFFFFFFFF, 4)), EvidenceCode.QUOTE_TRUNCATED),
        (lambda: edited(CHAIN + 2, number(1, 4)), EvidenceCode.QUOTE_LENGTHS),
    ],
)
def test_what_is_no_quote_of_a_trust_domain_is_refused(data: Callable[[], bytes], code: ErrorCode) -> None:
    with refused(code):
        parse_td_quote(data())


ROWS = [
    *((4, TD_HEADER.size + row.offset, row) for row in TD_REPORT_10.rows),
    *((5, TD_HEADER.size + 6 + row.offset, row) for row in TD_REPORT_15.rows),
]


@pytest.mark.parametrize(("version", "offset", "row"), ROWS, ids=lambda value: getattr(value, "name", str(value)))
def test_every_field_stands_where_the_vendor_says(version: int, offset: int, row: Row) -> None:
    body = parse_td_quote(edited(offset, b"\xaa", version)).body
    value = getattr(body, row.name)
    first = value & 0xFF if isinstance(value, int) else value[0]
    assert first == 0xAA
    changed = [name for name in vars(body) if getattr(body, name) != getattr(kit.report(version), name)]
    assert changed == [row.name]


# ------------------------------------------------------------------------------------------------------ padding


@pytest.mark.parametrize("quote", [sim_quote, lambda: kit.sim_quote(4), lambda: kit.sim_quote(5)], ids=["3", "4", "5"])
def test_zeros_behind_a_quote_are_told_apart_from_it(quote: Callable[[], bytes]) -> None:
    data = quote()
    for size in (0, 1, 70, 4096):
        assert strip_padding(data + bytes(size)) == (data, size)


@pytest.mark.parametrize("quote", [sim_quote, lambda: kit.sim_quote(4), lambda: kit.sim_quote(5)], ids=["3", "4", "5"])
def test_anything_else_behind_a_quote_stays_and_is_refused(quote: Callable[[], bytes]) -> None:
    for tail in (b"\1", bytes(70) + b"\1", b"\xff" * 16):
        data = quote() + tail
        assert strip_padding(data) == (data, 0)
        with refused(EvidenceCode.QUOTE_TRAILING_BYTES) as caught:
            evidence.parse(data)
        assert "not all zero" in str(caught.value.found)


@given(st.binary(max_size=700), st.integers(0, 6))
def test_stripping_never_fails_and_takes_zeros_only(data: bytes, version: int) -> None:
    for candidate in (data, version.to_bytes(2, "little") + data, kit.sim_quote(5)[: len(data)]):
        quote, size = strip_padding(candidate)
        assert quote + bytes(size) == candidate


# -------------------------------------------------------------------------------------------------- recognition


def test_a_report_of_another_vendor_is_not_taken_for_a_quote() -> None:
    """SEV-SNP reports begin with their version, 2 to 5, in 32 bits."""
    for version in (3, 4, 5):
        assert not is_quote(version.to_bytes(4, "little") + bytes(1180), 3, 4, 5)
    assert is_quote(kit.sim_quote(4), 4)
    assert not is_quote(b"\x04\x00\x02", 4)


# ------------------------------------------------------------------------------------------------------ totality


def check_total(candidate: bytes) -> None:
    result = outcome(lambda: parse_td_quote(candidate).serialize())
    assert result == candidate or str(result).startswith(("quote-", "tdx-"))


@given(st.binary(max_size=800), st.sampled_from([4, 5]))
def test_any_bytes_parse_or_are_refused(data: bytes, version: int) -> None:
    signed = SIGNED if version == 4 else SIGNED_V5
    for candidate in (data, kit.sim_quote(version)[: len(data)], kit.sim_quote(version)[:signed] + data):
        check_total(candidate)


@given(st.data(), st.sampled_from([4, 5]))
def test_any_splice_parses_to_itself_or_is_refused(data: st.DataObject, version: int) -> None:
    quote = kit.sim_quote(version)
    start = data.draw(st.integers(0, len(quote)))
    end = data.draw(st.integers(start, len(quote)))
    check_total(quote[:start] + data.draw(st.binary(max_size=8)) + quote[end:])


def test_a_quote_of_version_4_carries_no_report_of_1_5() -> None:
    """The signed bytes of such a quote would read as something else; no parser makes one."""
    quote = dataclasses.replace(kit.parsed(4), body=kit.report(5))
    assert str(outcome(lambda: parse_td_quote(quote.serialize()))).startswith("quote-")
