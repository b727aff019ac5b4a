"""Codes are stable, unique, and documented."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from attestation.errors import EvidenceCode, EvidenceError
from manifests.errors import ErrorCode, ManifestCode, ManifestError, StrongroomError
from manifests.files import concerning

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("attestation", "enclave", "evaluation", "host", "manifests")


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


MEMBER = re.compile(r"\b([A-Z][A-Za-z0-9]+\.[A-Z][A-Z0-9_]+)\b")
LITERAL = re.compile(r"""["']\[?([a-z0-9]+(?:-[a-z0-9]+)*)\]?["']""")
"""A text that is one code and nothing else, but for the brackets in which the command shows it."""
COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)


SET_ASIDE = re.compile(r"^[A-Z_]*(?:UNREACHED|REVIEWED)[A-Z_]*\b.*?^[})\]]$", re.MULTILINE | re.DOTALL)
"""A table of codes that tests do not reach: being named there is the opposite of being tested."""


def named(pattern: re.Pattern[str], *places: str) -> set[str]:
    """Return what a pattern finds in the sources of these folders and files, as whole words."""
    files = [
        file for place in places for file in ((ROOT / place).rglob("*.py") if "." not in place else [ROOT / place])
    ]
    return {word for file in files for word in pattern.findall(counted(file.read_text(encoding="utf-8")))}


def counted(text: str) -> str:
    """A source without comments, and without tables of what is not reached."""
    return SET_ASIDE.sub("", COMMENT.sub("", text))


def test_every_code_is_raised_somewhere_and_named_by_a_test() -> None:
    """A code that nothing raises is a promise, and one that no test names is a refusal that nobody has asked for.

    That each is reached, too, is seen at the end of a whole run: see tests/testkit/reached.py.
    """
    raised = named(MEMBER, *PACKAGES, "strongroom.py")
    tested, written = named(MEMBER, "tests"), named(LITERAL, "tests")
    codes = {f"{table.__name__}.{code.name}": str(code) for table in generator().tables() for code in table}
    assert sorted(codes.keys() - raised) == []
    assert sorted(name for name in codes.keys() - tested if codes[name] not in written) == []


def test_a_code_is_named_by_a_whole_word() -> None:
    text = """assert error.code is CodeTable.ONE_MORE  # and "one-more-of-these"\n    # CodeTable.ONE, "one" """
    assert MEMBER.findall(COMMENT.sub("", text)) == ["CodeTable.ONE_MORE"]
    assert LITERAL.findall(text) == ["one-more-of-these", "one"]
    assert LITERAL.findall("""'[two]' "no code" "[three] " """) == ["two"]


def test_a_code_in_a_table_of_unreached_ones_is_not_tested() -> None:
    table = 'UNREACHED: dict[ErrorCode, str] = {\n    CodeTable.ONE: "never",\n}\n"""Why."""\nassert CodeTable.TWO\n'
    assert MEMBER.findall(counted(table)) == ["CodeTable.TWO"]
    corpus = (ROOT / "tests/vectors/attestation/test_corpus.py").read_text(encoding="utf-8")
    assert "EvidenceCode.SIMULATOR_LAUNCH" in MEMBER.findall(corpus)
    assert "EvidenceCode.SIMULATOR_LAUNCH" not in MEMBER.findall(counted(corpus))


def error_for(code: ErrorCode) -> StrongroomError:
    """Return the error that a raise without a remedy of its own would make."""
    kind = StrongroomError if type(code).__module__ in OWN_REMEDIES else EvidenceError
    return kind(code, "a message")


OWN_REMEDIES = {
    "manifests.errors",
    "manifests.abuse.errors",
    "manifests.gramine.errors",
    "manifests.onnx.errors",
    "attestation.broker.errors",
    "attestation.client.errors",
    "host.errors",
    "evaluation.demo.errors",
    "strongroom",
}
"""Tables whose errors have no other remedy than their own; those of evidence fall back on the code's fault."""


def unhelpful_mentions(names: set[str]) -> set[str]:
    """Return those of these members ("Table.NAME") that are named outside of a call which gives a remedy."""
    found: set[str] = set()
    paths = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    for path in [*paths, ROOT / "strongroom.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        helpful = {
            inner
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and any(word.arg == "remedy" for word in call.keywords)
            for argument in call.args
            for inner in ast.walk(argument)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node not in helpful:
                found.add(f"{node.value.id}.{node.attr}")
    return found & names


def is_finding(table: type[ErrorCode]) -> bool:
    """Findings carry a remedy each time that they fail; what an enclave refuses is looked up by its clients."""
    return "Finding" in table.__name__ or table.__name__ in {"GuardCode", "EnclaveCode"}


def test_every_error_says_what_to_do_next() -> None:
    """By the remedy of its code, or else by one at each place that raises it."""
    tables = [table for table in generator().tables() if not is_finding(table)]
    bare = {f"{table.__name__}.{code.name}" for table in tables for code in table if not error_for(code).remedy}
    assert sorted(unhelpful_mentions(bare)) == []


def test_an_error_without_a_remedy_of_its_own_has_that_of_its_code() -> None:
    plain = StrongroomError(ManifestCode.SEALED_CHUNK, "no")
    assert plain.to_dict()["remedy"] == ManifestCode.SEALED_CHUNK.remedy
    assert StrongroomError(ManifestCode.SEALED_CHUNK, "no", remedy="this").remedy == "this"
    assert EvidenceError(EvidenceCode.CHAIN_ROLE, "no").remedy
    assert EvidenceError(EvidenceCode.CHAIN_ROLE, "no", remedy="this").remedy == "this"


def test_a_place_that_knows_more_replaces_the_codes_own_remedy(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as error, concerning(tmp_path, "name an ONNX file"):
        raise ManifestError(ManifestCode.FIELD_INVALID, "no")
    assert error.value.remedy == "name an ONNX file"
