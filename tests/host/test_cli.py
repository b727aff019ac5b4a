"""The operator's commands: what they print, and the exit status that scripts see."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import strongroom
from host import cli as host_cli
from host import daemon
from host import log as log_module
from host.agent import HostAgent
from host.config import HostConfig
from host.errors import HostCode, HostError
from host.home import Home
from host.show import duration, print_findings, print_models, print_status, size
from tests.attestation.sim_rig import UNCONFINED
from tests.host.platform_child import LAST_LINE
from tests.host.test_agent import CHILD, prepare
from tests.host.test_guard import Case, case  # noqa: F401 - the fixture

PATCH = f"""
import sys
from host.config import Deployment
mode = {{mode!r}}
Deployment.command = lambda self, host, ready: [
    sys.executable, "-I", "-B", {str(CHILD)!r}, mode, str(host), str(ready)
]
"""
"""Has a platform of the tests' own started in place of the simulator."""

AGENT = PATCH + "import host.daemon; sys.exit(host.daemon.main())"
COMMAND = PATCH + "import strongroom; strongroom.main()"


def program(text: str, mode: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", text.format(mode=mode))


class Shell:
    """Runs commands in this process."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = prepare(folder)
        self.folder = folder
        self._capture = capture
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run `strongroom host ...`; return exit status, output and errors."""
        self._monkeypatch.setattr(sys, "argv", ["strongroom", "host", *arguments])
        status = 0
        try:
            strongroom.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *self._capture.readouterr()

    def up(self, *arguments: str, **changes: Any) -> tuple[int, str, str]:
        return self("up", *self.options(**changes), *arguments)

    def options(self, **changes: Any) -> list[str]:
        config = self.config
        values = {
            "home": config.home,
            "models": config.models,
            "manifest": config.deployments[0].manifest,
            "listen": config.listen[0],
            **changes,
        }
        return [text for name, value in values.items() for text in (f"--{name}", str(value))]

    def home(self) -> list[str]:
        return ["--home", str(self.config.home)]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    made = Shell(tmp_path, capsys, monkeypatch)
    yield made
    home = Home(made.config.home)
    if home.is_locked():
        made("down", "--now", *made.home())


@pytest.mark.parametrize("command", ["status", "models", "drain", "down"])
def test_without_an_agent_every_question_ends_with_40(shell: Shell, command: str) -> None:
    status, _, errors = shell(command, *shell.home())
    assert (status, "host-not-running" in errors) == (40, True)
    status, output, _ = shell(command, *shell.home(), "--json")
    assert (status, json.loads(output)["error"]["code"]) == (40, "host-not-running")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"models": "/nonexistent/models"}, 2, "models-missing"),
        ({"manifest": "/nonexistent/enclave.manifest"}, 2, "enclave-manifest-missing"),
        ({"listen": "nowhere"}, 2, "address-invalid"),
        ({"listen": "unix:/nonexistent/host.sock"}, 40, "address-unusable"),
        ({"home": "/proc/nonexistent/home"}, 40, "home-unusable"),
        ({"home": "/tmp/" + "x" * 100}, 2, "socket-path-too-long"),  # noqa: S108 - it is never made
    ],
)
@pytest.mark.parametrize("detached", [False, True])
def test_what_cannot_work_is_refused_with_its_code(
    shell: Shell, changes: dict[str, str], status: int, code: str, detached: bool
) -> None:
    found, output, errors = shell.up(*(["--detach"] if detached else []), **changes)
    assert (found, f"[{code}]" in errors, output) == (status, True, "")


