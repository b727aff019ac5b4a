"""Each hostile model is refused with its own code, in bounded time and memory, by every way in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import onnxruntime as ort
import pytest
from click.testing import CliRunner
from onnx import AttributeProto

from manifests.cli import model as command
from manifests.errors import Fault
from manifests.onnx.check import check_model
from manifests.onnx.errors import OnnxCode, OnnxError
from tests.modelcheck.hostile import HOSTILE, made, normalizer

SECONDS = 20.0
"""Of processor time for any of them: ten times what the largest takes."""
LARGE = ("three million empty names", "a million empty nodes", "eighty megabytes of names",
         "seventy megabytes of documentation", "three hundred thousand entries of metadata",
         "loops of two hundred rounds within each other", "a shape of 2^60 elements",
         "a ConstantOfShape of 2^50 elements", "types within types, a thousand deep")  # fmt: skip


def sizes(sentence: str) -> dict[str, int]:
    return {name: len(data) for name, data in HOSTILE[sentence].parts.items()}


@pytest.mark.parametrize("sentence", HOSTILE)
def test_is_refused(sentence: str) -> None:
    data, start = made(sentence), time.process_time()
    report = check_model(data, parts=sizes(sentence))
    assert time.process_time() - start < SECONDS
    assert not report.passed
    assert report.findings[0].code is HOSTILE[sentence].code, report.findings
    assert report.findings[0].code.remedy


def test_every_code_of_the_check_has_a_hostile_model() -> None:
    assert {case.code for case in HOSTILE.values()} == set(OnnxCode)


@pytest.mark.parametrize("sentence", [s for s in HOSTILE if s not in LARGE])
def test_the_command_says_so(sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(made(sentence))
    for name, data in HOSTILE[sentence].parts.items():
        (tmp_path / name).write_bytes(data)
    result = CliRunner().invoke(command, ["check", str(path), "--json"])
    report = json.loads(result.stdout)
    assert report["findings"][0]["code"] == str(HOSTILE[sentence].code)
    assert report["findings"][0]["remedy"]
    assert not report["passed"]
    malformed = HOSTILE[sentence].code.fault is Fault.MALFORMED
    assert result.exit_code == (30 if malformed else 10)


@pytest.mark.parametrize("sentence", HOSTILE)
def test_an_error_without_names_has_none_of_the_models_words(sentence: str) -> None:
    error = check_model(made(sentence), parts=sizes(sentence)).error(named=False)
    assert isinstance(error, OnnxError)
    assert (error.message, error.expected, error.found) == (error.code.meaning, None, None)


MEASURED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
data = open(sys.argv[1], "rb").read()
from manifests.onnx.check import check_model
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = check_model(data)
print(report.findings[0].code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


@pytest.mark.parametrize("sentence", LARGE)
def test_memory_is_bounded(sentence: str, tmp_path: Path) -> None:
    """In a process that may not take more: 4 GiB of addresses, and far less in use."""
    path = tmp_path / "m.onnx"
    path.write_bytes(made(sentence))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path), str(4 << 30)], capture_output=True, text=True, check=True
    )
    code, kilobytes = done.stdout.split()
    assert code == str(HOSTILE[sentence].code)
    assert int(kilobytes) < 400_000


def test_an_empty_list_of_stopwords_needs_no_locale() -> None:
    """ONNX Runtime makes the locale for words alone, and so loads this one where there is no locale but C."""
    model = normalizer()
    words = model.graph.node[0].attribute.add()
    words.name, words.type = "stopwords", AttributeProto.STRINGS
    data = model.SerializeToString()
    assert check_model(data).passed
    ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    words.strings.append(b"the")
    assert [finding.code for finding in check_model(model.SerializeToString()).findings] == [OnnxCode.LOCALE]
