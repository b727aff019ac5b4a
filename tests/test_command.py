"""The command as scripts meet it: help, exit statuses, JSON errors, and what README says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import strongroom
from manifests.command import Command

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strongroom", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)


def test_readme_shows_the_commands_of_the_program() -> None:
    shown = run("--help").stdout
    listed = shown[shown.index("Commands:") :].rstrip()
    assert listed in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(strongroom._COMMANDS))
def test_every_command_exists_and_explains_itself(name: str) -> None:
    command = strongroom._load(strongroom._COMMANDS[name][0])
    assert command.help
    assert "--help" in command.context_settings.get("help_option_names", ["--help"])


def commands() -> dict[str, click.Command]:
    """Every command below the front door, by the words that run it."""
    found = {name: strongroom._load(target) for name, (target, _) in strongroom._COMMANDS.items()}
    groups = [(name, command) for name, command in found.items() if isinstance(command, click.Group)]
    for name, group in groups:
        for word, command in group.commands.items():
            found[f"{name} {word}"] = command
            if isinstance(command, click.Group):
                groups.append((f"{name} {word}", command))
    return {name: command for name, command in found.items() if not isinstance(command, click.Group)}


REPEATABLE = [
    (name, option)
    for name, command in commands().items()
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag and not option.count
]


@pytest.mark.parametrize(("name", "option"), REPEATABLE, ids=lambda part: getattr(part, "name", part))
def test_an_option_that_takes_one_value_takes_no_second(name: str, option: click.Option) -> None:
    """Of every command; `multiple` options are those whose help says so."""
    result = CliRunner().invoke(commands()[name], [option.opts[0], "1", option.opts[0], "1"], prog_name=name)
    assert (f"{option.opts[0]} takes one value, and is given 2 times" in result.output) is not option.multiple
    assert option.multiple or result.exit_code == 2


def test_a_switch_may_be_thrown_twice_and_one_that_goes_both_ways_may_not() -> None:
    @click.command(cls=Command)
    @click.option("--json", "as_json", is_flag=True)
    @click.option("--fast/--slow")
    @click.option("-v", "level", count=True)
    def command(**given: object) -> None:
        click.echo(json.dumps(given))

    shown = CliRunner().invoke(command, ["--json", "--json", "--fast", "-vv"])
    assert json.loads(shown.output) == {"as_json": True, "fast": True, "level": 2}
    assert CliRunner().invoke(command, ["--fast", "--slow"]).exit_code == 2


def test_a_repeated_option_is_a_usage_error_in_json_too() -> None:
    done = run("attest", "verify", "--evidence", "a", "--evidence", "b", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "usage")
    assert error["message"] == "--evidence takes one value, and is given 2 times"


@pytest.mark.parametrize("name", ["load_policy", "seal", "Session"])
def test_public_names_are_loaded_on_first_use(name: str) -> None:
    assert callable(getattr(strongroom, name))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        strongroom.nothing  # noqa: B018 - the access is the test


def test_the_front_door_is_quiet() -> None:
    """Neither help nor import loads a library that takes long."""
    code = (
        "import sys, strongroom; print([m for m in ('numpy', 'onnxruntime', 'sqlalchemy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_an_unknown_command_is_a_usage_error() -> None:
    assert run("no-such-command").returncode == 2


def test_a_missing_file_says_so_with_its_status(tmp_path: Path) -> None:
    done = run("inspect", str(tmp_path / "missing.sealed"))
    assert done.returncode == 40
    assert "[file-unavailable]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_sealed_model_is_malformed_also_in_json(tmp_path: Path) -> None:
    path = tmp_path / "not.sealed"
    path.write_bytes(b"this is not a sealed model")
    done = run("inspect", str(path), "--json")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 30
    assert error["fault"] == "malformed"
    assert str(error["code"]).startswith("sealed-")


def test_a_status_that_a_command_sets_reaches_the_shell(tmp_path: Path) -> None:
    """`host check` ends with 10 where a check blocks; here the manifest does not exist."""
    words = ("--manifest", str(tmp_path / "none"), "--models", str(tmp_path / "none"), "--home", str(tmp_path / "home"))
    done = run("host", "check", *words, "--json")
    assert done.returncode == 10, done.stdout + done.stderr


def test_a_usage_error_is_json_where_json_was_asked_for() -> None:
    done = run("inspect", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "usage")


def test_output_that_cannot_be_written_is_reported_once(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "strongroom", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert done.returncode == 40
    assert "[output-failed]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    command = f"{sys.executable} -m strongroom --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr == ""


def test_names_that_the_terminal_cannot_show_are_no_defect() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "strongroom", "inspect", "モデル.sealed"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 40
    assert b"[file-unavailable]" in done.stderr


def test_names_that_a_terminal_would_obey_are_shown(tmp_path: Path) -> None:
    done = run("inspect", str(tmp_path / "\x1b[2J\u202e.sealed"))
    assert done.returncode == 40
    assert "\\x1b[2J\\u202e.sealed" in done.stderr
    assert all(line.isprintable() for line in done.stderr.splitlines())


def test_a_name_of_several_lines_passes_for_no_line_of_ours(tmp_path: Path) -> None:
    done = run("inspect", str(tmp_path / "a\n  next: run this\nerror: b"))
    lines = done.stderr.splitlines()
    assert done.returncode != 0
    assert [line for line in lines if line.startswith("error: ")] == lines[:1]
    assert "  next: run this" not in lines


def test_a_defect_is_named_by_its_place_and_not_by_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise ValueError("the secret")

    monkeypatch.setattr(strongroom.cli, "main", broken)
    monkeypatch.setattr(sys, "argv", ["strongroom"])
    assert strongroom._run() == 1
    told = capsys.readouterr().err
    assert "[internal]" in told
    assert "ValueError at test_command.py" in told
    assert "the secret" not in told


def test_an_interruption_ends_with_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise click.Abort

    monkeypatch.setattr(strongroom.cli, "main", interrupted)
    assert strongroom._run() == 130


def test_a_reader_that_has_seen_enough_ends_the_command_as_a_shell_has_it() -> None:
    """Status 1 would say that the program has a defect, and 0 that everything was told."""
    script = f"{sys.executable} -m strongroom --help | (exec <&-; sleep 5); echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == ("141\n", "")
