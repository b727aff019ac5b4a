"""Every case of the conformance corpus has exactly its outcome; none is skipped, and none says what another does."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from tests.vectors.attestation import vector as files
from tests.vectors.attestation.generate import INDEX, index_of
from tests.vectors.attestation.runner import declared, run
from tests.vectors.attestation.vector import CASES, OUTCOMES, PHASES, SHARED, Vector

PATHS = sorted(CASES.rglob("*.txt"))
NAMES = [str(path.relative_to(CASES)) for path in PATHS]
SHARE = 8
"""Into how many tests the corpus is cut, so that processes can share it."""


@functools.lru_cache(maxsize=1)
def corpus() -> tuple[Vector, ...]:
    return tuple(files.read_all())


def test_the_corpus_is_there_and_whole() -> None:
    """Every file counts: read_all fails for one that is no case, and the index names each."""
    vectors = list(corpus())
    assert len(vectors) >= 200
    assert len(vectors) == len(PATHS) == sum(path.is_file() for path in CASES.rglob("*"))
    assert INDEX.read_text(encoding="utf-8") == index_of(vectors)
    assert {vector.tee for vector in vectors} == {path.name for path in CASES.iterdir()}


@pytest.mark.parametrize("part", range(SHARE))
def test_every_case_has_exactly_its_outcome(part: int) -> None:
    wrong = [
        f"{path}: {outcome} instead of {declared(vector)}"
        for path, vector in zip(NAMES, corpus(), strict=True)
        if hash_of(path) == part and (outcome := run(vector)) != declared(vector)
    ]
    assert wrong == []


def hash_of(name: str) -> int:
    return sum(name.encode()) % SHARE


def test_no_case_is_left_out_of_the_parts() -> None:
    assert {hash_of(name) for name in NAMES} == set(range(SHARE))


def test_cases_speak_the_fixed_vocabulary() -> None:
    for vector in corpus():
        assert vector.expect in OUTCOMES
        assert vector.phase is None if vector.expect == "accepted" else vector.phase in PHASES
        assert (vector.codes == ()) is (vector.expect == "accepted")
        assert vector.phase == "appraise" or len(vector.codes) <= 1
        assert re.fullmatch(r"[^\n]+[.:][^\n]*", vector.comment), vector.name
        assert re.fullmatch(r"[A-Za-z0-9 -]+", vector.edge), vector.name


def test_no_case_is_the_clone_of_another() -> None:
    vectors = corpus()
    assert len({vector.identity for vector in vectors}) == len(vectors)
    assert len({(vector.tee, vector.codes, vector.edge) for vector in vectors}) == len(vectors)
    assert len({(vector.tee, vector.edge.lower()) for vector in vectors}) == len(vectors)


def test_every_shared_file_is_used_and_the_corpus_stays_small() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PATHS)
    assert [path.name for path in SHARED.iterdir() if f"shared/{path.name}" not in text] == []
    assert sum(path.stat().st_size for path in CASES.parent.rglob("*") if path.is_file()) < 8 * 1024 * 1024


def test_a_file_that_is_no_case_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = PATHS[0].read_text(encoding="utf-8")
    monkeypatch.setattr(files, "CASES", tmp_path)
    place = tmp_path / PATHS[0].relative_to(CASES)
    place.parent.mkdir()
    place.write_text(good, encoding="utf-8")
    assert files.read(place) == corpus()[0]
    for bad in (
        good.replace("vector: 1", "vector: 2"),
        good.replace("expect:", "expects:"),
        good.replace("tee:", "tee: x\ntee:"),
        good.replace("edge: ", "edge: another "),
        good.replace("comment: ", "comment:  "),
        good.replace("evidence: ", "evidence: !"),
        good.replace("\n\n", "\n", 1),
        "",
    ):
        place.write_text(bad, encoding="utf-8")
        with pytest.raises(ValueError, match=r"."):
            files.read(place)
