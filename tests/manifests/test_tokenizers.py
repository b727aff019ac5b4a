"""A part that is named as a tokenizer is looked at before it is sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.sealed import seal
from manifests.sealed.tokenizers import check_tokenizers
from tests.deployment.small import linear
from tests.manifests.small import OWNER, RECIPIENT

MANIFEST = """
name = "words"
version = "1"
epoch = 1
[axes]
n = { minimum = 1, maximum = 8 }
[[inputs]]
name = "text"
dtype = "string"
shape = ["n"]
[[outputs]]
name = "y"
dtype = "float32"
shape = ["n", 3]
[[pre]]
kind = "tokenize"
input = "text"
tokenizer = "words.json"
ids = "x"
max_length = 4
"""
WRONG = {
    "a picture": b"\x89PNG\r\n\x1a\n",
    "text that is no JSON": b"a vocabulary\n",
    "JSON of something else": b'{"hidden_size": 768}',
    "a list": b"[]",
    "a model that is no table": b'{"model": "BPE"}',
    "JSON that is nested too deep": b"[" * 100_000,
}


def manifest() -> ModelManifest:
    return ModelManifest.from_toml(MANIFEST, owner=OWNER.public)


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_no_tokenizer_is_not_sealed(sentence: str, as_file: bool, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(WRONG[sentence])
    part = tmp_path / "other.json" if as_file else WRONG[sentence]
    with pytest.raises(ManifestError) as caught:
        check_tokenizers(manifest(), {"words.json": part})
    assert caught.value.code is ManifestCode.TOKENIZER
    assert "words.json" in caught.value.message
    assert caught.value.remedy


def test_a_tokenizers_form_passes() -> None:
    check_tokenizers(manifest(), {"words.json": b'{"model": {"type": "WordLevel", "vocab": {}}}', "table": b"any"})


def test_sealing_asks_for_it(tmp_path: Path) -> None:
    described = ModelManifest.from_toml(
        MANIFEST.replace('ids = "x"', 'ids = "x"\npadding = "max_length"')
        + '[[pre]]\nkind = "cast"\ninput = "x"\ndtype = "float32"\n',
        owner=OWNER.public,
    )
    with pytest.raises(ManifestError, match=r"a tokenizer\.json"):
        seal(
            linear(), tmp_path / "m.sealed", owner_key=OWNER, recipients=[RECIPIENT.public], manifest=described,
            extra_parts={"words.json": b"{}"},
        )  # fmt: skip
    assert not (tmp_path / "m.sealed").exists()
