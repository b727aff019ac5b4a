"""The simulator as a process, with a small enclave that does what a test tells it, and lists what it needs for that."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attestation.sim import landlock

UNCONFINED = () if landlock.version() else ("--dangerously-unconfined",)
"""What starts an enclave on this machine."""

IMPORTS = "import json, os, resource, signal, socket, subprocess, sys\n"
ENCLAVE = (
    IMPORTS
    + """
host = socket.socket(fileno=3)
attestation = socket.socket(fileno=4)
def facts():
    return {"env": dict(os.environ), "argv": sys.orig_argv, "cwd": os.getcwd(),
            "stdin": os.readlink("/proc/self/fd/0"), "core": resource.getrlimit(resource.RLIMIT_CORE),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)}
def quote(size):
    attestation.sendall(b"\\x05" * size)
    data = attestation.recv(4, socket.MSG_WAITALL)
    return attestation.recv(int.from_bytes(data, "big"), socket.MSG_WAITALL)
def attempt(action):
    try:
        return repr(action())
    except OSError as error:
        return error.strerror
ACTIONS = {
    "peek": lambda number: os.pread(int(number), 4, 0),
    "read": lambda path: open(path, "rb").read(4),
    "write": lambda path: open(path, "ab").write(b"x"),
    "list": os.listdir,
    "make": os.mkdir,
    "remove": os.remove,
    "move": lambda path: os.rename(path, path + ".moved"),
    "link": lambda path: os.link(path, path + ".link"),
    "truncate": lambda path: os.truncate(path, 0),
    "bind": lambda path: socket.socket(socket.AF_UNIX).bind(path),
    "run": lambda path: subprocess.run([path], check=True).returncode,
    "connect": lambda port: socket.create_connection(("127.0.0.1", int(port))),
    "kill": lambda pid: os.kill(int(pid), 0),
}
stream = host.makefile("rb")
for line in stream:
    words = line.decode().split()
    if words[0] == "facts":
        answer = json.dumps(facts()).encode()
    elif words[0] == "quote":
        answer = quote(int(words[1]))
    elif words[0] in ACTIONS:
        answer = attempt(lambda: ACTIONS[words[0]](words[1])).encode()
    elif words[0] == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        answer = b"ok"
    elif words[0] == "hang":
        attestation.close()
        answer = b"ok"
    elif words[0] == "exit":
        sys.exit(int(words[1]))
    elif words[0] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    host.sendall(len(answer).to_bytes(4, "big") + answer)
"""
)
FLAGS = ("-I", "-S", "-B")
_LIST = (
    IMPORTS
    + """
files = {getattr(module, "__file__", None) for module in sys.modules.values()}
files |= {words[5] for line in open("/proc/self/maps") if len(words := line.split()) == 6}
print(json.dumps(sorted(file for file in files if file and os.path.isfile(file))))
"""
)


@cache
def needed() -> tuple[str, ...]:
    """Return the files that the program's imports load."""
    listed = subprocess.run([sys.executable, *FLAGS, "-c", _LIST], capture_output=True, check=True).stdout
    return (*json.loads(listed), sys.executable)


def trusted(path: Path | str) -> str:
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return f'{{ uri = "file:{path}", sha256 = "{digest}" }}'


def write_manifest(
    folder: Path, argv: list[str] | None = None, entrypoint: str = sys.executable, also: tuple[Path, ...] = ()
) -> Path:
    program = folder / "enclave.py"
    program.write_text(ENCLAVE, encoding="utf-8")
    argv = argv or [entrypoint, *FLAGS, str(program)]
    files = dict.fromkeys((entrypoint, str(program), *needed(), *map(str, also)))
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
sgx.trusted_files = [{", ".join(map(trusted, files))}]
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


def spawn(
    folder: Path, manifest: Path, *arguments: str, keep: int | None = None
) -> tuple[subprocess.Popen[bytes], socket.socket, int]:
    """Start the simulator; `keep` is a descriptor that it inherits, too, above the limit that it then runs under."""
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    command = [sys.executable, "-I", "-B", "-m", "attestation.sim", "run", "--home", str(folder / "platform")]
    command += ["--manifest", str(manifest), "--host-fd", str(theirs.fileno()), "--ready-fd", str(writer)]
    command += [*UNCONFINED, *arguments]
    environment = os.environ | {"SECRET_OF_THE_HOST": "x"}
    passed = (theirs.fileno(), writer, *(() if keep is None else (keep,)))
    if keep is not None:
        command = ["prlimit", f"--nofile={keep}:4096", *command]
    process = subprocess.Popen(command, pass_fds=passed, env=environment, stderr=subprocess.PIPE)
    theirs.close()
    os.close(writer)
    ours.settimeout(20)
    return process, ours, reader


@contextlib.contextmanager
def running(folder: Path, *arguments: str, also: tuple[Path, ...] = (), keep: int | None = None) -> Iterator[Running]:
    """Run the small enclave; `also` are further files that its manifest lists, `keep` as in `spawn`."""
    process, host, reader = spawn(folder, write_manifest(folder, also=also), *arguments, keep=keep)
    with process, host, os.fdopen(reader, encoding="ascii") as pipe:
        try:
            yield Running(process, host, folder / "platform", json.loads(pipe.read()))
        finally:
            process.kill()
