"""The page of results, section by section: each run replaces its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).with_name("RESULTS.md")
_SECTIONS: Final = ("Coverage-guided runs", "Every flipped bit of collateral")
_INTRODUCTION: Final = """# Results of `make fuzz`

Written by the runs themselves. `make test` repeats every finding, and runs each target for a moment by a fixed seed.
"""


def replace_section(title: str, body: str) -> None:
    """Write one section, and keep the other."""
    found = _read()
    found[title] = body.strip()
    parts = [f"## {name}\n\n{found[name]}\n" for name in _SECTIONS if name in found]
    PAGE.write_text("\n".join([_INTRODUCTION, *parts]), encoding="utf-8")


def read_section(title: str) -> str:
    """Return one section as it was written last; empty where it never was."""
    return _read().get(title, "")


def _read() -> dict[str, str]:
    if not PAGE.is_file():
        return {}
    chunks = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {title: body.strip() for title, _, body in (chunk.partition("\n") for chunk in chunks)}
