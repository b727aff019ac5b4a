"""A whole run fails for a code that nothing reached; parts of one, and errors that tests make, say nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from attestation.errors import EvidenceCode, EvidenceError, FindingCode
from attestation.findings import Finding, Phase, Severity, check
from attestation.validity import Validity
from docs.generate_codes import tables
from manifests.errors import ErrorCode
from tests.testkit import reached

EARLY = Validity("a test", 2, 3, EvidenceCode.CRL_EARLY, EvidenceCode.CRL_EXPIRED)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[ErrorCode]:
    """What is reached from here on; the run's own record is left alone."""
    empty: set[ErrorCode] = set()
    monkeypatch.setattr(reached, "seen", empty)
    return empty


def test_an_error_that_the_project_makes_is_seen(seen: set[ErrorCode]) -> None:
    with pytest.raises(EvidenceError):
        EARLY.check(1)
    assert seen == {EvidenceCode.CRL_EARLY}


def test_an_error_that_a_test_makes_is_not(seen: set[ErrorCode]) -> None:
    EvidenceError(EvidenceCode.CRL_EARLY, "made by a test")
    Finding(FindingCode.TEE, Phase.PLATFORM, False, Severity.REFUSAL, "a", "b")
    assert seen == set()


def test_a_check_that_fails_is_seen_and_one_that_passes_is_not(seen: set[ErrorCode]) -> None:
    check(FindingCode.TEE, passed=True, expected="a", found="a")
    assert seen == set()
    check(FindingCode.ROOT, passed=True, expected="a", found="a", dangerous=True)
    check(FindingCode.CLASS, passed=False, expected="a", found="b")
    assert seen == {FindingCode.ROOT, FindingCode.CLASS}


def every() -> set[str]:
    return {reached.name_of(code) for table in tables() for code in table}


def test_a_code_that_nothing_reached_is_named() -> None:
    left = every() - reached.reviewed().keys()
    assert reached.wrong(left, tables()) == []
    assert reached.wrong(left - {"EvidenceCode.CRL_EARLY"}, tables()) == ["no test reached it: EvidenceCode.CRL_EARLY"]


def test_a_review_that_is_no_longer_needed_is_named() -> None:
    """What is listed is reached by no test, is a code, and has its reason."""
    names = sorted(reached.reviewed())
    assert [line for name in names for line in reached.wrong(every(), tables()) if line.endswith(f": {name}")] == [
        f"reached, so it need not be reviewed: {name}" for name in names
    ]


MODULES = {str(path.relative_to(reached.TESTS.parent)) for path in reached.TESTS.rglob("test_*.py")}


def run(modules: set[str] = MODULES, args: tuple[str, ...] = ("tests",), **options: Any) -> bool:
    default = "not extras and not long"
    options = {"markexpr": default, "keyword": ""} | options
    config: Any = SimpleNamespace(option=SimpleNamespace(**options), args=list(args), getini=lambda _: ["-m", default])
    return reached.is_whole(config, modules)


def test_only_a_whole_run_counts() -> None:
    assert run()
    assert not run(MODULES - {"tests/test_reached.py"})
    assert not run(args=("tests", "tests/test_reached.py::run"))
    for option in ({"markexpr": "long"}, {"keyword": "x"}, {"deselect": ["x"]}, {"lf": True}, {"stepwise": True}):
        assert not run(**option), option


def test_the_default_selection_is_that_of_the_project(pytestconfig: pytest.Config) -> None:
    assert "not extras and not long" in pytestconfig.getini("addopts")
