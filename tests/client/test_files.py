from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attestation.client.errors import ClientCode, ClientError
from attestation.client.files import needs_model, read_inputs, write_outputs
from attestation.client.models import ModelInfo, TensorInfo
from manifests.errors import ManifestCode, ManifestError


def model(dtype: str) -> ModelInfo:
    return ModelInfo(bytes(64), "m", "1", 1, bytes(32), (TensorInfo("x", dtype, (2,)),), (), 0)


def read(tmp_path: Path, text: str, dtype: str) -> np.ndarray:
    (tmp_path / "x.json").write_text(text)
    return read_inputs({"x": tmp_path / "x.json"}, model(dtype))["x"]


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("[1, 2]", "float32", np.array([1, 2], dtype=np.float32)),
        ("[1.0, 2.0]", "int32", np.array([1, 2], dtype=np.int32)),
        ("[true, false]", "bool", np.array([True, False])),
        ('["a", "bc"]', "string", np.array(["a", "bc"])),
    ],
)
def test_json_becomes_the_declared_dtype(tmp_path: Path, text, dtype, expected):
    array = read(tmp_path, text, dtype)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("[1.5]", "int32"),
        ("[300]", "uint8"),
        ("[-1]", "uint64"),
        ("[2]", "bool"),
        ('["a"]', "float32"),
        ("[null]", "int8"),
        ("[1e39]", "float32"),
        ("[1e400]", "float32"),
        ("[-1e400]", "float64"),
        ("[1e300]", "int64"),
        ("[NaN]", "int32"),
        ("[1" + "0" * 400 + "]", "float64"),
    ],
)
def test_json_that_does_not_fit_the_dtype_is_refused_rather_than_bent(tmp_path: Path, text, dtype):
    with pytest.raises(ClientError) as refusal:
        read(tmp_path, text, dtype)
    assert refusal.value.code is ClientCode.TENSOR_INVALID


def test_an_unknown_model_leaves_json_as_numpy_reads_it(tmp_path: Path):
    (tmp_path / "x.json").write_text("[1, 2]")
    assert read_inputs({"x": tmp_path / "x.json"}, None)["x"].dtype == np.int64


def test_only_json_needs_the_models_dtypes():
    assert needs_model({"x": Path("x.json")})
    assert not needs_model({"x": Path("x.npy")})


def test_text_survives_the_archive_without_pickling(tmp_path: Path):
    write_outputs(tmp_path / "out.npz", {"label": np.array(["benign", "malignant"], dtype=object)})
    assert np.load(tmp_path / "out.npz", allow_pickle=False)["label"].tolist() == ["benign", "malignant"]


def test_an_archive_takes_every_name_and_is_replaced_only_on_request(tmp_path: Path):
    path, names = tmp_path / "out.npz", ["file", "allow_pickle", "probabilities:0", "a/b"]
    write_outputs(path, {name: np.array([number]) for number, name in enumerate(names)})
    with np.load(path, allow_pickle=False) as loaded:
        assert {name: int(loaded[name][0]) for name in loaded.files} == {name: at for at, name in enumerate(names)}
    with pytest.raises(ManifestError) as refusal:
        write_outputs(path, {"x": np.zeros(2)})
    assert refusal.value.code is ManifestCode.FILE_EXISTS
    write_outputs(path, {"x": np.zeros(2)}, overwrite=True)
    with np.load(path) as loaded:
        assert loaded.files == ["x"]


def test_a_pickled_array_is_never_loaded(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ClientError) as refusal:
        read_inputs({"x": tmp_path / "x.npy"}, None)
    assert refusal.value.code is ClientCode.TENSOR_INVALID
