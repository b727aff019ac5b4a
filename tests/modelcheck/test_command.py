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


@pytest.mark.parametrize("where", ["beside", "as a part"])
def test_external_data_is_found(where: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / ("w.bin" if where == "beside" else "elsewhere/other")
    place.write_bytes(bytes(24))
    words = [] if where == "beside" else ["--part", f"w.bin={place}"]
    assert check(tmp_path, made(EXTERNAL), *words).exit_code == 0
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
