"""docs/wire.md says what the code does, where both can be read by a program."""

from __future__ import annotations

import re
from pathlib import Path

from attestation.types.claims import MAX_EVIDENCE
from attestation.wire import frames, records
from attestation.wire.messages import MessageType
from attestation.wire.session_core import FULL, HANDSHAKE_BOUNDS, PROLOGUE, RESUMED
from attestation.wire.session_states import CLIENT, SERVER, Move, State, Table

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()


def render(table: Table) -> str:
    """Return a state table as the page prints it."""
    rows = ["| in state | what happens | next state |", "|---|---|---|"]
    for state, moves in table.items():
        rows += [f"| {state.name} | {Move(move).name} | {after.name} |" for move, after in moves.items()]
    return "\n".join(rows)


def section(name: str) -> str:
    match = re.search(f"<!-- begin {name} -->\n(.*?)\n<!-- end {name} -->", PAGE, re.DOTALL)
    return match[1] if match else f"no section {name}"


def test_the_state_tables_of_the_page_are_those_of_the_code():
    assert section("client") == render(CLIENT)
    assert section("server") == render(SERVER)


def test_the_states_of_the_page_are_explained_in_the_code():
    named = {row.split("|")[1].strip() for row in (section("client") + section("server")).splitlines()}
    assert {state.name for state in State} - named == {"CLOSED", "DEAD"}


def test_the_bounds_of_the_page_are_those_of_the_code():
    for number in (
        frames.MAX_BODY,
        frames._BOUNDS.high,
        records.RECORD_BOUNDS.low,
        records.RECORD_BOUNDS.high,
        records.ROOM,
        records.REKEY_INTERVAL,
        HANDSHAKE_BOUNDS.high,
        MAX_EVIDENCE,
    ):
        assert f"{number:,}" in PAGE


def test_names_and_numbers_of_the_page_are_those_of_the_code():
    assert f"`{FULL.name}`" in PAGE
    assert f"`{RESUMED.name}`" in PAGE
    assert f"`{PROLOGUE.decode()}`" in PAGE
    for kind in MessageType:
        assert f"| {int(kind)} | {kind.name.lower()} |" in PAGE


def test_the_examples_of_padding_are_right():
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| (\d)", PAGE, re.MULTILINE)
    assert len(rows) >= 4
    for content, padded, count in rows:
        room = records.padded_room(int(content.replace(",", "")))
        assert room + 6 == int(padded.replace(",", ""))
        assert -(-room // records.ROOM) == int(count)
