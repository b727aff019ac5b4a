"""Codes are stable, unique, and documented."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_codes", ROOT / "docs" / "generate_codes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_codes_is_current() -> None:
    page = (ROOT / "docs" / "codes.md").read_text(encoding="utf-8")
    assert page == generator().render(), "run: .venv/bin/python docs/generate_codes.py"


def test_no_code_is_used_twice() -> None:
    codes = [str(code) for table in generator().tables() for code in table]
    assert len(codes) > 50
    assert sorted({code for code in codes if codes.count(code) > 1}) == []


def test_codes_are_words_that_scripts_can_match() -> None:
    for table in generator().tables():
        for code in table:
            assert code == code.lower()
            assert all(word.isalnum() for word in str(code).split("-")), code
            assert code.meaning


def sources(*folders: str) -> str:
    return "\n".join(
        path.read_text(encoding="utf-8") for name in folders for path in sorted((ROOT / name).rglob("*.py"))
    )


def test_every_code_is_raised_somewhere_and_asserted_by_a_test() -> None:
    """A code that nothing raises is a promise, and one that no test names is a refusal that nobody has seen."""
    program = sources("attestation", "enclave", "evaluation", "host", "manifests")
    program += (ROOT / "strongroom.py").read_text(encoding="utf-8")
    tests = sources("tests")
    unraised, untested = [], []
    for table in generator().tables():
        for code in table:
            if len(re.findall(rf"\b{code.name}\b", program)) < 2:
                unraised.append(str(code))
            if f"{table.__name__}.{code.name}" not in tests and str(code) not in tests:
                untested.append(str(code))
    assert (unraised, untested) == ([], [])
