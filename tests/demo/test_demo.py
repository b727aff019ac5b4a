"""The demonstration as its users run it: once to its end, and once interrupted half-way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from evaluation.demo import story
from evaluation.demo.attacks import ATTACKS
from evaluation.demo.cli import demo
from evaluation.demo.report import Report


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demonstration puts its files; a short path."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


@contextlib.contextmanager
def interrupts_heeded() -> Iterator[None]:
    """Let processes that are started here be interrupted, though a shell may have had this one ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start(temporary: Path, *words: str) -> subprocess.Popen[str]:
    with interrupts_heeded():
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def still_running(temporary: Path) -> list[list[str]]:
    """Command lines of processes that still work below the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if any(str(temporary) in word for word in line):
            found.append(line)
    return found


def test_the_demonstration_holds_all_that_it_claims_and_leaves_nothing(temporary: Path):
    process = start(temporary, "strongroom", "demo", "--json")
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, output + errors
    report = json.loads(output)
    assert {model["name"]: model["identical"] for model in report["models"]} == {"tumour": True, "magika": True}
    tumour = next(model for model in report["models"] if model["name"] == "tumour")
    assert tumour["correct"] >= 0.95 * tumour["cases"] == 0.95 * 114
    assert report["host"]["pieces_searched"] > 100
    assert report["host"]["pieces_found"] == 0
    assert {refusal["attack"] for refusal in report["refusals"]} == set(ATTACKS)
    assert all(refusal["as_expected"] for refusal in report["refusals"])
    assert report["receipt"] == "receipt-model"
    assert report["seconds"] < 2 * 60, "a minute on an idle machine; here other tests run beside it"
    assert not list(temporary.iterdir())
    assert not still_running(temporary)


def wait_for_the_enclave(process: subprocess.Popen[str], temporary: Path) -> None:
    deadline = time.monotonic() + 100
    while not any("--settings" in line for line in still_running(temporary)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check_interrupted(temporary: Path, number: int, *words: str) -> None:
    process = start(temporary, *words)
    try:
        wait_for_the_enclave(process, temporary)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode != 0
        assert not list(temporary.iterdir())
        assert not still_running(temporary)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_ends_its_processes_and_removes_its_files(temporary: Path, number: int):
    check_interrupted(temporary, number, "tests.demo.quick")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_of_the_demonstration_can_be_interrupted(temporary: Path, number: int):
    check_interrupted(temporary, number, "strongroom", "demo")


def test_a_demonstration_heeds_interrupts_that_its_shell_had_it_ignore(monkeypatch: pytest.MonkeyPatch):
    """As a script has it that puts the demonstration into the background."""
    heeded = []
    monkeypatch.setattr(story, "run", lambda *_: heeded.append(signal.getsignal(signal.SIGINT)) or Report())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert CliRunner().invoke(demo, ["--json"]).exit_code == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert heeded == [signal.default_int_handler]


@pytest.mark.long
def test_parts_do_not_outlive_a_demonstration_that_is_killed(temporary: Path):
    process = start(temporary, "strongroom", "demo")
    wait_for_the_enclave(process, temporary)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while still_running(temporary):
        assert time.monotonic() < deadline, still_running(temporary)
        time.sleep(0.1)
