"""The admin interface: who may ask, what is answered, and that nonsense is harmless."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from host import admin
from host.admin import AdminServer, ask
from host.errors import HostCode, HostError
from tests.host.rig import run


def operations(**more: Any) -> dict[str, Any]:
    return {"status": lambda: {"answer": 42}, **more}


async def in_thread(*arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, ask, *arguments)


async def exchange(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def test_an_operation_is_answered_and_the_socket_is_the_users_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "admin.sock"
        async with AdminServer(path, operations()):
            assert path.stat().st_mode & 0o777 == 0o600
            assert await in_thread(path, "status") == {"answer": 42}

    run(scenario())


def test_an_unknown_operation_is_refused_with_its_code(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with AdminServer(tmp_path / "admin.sock", operations()):
            with pytest.raises(HostError) as refused:
                await in_thread(tmp_path / "admin.sock", "format-disk")
            assert refused.value.code is HostCode.ADMIN_MALFORMED

    run(scenario())


@pytest.mark.parametrize(
    "line", [b"\n", b"{\n", b"[]\n", b"null\n", b'{"op": ["status"]}\n', b"[" * 4000 + b"\n", b"\xff\xfe\n"]
)
def test_a_line_that_is_no_request_is_refused_and_the_next_is_answered(tmp_path: Path, line: bytes) -> None:
    async def scenario() -> None:
        path = tmp_path / "admin.sock"
        async with AdminServer(path, operations()):
            first, second = (await exchange(path, line + b'{"op": "status"}\n')).splitlines()
            assert json.loads(first)["error"]["code"] == "admin-malformed"
            assert json.loads(second)["ok"] is True

    run(scenario())


def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "admin.sock"
        async with AdminServer(path, operations()):
            assert await exchange(path, b"x" * 100_000) == b""
            assert await in_thread(path, "status") == {"answer": 42}

    run(scenario())


def test_too_many_callers_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "admin.sock"
        async with AdminServer(path, operations()):
            held = [await asyncio.open_unix_connection(str(path)) for _ in range(admin.MAX_CALLERS)]
            with pytest.raises(HostError) as refused:
                await in_thread(path, "status")
            assert refused.value.code is HostCode.HOST_BUSY
            for _, writer in held:
                writer.close()

    run(scenario())


def test_a_caller_that_says_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with AdminServer(tmp_path / "admin.sock", operations()):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "admin.sock"))
            assert await reader.read() == b""
            writer.close()

    monkeypatch.setattr(admin, "PATIENCE", 0.05)
    run(scenario())


@pytest.mark.parametrize(("uid", "is_answered"), [(os.geteuid(), True), (0, True), (os.geteuid() + 4321, False)])
def test_only_the_agents_user_and_root_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, is_answered: bool
) -> None:
    async def scenario() -> None:
        path = tmp_path / "admin.sock"
        async with AdminServer(path, operations()):
            answer = json.loads((await exchange(path, b'{"op": "status"}\n')).splitlines()[0])
            assert answer["ok"] is is_answered
            assert is_answered or answer["error"]["code"] == "admin-refused"

    monkeypatch.setattr(admin, "peer_uid", lambda _: uid)
    run(scenario())


STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(b'{"op": "status"}\\n')
print(connection.makefile("rb").readline().decode())
"""


def expose(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_another_user_who_reaches_the_socket_is_refused_by_the_kernels_word() -> None:
    async def stranger(path: Path) -> tuple[bytes, bytes]:
        program = [sys.executable, "-I", "-c", STRANGER, str(path)]
        process = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return await process.communicate()

    async def scenario(path: Path) -> None:
        async with AdminServer(path, operations()):
            assert b"PermissionError" in (await stranger(path))[1]
            expose(path)
            assert json.loads((await stranger(path))[0])["error"]["code"] == "admin-refused"

    with tempfile.TemporaryDirectory() as folder:  # unlike tmp_path, others can reach it
        Path(folder).chmod(0o755)
        run(scenario(Path(folder) / "admin.sock"))


def test_nobody_home_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(HostError) as refused:
        ask(tmp_path / "admin.sock", "status")
    assert refused.value.code is HostCode.HOST_NOT_RUNNING


@pytest.mark.parametrize("answer", [b"", b"nonsense\n", b"[]\n", b'{"ok": false}\n', b'{"ok": true, "result": 1}\n'])
def test_an_answer_that_is_none_is_refused(tmp_path: Path, answer: bytes) -> None:
    async def scenario() -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(answer)
            writer.close()

        server = await asyncio.start_unix_server(reply, tmp_path / "admin.sock")
        with pytest.raises(HostError) as refused:
            await in_thread(tmp_path / "admin.sock", "status")
        assert refused.value.code is HostCode.ADMIN_MALFORMED
        server.close()

    run(scenario())


def test_the_peers_user_is_asked_of_the_kernel() -> None:
    ours, theirs = socket.socketpair()
    assert admin.peer_uid(ours) == os.geteuid()
    ours.close()
    theirs.close()
