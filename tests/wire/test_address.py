"""Addresses of host agents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import WireCode, WireError
from attestation.wire.address import TcpAddress, UnixAddress, parse_address
from tests.wire.kit import outcome


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/strongroom.sock", UnixAddress("/run/strongroom.sock")),
        ("unix:relative path:with colon", UnixAddress("relative path:with colon")),
        ("tcp:127.0.0.1:7400", TcpAddress("127.0.0.1", 7400)),
        ("tcp:enclave.example:0", TcpAddress("enclave.example", 0)),
        ("tcp:[::1]:7400", TcpAddress("::1", 7400)),
    ],
)
def test_an_address_is_parsed_and_formatted_back(text, address):
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "unix:a\0b",
        "unix:" + "x" * 108,
        "/run/socket",
        "tcp:",
        "tcp:host",
        "tcp::1",
        "tcp:host:",
        "tcp:h:-1",
        *["tcp:h:65536", "tcp:h:000080", "tcp:h:٣", "tcp:::1:80", "tcp:[h]:80", "tcp:[]:1", "tcp:a b:1", "http:h:80"],
    ],
)
def test_anything_else_is_refused_with_a_remedy(text):
    with pytest.raises(WireError) as caught:
        parse_address(text)
    assert caught.value.code is WireCode.ADDRESS_INVALID
    assert caught.value.remedy


@given(st.text(max_size=40), st.sampled_from(["", "unix:", "tcp:", "tcp:["]))
def test_any_text_is_an_address_or_refused(text, start):
    address = outcome(parse_address, start + text)
    if address is not WireCode.ADDRESS_INVALID:
        assert parse_address(str(address)) == address