def test_a_port_in_use_is_refused_with_its_name(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, _, errors = shell.up(listen=f"tcp:127.0.0.1:{port}")
    assert status == 40
    assert f"tcp:127.0.0.1:{port}" in errors
    assert "address-in-use" in errors


def test_options_out_of_range_and_missing_ones_end_with_2(shell: Shell) -> None:
    assert shell.up("--ready-timeout", "0")[0] == 2
    assert shell("up", *shell.home())[0] == 2
    assert shell("models")[0] == 2


def test_check_prints_every_finding_and_ends_with_10_when_one_blocks(shell: Shell) -> None:
    status, output, errors = shell("check", *UNCONFINED, *shell.options())
    assert status == 10
    assert "guard-manifest" in output  # the manifest of these tests stands in for one
    assert "check-failed" in errors
    status, output, _ = shell("check", *UNCONFINED, *shell.options(), "--json")
    answer = json.loads(output)
    assert (status, answer["fit"]) == (10, False)
    assert [one["code"] for one in answer["findings"] if one["severity"] == "blocking" and not one["passed"]] == [
        "guard-manifest"
    ]


def test_check_of_a_fit_machine_ends_with_0(shell: Shell) -> None:
    status, output, _ = shell("check", *UNCONFINED, *shell.home(), "--json")
    assert (status, json.loads(output)["fit"]) == (0, True)
    assert shell("check", *UNCONFINED, *shell.home())[0] == 0


def test_models_of_a_folder_are_listed_without_an_agent(shell: Shell) -> None:
    (shell.config.models / "bad.sealed").write_bytes(b"no")
    status, output, _ = shell("models", "--models", str(shell.config.models), "--json")
    answer = json.loads(output)
    assert status == 0
    assert ([one["name"] for one in answer["models"]], len(answer["rejected"])) == (["small"], 1)
    status, output, _ = shell("models", "--models", str(shell.config.models))
    assert status == 0
    assert "small.sealed" in output
    assert "bad.sealed" in output
    assert shell("models", "--models", "/nonexistent")[0] == 2


def test_a_detached_agent_outlives_the_command_and_obeys_the_others(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "PROGRAM", program(AGENT, "echo"))
    status, output, _ = shell.up("--detach")
    assert status == 0
    assert "SIMULATED" in output
    assert "ready" in output
    status, output, _ = shell("status", *shell.home(), "--json")
    answer = json.loads(output)
    assert answer["pid"] != os.getpid()
    assert answer["deployments"][0]["state"] == "ready"
    assert "SIMULATED" in shell("status", *shell.home())[1]
    assert "small" in shell("models", *shell.home())[1]
    status, _, errors = shell.up("--detach")
    assert (status, "home-running" in errors) == (40, True)
    assert "draining" in shell("drain", *shell.home())[1]
    assert json.loads(shell("drain", *shell.home(), "--json")[1]) == {"sessions": 0, "unanswered": 0}
    assert json.loads(shell("down", *shell.home(), "--json")[1]) == {"down": True, "pid": answer["pid"]}
    assert not Home(shell.config.home).is_locked()
    log = Home(shell.config.home).log.read_text()
    assert "this is echo" in log
    after = log[log.index("draining") :].splitlines()[1:]
    assert after
    assert all(" SIMULATED " in line for line in after), log


def test_a_detached_agent_that_cannot_start_says_why_and_is_gone(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "PROGRAM", program(AGENT, "refuse"))
    status, output, _ = shell.up("--detach", "--json")
    error = json.loads(output)["error"]
    assert (status, error["code"]) == (40, "enclave-not-ready")
    assert "a trusted file has changed" in error["found"]
    assert not Home(shell.config.home).is_locked()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pass", HostCode.HOST_FAILED),
        ("import os, sys; os.write(int(sys.argv[1]), b'nonsense')", HostCode.HOST_FAILED),
        ("import time; time.sleep(60)", HostCode.ENCLAVE_NOT_READY),
    ],
)
def test_a_detached_agent_that_says_nothing_is_not_waited_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, text: str, code: HostCode
) -> None:
    monkeypatch.setattr(daemon, "PROGRAM", (sys.executable, "-I", "-c", text))
    monkeypatch.setattr(daemon, "MARGIN", 0.3)
    config = HostConfig.from_json(shell.config.to_json().replace('"ready_timeout": 60.0', '"ready_timeout": 0.01'))
    with pytest.raises(HostError) as refused:
        daemon.detach(config)
    assert refused.value.code is code
    assert refused.value.remedy == code.remedy, "there is no log yet, so nobody is sent there"
    Home(config.home).path.mkdir()
    Home(config.home).log.touch()
    with pytest.raises(HostError) as refused:
        daemon.detach(config)
    assert str(Home(config.home).log) in str(refused.value.remedy)


def test_a_home_that_cannot_be_made_is_refused_without_naming_a_log_in_it(shell: Shell) -> None:
    (shell.folder / "file").touch()
    with pytest.raises(HostError) as refused:
        daemon.detach(replace(shell.config, home=shell.folder / "file" / "home"))
    assert refused.value.code is HostCode.HOME_UNUSABLE
    assert refused.value.remedy == "choose a folder that this user may write to"


