"""Logs of measured boot: real ones of confidential VMs replay to their quotes, and malformed ones are refused."""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.eventlog.errors import EventLogCode
from attestation.eventlog.log import MAX_LOG, EventType, parse_event_log
from attestation.eventlog.replay import extend, replay_pcrs, replay_rtmrs
from attestation.intel.abi import strip_padding
from attestation.intel.td_abi import parse_td_quote
from attestation.sim.eventlog import BOOT, make_log
from attestation.tpm.algorithms import Hash
from manifests.errors import ErrorCode
from tests.attestation.kit import outcome, refused
from tests.shared import vectors

SHA384 = Hash.SHA384.size


def rtmrs_of(quote: bytes) -> tuple[bytes, ...]:
    body = parse_td_quote(strip_padding(quote)[0]).body
    return body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3


@pytest.mark.parametrize("name", ["v4-cos113", "v4-attrs-live"])
def test_a_captured_log_replays_to_the_registers_of_its_quote(name: str) -> None:
    data = (vectors() / "tdx" / f"{name}.ccel.bin").read_bytes()
    log = parse_event_log(data, padded=True)
    assert log.serialize() == data
    assert log.banks == (Hash.SHA384,)
    assert replay_rtmrs(log) == rtmrs_of((vectors() / "tdx" / f"{name}.quote.bin").read_bytes())
    assert not log.padding.strip(b"\xff")


def test_no_captured_log_is_left_out() -> None:
    found = {path.name.split(".")[0] for path in (vectors() / "tdx").glob("*.ccel.bin")}
    assert found == {"v4-cos113", "v4-attrs-live"}


def test_every_event_of_a_captured_log_counts() -> None:
    name = "v4-attrs-live"
    log = parse_event_log((vectors() / "tdx" / f"{name}.ccel.bin").read_bytes(), padded=True)
    wanted = rtmrs_of((vectors() / "tdx" / f"{name}.quote.bin").read_bytes())
    for left_out in range(len(log.events)):
        events = log.events[:left_out] + log.events[left_out + 1 :]
        assert replay_rtmrs(type(log)(log.header, log.algorithms, events)) != wanted


def test_dstacks_log_replays_with_the_same_rule() -> None:
    """It is no TCG log but JSON; what it has in common is how a register is extended."""
    report = json.loads((vectors() / "tdx" / "v4-dstack-quote-report.json").read_text(encoding="utf-8"))
    registers = [bytes(SHA384)] * 4
    for event in json.loads(report["event_log"]):
        digest = bytes.fromhex(event["digest"])
        registers[event["imr"]] = extend(Hash.SHA384, registers[event["imr"]], [digest])
    assert tuple(registers) == rtmrs_of(bytes.fromhex(report["quote"]))


def test_data_that_is_digested_can_be_told_from_data_that_is_not() -> None:
    log = parse_event_log((vectors() / "tdx" / "v4-cos113.ccel.bin").read_bytes(), padded=True)
    by_title = {event.title: event.describes(Hash.SHA384) for event in log.events}
    assert by_title["EV_EFI_VARIABLE_DRIVER_CONFIG"]
    assert not by_title["EV_EFI_PLATFORM_FIRMWARE_BLOB2"]


# ---------------------------------------------------------------------------------------------------- simulated


@pytest.mark.parametrize("banks", [(Hash.SHA256,), (Hash.SHA1, Hash.SHA256, Hash.SHA384, Hash.SHA512)])
def test_a_simulated_log_replays_in_every_bank(banks: tuple[Hash, ...]) -> None:
    data = make_log(BOOT, banks)
    log = parse_event_log(data)
    assert log.serialize() == data
    assert log.banks == banks
    for bank in banks:
        pcrs = replay_pcrs(log, bank)
        assert pcrs[1] == bank.digest(bytes(bank.size), bank.digest(bytes(4)))
        assert set(pcrs) == set(range(10))


def test_pcr_0_begins_with_the_locality_that_started_the_tpm() -> None:
    separator = (0, EventType.EV_SEPARATOR, bytes(4))
    for locality in (0, 3, 4):
        log = make_log([(0, EventType.EV_NO_ACTION, b"StartupLocality\0" + bytes([locality])), separator])
        start = bytes(31) + bytes([locality])
        expected = hashlib.sha256(start + hashlib.sha256(bytes(4)).digest()).digest()
        assert replay_pcrs(parse_event_log(log), Hash.SHA256)[0] == expected


@pytest.mark.parametrize("data", [b"StartupLocality\0\x01", b"StartupLocality\0", b"StartupLocality\0\x03\x03"])
def test_a_locality_that_no_platform_starts_from_is_refused(data: bytes) -> None:
    log = parse_event_log(make_log([(0, EventType.EV_NO_ACTION, data)]))
    with refused(EventLogCode.MALFORMED):
        replay_pcrs(log, Hash.SHA256)


def test_two_localities_are_refused() -> None:
    entry = (0, EventType.EV_NO_ACTION, b"StartupLocality\0\x03")
    with refused(EventLogCode.MALFORMED):
        replay_pcrs(parse_event_log(make_log([entry, entry])), Hash.SHA256)


