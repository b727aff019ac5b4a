"""The simulator as a process: what the enclave gets, what it can have quoted, and how both end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from attestation import evidence
from attestation.collateral import DirectorySource
from attestation.evidence import Roots
from attestation.sim.launch import ATTESTATION_DESCRIPTOR, HOST_DESCRIPTOR
from manifests.gramine.measure import measure

ENCLAVE = """
import json, os, resource, signal, socket, sys
host = socket.socket(fileno=3)
attestation = socket.socket(fileno=4)
def facts():
    status = open("/proc/self/status").read()
    return {"env": dict(os.environ), "argv": sys.orig_argv, "cwd": os.getcwd(),
            "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + n)),
            "stdin": os.readlink("/proc/self/fd/0"), "core": resource.getrlimit(resource.RLIMIT_CORE),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE), "no_new_privs": "NoNewPrivs:\\t1" in status}
def quote(size):
    attestation.sendall(b"\\x05" * size)
    data = attestation.recv(4, socket.MSG_WAITALL)
    return attestation.recv(int.from_bytes(data, "big"), socket.MSG_WAITALL)
stream = host.makefile("rb")
for line in stream:
    words = line.split()
    if words[0] == b"facts":
        answer = json.dumps(facts()).encode()
    elif words[0] == b"quote":
        answer = quote(int(words[1]))
    elif words[0] == b"stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        answer = b"ok"
    elif words[0] == b"hang":
        attestation.close()
        answer = b"ok"
    elif words[0] == b"exit":
        sys.exit(int(words[1]))
    elif words[0] == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    host.sendall(len(answer).to_bytes(4, "big") + answer)
"""


def trusted(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f'{{ uri = "file:{path}", sha256 = "{digest}" }}'


def write_manifest(folder: Path, argv: list[str] | None = None, entrypoint: str = sys.executable) -> Path:
    program = folder / "enclave.py"
    program.write_text(ENCLAVE, encoding="utf-8")
    argv = argv or [entrypoint, "-I", "-B", str(program)]
    text = f"""
libos.entrypoint = "{entrypoint}"
loader.argv = {json.dumps(argv)}
loader.env.GREETING = "hello"
loader.log_level = "error"
fs.root.type = "tmpfs"
sys.fds.limit = 64
sgx.enclave_size = "256M"
sgx.remote_attestation = "dcap"
sgx.file_check_policy = "strict"
sgx.isvprodid = 3
sgx.isvsvn = 4
sgx.trusted_files = [{trusted(Path(entrypoint))}, {trusted(program)}]
"""
    path = folder / "enclave.manifest"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass
class Running:
    """A simulator with its enclave, and the host's end of the stream."""

    process: subprocess.Popen[bytes]
    host: socket.socket
    home: Path
    ready: dict[str, Any]

    def ask(self, command: str) -> bytes:
        self.host.sendall(command.encode() + b"\n")
        (size,) = struct.unpack(">I", self.host.recv(4, socket.MSG_WAITALL))
        return self.host.recv(size, socket.MSG_WAITALL)

    def tell(self, command: str) -> int:
        """Send a command after which the enclave ends, and return the simulator's exit status."""
        self.host.sendall(command.encode() + b"\n")
        return self.process.wait(20)


def spawn(folder: Path, manifest: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], socket.socket, int]:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    command = [sys.executable, "-I", "-B", "-m", "attestation.sim", "run", "--home", str(folder / "platform")]
    command += ["--manifest", str(manifest), "--host-fd", str(theirs.fileno()), "--ready-fd", str(writer), *arguments]
    environment = os.environ | {"SECRET_OF_THE_HOST": "x"}
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(), writer), env=environment, stderr=subprocess.PIPE)
    theirs.close()
    os.close(writer)
    ours.settimeout(20)
    return process, ours, reader


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    process, host, reader = spawn(folder, write_manifest(folder))
    with process, host, os.fdopen(reader, encoding="ascii") as pipe:
        try:
            yield Running(process, host, folder / "platform", json.loads(pipe.read()))
        finally:
            process.kill()


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
        assert facts["argv"] == [sys.executable, "-I", "-B", str(tmp_path / "enclave.py")]
        assert facts["cwd"] == "/"
        assert facts["descriptors"] == [0, 1, 2, HOST_DESCRIPTOR, ATTESTATION_DESCRIPTOR]
        assert facts["stdin"] == "/dev/null"
        assert facts["core"] == [0, 0]
        assert facts["files"] == [64, 64]
        assert facts["no_new_privs"]
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


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill", 137)])
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
        " '--manifest', sys.argv[2], '--host-fd', str(theirs.fileno()), '--ready-fd', '1'],"
        " pass_fds=[theirs.fileno()])\n"
        "p.wait()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "platform"), str(manifest)]
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
    manifest = write_manifest(folder, [sys.executable, "-I", "-B", "-c", program])
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
