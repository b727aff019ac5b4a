"""What strangers write is shown on a terminal, and not done by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.plain import printable, printable_lines
from manifests.show import print_facts, print_rows


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Größe 3 µm — 日本", "Größe 3 µm — 日本"),
        ("C:\\path", "C:\\path"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\x7f\x9b31m", "\\x7f\\x9b31m"),
        ("\u202etxt.exe\u2066", "\\u202etxt.exe\\u2066"),
        ("a\u2028b\u0085c\u00a0d", "a\\u2028b\\x85c\\xa0d"),
        ("\udc80 of a file's name", "\\udc80 of a file's name"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_feeds_stay_where_a_value_has_lines() -> None:
    assert printable_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\r\n"


@given(st.text(st.characters()))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode("utf-8")
    assert printable(text) == text or not text.isprintable()


def test_tables_and_facts_show_escapes_in_columns_that_stay_even(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([("ok", "\x1b[2K", "next"), ("no", "b", "next\nline")], {"ok": "green"})
    print_facts({"na\x1bme": "first\x1b\nsecond\r", "b": 5})
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "ok  \\x1b[2K  next",
        "no  b        next\\nline",
        "na\\x1bme  first\\x1b",
        "          second\\r",
        "b         5",
    ]
