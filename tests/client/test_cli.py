from __future__ import annotations

import io
import json
import pickle
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner, Result

from attestation.client.cli import infer
from attestation.client.errors import ClientCode, ClientError
from attestation.sim.platform import SimulatedPlatform
from attestation.types import ClientAuthentication
from attestation.validity import parse_rfc3339
from attestation.wire.messages import MessageType
from manifests.errors import ManifestCode, ManifestError
from manifests.keyfile import Cost, write_key_file
from manifests.signing import Signer
from tests.client.conftest import DIGEST
from tests.client.scripted import ScriptedEnclave


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@dataclass
class Command:
    """`strongroom infer` for the scripted enclave."""

    enclave: ScriptedEnclave
    common: list[str]

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(infer, [self.enclave.address, *arguments, *self.common])


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
    common = ["--policy", str(tmp_path / "client.toml"), "--collateral", str(collateral)]
    return Command(serve(), common)


def good(result: Result) -> Result:
    if result.exception is not None:
        raise result.exception
    return result


def refusal(result: Result) -> BaseException:
    assert result.exception is not None
    return result.exception


def test_a_json_file_takes_the_dtype_that_the_model_declares(run, world, tmp_path: Path):
    (tmp_path / "x.json").write_text("[[1, 2, 3]]")
    printed = json.loads(good(run("doubler", "--input", f"x={tmp_path / 'x.json'}", "--json")).stdout)
    assert printed["tensors"]["x"] == {"dtype": "float32", "shape": [1, 3], "data": [[2.0, 4.0, 6.0]]}
    assert printed["model"] == DIGEST.hex()
    enclave = printed["enclave"]
    assert enclave["platform"] == "SIMULATED"
    assert type(enclave["checks_passed"]) is int
    assert enclave["tcb_status"] == "UpToDate"
    assert enclave["owners"] == [world.owner.public.hex()]
    assert parse_rfc3339(enclave["valid_until"]) > time.time()
    assert all(re.fullmatch("[a-z_]+", name) for name in [*printed, *enclave])


def test_values_that_json_lacks_are_spelt_out(run, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([[1, np.nan, np.inf], [-np.inf, 2, 3]], dtype=np.float32))
    printed = good(run("doubler", "--input", f"x={tmp_path / 'x.npy'}", "--json")).stdout
    data = json.loads(printed, parse_constant=pytest.fail)["tensors"]["x"]["data"]
    assert data == [[2.0, "NaN", "Infinity"], ["-Infinity", 4.0, 6.0]]


@pytest.mark.parametrize("place", ["nowhere/out.npz", "folder"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_sent(run, tmp_path: Path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.json").write_text("[[1, 2, 3]]")
    words = ["doubler", "--input", f"x={tmp_path / 'x.json'}", "--output", str(tmp_path / place)]
    error = refusal(run(*words))
    assert isinstance(error, ManifestError)
    assert error.code is ManifestCode.FILE_UNAVAILABLE
    assert run.enclave.peers == [], "nobody has even connected"
    assert not list(tmp_path.glob(".*partial"))


def test_an_output_that_is_there_is_kept_unless_it_may_be_replaced(run, tmp_path: Path):
    (tmp_path / "x.json").write_text("[[1, 2, 3]]")
    (tmp_path / "out.npz").write_bytes(b"precious")
    words = ["doubler", "--input", f"x={tmp_path / 'x.json'}", "--output", str(tmp_path / "out.npz")]
    error = refusal(run(*words))
    assert isinstance(error, ManifestError)
    assert error.code is ManifestCode.FILE_EXISTS
    assert run.enclave.peers == [], "no request was spent"
    assert (tmp_path / "out.npz").read_bytes() == b"precious"
    good(run(*words, "--force"))
    with np.load(tmp_path / "out.npz") as answer:
        assert answer["x"].tolist() == [[2.0, 4.0, 6.0]]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_out_that_is_no_time_is_a_usage_error(run, seconds):
    error = refusal(run("--list", "--timeout", seconds))
    assert isinstance(error, ClientError)
    assert (error.code, error.exit_code) == (ClientCode.TIMEOUT_INVALID, 2)


def test_a_client_with_a_key_file_says_who_it_is(run, tmp_path: Path):
    signer = Signer.generate()
    write_key_file(tmp_path / "ward.key", "client", signer.seed(), b"secret", cost=Cost(1, 8 * 1024))
    (tmp_path / "passphrase").write_text("secret")
    (tmp_path / "ward.credential").write_bytes(b"signed")
    words = ["--client-key", str(tmp_path / "ward.key"), "--passphrase-file", str(tmp_path / "passphrase")]
    good(run("--list", *words, "--credential", str(tmp_path / "ward.credential")))
    kind, body = run.enclave.settled().messages[0]
    record = ClientAuthentication.decode(body)
    assert (kind, record.client, record.credential) == (MessageType.AUTHENTICATE, signer.public, b"signed")


def test_a_credential_without_its_key_is_a_usage_error(run, tmp_path: Path):
    assert run("--list", "--credential", str(tmp_path / "ward.credential")).exit_code == 2


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
    (model,) = json.loads(good(run("--list", "--json")).stdout)["models"]
    assert model["digest"] == DIGEST.hex()
    axis = {"name": "batch", "minimum": 1, "maximum": 64}
    assert model["inputs"] == [{"name": "x", "dtype": "float32", "shape": [axis, 3]}]


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
        ("x.npy", pickle.dumps([1.0])),
        ("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'"),
        ("x.npy", npy(np.array([{}], dtype=object))),
        ("x.npy", npy(np.zeros(1)).replace(b"(1,)", b"(1" + b"0" * 30 + b",)")),
    ],
)
def test_an_input_file_that_holds_no_tensor_is_refused(run, tmp_path: Path, name, content):
    (tmp_path / name).write_bytes(content)
    error = refusal(run("doubler", "--input", f"x={tmp_path / name}"))
    assert isinstance(error, ClientError)
    assert error.code is ClientCode.TENSOR_INVALID
    assert "pickle" not in str(error.to_dict())


def test_a_missing_input_file_is_a_clear_error(run, tmp_path: Path):
    error = refusal(run("doubler", "--input", f"x={tmp_path / 'absent.npy'}"))
    assert isinstance(error, ManifestError)
    assert error.code is ManifestCode.FILE_UNAVAILABLE


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["doubler", "--list"],
        ["doubler", "--input", "x"],
        ["--list", "--input", "x=y"],
        ["--list", "--receipt", "r"],
        ["doubler", "--receipt-content"],
    ],
)
def test_a_command_line_that_means_nothing_is_a_usage_error(run, arguments):
    assert run(*arguments).exit_code == 2


def test_an_input_that_is_given_twice_is_a_usage_error(run):
    result = run("doubler", "--input", "x=a.npy", "--input", "x=b.npy")
    assert result.exit_code == 2
    assert "'x' more than once" in result.stderr


@pytest.mark.parametrize(
    "words",
    [("--text", "a", "--image", "b"), ("--text", "a", "--input", "x=f"), ("--list", "--text", "a")],
)
def test_content_is_asked_of_one_kind(run, words) -> None:
    result = run(*([] if "--list" in words else ["doubler"]), *words)
    assert result.exit_code == 2


def test_content_for_a_model_of_numbers_is_refused_before_it_is_sent(run) -> None:
    result = run("doubler", "--text", "hello")
    assert isinstance(result.exception, ClientError)
    assert result.exception.code is ClientCode.CONTENT_UNFIT
    assert not any(operation == "infer" for operation in getattr(run.enclave, "operations", []))
