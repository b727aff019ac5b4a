"""The golden sealed models: both readers agree with them, and the writer still makes them."""

from __future__ import annotations

import ast
import base64
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from manifests.errors import ManifestError
from manifests.sealed import BytesSource, RecipientKey, SealedReader, inspect_sealed, recover_dek
from tests.manifests import independent_reader
from tests.manifests.small import small

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "sealed"
VECTORS = {path.stem: json.loads(path.read_text(encoding="ascii")) for path in sorted(FOLDER.glob("*.json"))}
GENUINE = [name for name, vector in VECTORS.items() if vector["expect"] == "opens"]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sealed_vectors", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _ours(vector: dict[str, Any]) -> dict[str, bytes]:
    source = BytesSource(base64.b64decode(vector["file"]))
    inspect_sealed(source)
    reader = SealedReader(source, owner=bytes.fromhex(vector["owner"]), digest=bytes.fromhex(vector["digest"]))
    for seed in vector["recipient_seeds"]:
        dek = recover_dek(source, RecipientKey.from_bytes(bytes.fromhex(seed)))
        assert dek.hex() == vector["dek"]
        reader.open(dek)
    return {part.name: bytes(reader.read_part(index)) for index, part in enumerate(reader.core.parts)}


def _independent(vector: dict[str, Any]) -> dict[str, bytes]:
    sealed = independent_reader.Sealed(base64.b64decode(vector["file"]))
    for seed in vector["recipient_seeds"]:
        assert sealed.data_key(bytes.fromhex(seed)).hex() == vector["dek"]
    return sealed.open(*(bytes.fromhex(vector[name]) for name in ("dek", "owner", "digest")))


READERS = {"ours": (_ours, ManifestError), "independent": (_independent, independent_reader.Refused)}


def test_the_corpus_is_there() -> None:
    assert len(GENUINE) == 5
    assert len(VECTORS) == 13


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", VECTORS)
def test_a_reader_agrees_with_the_vector(name: str, reader: str) -> None:
    vector = VECTORS[name]
    read, error = READERS[reader]
    if vector["expect"] == "opens":
        expected = {part: base64.b64decode(content) for part, content in vector["parts"].items()}
        assert read(vector) == expected
        return
    with pytest.raises(error) as caught:
        read(vector)
    assert vector["expect"] in str(caught.value)


@pytest.mark.parametrize("name", VECTORS)
def test_the_generator_still_makes_the_vector(name: str) -> None:
    assert _made()[name] == VECTORS[name]


def _made(cache: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 - made once for all cases
    if not cache:
        cache.update(_generator().everything())
    return cache


def test_the_independent_reader_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(independent_reader.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names
    assert not {name for name in names if name.split(".")[0] in {"manifests", "attestation", "strongroom", "tests"}}


def test_the_independent_reader_refuses_a_sample_of_flipped_bits() -> None:
    sealed = small(parts=(("model.onnx", b"g" * 300),))
    for bit in range(0, len(sealed.data) * 8, 13):
        changed = bytearray(sealed.data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(independent_reader.Refused):
            reader = independent_reader.Sealed(bytes(changed))
            reader.recipients()
            reader.open(sealed.dek, sealed.owner.public, sealed.digest)
