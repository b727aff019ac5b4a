"""Each parser of foreign bytes keeps its contract: a short run by a fixed seed, and every finding of longer runs.

`make fuzz` runs the same targets for longer, guided by coverage; see RESULTS.md.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.guided import SECTION, table
from tests.fuzz.mutate import mutated
from tests.fuzz.results import read_section
from tests.fuzz.targets import BY_NAME, TARGETS, BrokenContractError, Target, check

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "fuzz.lock"
REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*/*.bin"))
SECONDS = 2.0
"""For one input: a thousand times what any takes, since other tests run beside."""
MEMORY = 24 * 1024 * 1024
"""For one input of at most 64 KiB or so, besides what its seeds take."""

EXAMPLES = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@functools.lru_cache(maxsize=len(TARGETS))
def seeds_of(target: Target) -> tuple[bytes, ...]:
    return tuple(target.seeds())


def timed(target: Target, data: bytes) -> None:
    start = time.process_time()
    check(target, data)
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_input_is_refused_by_a_code_or_kept(target: Target) -> None:
    @EXAMPLES
    @given(random=st.randoms(use_true_random=False), noise=st.binary(max_size=64))
    def run(random: Random, noise: bytes) -> None:
        timed(target, mutated(random, seeds_of(target)))
        timed(target, noise)

    run()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_memory_is_bounded(target: Target) -> None:
    """The peak over seeds and their mutations, not counting what importing and signing keep for good."""
    random, seeds = Random(target.name), seeds_of(target)
    check(target, seeds[0])
    tracemalloc.start()
    try:
        for data in (*seeds[:3], *(mutated(random, seeds) for _ in range(8))):
            tracemalloc.reset_peak()
            held = tracemalloc.get_traced_memory()[0]
            check(target, data)
            assert tracemalloc.get_traced_memory()[1] - held < MEMORY
    finally:
        tracemalloc.stop()


SPEAKS = 2
"""Outcomes that the mutations of a target reach at least: a target that refuses all alike fuzzes nothing."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_reaches_beyond_its_first_check(target: Target) -> None:
    random, seeds = Random(target.name), seeds_of(target)
    reached = {check(target, seed) for seed in seeds} | {check(target, mutated(random, seeds)) for _ in range(60)}
    assert len(reached) >= SPEAKS


def test_there_are_findings_to_repeat_and_each_is_of_a_target() -> None:
    assert REGRESSIONS
    assert {path.parent.name for path in REGRESSIONS} <= BY_NAME.keys()


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_finding_stays_fixed(path: Path) -> None:
    timed(BY_NAME[path.parent.name], path.read_bytes())


def test_names_of_targets_are_unique() -> None:
    assert len(BY_NAME) == len(TARGETS) >= 50


def test_a_broken_contract_would_be_found() -> None:
    careless = Target("careless", lambda data: data.strip(), lambda: [b"x "], remade=bytes)
    with pytest.raises(BrokenContractError):
        check(careless, b"x ")
    with pytest.raises(ZeroDivisionError):
        check(Target("partial", lambda data: 1 // len(data), lambda: [b""]), b"")


def test_the_fuzzing_environment_has_what_the_targets_import() -> None:
    """`make fuzz` runs outside the environment of these tests: a helper of theirs may not bring in what it lacks."""
    program = (
        "import sys; from importlib.metadata import packages_distributions as found\n"
        "before = set(sys.modules); import tests.fuzz.targets\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted({name for top in tops for name in found().get(top, [])}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    locked = {line.partition("==")[0] for line in LOCK.read_text().splitlines() if "==" in line}
    loaded = {name.lower().replace("_", "-") for name in done.stdout.split()} - {"strongroom"}
    assert "cryptography" in loaded
    assert loaded <= locked


def test_the_page_of_results_has_every_target() -> None:
    rows = re.findall(r"^\| ([a-z0-9-]+) \| 20", read_section(SECTION), re.MULTILINE)
    assert sorted(rows) == sorted(target.name for target in TARGETS)


def test_a_run_of_some_targets_keeps_the_rows_of_the_others() -> None:
    before = "| one | 2026-01-01 | 5 | 1 | 9 | 0 |\n| two | 2026-01-02 | 1,000 | 1 | 9 | 0 |"
    page = table(before, [("two", {"executions": 2000, "seconds": 3, "coverage": 10, "findings": 0})])
    assert "| one | 2026-01-01 | 5 | 1 | 9 | 0 |" in page
    assert "| 2,000 | 3 | 10 | 0 |" in page
    assert "1,000" not in page