def test_dynamic_pcrs_begin_with_ones() -> None:
    log = parse_event_log(make_log([(17, EventType.EV_ACTION, b"launch")]))
    assert replay_pcrs(log, Hash.SHA256)[17] == extend(Hash.SHA256, b"\xff" * 32, [Hash.SHA256.digest(b"launch")])


def test_events_that_are_only_logged_extend_nothing() -> None:
    assert replay_pcrs(parse_event_log(make_log([(5, EventType.EV_NO_ACTION, b"note")])), Hash.SHA256) == {}


def test_a_bank_that_the_log_lacks_cannot_be_replayed() -> None:
    with refused(EventLogCode.BANK):
        replay_pcrs(parse_event_log(make_log()), Hash.SHA384)
    with refused(EventLogCode.BANK):
        replay_rtmrs(parse_event_log(make_log([(1, EventType.EV_ACTION, b"")])))


def test_registers_that_do_not_exist_are_refused() -> None:
    log = parse_event_log(make_log([(24, EventType.EV_ACTION, b"")], (Hash.SHA256, Hash.SHA384)))
    with refused(EventLogCode.REGISTER):
        replay_pcrs(log, Hash.SHA256)
    for register in (0, 5):  # 0 is MRTD, which nothing extends after launch
        log = parse_event_log(make_log([(register, EventType.EV_ACTION, b"")], (Hash.SHA384,)))
        with refused(EventLogCode.REGISTER):
            replay_rtmrs(log)


def test_a_type_that_nobody_knows_shows_as_its_number() -> None:
    (event,) = parse_event_log(make_log([(1, 0x80001234, b"")])).events  # type: ignore[list-item]
    assert event.title == "0x80001234"
    assert event.to_dict()["type"] == "0x80001234"


# ---------------------------------------------------------------------------------------------------- malformed

HEADER = len(make_log([]))


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", EventLogCode.MALFORMED),
        (bytes(MAX_LOG + 1), EventLogCode.TOO_LARGE),
        (make_log()[:-1], EventLogCode.MALFORMED),
        (make_log() + b"\0", EventLogCode.MALFORMED),
        (make_log() + b"\xff" * 16, EventLogCode.MALFORMED),
        (put(make_log(), 4, b"\x04"), EventLogCode.FORMAT),  # the header is another event
        (put(make_log(), 8, b"\x01"), EventLogCode.FORMAT),  # its digest is not zero
        (put(make_log(), 32, b"Spec ID Event02\0"), EventLogCode.FORMAT),
        (put(make_log(), 53, b"\x01"), EventLogCode.FORMAT),  # version 1.0
        (put(make_log(), 56, struct.pack("<I", 0)), EventLogCode.MALFORMED),
        (put(make_log(), 56, struct.pack("<I", 9)), EventLogCode.MALFORMED),
        (put(make_log(), 62, b"\x14"), EventLogCode.MALFORMED),  # SHA-256 with 20 bytes
        (put(make_log([], (Hash.SHA256, Hash.SHA384)), 64, b"\x0b\x00\x20\x00"), EventLogCode.MALFORMED),  # twice
        (put(make_log(), 28, struct.pack("<I", 34))[:HEADER] + b"\0", EventLogCode.MALFORMED),
        (put(make_log(), HEADER + 8, struct.pack("<I", 2)), EventLogCode.MALFORMED),
        (put(make_log(), HEADER + 12, b"\x0c\x00"), EventLogCode.MALFORMED),  # a digest of another bank
        (put(make_log(), HEADER + 46, b"\xff\xff\xff\xff"), EventLogCode.MALFORMED),
    ],
)
def test_a_log_of_another_form_is_refused(data: bytes, code: EventLogCode) -> None:
    with refused(code):
        parse_event_log(data)


def test_two_digests_for_one_bank_are_refused() -> None:
    data = make_log([(1, EventType.EV_ACTION, b"")], (Hash.SHA256, Hash.SHA384))
    at = len(make_log([], (Hash.SHA256, Hash.SHA384))) + 12 + 34
    raw = data[:at] + b"\x0b\x00" + bytes(32) + data[at + 50 :]
    with refused(EventLogCode.MALFORMED):
        parse_event_log(raw)


@pytest.mark.parametrize("fill", [b"\xff", b"\0"])
def test_a_table_is_filled_up_with_ones_or_zeros_and_nothing_else(fill: bytes) -> None:
    data = make_log(BOOT, (Hash.SHA384,), padding=fill * 100)
    log = parse_event_log(data, padded=True)
    assert (log.padding, log.serialize()) == (fill * 100, data)
    with refused(EventLogCode.MALFORMED):
        parse_event_log(data + b"\x01", padded=True)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_refused_or_serialise_to_themselves(data: st.DataObject) -> None:
    seed = make_log(BOOT, (Hash.SHA256, Hash.SHA384))
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, len(seed)))
    raw = seed[:start] + data.draw(st.binary(max_size=64)) + seed[end:]
    padded = data.draw(st.booleans())
    log = outcome(functools.partial(parse_event_log, raw, padded=padded))
    if isinstance(log, ErrorCode):
        assert isinstance(log, EventLogCode)
        return
    assert log.serialize() == raw
    replayed: Any = outcome(functools.partial(replay_pcrs, log, Hash.SHA256))
    assert isinstance(replayed, dict | EventLogCode)
