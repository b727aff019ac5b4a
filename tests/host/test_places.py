"""Home folder and listening sockets: one owner each, nothing stale, nothing taken by force."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from attestation.wire.address import TcpAddress, UnixAddress
from host.errors import HostCode, HostError
from host.home import Home
from host.listeners import open_listener, open_unix


def test_a_home_is_private_locked_and_free_again(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    home.acquire()
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert home.is_locked()
    assert home.pid() == os.getpid()
    with pytest.raises(HostError) as refused:
        Home(home.path).acquire()
    assert refused.value.code is HostCode.HOME_RUNNING
    assert home.is_locked()
    home.release()
    home.release()
    assert not home.is_locked()
    assert home.pid() is None


HOLDER = """
import sys
from host.home import Home
from pathlib import Path
Home(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_killed_agent_leaves_no_stale_lock(tmp_path: Path) -> None:
    program = [sys.executable, "-I", "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert Home(tmp_path).is_locked()
        process.kill()
        process.wait()
    assert Home(tmp_path).pid_file.exists()
    home = Home(tmp_path)
    home.acquire()
    assert home.pid() == os.getpid()
    home.release()


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HostError) as refused:
        Home(tmp_path / "file" / "home").acquire()
    assert refused.value.code is HostCode.HOME_UNUSABLE


def test_a_home_whose_path_is_too_long_for_a_socket_is_refused_before_it_is_made(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 100))
    with pytest.raises(HostError) as refused:
        home.acquire()
    assert refused.value.code is HostCode.SOCKET_PATH_TOO_LONG
    assert not home.path.exists()


@pytest.mark.parametrize("content", [b"", b"not a number", b"9" * 100])
def test_a_pid_file_that_holds_no_pid_is_no_pid(tmp_path: Path, content: bytes) -> None:
    home = Home(tmp_path)
    home.pid_file.write_bytes(content)
    assert home.pid() is None or home.pid() == int(content[:16])


def test_a_socket_file_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    open_unix(path, 0o600).close()
    assert path.exists()
    listener = open_unix(path, 0o660)
    assert path.stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listener = open_unix(path, 0o600)
    with pytest.raises(HostError) as refused:
        open_listener(UnixAddress(str(path)))
    assert refused.value.code is HostCode.ADDRESS_IN_USE
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(HostError) as refused:
        open_unix(path, 0o600)
    assert refused.value.code is HostCode.ADDRESS_UNUSABLE
    assert path.read_text() == "data"


def test_a_folder_that_does_not_exist_is_an_unusable_address(tmp_path: Path) -> None:
    with pytest.raises(HostError) as refused:
        open_listener(UnixAddress(str(tmp_path / "none" / "a.sock")))
    assert refused.value.code is HostCode.ADDRESS_UNUSABLE


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError) as refused:
        open_unix(tmp_path / ("x" * 108), 0o600)
    assert refused.value.code is HostCode.SOCKET_PATH_TOO_LONG


def test_a_port_in_use_and_an_address_of_another_machine_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(HostError) as refused:
        open_listener(TcpAddress("127.0.0.1", other.getsockname()[1]))
    assert refused.value.code is HostCode.ADDRESS_IN_USE
    with pytest.raises(HostError) as refused:
        open_listener(TcpAddress("192.0.2.1", 0))
    assert refused.value.code is HostCode.ADDRESS_UNUSABLE


def test_a_port_of_zero_becomes_a_real_one() -> None:
    listener, address = open_listener(TcpAddress("127.0.0.1", 0))
    assert address == TcpAddress("127.0.0.1", listener.getsockname()[1])
    listener.close()
