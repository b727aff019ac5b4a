"""The simulator as a process: what the enclave gets, what it can have quoted, and how both end."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from attestation import evidence
from attestation.collateral import DirectorySource
from attestation.evidence import Roots
from attestation.sim.launch import ATTESTATION_DESCRIPTOR, HOST_DESCRIPTOR
from manifests.gramine.measure import measure
from tests.attestation.sim_rig import ENCLAVE, FLAGS, UNCONFINED, running, spawn, write_manifest


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_the_enclave_gets_what_its_manifest_says_and_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path) as sim:
        facts = json.loads(sim.ask("facts"))
        assert facts["env"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # the interpreter's own (PEP 538)
        assert facts["env"] == {"GREETING": "hello"}
        assert facts["argv"] == [sys.executable, *FLAGS, str(tmp_path / "enclave.py")]
        assert facts["cwd"] == "/"
        proc = Path(f"/proc/{sim.ready['enclave_pid']}")
        descriptors = sorted(int(entry.name) for entry in (proc / "fd").iterdir())
        assert descriptors == [0, 1, 2, HOST_DESCRIPTOR, ATTESTATION_DESCRIPTOR]
        assert facts["stdin"] == "/dev/null"
        assert facts["core"] == [0, 0]
        assert facts["files"] == [64, 64]
        assert "NoNewPrivs:\t1" in (proc / "status").read_text()
        assert sim.tell("exit 0") == 0


def test_the_enclave_is_quoted_with_its_own_measurement(tmp_path: Path) -> None:
    with running(tmp_path) as sim:
        quote = evidence.parse(sim.ask("quote 64"))
        roots = Roots.simulated((sim.home / "root.pem").read_bytes())
        collateral = DirectorySource(sim.home / "collateral").fetch(evidence.collateral_key(quote))
        verified = evidence.verify(quote, collateral, roots, int(time.time()))
        body = verified.quote.body
        assert body.mr_enclave == measure((tmp_path / "enclave.manifest").read_bytes())
        assert (body.isv_prod_id, body.isv_svn, body.debug) == (3, 4, False)
        assert body.report_data == b"\x05" * 64
        assert sim.ready["mrenclave"] == body.mr_enclave.hex()
        assert sim.ready["mrsigner"] == body.mr_signer.hex()
        assert sim.ready["simulated_root"] == hashlib.sha256(roots_der(sim.home)).hexdigest()
        assert evidence.parse(sim.ask("quote 64")) == quote
        assert sim.tell("exit 0") == 0


def roots_der(home: Path) -> bytes:
    from attestation.intel.pem import decode_chain

    return decode_chain((home / "root.pem").read_bytes(), 1)[0]


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 7", 7), ("die", 137)])
def test_the_simulator_ends_as_the_enclave_does(tmp_path: Path, command: str, status: int) -> None:
    with running(tmp_path) as sim:
        assert sim.tell(command) == status
        assert sim.host.recv(1) == b""


def test_the_enclave_dies_with_a_killed_simulator(tmp_path: Path) -> None:
    with running(tmp_path) as sim:
        sim.process.kill()
        assert gone(sim.ready["enclave_pid"])
        assert sim.host.recv(1) == b""


def test_the_simulator_and_its_enclave_die_with_a_killed_host(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path)
    script = (
        "import socket, subprocess, sys, os\n"
        "ours, theirs = socket.socketpair()\n"
        "p = subprocess.Popen([sys.executable, '-I', '-B', '-m', 'attestation.sim', 'run', '--home', sys.argv[1],"
        " '--manifest', sys.argv[2], '--host-fd', str(theirs.fileno()), '--ready-fd', '1', *sys.argv[3:]],"
        " pass_fds=[theirs.fileno()])\n"
        "p.wait()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "platform"), str(manifest), *UNCONFINED]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        enclave = json.loads(host.stdout.readline())["enclave_pid"]
        host.kill()
    assert gone(enclave)


def test_sigterm_is_passed_on(tmp_path: Path) -> None:
    with running(tmp_path) as sim:
        sim.process.send_signal(signal.SIGTERM)
        assert sim.process.wait(20) == 128 + signal.SIGTERM
        assert gone(sim.ready["enclave_pid"])


def test_an_enclave_that_outlives_the_host_is_killed(tmp_path: Path) -> None:
    """The stream's end reaches the enclave as end of file; this one runs on in spite of it."""
    folder = tmp_path
    program = "import time\ntime.sleep(600)\n"
    manifest = write_manifest(folder, [sys.executable, *FLAGS, "-c", program])
    process, host, reader = spawn(folder, manifest)
    with process, os.fdopen(reader, encoding="ascii") as pipe:
        enclave = json.loads(pipe.read())["enclave_pid"]
        host.close()
        assert process.wait(30) == 128 + signal.SIGKILL
    assert gone(enclave)


def test_an_enclave_that_closes_its_attestation_socket_runs_on(tmp_path: Path) -> None:
    with running(tmp_path) as sim:
        assert sim.ask("hang") == b"ok"
        assert json.loads(sim.ask("facts"))["cwd"] == "/"
        assert sim.tell("exit 3") == 3


def test_a_changed_trusted_file_keeps_the_enclave_from_starting(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path)
    (tmp_path / "enclave.py").write_text(ENCLAVE + "# patched\n", encoding="utf-8")
    process, host, reader = spawn(tmp_path, manifest)
    with process, host, os.fdopen(reader, encoding="ascii") as pipe:
        assert pipe.read() == ""
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 10
    assert b"trusted-file-changed" in errors
    assert b"enclave.py" in errors


def test_a_program_that_cannot_be_run_is_reported(tmp_path: Path) -> None:
    program = tmp_path / "no-program"
    program.write_bytes(b"neither ELF nor script")
    program.chmod(0o755)
    manifest = write_manifest(tmp_path, [str(program)], str(program))
    process, host, reader = spawn(tmp_path, manifest)
    with process, host, os.fdopen(reader, encoding="ascii"):
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 40
    assert b"simulator-launch" in errors


@pytest.mark.parametrize("arguments", [("--unknown",), ("--ready-fd", "x")])
def test_a_wrong_command_line_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process, host, reader = spawn(tmp_path, tmp_path / "missing", *arguments)
    with process, host, os.fdopen(reader, encoding="ascii"):
        process.communicate(timeout=20)
    assert process.returncode == 2


def test_a_descriptor_above_the_limit_does_not_reach_the_enclave(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    high = fcntl.fcntl(opened := os.open(tmp_path / "secret", os.O_RDONLY), fcntl.F_DUPFD, 900)
    try:
        with running(tmp_path, keep=high) as sim:
            assert sim.ask(f"peek {high}") == b"Bad file descriptor"
    finally:
        os.close(high)
        os.close(opened)
