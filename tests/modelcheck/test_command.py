"""`strongroom model check` as its documentation shows it, and sealing, which refuses the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from manifests import check_cli
from manifests.cli import model as command
from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.onnx.check import check_model
from manifests.onnx.errors import OnnxCode, OnnxError
from manifests.sealed import seal
from tests.deployment.small import linear
from tests.manifests.small import OWNER, RECIPIENT
from tests.modelcheck.hostile import HOSTILE, made

PAGE = Path(__file__).resolve().parents[2] / "docs" / "model-check.md"
MANIFEST = """
name = "linear"
version = "1"
epoch = 1
[axes]
n = { minimum = 1, maximum = 64 }
[[inputs]]
name = "x"
dtype = "float32"
shape = ["n", 4]
[[outputs]]
name = "y"
dtype = "float32"
shape = ["n", 3]
"""


def check(folder: Path, data: bytes, *arguments: object, manifest: str | None = None) -> Result:
    (folder / "model.onnx").write_bytes(data)
    words = [str(folder / "model.onnx"), *map(str, arguments)]
    if manifest is not None:
        (folder / "model.toml").write_text(manifest)
        words += ["--manifest", str(folder / "model.toml")]
    return CliRunner().invoke(command, ["check", *words])


def test_the_page_shows_what_the_command_prints(tmp_path: Path) -> None:
    shown = re.search(r"\$ strongroom model check.*?\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    result = check(tmp_path, linear(), manifest=MANIFEST)
    assert result.exit_code == 0
    assert result.stdout == shown[1]


def test_the_page_names_every_code() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("`-", "`onnx-tensor-")
    missing = [code for code in OnnxCode if f"`{code}`" not in text and "external" not in code]
    assert missing == []


def test_a_refusal_is_shown_with_its_place_and_remedy(tmp_path: Path) -> None:
    result = check(tmp_path, made("a node that takes what nothing gives"))
    assert result.exit_code == 10
    for word in ("refused, 1 finding", "onnx-undefined-input", "where: graph, value 'nothing'", "next: export"):
        assert word in result.stdout


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    import onnx

    graph = onnx.load_model_from_string(made("an operator that ONNX does not have"))
    graph.ir_version = 99
    graph.graph.output[0].name = "missing"
    report = json.loads(check(tmp_path, graph.SerializeToString(), "--json").stdout)
    assert {item["code"] for item in report["findings"]} == {"onnx-operator", "onnx-ir-version", "onnx-output-missing"}


def test_a_manifest_that_names_its_owner_is_taken_too(tmp_path: Path) -> None:
    text = f'owner = "{OWNER.public.hex()}"\n' + MANIFEST
    assert check(tmp_path, linear(), manifest=text).exit_code == 0


def test_a_broken_manifest_is_no_finding(tmp_path: Path) -> None:
    error = check(tmp_path, linear(), manifest="name = 1").exception
    assert isinstance(error, ManifestError)
    assert error.code in {ManifestCode.FIELD_INVALID, ManifestCode.MANIFEST_INVALID}
    error = check(tmp_path, linear(), manifest=MANIFEST.replace('"linear"', '"\\u0000"')).exception
    assert isinstance(error, ManifestError)


EXTERNAL = "external data that ends beyond its file"


def with_rank(data: bytes) -> bytes:
    """Return a model whose output has a shape, as every model needs it that is served."""
    import onnx

    graph = onnx.load_model_from_string(data)
    graph.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", "m"]))
    return bytes(graph.SerializeToString())


@pytest.mark.parametrize("where", ["beside", "as a part"])
def test_external_data_is_found(where: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / ("w.bin" if where == "beside" else "elsewhere/other")
    place.write_bytes(bytes(24))
    words = [] if where == "beside" else ["--part", f"w.bin={place}"]
    assert check(tmp_path, with_rank(made(EXTERNAL)), *words).exit_code == 0
    place.write_bytes(bytes(16))
    assert json.loads(check(tmp_path, made(EXTERNAL), "--json", *words).stdout)["findings"][0]["code"] == (
        "onnx-external-range"
    )


@pytest.mark.parametrize(
    ("number", "base", "text"),
    [(0, 1024, "0 "), (1536, 1024, "1.5 Ki"), (10**14, 1000, "100 T"), (1 << 300, 1024, "1024 Ei")],
)
def test_amounts_are_short(number: int, base: int, text: str) -> None:
    assert check_cli.amount(number, base) == text


def refused(result: Result) -> tuple[int, str, str]:
    """Return exit status, code and message of the first finding."""
    first = json.loads(result.stdout)["findings"][0]
    return result.exit_code, first["code"], first["message"]


UNFIT = {
    "an input of another width": ('shape = ["n", 4]', 'shape = ["n", 5]', "input 'x' has another shape in the graph"),
    "an output of another width": ('["n", 3]', '["n", 2]', "output 'y' has another shape in the graph"),
    "an output of another type": (
        '"y"\ndtype = "float32"', '"y"\ndtype = "float64"', "output 'y' has another dtype in the graph",
    ),
    "an output of another name": ('name = "y"', 'name = "z"', "the graph has no output 'z'"),
    "a limit that no row fits": (
        "[[outputs]]", "[limits]\nmax_request_bytes = 3\n[[outputs]]",
        "max_request_bytes is too small for the smallest of them all",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", UNFIT)
def test_what_sealing_refuses_of_a_manifest_the_check_refuses(sentence: str, tmp_path: Path) -> None:
    before, after, message = UNFIT[sentence]
    text = MANIFEST.replace(before, after)
    assert text != MANIFEST
    assert refused(check(tmp_path, linear(), "--json", manifest=text)) == (30, "manifest-invalid", message)
    with pytest.raises(ManifestError) as caught:
        sealed(tmp_path, linear(), manifest=ModelManifest.from_toml(text, owner=OWNER.public))
    assert (caught.value.code, caught.value.message) == (ManifestCode.MANIFEST_INVALID, message)


def test_a_picture_of_another_width_than_the_graph_takes_is_refused(tmp_path: Path) -> None:
    text = MANIFEST.replace(
        'name = "x"\ndtype = "float32"\nshape = ["n", 4]', 'name = "file"\ndtype = "uint8"\nshape = ["n"]'
    )
    text += (
        '[[pre]]\nkind = "image"\ninput = "file"\noutput = "x"\nwidth = 2\nheight = 3\nmode = "gray"\nlayout = "flat"\n'
    )
    text = text.replace("maximum = 64", "maximum = 6400")
    answer = refused(check(tmp_path, linear(), "--json", manifest=text))
    assert answer == (30, "manifest-invalid", "input 'x' has another shape in the graph")


@pytest.mark.parametrize("manifest", [None, MANIFEST])
def test_an_output_that_is_no_tensor_is_refused_with_and_without_a_manifest(
    manifest: str | None, tmp_path: Path
) -> None:
    import onnx

    graph = onnx.load_model_from_string(linear())
    graph.graph.node.append(onnx.helper.make_node("SequenceConstruct", ["y"], ["all"]))
    kind = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["n", 3])
    graph.graph.output.append(onnx.helper.make_value_info("all", onnx.helper.make_sequence_type_proto(kind)))
    status, code, message = refused(check(tmp_path, graph.SerializeToString(), "--json", manifest=manifest))
    assert (status, code, message) == (20, "model-unsupported", "output 'all' is no tensor but a sequence")


def test_a_profile_that_is_given_is_compared(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"no profile")
    text = MANIFEST + '[abuse]\nprofile = "p"\n'
    assert check(tmp_path, linear(), manifest=text).exit_code == 0
    part = f"p={tmp_path / 'p'}"
    assert refused(check(tmp_path, linear(), "--json", "--part", part, manifest=text))[:2] == (30, "profile-invalid")


def test_a_step_that_names_what_is_not_there_says_its_name(tmp_path: Path) -> None:
    error = check(
        tmp_path, linear(), manifest=MANIFEST + '[[post]]\nkind = "round"\noutput = "nope"\ndecimals = 1\n'
    ).exception
    assert isinstance(error, ManifestError)
    assert "'nope'" in error.message
    assert (error.expected, error.found) == (["y"], "nope")


def sealed(folder: Path, data: bytes, **options: Any) -> Path:
    target = folder / "m.sealed"
    seal(data, target, owner_key=OWNER, recipients=[RECIPIENT.public], **options)
    return target


def test_sealing_refuses_what_the_check_refuses(tmp_path: Path) -> None:
    described = ModelManifest.from_toml(MANIFEST + "[graph]\nmax_work = 10\n", owner=OWNER.public)
    with pytest.raises(OnnxError) as caught:
        sealed(tmp_path, linear(), manifest=described)
    assert caught.value.code is OnnxCode.WORK
    assert (caught.value.expected, caught.value.found) == ("at most 10", 1536)
    assert not (tmp_path / "m.sealed").exists()


def test_sealing_names_the_place_and_how_much_more_there_is(tmp_path: Path) -> None:
    report = check_model(made("a Tile of a million million times"))
    assert "and 1 more" in report.error().message
    assert report.error(named=False).message == OnnxCode.MEMORY.meaning


def test_the_corpus_is_large() -> None:
    assert len(HOSTILE) > 100


def test_a_manifest_in_the_place_of_a_model_is_named_as_what_it_is(tmp_path: Path) -> None:
    status, _, message = refused(check(tmp_path, MANIFEST.encode(), "--json"))
    assert (status, message) == (30, "this is no ONNX file, but text")


@pytest.mark.parametrize("hidden", [True, False])
def test_a_person_who_watches_sees_that_a_model_is_checked(
    hidden: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with check_cli._progress(hidden=hidden):
        pass
    captured = capsys.readouterr()
    assert ("Checking" in captured.err) is not hidden
    assert captured.out == ""
