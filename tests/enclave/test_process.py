"""The real process, started as a manifest has it, with the descriptors that its launcher hands down."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from attestation.wire.frames import Frame
from manifests import canonical
from manifests.gramine.render import enclave_command
from manifests.gramine.settings import EnclaveSettings
from tests.enclave.rig import Client, Ended, Host, Owner, Refused, linear

PYTHON = sys.executable
ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}
X = np.ones((2, 4), np.float32)


command = functools.cache(lambda: enclave_command(PYTHON))


def spawn(arguments: list[str], sockets: dict[int, socket.socket], log: Path) -> int:
    """Start the enclave with these sockets under these descriptors, and nothing else inherited."""
    high = {target: fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 20) for target, sock in sockets.items()}
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in high.items()]
    actions.append((os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT, 0o600))  # type: ignore[arg-type]
    pid = os.posix_spawn(PYTHON, [*command(), *arguments], ENVIRONMENT, file_actions=actions)
    for descriptor in high.values():
        os.close(descriptor)
    return pid


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def quote_forever(stream: socket.socket) -> None:
    """The simulator's end of the attestation socket."""
    while data := stream.recv(64, socket.MSG_WAITALL):
        quote = b"quote" + data
        stream.sendall(struct.pack(">I", len(quote)) + quote)


@dataclass
class Process:
    pid: int
    host: Host
    log: Path

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    settings = tmp_path / "enclave.toml"
    settings.write_bytes(EnclaveSettings("first").to_toml())
    host_end, stream = socket.socketpair()
    platform_end, attestation = socket.socketpair()
    log = tmp_path / "log"
    pid = spawn(["--settings", str(settings)], {3: stream, 4: attestation}, log)
    stream.close()
    attestation.close()
    threading.Thread(target=quote_forever, args=(platform_end,), daemon=True).start()
    host = Host(host_end)
    assert host.control.get(timeout=30).route == "!ready"
    yield Process(pid, host, log)
    platform_end.close()


def test_a_process_serves_a_sealed_model_and_ends_with_its_stream(process: Process, tmp_path: Path) -> None:
    owner = Owner()
    data, manifest = linear(owner, post=[{"kind": "label_only", "output": "y"}])
    digest = owner.seal(process.host, tmp_path, data, manifest=manifest)
    broker = Client(process.host).connect()
    owner.provision(broker, digest)
    client = Client(process.host).connect()
    labels = client.infer(digest, x=X)["label"]
    plain = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]
    assert labels.tolist() == [["red", "green", "blue"][row.argmax()] for row in plain]
    owner.heartbeat(broker, owner.challenge(broker), {digest: 7})
    assert Client(process.host, ticket=client.ticket()).connect().infer(digest, x=X)["label"].shape == (2,)
    with pytest.raises(Refused):
        client.infer(digest, x=X * np.nan)
    assert owner.revoke(broker, epoch=2) == [digest]
    with pytest.raises(Refused):
        client.infer(digest, x=X)
    process.host.close()
    assert status_of(process.pid) == 0
    names = [event["event"] for event in process.events()]
    assert names[0] == "hardened"
    assert names[-1] == "stopped"
    assert {event.get("platform") for event in process.events()[1:]} == {"SIMULATED"}
    assert not {"defect", "import-refused"} & set(names), process.log.read_text()


def test_the_process_is_hardened_and_keeps_its_keys_in_secret_memory(process: Process) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    assert "0" in Path(f"/proc/{process.pid}/limits").read_text().split("Max core file size")[1].split()[:2]
    hardened, started = process.events()[:2]
    assert hardened == {
        "event": "hardened",
        "undumpable": 1,
        "no_core": 1,
        "no_new_privileges": 1,
        "memory_locked": hardened["memory_locked"],
    }
    assert any(name.startswith("arena_") for name in started)
    process.host.close()
    assert status_of(process.pid) == 0


def test_stop_drains_the_process(process: Process) -> None:
    client = Client(process.host).connect()
    process.host.send(Frame("!stop", 0, b""))
    with pytest.raises(Ended):
        client.answer()
    assert status_of(process.pid) == 0


def test_a_process_without_its_descriptors_says_so(tmp_path: Path) -> None:
    settings = tmp_path / "enclave.toml"
    settings.write_bytes(EnclaveSettings("first").to_toml())
    log = tmp_path / "log"
    assert status_of(spawn(["--settings", str(settings)], {}, log)) == 40
    event, reason, remedy = log.read_text().splitlines()[-3:]
    assert json.loads(event) == {"event": "start-failed", "code": "enclave-start-failed"}
    assert reason == "error: descriptor 4 is not the simulator's socket"
    assert remedy.startswith("next: ")


def test_a_process_with_unusable_settings_says_so(tmp_path: Path) -> None:
    settings = tmp_path / "enclave.toml"
    settings.write_text("owners = 5")
    log = tmp_path / "log"
    assert status_of(spawn(["--settings", str(settings)], {}, log)) == 2
    assert json.loads(log.read_text().splitlines()[-1])["code"] == "enclave-settings-invalid"


def test_ready_says_which_boot_and_class(tmp_path: Path) -> None:
    settings = tmp_path / "enclave.toml"
    settings.write_bytes(EnclaveSettings("any").to_toml())
    boots = set()
    for _ in range(2):
        host_end, stream = socket.socketpair()
        platform_end, attestation = socket.socketpair()
        pid = spawn(["--settings", str(settings)], {3: stream, 4: attestation}, tmp_path / "log")
        stream.close()
        attestation.close()
        host = Host(host_end)
        ready = canonical.decode(host.control.get(timeout=30).body, max_size=4096)
        assert (ready["class"], ready["max_sessions"]) == ("simulated", 256)
        boots.add(ready["boot_id"])
        host.close()
        platform_end.close()
        assert status_of(pid) == 0
    assert len(boots) == 2
