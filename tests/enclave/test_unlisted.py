"""Files that no manifest lists, put where the enclave's interpreter would find them, after everything was measured."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestation.sim import landlock
from attestation.wire.frames import FrameDecoder
from evaluation.demo.installation import Installation
from manifests.gramine.render import render
from manifests.gramine.settings import FIRST, EnclaveSettings
from tests.attestation.sim_rig import UNCONFINED

PAYLOAD = "import sys; sys.stderr.write('the intruder runs\\n'); sys.stderr.flush()\n"
MARK = b"the intruder runs"
LIBRARY = sysconfig.get_config_var("EXT_SUFFIX")
NEEDS_LANDLOCK = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")


@dataclass
class Machine:
    """An installation of its own, with its rendered enclave; `site` and `code` are of its path."""

    folder: Path
    site: Path
    code: Path
    manifest: Path

    def start(self) -> tuple[int, bool, bytes]:
        """Start the enclave and end it once it is ready; return exit status, whether it was, and what it wrote."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-B", "-m", "attestation.sim", "run", "--home", str(self.folder / "platform")]
        command += ["--manifest", str(self.manifest), "--host-fd", str(theirs.fileno()), *UNCONFINED]
        with subprocess.Popen(command, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE) as process, ours:
            theirs.close()
            ours.settimeout(60)
            is_ready = any(frame.route == "!ready" for frame in FrameDecoder().feed(ours.recv(4096)))
            ours.close()
            _, written = process.communicate(timeout=60)
        return process.returncode, is_ready, written


@contextlib.contextmanager
def planted(path: Path) -> Iterator[None]:
    """Put a file where an intruder would, and take it away again."""
    folder = path.parent
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    path.write_text(PAYLOAD)
    try:
        yield
    finally:
        path.unlink()
        if is_new:
            folder.rmdir()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("machine")
    installation = Installation(folder)
    installation.make()
    site = Path(sysconfig.get_path("purelib", vars={"base": str(installation.python.parent.parent)}))
    rendered = render(EnclaveSettings(FIRST), folder / "enclave", python=str(installation.python))
    return Machine(folder, site, installation.code, rendered.path)


@pytest.mark.parametrize("name", ["zz-innocent.pth", "sitecustomize.py"])
def test_what_site_would_execute_is_not_executed(machine: Machine, name: str) -> None:
    with planted(machine.site / name):
        seen = subprocess.run(
            [machine.folder / "environment" / "bin" / "python", "-c", ""], capture_output=True, check=True
        )
        assert MARK in seen.stderr, "an ordinary interpreter executes it"
        status, is_ready, written = machine.start()
    assert MARK not in written
    assert (status, is_ready) == (0, True), written


@NEEDS_LANDLOCK
@pytest.mark.parametrize("name", ["numpy.py", "numpy/__init__.py"])
def test_a_folder_that_holds_nothing_listed_is_not_looked_into(machine: Machine, name: str) -> None:
    with planted(machine.site / name):
        status, is_ready, written = machine.start()
    assert MARK not in written
    assert (status, is_ready) == (0, True), written


@NEEDS_LANDLOCK
@pytest.mark.parametrize("name", ["numpy.py", "numpy/__init__.py", f"enclave/server{LIBRARY}"])
def test_a_module_in_the_way_of_a_listed_one_is_found_and_not_opened(machine: Machine, name: str) -> None:
    """The first folder wins, and in a folder a library before a source: so the enclave does not start."""
    with planted(machine.code / name):
        status, is_ready, written = machine.start()
    assert MARK not in written
    assert (status, is_ready) == (1, False)
    assert b"Permission denied" in written


def test_the_interpreters_own_modules_come_first(machine: Machine) -> None:
    with planted(machine.code / "argparse.py"):
        status, is_ready, written = machine.start()
    assert MARK not in written
    assert (status, is_ready) == (0, True), written
