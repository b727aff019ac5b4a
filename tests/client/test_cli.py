from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner, Result

from attestation.client.cli import infer
from attestation.client.errors import ClientCode, ClientError
from attestation.sim.platform import SimulatedPlatform
from manifests.errors import ManifestCode, ManifestError
from tests.client.conftest import DIGEST


@pytest.fixture
def run(world, serve, tmp_path: Path, monkeypatch):
    now = int(time.time())  # the command reads the clock itself
    world.platform = SimulatedPlatform(bytes([5]) * 32, now - 1000)
    world.beat_time = now
    (tmp_path / "client.toml").write_text(tomli_w.dumps(world.policy().to_dict()))
    collateral = tmp_path / "collateral"
    collateral.mkdir()
    (collateral / f"{world.platform.collateral_key}.json").write_text(world.platform.collateral(now).to_json())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    address = serve().address

    def invoke(*arguments: str) -> Result:
        common = ["--policy", str(tmp_path / "client.toml"), "--collateral", str(collateral)]
        return CliRunner().invoke(infer, [address, *arguments, *common])

    return invoke


def good(result: Result) -> Result:
    if result.exception is not None:
        raise result.exception
    return result


def refusal(result: Result) -> BaseException:
    assert result.exception is not None
    return result.exception


def test_a_json_file_takes_the_dtype_that_the_model_declares(run, tmp_path: Path):
    (tmp_path / "x.json").write_text("[[1, 2, 3]]")
    printed = json.loads(good(run("doubler", "--input", f"x={tmp_path / 'x.json'}", "--json")).stdout)
    assert printed["tensors"]["x"] == {"dtype": "float32", "shape": [1, 3], "data": [[2.0, 4.0, 6.0]]}
    assert printed["model"] == DIGEST.hex()
    assert printed["enclave"]["platform"] == "SIMULATED"


def test_arrays_go_in_and_an_archive_comes_out(run, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.ones((20, 3), dtype=np.float32))
    result = good(run("doubler", "--input", f"x={tmp_path / 'x.npy'}", "--output", str(tmp_path / "out.npz")))
    assert "x: float32[20, 3]" in result.stdout
    assert "… 12 more" in result.stdout
    assert "SIMULATED" in result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["x"], np.full((20, 3), 2, dtype=np.float32))


def test_the_models_are_listed_for_people_and_for_programs(run):
    shown = good(run("--list")).stdout
    assert "doubler" in shown
    assert "3]" in shown, "the axes survive the terminal's markup"
    assert json.loads(good(run("--list", "--json")).stdout)["models"][0]["digest"] == DIGEST.hex()


def test_epochs_that_were_seen_are_kept_in_the_users_state(run, world, tmp_path: Path):
    (tmp_path / "x.json").write_text("[[1, 2, 3]]")
    good(run("doubler", "--input", f"x={tmp_path / 'x.json'}"))
    assert (tmp_path / "state" / "strongroom" / "epochs.json").is_file()
    world.epoch = 1
    error = refusal(run("doubler", "--input", f"x={tmp_path / 'x.json'}"))
    assert isinstance(error, ClientError)
    assert error.code is ClientCode.EPOCH_ROLLBACK


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", b"[[1, 2], [3]]"),
        ("x.json", b'["a"]'),
        ("x.json", b"not json"),
        ("x.json", b"\xff\xfe"),
        ("x.npy", b"not numpy"),
        ("x.npy", b""),
    ],
)
def test_an_input_file_that_holds_no_tensor_is_refused(run, tmp_path: Path, name, content):
    (tmp_path / name).write_bytes(content)
    error = refusal(run("doubler", "--input", f"x={tmp_path / name}"))
    assert isinstance(error, ClientError)
    assert error.code is ClientCode.TENSOR_INVALID


def test_a_missing_input_file_is_a_clear_error(run, tmp_path: Path):
    error = refusal(run("doubler", "--input", f"x={tmp_path / 'absent.npy'}"))
    assert isinstance(error, ManifestError)
    assert error.code is ManifestCode.FILE_UNAVAILABLE


@pytest.mark.parametrize(
    "arguments", [[], ["doubler", "--list"], ["doubler", "--input", "x"], ["--list", "--input", "x=y"]]
)
def test_a_command_line_that_means_nothing_is_a_usage_error(run, arguments):
    assert run(*arguments).exit_code == 2


def test_an_input_that_is_given_twice_is_a_usage_error(run):
    result = run("doubler", "--input", "x=a.npy", "--input", "x=b.npy")
    assert result.exit_code == 2
    assert "'x' more than once" in result.stderr
