"""Coverage-guided runs with atheris: `make fuzz`, or `python -m tests.fuzz.guided --seconds 20 [TARGET ...]`.

Each target runs in a process of its own, from seeds that are written to a folder of their own, within bounds of time
and memory that libFuzzer holds.  What it finds is kept under regressions/, which `make test` repeats.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.fuzz.results import read_section, replace_section

ROOT: Final = Path(__file__).resolve().parents[2]
REGRESSIONS: Final = Path(__file__).with_name("regressions")
MAX_LENGTH: Final = 16 * 1024
SECTION: Final = "Coverage-guided runs"
ONE_INPUT: Final = 5
"""Seconds after which one input counts as a hang."""
MEMORY: Final = 1024
"""MiB of a whole process, most of it libraries."""
_PATTERNS: Final = {"executions": r"stat::number_of_executed_units:\s*(\d+)", "coverage": r"cov: (\d+)"}


def fuzz_one(name: str, arguments: list[str]) -> None:
    """Run one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["attestation", "enclave", "manifests"]):
        from tests.fuzz.targets import BY_NAME, check

    target = BY_NAME[name]
    atheris.Setup([name, *arguments], lambda data: check(target, data), enable_python_coverage=True)
    atheris.Fuzz()


def write_seeds(name: str, folder: Path) -> int:
    """Write a target's seeds; returns how many."""
    from tests.fuzz.targets import BY_NAME

    seeds = [seed[:MAX_LENGTH] for seed in BY_NAME[name].seeds()]
    for seed in seeds:
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    return len(seeds)


def run(name: str, seconds: int) -> dict[str, int]:
    """Fuzz one target for some seconds; returns executions, coverage, seconds and findings."""
    with tempfile.TemporaryDirectory() as place:
        corpus, found = Path(place, "corpus"), Path(place, "found")
        corpus.mkdir()
        found.mkdir()
        write_seeds(name, corpus)
        bounds = [f"-max_total_time={seconds}", f"-timeout={ONE_INPUT}", f"-rss_limit_mb={MEMORY}"]
        options = ["-seed=1", f"-max_len={MAX_LENGTH}", "-print_final_stats=1", f"-artifact_prefix={found}/"]
        command = [sys.executable, "-m", "tests.fuzz.guided", "--one", name, *bounds, *options, str(corpus)]
        start = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=_environment())
        findings = [_keep(name, path) for path in sorted(found.iterdir())]
        if done.returncode and not findings:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        if findings:
            print(done.stdout[-3000:], done.stderr[-3000:])
    numbers = {key: int((re.findall(pattern, done.stderr) or ["0"])[-1]) for key, pattern in _PATTERNS.items()}
    return numbers | {"seconds": round(time.monotonic() - start), "findings": len(findings)}


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def _keep(name: str, path: Path) -> Path:
    """Keep a finding as a regression, named by its kind and content."""
    data = path.read_bytes()
    kept = REGRESSIONS / name / f"{path.name.partition('-')[0]}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return kept


def main() -> int:
    """Fuzz the named targets, or all of them, and write their rows of the page; returns 1 if something was found."""
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("targets", nargs="*")
    arguments = parser.parse_args()
    from tests.fuzz.targets import TARGETS

    names = arguments.targets or [target.name for target in TARGETS]
    rows, total = [], 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for name, result in zip(names, pool.map(lambda each: run(each, arguments.seconds), names), strict=True):
            total += result["findings"]
            rows.append((name, result))
            print(name, result, flush=True)
    replace_section(SECTION, table(read_section(SECTION), rows))
    return 1 if total else 0


def table(before: str, rows: list[tuple[str, dict[str, int]]]) -> str:
    """Return the section with today's rows in the place of older ones of the same targets, which stay otherwise."""
    today = datetime.now(UTC).date().isoformat()
    found = dict(re.findall(r"^\| ([a-z0-9-]+) (\| 20.*)$", before, re.MULTILINE))
    for name, r in rows:
        cells = (today, f"{r['executions']:,}", r["seconds"], r["coverage"], r["findings"])
        found[name] = "".join(f"| {cell} " for cell in cells) + "|"
    lines = [
        f"{len(found)} targets, as each was run last; seconds are those of the process, start and seeds included.",
        "Coverage is libFuzzer's count of edges, of this project's code alone.",
        "",
        "| Target | Date | Executions | Seconds | Coverage | Findings |",
        "|---|---|---:|---:|---:|---:|",
        *(f"| {name} {cells}" for name, cells in found.items()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
