"""The audit log: whatever is done to any row, the verifier names the row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.broker.audit import AuditError, AuditRow, EventKind, Head, genesis, next_row, verify_log
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.export import read_export, write_export
from manifests import canonical
from manifests.signing import Signer
from tests.broker.support import NOW

BROKER = Signer.from_seed(bytes(32))
COUNT = 12


def chain(
    count: int, *, signer: Signer = BROKER, note: str = "x", start: list[AuditRow] | None = None
) -> list[AuditRow]:
    rows = list(start or [])
    head = rows[-1].head() if rows else genesis(signer.public)
    while len(rows) < count:
        row = next_row(
            head, signer, time=NOW, kind=EventKind.RELEASE, tables={"models": bytes(32)}, event={"note": note}
        )
        rows.append(row)
        head = row.head()
    return rows


ROWS = chain(COUNT)
HEAD = ROWS[-1].head().digest
FORK = [chain(at + 1, note="another", start=ROWS[:at])[-1] for at in range(COUNT)]


def problem(rows: list[AuditRow], *expected: bytes) -> tuple[BrokerCode, int]:
    with pytest.raises(AuditError) as error:
        list(verify_log(rows, BROKER.public, expected=expected))
    assert error.value.to_dict()["index"] == error.value.index
    assert f"audit row {error.value.index}" in str(error.value)
    return error.value.code, error.value.index


def test_an_untouched_log_verifies_to_its_head() -> None:
    entries = list(verify_log(ROWS, BROKER.public, expected=[HEAD, ROWS[3].head().digest]))
    assert [entry.index for entry in entries] == list(range(COUNT))
    assert entries[-1].head == HEAD
    assert entries[0].to_dict()["event"] == {"note": "x"}


def test_an_empty_log_is_only_the_log_of_nothing() -> None:
    assert list(verify_log([], BROKER.public, expected=[genesis(BROKER.public).digest])) == []
    assert problem([], HEAD) == (BrokerCode.AUDIT_HEAD, 0)


index = st.integers(0, COUNT - 1)


@given(index)
@settings(deadline=None, max_examples=30)
def test_a_deleted_row_is_named(at: int) -> None:
    code, found = problem(ROWS[:at] + ROWS[at + 1 :], HEAD)
    assert found == at
    assert code is (BrokerCode.AUDIT_ORDER if at < COUNT - 1 else BrokerCode.AUDIT_HEAD)


@given(st.lists(index, min_size=2, max_size=2, unique=True))
@settings(deadline=None, max_examples=30)
def test_two_swapped_rows_are_named_at_the_first(pair: list[int]) -> None:
    rows, (first, second) = list(ROWS), sorted(pair)
    rows[first], rows[second] = rows[second], rows[first]
    assert problem(rows) == (BrokerCode.AUDIT_ORDER, first)


@given(st.lists(index, min_size=2, max_size=2, unique=True))
@settings(deadline=None, max_examples=30)
def test_two_rows_swapped_under_their_indices_are_named_at_the_first(pair: list[int]) -> None:
    rows, (first, second) = list(ROWS), sorted(pair)
    for place, source in ((first, ROWS[second]), (second, ROWS[first])):
        rows[place] = AuditRow(place, source.previous, source.body, source.signature)
    assert problem(rows)[1] == first


@given(st.integers(0, COUNT))
@settings(deadline=None, max_examples=20)
def test_a_log_cut_anywhere_lacks_its_head(at: int) -> None:
    if at == COUNT:
        assert len(list(verify_log(ROWS[:at], BROKER.public, expected=[HEAD]))) == COUNT
    else:
        assert problem(ROWS[:at], HEAD) == (BrokerCode.AUDIT_HEAD, at)


@given(index)
@settings(deadline=None, max_examples=20)
def test_a_row_of_another_history_is_named(at: int) -> None:
    """The broker did sign it, at that place: once its database was put back."""
    rows = [*ROWS[:at], FORK[at], *ROWS[at + 1 :]]
    if at < COUNT - 1:
        assert problem(rows, HEAD) == (BrokerCode.AUDIT_FORKED, at + 1)
    else:
        assert problem(rows, HEAD) == (BrokerCode.AUDIT_HEAD, COUNT)


@given(index, st.integers(1, COUNT))
@settings(deadline=None, max_examples=30)
def test_a_repeated_row_is_named(at: int, place: int) -> None:
    rows = [*ROWS[:place], ROWS[at], *ROWS[place:]]
    code, found = problem(rows, HEAD) if (at, place) != (COUNT, COUNT) else (BrokerCode.AUDIT_ORDER, place)
    assert code is BrokerCode.AUDIT_ORDER
    assert found == place if at != place else found == place + 1


@given(index, st.sampled_from(["previous", "body", "signature"]), st.data())
@settings(deadline=None, max_examples=80)
def test_an_edited_row_is_named(at: int, part: str, data: st.DataObject) -> None:
    row = ROWS[at]
    value = bytearray(getattr(row, part))
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    rows = list(ROWS)
    rows[at] = AuditRow(**{**vars(row), part: bytes(value)})
    assert problem(rows) == (BrokerCode.AUDIT_ALTERED, at)


@given(index, st.integers(0, 1 << 62))
@settings(deadline=None, max_examples=20)
def test_a_row_under_another_number_is_named(at: int, number: int) -> None:
    rows = list(ROWS)
    rows[at] = AuditRow(**{**vars(ROWS[at]), "index": number})
    if number == at:
        assert len(list(verify_log(rows, BROKER.public))) == COUNT
    else:
        assert problem(rows) == (BrokerCode.AUDIT_ORDER, at)


def test_a_log_of_another_broker_does_not_verify() -> None:
    foreign = chain(3, signer=Signer.from_seed(b"\1" * 32))
    assert problem(foreign) == (BrokerCode.AUDIT_ALTERED, 0)


BODIES: dict[str, object] = {
    "no map": [],
    "a version that never was": {"version": 0},
    "fields missing": {"version": 1},
    "an unknown kind": {"version": 1, "index": 0, "time": 0, "kind": "party", "tables": {}, "event": {}},
    "a short table MAC": {"version": 1, "index": 0, "time": 0, "kind": "release", "tables": {"m": b""}, "event": {}},
    "an event that is no map": {"version": 1, "index": 0, "time": 0, "kind": "release", "tables": {}, "event": 1},
}


def signed_row(body: object) -> AuditRow:
    head = genesis(BROKER.public)
    encoded = canonical.encode(body)
    unsigned = AuditRow(0, head.digest, encoded, b"")
    signature = BROKER.sign(b"strongroom audit head v1\0", unsigned.head().digest)
    return AuditRow(0, head.digest, encoded, signature)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_signed_body_of_another_shape_is_malformed(body: object) -> None:
    assert problem([signed_row(body)]) == (BrokerCode.AUDIT_MALFORMED, 0)


def test_a_row_of_a_later_version_asks_for_a_newer_release() -> None:
    with pytest.raises(AuditError, match="later version") as error:
        list(verify_log([signed_row({"version": 2, "whatever": "it holds"})], BROKER.public))
    assert (error.value.code, error.value.remedy) == (BrokerCode.AUDIT_VERSION, "use a newer release")


def test_an_event_too_large_for_a_row_is_refused_when_it_is_made() -> None:
    with pytest.raises(AuditError) as error:
        next_row(Head(0, bytes(64)), BROKER, time=0, kind=EventKind.RELEASE, tables={}, event={"note": "x" * 50_000})
    assert error.value.code is BrokerCode.AUDIT_TOO_LARGE


# ------------------------------------------------------------------------------------------------ exports


def exported(tmp_path: Path) -> Path:
    write_export(tmp_path / "log", BROKER.public, ROWS)
    return tmp_path / "log"


def test_an_export_holds_the_log(tmp_path: Path) -> None:
    path = exported(tmp_path)
    assert list(read_export(path, BROKER.public)) == ROWS
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_shorter_export_is_refused_or_lacks_the_head(tmp_path: Path) -> None:
    path = exported(tmp_path)
    data = path.read_bytes()
    ends = []
    for size in range(0, len(data), 41):
        path.write_bytes(data[:size])
        with pytest.raises(BrokerError) as error:
            list(verify_log(read_export(path, BROKER.public), BROKER.public, expected=[HEAD]))
        assert error.value.code in {BrokerCode.AUDIT_MALFORMED, BrokerCode.AUDIT_HEAD}
        ends.append(getattr(error.value, "index", 0))
    assert ends == sorted(ends)
    assert ends[-1] == COUNT - 1


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "no header": lambda _data: b"",
    "another magic": lambda data: data.replace(b"strongroom audit log", b"strongroom audit lob"),
    "a row of no bytes": lambda data: data + bytes(4),
    "a row that claims four gigabytes": lambda data: data + b"\xff\xff\xff\xff",
    "a row that is no row": lambda data: data + b"\0\0\0\1\x80",
    "a row with an item missing": lambda data: data + b"\0\0\0\2\x91\x01",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_malformed_export_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = exported(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BrokerError) as error:
        list(verify_log(read_export(path, BROKER.public), BROKER.public))
    assert error.value.code is BrokerCode.AUDIT_MALFORMED


def test_an_export_of_a_later_version_asks_for_a_newer_release(tmp_path: Path) -> None:
    path = tmp_path / "log"
    header = canonical.encode(["strongroom audit log", 2, BROKER.public])
    path.write_bytes(len(header).to_bytes(4, "big") + header)
    with pytest.raises(BrokerError) as error:
        list(read_export(path, BROKER.public))
    assert (error.value.code, error.value.expected, error.value.found) == (BrokerCode.AUDIT_VERSION, 1, 2)


def test_the_export_of_another_broker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerError) as error:
        list(read_export(exported(tmp_path), b"\1" * 32))
    assert error.value.code is BrokerCode.AUDIT_FORKED


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_reading_any_bytes_as_a_row_ends_in_a_row_or_the_documented_error(data: bytes) -> None:
    try:
        result: AuditRow | AuditError = AuditRow.decode(data, 5)
    except AuditError as error:
        result = error
    if isinstance(result, AuditError):
        assert (result.code, result.index) == (BrokerCode.AUDIT_MALFORMED, 5)
    else:
        assert result.encode() == data
