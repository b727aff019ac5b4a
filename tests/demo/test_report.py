"""The demonstration must not succeed unless everything is as it claims."""

from __future__ import annotations

import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attestation.wire.frames import Frame, encode_frame
from attestation.wire.messages import encode_body
from evaluation.demo import story
from evaluation.demo.deployment import temporary_home
from evaluation.demo.errors import DemoCode, DemoError
from evaluation.demo.installation import Installation
from evaluation.demo.models import DemoModel
from evaluation.demo.report import HostView, ModelResult, Refusal, Report
from evaluation.demo.screen import Silent
from evaluation.demo.serving import identical
from evaluation.demo.tap import Tap
from evaluation.demo.views import host_view

GOOD = ModelResult("tumour", 114, identical=True, correct=113)
REFUSED = Refusal("debug quote", "client", ("sgx-debug",), "sgx-debug")


def report(**changes) -> Report:
    fields = {"models": [GOOD], "host": HostView(10, 10, 100, 0), "refusals": [REFUSED], "receipt": "receipt-model"}
    return Report(**{**fields, **changes})


def test_a_run_in_which_all_is_as_claimed_has_no_failures():
    assert report().failures(["debug quote"]) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"models": [replace(GOOD, identical=False)]}, "differs from plain onnxruntime"),
        ({"models": []}, "no model answered"),
        ({"host": None}, "host's view"),
        ({"receipt": ""}, "which model has answered"),
        ({"host": HostView(10, 10, 100, 1)}, "plain text"),
        ({"host": HostView(10, 10, 0, 0)}, "host's view"),
        ({"refusals": [replace(REFUSED, found=None)]}, "debug quote"),
        ({"refusals": [replace(REFUSED, found="timed-out")]}, "timed-out"),
        ({"refusals": []}, "was not made"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_whatever_is_not_as_claimed_is_named(changes, named):
    failures = report(**changes).failures(["debug quote"])
    assert len(failures) == 1
    assert named in failures[0]


def test_a_run_that_is_not_as_claimed_ends_in_an_error():
    with pytest.raises(DemoError) as refusal:
        story._conclude(Report(), Silent())
    assert refusal.value.code is DemoCode.NOT_AS_CLAIMED
    assert refusal.value.exit_code != 0


def test_outputs_are_identical_only_with_names_types_shapes_and_bits():
    array = np.array([[1.0, 0.0]], dtype=np.float32)
    assert identical({"y": array}, {"y": array.copy()})
    for other in (array[0], array.astype(np.float64), np.array([[1.0, -0.0]], dtype=np.float32)):
        assert not identical({"y": array}, {"y": other})
    assert not identical({"y": array}, {"z": array})


def test_plain_text_that_passed_through_the_host_would_be_found(tmp_path: Path):
    rows = np.random.default_rng(1).random((4, 30)).astype(np.float32)
    model = DemoModel("m", "m", b"", {"X": rows}, ("case",) * 4, ("a",), "y")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "host"))
    listener.listen()
    received = threading.Event()

    def swallow() -> None:
        sock, _ = listener.accept()
        with sock:
            while sock.recv(65536):
                received.set()

    thread = threading.Thread(target=swallow)
    thread.start()
    with Tap(tmp_path / "tap", f"unix:{tmp_path / 'host'}") as tap:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(tmp_path / "tap"))
            client.sendall(encode_frame(Frame("default", 1, encode_body({"op": "infer"}, {"X": rows}))))
            assert received.wait(5)
        thread.join(5)
        view = host_view(tap, [model], [{"y": np.zeros((4, 1), np.float32)}], [])
    listener.close()
    assert view.pieces_searched > 5
    assert view.pieces_found == view.pieces_searched


def test_a_patched_file_is_put_back(tmp_path: Path):
    installation = Installation(tmp_path)
    installation.make()
    file = installation.code / "enclave" / "process.py"
    genuine = file.read_bytes()
    with installation.patched("enclave/process.py", "# patched\n"):
        assert file.read_bytes() == genuine + b"# patched\n"
    assert file.read_bytes() == genuine


def test_a_folder_to_keep_must_be_empty_and_stays(tmp_path: Path):
    with temporary_home(tmp_path / "kept") as home:
        (home / "file").touch()
    assert (tmp_path / "kept" / "file").exists()
    with pytest.raises(DemoError) as refusal, temporary_home(tmp_path / "kept"):
        pass
    assert refusal.value.code is DemoCode.FOLDER_IN_USE


def test_missing_packages_are_named_with_the_way_to_get_them(monkeypatch):
    from evaluation.demo import models

    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(DemoError) as refusal:
        models.tumour_model()
    assert refusal.value.code is DemoCode.EXTRAS_MISSING
    assert "strongroom[demo]" in refusal.value.remedy
