from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from attestation.sim import landlock

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "=== block"


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short path; what still runs in it afterwards is ended."""
    with tempfile.TemporaryDirectory(prefix="tutorial-") as name:
        yield Path(name)
        for process in psutil.process_iter(["cmdline"]):
            if any(name in word for word in process.info["cmdline"] or ()):
                process.kill()


def follow(folder: Path, page: Path = TUTORIAL) -> tuple[list[str], str]:
    """Run every shell block of a page, in order, in one shell; return the output of each and the whole."""
    blocks = BLOCK.findall(page.read_text())
    script = "set -euo pipefail\n" + "".join(f"echo '{MARK}'\n{block}" for block in blocks)
    if not landlock.version():  # as the tutorial says
        script = re.sub(r"(strongroom host (check|up)) ", r"\1 --dangerously-unconfined ", script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    state = str(folder / "state")
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "XDG_STATE_HOME": state, "TERM": "dumb", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.split(MARK)[1:], done.stdout


def test_the_tutorial_can_be_followed_literally(folder: Path):
    outputs, everything = follow(folder)
    assert len(outputs) == len(BLOCK.findall(TUTORIAL.read_text())) > 15
    assert everything.count("refused with exit status 10") == 3
    assert "sgx-mrenclave" in everything, "the refusal names the check that failed"
    python = next(text for text in outputs if "<Session SIMULATED" in text)
    assert python.count("[0 2]") == 2, "both flowers are told apart, also by the resumed session"
    assert (folder / "client" / "answer.npz").is_file()
    assert not found_in(folder / "machine", folder), "the machine never holds the model in plain text"


def found_in(machine: Path, folder: Path) -> list[Path]:
    """Search every file of the operator's for pieces of the owner's ONNX files."""
    graphs = [path for path in folder.rglob("*.onnx") if machine not in path.parents]
    assert graphs
    pieces = {data[at : at + 48] for data in map(Path.read_bytes, graphs) for at in range(0, len(data) - 48, 97)}
    pieces = {piece for piece in pieces if len(set(piece)) > 16}
    assert pieces
    files = [path for path in machine.rglob("*") if path.is_file()]
    assert len(files) > 5
    return [path for path in files if any(piece in path.read_bytes() for piece in pieces)]
