"""Quotes parse to their fields and back, and nothing else parses."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import evidence
from attestation.errors import EvidenceCode
from attestation.intel.abi import HEADER, MAX_QUOTE, REPORT_BODY, ReportBody, parse_quote
from attestation.layout import Kind, Layout, Row
from tests.attestation import kit
from tests.attestation.kit import outcome, refused

SIGNED = HEADER.size + REPORT_BODY.size


def test_a_quote_serialises_to_itself() -> None:
    assert parse_quote(kit.sim_quote()).serialize() == kit.sim_quote()


def test_a_layout_with_a_gap_or_a_wrong_size_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="does not begin"):
        Layout("gap", 4, Row(0, 1, "a"), Row(2, 2, "b"))
    with pytest.raises(ValueError, match="cover 2 of 4"):
        Layout("short", 4, Row(0, 2, "a"))
    with pytest.raises(ValueError, match="has 2 bytes"):
        Layout("bytes", 2, Row(0, 2, "a")).serialize({"a": b"abc"})


def edited(offset: int, data: bytes) -> bytes:
    quote = bytearray(kit.sim_quote())
    quote[offset : offset + len(data)] = data
    return bytes(quote)


def resized(change: int) -> bytes:
    """The quote with another length of signature data, at its place before it."""
    (size,) = struct.unpack_from("<I", kit.sim_quote(), SIGNED)
    return edited(SIGNED, struct.pack("<I", size + change))


AUTH_SIZE = SIGNED + 4 + 64 + 64 + 384 + 64
CERTIFICATION = AUTH_SIZE + 2 + 32


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (lambda: b"", EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote()[:47], EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote()[:431], EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote()[:435], EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote()[:-1], EvidenceCode.QUOTE_TRUNCATED),
        (lambda: kit.sim_quote() + b"\0", EvidenceCode.QUOTE_TRAILING_BYTES),
        (lambda: resized(1) + b"\0", EvidenceCode.QUOTE_LENGTHS),
        (lambda: resized(-1), EvidenceCode.QUOTE_TRAILING_BYTES),
        (lambda: edited(SIGNED, b"\xff\xff\xff\xff"), EvidenceCode.QUOTE_TRUNCATED),
        (lambda: bytes(MAX_QUOTE + 1), EvidenceCode.QUOTE_TOO_LARGE),
        (lambda: edited(0, b"\x04\x00"), EvidenceCode.QUOTE_VERSION),
        (lambda: edited(2, b"\x03\x00"), EvidenceCode.QUOTE_KEY_TYPE),
        (lambda: edited(4, b"\x01"), EvidenceCode.QUOTE_RESERVED),
        (lambda: edited(12, b"\x00"), EvidenceCode.QUOTE_QE_VENDOR),
        (lambda: edited(AUTH_SIZE, b"\xff\xff"), EvidenceCode.QUOTE_TRUNCATED),
        (lambda: edited(AUTH_SIZE, b"\x21\x00"), EvidenceCode.QUOTE_CERTIFICATION),
        (lambda: edited(CERTIFICATION, b"\x01\x00"), EvidenceCode.QUOTE_CERTIFICATION),
        (lambda: edited(CERTIFICATION + 2, b"\xff\xff\xff\xff"), EvidenceCode.QUOTE_TRUNCATED),
        (lambda: edited(CERTIFICATION + 2, b"\x01\x00\x00\x00"), EvidenceCode.QUOTE_LENGTHS),
    ],
)
def test_what_is_no_quote_is_refused(data: object, code: EvidenceCode) -> None:
    assert callable(data)
    with refused(code):
        parse_quote(data())


@pytest.mark.parametrize("row", [row for row in REPORT_BODY.rows if row.kind is Kind.ZERO], ids=lambda row: row.name)
@pytest.mark.parametrize("base", [HEADER.size, SIGNED + 4 + 128], ids=["enclave", "QE"])
def test_reserved_bytes_of_both_reports_must_be_zero(row: Row, base: int) -> None:
    for offset in (row.offset, row.offset + row.size - 1):
        with refused(EvidenceCode.QUOTE_RESERVED):
            parse_quote(edited(base + offset, b"\x80"))


def check_total(candidate: bytes) -> None:
    result = outcome(lambda: parse_quote(candidate).serialize())
    assert result == candidate or str(result).startswith("quote-")


@given(st.binary(max_size=600))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for candidate in (data, kit.sim_quote()[: len(data)], kit.sim_quote()[:SIGNED] + data):
        check_total(candidate)


@given(st.data())
def test_any_splice_parses_to_itself_or_is_refused(data: st.DataObject) -> None:
    quote = kit.sim_quote()
    start = data.draw(st.integers(0, len(quote)))
    end = data.draw(st.integers(start, len(quote)))
    candidate = quote[:start] + data.draw(st.binary(max_size=8)) + quote[end:]
    check_total(candidate)


def test_every_field_of_a_report_keeps_its_value() -> None:
    values = {
        row.name: (1 << 8 * row.size) - 2 if row.kind is Kind.UINT else bytes(range(1, row.size + 1))
        for row in REPORT_BODY.rows
        if row.kind is not Kind.ZERO
    }
    body = ReportBody(**values)  # type: ignore[arg-type]
    assert ReportBody.parse(body.serialize()) == body
    assert dataclasses.asdict(body) == values


@pytest.mark.parametrize("data", [b"", b"\x03", b"\x09\x00\x02\x00", b"-----BEGIN", bytes(2000)])
def test_evidence_of_no_known_platform_is_unsupported(data: bytes) -> None:
    with refused(EvidenceCode.EVIDENCE_UNKNOWN) as caught:
        evidence.parse(data)
    assert caught.value.exit_code == 20
