"""What the pages tell a reader to make can be made."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`make ([a-z-]+)`|^make ([a-z-]+)", re.MULTILINE)
TARGET = re.compile(r"^([a-z-]+):.*## \S", re.MULTILINE)


def test_every_target_that_a_page_names_exists_and_is_in_the_help() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "Makefile"]
    named = {(page.name, word) for page in pages for pair in NAMED.findall(page.read_text("utf-8")) for word in pair}
    targets = set(TARGET.findall((ROOT / "Makefile").read_text("utf-8")))
    assert {("README.md", "demo"), ("tutorial.md", "venv")} <= named
    assert [(page, word) for page, word in sorted(named) if word and word not in targets] == []