def test_a_home_that_cannot_hold_a_log_is_refused(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Home(shell.config.home).path.mkdir()
    Home(shell.config.home).log.mkdir()
    monkeypatch.setattr(daemon, "PROGRAM", program(AGENT, "echo"))
    status, _, errors = shell.up("--detach")
    assert (status, "home-unusable" in errors) == (40, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_in_the_foreground_shows_a_log_and_ends_with_a_signal(shell: Shell, number: signal.Signals) -> None:
    command = [*program(COMMAND, "echo"), "host", "up", *shell.options(), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        assert json.loads("".join(lines))["class"] == "SIMULATED"
        process.send_signal(number)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "started the platform" in log
    assert "this is echo" in log
    last = log.splitlines()[-3:]
    assert all(" SIMULATED " in line for line in last), log
    assert "draining" in last[0]
    assert LAST_LINE in last[1]
    assert "ended with status 0" in last[2]


def test_a_second_signal_ends_an_agent_that_drains(shell: Shell) -> None:
    command = [*program(COMMAND, "stubborn"), "host", "up", *shell.options(), "--drain-timeout", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("default" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("told", "shown"), [("simulated", "SIMULATED "), ("hardware", "HARDWARE "), ("\n", "UNKNOWN "), (None, "UNKNOWN ")]
)
def test_every_line_carries_the_class_that_the_enclave_told(
    told: object, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_told", {})
    formatter = log_module.PlainFormatter("%(platform)s%(message)s")
    record = logging.LogRecord("host", logging.INFO, "", 0, "draining", None, None)
    assert formatter.format(record) == "draining"
    log_module.show_class("default", told)
    assert formatter.format(record) == f"{shown}draining"


def test_a_terminal_gets_colours_and_the_class_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_told", {"default": "SIMULATED"})
    record = logging.LogRecord("host", logging.INFO, "", 0, "draining", None, None)
    assert host_cli._rich_handler().format(record) == "SIMULATED draining"


def shown(print_it: Any, value: Any) -> str:
    console = Console(file=StringIO(), width=200)
    print_it(console, value)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_status_of_an_enclave_in_trouble_says_what_it_said_last(tmp_path: Path) -> None:
    async def status() -> dict[str, Any]:
        return HostAgent(prepare(tmp_path)).status()

    answer = asyncio.run(status())
    answer["relay"]["refusals"] = {"route-unknown": 3}
    answer["deployments"][0] |= {
        "state": "failed",
        "last_exit": {"status": 10, "reason": "it ended by itself"},
        "last_lines": ["error: [bold]a trusted file has changed"],
    }
    text = shown(print_status, answer)
    for part in ("failed", "last exit 10", "[bold]a trusted file", "route-unknown 3", "SIMULATED"):
        assert part in text


def test_an_unconfined_enclave_is_asked_for_by_name(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[HostConfig] = []
    monkeypatch.setattr(daemon, "serve", lambda config, _: seen.append(config))
    shell.up()
    shell.up("--dangerously-unconfined")
    assert [config.deployments[0].dangerously_unconfined for config in seen] == [False, True]


@pytest.mark.parametrize(
    ("layers", "told"), [({"landlock": 7}, "confined  landlock 7"), ({"landlock": 0}, "UNCONFINED"), ({}, "UNCONFINED")]
)
def test_the_status_tells_whether_the_enclave_is_confined(tmp_path: Path, layers: dict[str, int], told: str) -> None:
    async def status() -> dict[str, Any]:
        return HostAgent(prepare(tmp_path)).status()

    answer = asyncio.run(status())
    assert told not in shown(print_status, answer), "nothing is told of an enclave that does not run"
    answer["deployments"][0] |= {"state": "ready", "mrenclave": "ab", "confinement": layers}
    assert told in shown(print_status, answer)


def test_findings_and_models_are_printed_with_their_remedies(case: Case) -> None:  # noqa: F811 - the fixture
    case.probe.version = (3, 9, 0)
    case.probe.clock = False
    (case.probe.root / "dev/sgx_enclave").unlink()
    text = shown(print_findings, list(case.failed().values()))
    for part in ("blocking", "warning", "note", "guard-python", "install a newer Python"):
        assert part in text
    listed = {"folder": "here", "models": [], "duplicates": [{"file": "b", "served": "d"}]}
    rejected = {**listed, "rejected": [{"file": "a", "message": "bad", "code": "c"}]}
    assert "b: the same model as d" in shown(print_models, rejected)
    assert "a: bad [c]" in shown(print_models, rejected)


def test_sizes_and_durations_are_said_in_words() -> None:
    assert [size(count) for count in (0, 1023, 1536, 5 << 30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert [duration(one) for one in (None, 5.9, 61, 3700)] == ["-", "5 s", "1 min 1 s", "1 h 1 min"]
