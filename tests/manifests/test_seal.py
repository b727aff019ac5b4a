"""Sealing from every form that a model comes in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from manifests.draft import draft_manifest
from manifests.errors import ManifestCode, ManifestError
from manifests.sealed import FileSource, SealedReader, inspect_sealed, recover_dek, seal
from tests.manifests.graphs import doubling, external, graph, value
from tests.manifests.small import OTHER_OWNER, OWNER, RECIPIENT

WHO: dict[str, Any] = {"owner_key": OWNER, "recipients": [RECIPIENT.public]}


def opened(path: Path) -> tuple[SealedReader, dict[str, bytes]]:
    """Open a sealed model and return its parts by name."""
    with FileSource(path) as source:
        reader = SealedReader(source, owner=OWNER.public, digest=inspect_sealed(path).digest)
        reader.open(recover_dek(path, RECIPIENT))
        return reader, {part.name: bytes(reader.read_part(n)) for n, part in enumerate(reader.core.parts)}


def run(data: bytes, x: Any) -> Any:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


@pytest.mark.parametrize("form", ["path", "text path", "bytes", "ModelProto"])
def test_a_graph_is_sealed_in_every_form(tmp_path: Path, form: str) -> None:
    model = doubling()
    file = tmp_path / "double.onnx"
    file.write_bytes(model.SerializeToString())
    forms = {"path": file, "text path": str(file), "bytes": file.read_bytes(), "ModelProto": model}
    info = seal(forms[form], tmp_path / "s", version="3", epoch=0, **WHO)
    assert info == inspect_sealed(tmp_path / "s")
    assert info.core.name == ("double" if "path" in form else "drawn")
    _, parts = opened(tmp_path / "s")
    assert parts["model.onnx"] == model.SerializeToString()
    x = np.ones((2, 4), np.float32)
    assert np.array_equal(run(parts["model.onnx"], x)[0], x + x)


def test_the_manifest_is_sealed_as_it_was_given(tmp_path: Path) -> None:
    manifest = draft_manifest(doubling(), owner=OWNER.public, name="given", epoch=9)
    info = seal(doubling(), tmp_path / "s", manifest=manifest, **WHO)
    assert (info.core.name, info.core.epoch) == ("given", 9)
    with FileSource(tmp_path / "s") as source:
        reader = SealedReader(source, owner=OWNER.public, digest=info.digest)
        reader.open(recover_dek(source, RECIPIENT))
        assert reader.read_manifest() == manifest


def test_external_data_and_further_parts_keep_their_names(tmp_path: Path) -> None:
    path = external(tmp_path / "net", ["w.bin", "deep/er/w.bin"])
    weights = np.arange(4, dtype=np.float32).tobytes()
    for name in ("w.bin", "deep/er/w.bin"):
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(weights)
    (tmp_path / "vocabulary").write_text("a b c")
    extra = {"vocab.txt": tmp_path / "vocabulary", "table": b"in memory"}
    seal(path, tmp_path / "s", extra_parts=extra, **WHO)
    _, parts = opened(tmp_path / "s")
    assert {name: parts[name] for name in ("w.bin", "deep/er/w.bin", "vocab.txt", "table")} == {
        "w.bin": weights,
        "deep/er/w.bin": weights,
        "vocab.txt": b"a b c",
        "table": b"in memory",
    }


def test_external_data_of_a_graph_in_memory_comes_as_a_part(tmp_path: Path) -> None:
    data = external(tmp_path).read_bytes()
    seal(data, tmp_path / "s", extra_parts={"weights/w.bin": bytes(16)}, **WHO)
    with pytest.raises(ManifestError) as caught:
        seal(data, tmp_path / "t", **WHO)
    assert caught.value.code is ManifestCode.SEALED_PART
    assert "weights/w.bin" in caught.value.message


def test_external_data_that_is_missing_or_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path / "net", ["w.bin"])
    with pytest.raises(ManifestError) as caught:
        seal(path, tmp_path / "s", **WHO)
    assert caught.value.code is ManifestCode.FILE_UNAVAILABLE
    (tmp_path / "secret").write_bytes(bytes(16))
    (path.parent / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(ManifestError) as caught:
        seal(path, tmp_path / "s", **WHO)
    assert caught.value.code is ManifestCode.SEALED_PART
    for location in ("../secret", "/etc/hostname", "a\\b"):
        with pytest.raises(ManifestError) as caught:
            seal(external(tmp_path / "net", [location]), tmp_path / "s", **WHO)
        assert caught.value.code is ManifestCode.SEALED_PART
    assert not (tmp_path / "s").exists()


def test_external_data_is_found_in_subgraphs(tmp_path: Path) -> None:
    inner = external(tmp_path / "net", ["inner.bin"])
    branch = onnx.load(inner, load_external_data=False).graph
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = graph([value("c", [1], onnx.TensorProto.BOOL)], [value("y", [4])], nodes=[node])
    with pytest.raises(ManifestError) as caught:
        seal(model, tmp_path / "s", **WHO)
    assert "inner.bin" in caught.value.message


REFUSED: dict[str, tuple[dict[str, Any], ManifestCode]] = {
    "a name beside a manifest": ({"manifest": "drafted", "name": "n"}, ManifestCode.MANIFEST_INVALID),
    "another owner's manifest": ({"manifest": "of another"}, ManifestCode.SEALED_OWNER),
    "a manifest of another graph": ({"manifest": "of another graph"}, ManifestCode.MANIFEST_INVALID),
    "a second manifest": ({"extra_parts": {"manifest": b""}}, ManifestCode.SEALED_PART),
    "a second graph": ({"extra_parts": {"model.onnx": b""}}, ManifestCode.SEALED_PART),
    "a part upwards": ({"extra_parts": {"../x": b""}}, ManifestCode.FIELD_INVALID),
    "a missing part": ({"extra_parts": {"x": Path("no such file")}}, ManifestCode.FILE_UNAVAILABLE),
    "a name with a line end": ({"name": "a/b\n"}, ManifestCode.FIELD_INVALID),
    "a name like a path": ({"name": "a/b"}, ManifestCode.FIELD_INVALID),
    "the name of all models": ({"name": "*"}, ManifestCode.FIELD_INVALID),
    "an empty name": ({"name": ""}, ManifestCode.FIELD_INVALID),
    "an empty version": ({"version": ""}, ManifestCode.FIELD_INVALID),
    "an epoch that is no number": ({"epoch": "1"}, ManifestCode.FIELD_INVALID),
    "no recipient": ({"recipients": []}, ManifestCode.SEALED_RECIPIENTS),
    "a recipient that is no key": ({"recipients": [b"x"]}, ManifestCode.KEY_INVALID),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_sealing_leaves_the_destination_alone(tmp_path: Path, case: str) -> None:
    changes, code = REFUSED[case]
    manifests = {
        "drafted": draft_manifest(doubling(), owner=OWNER.public),
        "of another": draft_manifest(doubling(), owner=OTHER_OWNER.public),
        "of another graph": draft_manifest(doubling((5, 5)), owner=OWNER.public),
    }
    if "manifest" in changes:
        changes = {**changes, "manifest": manifests[changes["manifest"]]}
    path = tmp_path / "s"
    path.write_bytes(b"older")
    with pytest.raises(ManifestError) as caught:
        seal(doubling(), path, **{**WHO, "overwrite": True, **changes})
    assert caught.value.code is code
    assert path.read_bytes() == b"older"
    assert [child.name for child in tmp_path.iterdir()] == ["s"]


def test_a_manifest_that_is_too_large_is_refused(tmp_path: Path) -> None:
    import dataclasses

    manifest = draft_manifest(doubling(), owner=OWNER.public)
    large = dataclasses.replace(manifest, labels=tuple(f"{n:0200}" for n in range(6000)))
    with pytest.raises(ManifestError) as caught:
        seal(doubling(), tmp_path / "s", manifest=large, **WHO)
    assert caught.value.code is ManifestCode.MANIFEST_INVALID


@pytest.mark.parametrize("limit", ["max_request_bytes", "max_response_bytes"])
def test_a_manifest_that_admits_no_request_or_no_answer_is_refused(tmp_path: Path, limit: str) -> None:
    import dataclasses

    manifest = draft_manifest(doubling(), owner=OWNER.public)
    for size, fits in ((1, False), (15, False), (16, True)):
        tight = dataclasses.replace(manifest, limits=dataclasses.replace(manifest.limits, **{limit: size}))
        if fits:
            seal(doubling(), tmp_path / "s", manifest=tight, **WHO)
            continue
        with pytest.raises(ManifestError) as caught:
            seal(doubling(), tmp_path / "s", manifest=tight, **WHO)
        assert (caught.value.code, caught.value.found) == (ManifestCode.MANIFEST_INVALID, size)
        assert limit in caught.value.message


@pytest.mark.parametrize("model", [None, 3, {"a": 1}, object(), doubling().graph], ids=lambda m: type(m).__name__)
def test_what_is_no_model_is_refused(tmp_path: Path, model: object) -> None:
    with pytest.raises(ManifestError) as caught:
        seal(model, tmp_path / "s", **WHO)
    assert caught.value.code is ManifestCode.MODEL_UNSUPPORTED


# --- scikit-learn --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flowers() -> tuple[Any, Any]:
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return x.astype(np.float32), y


def test_a_fitted_classifier_is_sealed_in_one_call(tmp_path: Path, flowers: Any) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = flowers
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    seal(model, tmp_path / "s", name="iris", **WHO)
    reader, parts = opened(tmp_path / "s")
    label, scores = run(parts["model.onnx"], x)
    assert np.array_equal(label, model.predict(x))
    assert np.allclose(scores, model.predict_proba(x), atol=1e-5)
    assert reader.core.name == "iris"


def test_a_regressor_and_an_example_with_doubles_are_sealed(tmp_path: Path, flowers: Any) -> None:
    from sklearn.linear_model import LinearRegression

    x, y = flowers
    x = x.astype(np.float64)
    model = LinearRegression().fit(x, y)
    seal(model, tmp_path / "s", example_input=x[:1], **WHO)
    _, parts = opened(tmp_path / "s")
    assert np.allclose(run(parts["model.onnx"], x)[0].ravel(), model.predict(x))


def test_an_estimator_that_was_not_fitted_asks_for_it(tmp_path: Path, flowers: Any) -> None:
    from sklearn.ensemble import IsolationForest
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for unfitted in (LogisticRegression(), IsolationForest(), make_pipeline(StandardScaler(), IsolationForest())):
        for example in (None, flowers[0][:1]):
            with pytest.raises(ManifestError) as caught:
                seal(unfitted, tmp_path / "s", example_input=example, **WHO)
            assert caught.value.code is ManifestCode.EXPORT_FAILED
            assert "not fitted, call fit first" in caught.value.message


def test_an_outlier_detector_is_sealed(tmp_path: Path, flowers: Any) -> None:
    from sklearn.ensemble import IsolationForest

    x, _ = flowers
    model = IsolationForest(n_estimators=10, random_state=0).fit(x)
    seal(model, tmp_path / "s", **WHO)
    _, parts = opened(tmp_path / "s")
    label, scores = run(parts["model.onnx"], x)
    assert np.array_equal(label.ravel(), model.predict(x))
    assert np.allclose(scores.ravel(), model.decision_function(x), atol=1e-4)


def test_a_classifier_without_probabilities_is_sealed(tmp_path: Path, flowers: Any) -> None:
    from sklearn.svm import LinearSVC

    x, y = flowers
    model = LinearSVC().fit(x, y)
    seal(model, tmp_path / "s", **WHO)
    _, parts = opened(tmp_path / "s")
    assert np.array_equal(run(parts["model.onnx"], x)[0], model.predict(x))


def test_the_frameworks_own_words_come_with_a_failed_export(tmp_path: Path, flowers: Any) -> None:
    from sklearn.base import BaseEstimator

    class Homemade(BaseEstimator):
        n_features_in_ = 4

        def fit(self) -> Homemade:
            self.coef_ = 1
            return self

    with pytest.raises(ManifestError) as caught:
        seal(Homemade().fit(), tmp_path / "s", **WHO)
    assert caught.value.code is ManifestCode.EXPORT_FAILED
    assert "Homemade" in caught.value.message


def test_a_missing_exporter_names_the_extra_to_install(
    tmp_path: Path, flowers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.linear_model import LinearRegression

    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ManifestError) as caught:
        seal(LinearRegression().fit(*flowers), tmp_path / "s", **WHO)
    assert caught.value.code is ManifestCode.EXTRA_MISSING
    assert caught.value.remedy == "pip install 'strongroom[sklearn]'"


def test_a_graph_beyond_protobufs_limit_says_what_to_do() -> None:
    from manifests.sealed.exporters import serialize

    class Huge:
        def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
            raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB")

    with pytest.raises(ManifestError) as caught:
        serialize(Huge())  # type: ignore[arg-type]
    assert caught.value.code is ManifestCode.EXPORT_FAILED
    assert "external data" in str(caught.value.remedy)


def test_a_file_that_is_there_is_replaced_on_request_alone(tmp_path: Path) -> None:
    first = seal(doubling(), tmp_path / "s", **WHO)
    with pytest.raises(ManifestError) as caught:
        seal(doubling(), tmp_path / "s", **WHO)
    assert caught.value.code is ManifestCode.FILE_EXISTS
    assert "overwrite=True" in str(caught.value.remedy)
    assert inspect_sealed(tmp_path / "s") == first
    assert seal(doubling(), tmp_path / "s", overwrite=True, **WHO) == inspect_sealed(tmp_path / "s") != first


def test_a_file_that_appears_while_a_model_is_sealed_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def appear(_done: int, _total: int) -> None:
        path.write_text("new")

    with pytest.raises(ManifestError) as caught:
        seal(doubling(), path, progress=appear, **WHO)
    assert caught.value.code is ManifestCode.FILE_EXISTS
    assert path.read_text() == "new"
