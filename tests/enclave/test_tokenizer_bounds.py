"""A hostile tokenizer.json is refused before the library sees it, and a long prompt before it is split."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from enclave.components import text
from enclave.errors import EnclaveCode, EnclaveError
from enclave.spelling import TableWords
from manifests.errors import ManifestCode, ManifestError
from manifests.sealed.tokenizers import check_tokenizers
from manifests.tokenizer import PATTERNS, _growth, tokenizer_fault
from tests.enclave.poet import poet_bytes, poet_manifest
from tests.enclave.rig import Owner, running
from tests.testkit.files import trained_bytes, trained_tokenizer

GOOD = json.loads(trained_tokenizer(["one two three"], 60))
GROW = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
DOUBLE = {**GROW, "content": "aa"}


def normalizers(*steps: Any) -> dict[str, Any]:
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


def table(size: int) -> str:
    return base64.b64encode(struct.pack("<I", 4) + bytes(4) + b"a" * size + b"\0").decode()


def split(pattern: dict[str, str]) -> dict[str, Any]:
    return {"pre_tokenizer": {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}}


def pieces(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


DIGIT = split({"Regex": r"\d"})["pre_tokenizer"]
SPACED = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}

HOSTILE: dict[str, dict[str, Any]] = {
    "a space before each piece, seven times": pieces(DIGIT, *[SPACED] * 7),
    "a space before each piece, twice": pieces(SPACED, SPACED),
    "pieces of a normalizer's making, each with a space before it": {
        **normalizers(*[DOUBLE] * 6),
        **pieces(DIGIT, SPACED),
    },
    "a replacement of four bytes": pieces(
        {"type": "Metaspace", "replacement": "\U0001d11e", "prepend_scheme": "always"}
    ),
    "a long prefix of each part of a word": {"model": {**GOOD["model"], "continuing_subword_prefix": "a" * 65}},
    "a long suffix of each word": {"model": {**GOOD["model"], "end_of_word_suffix": "a" * 65}},
    "a decoder's suffix of nothing": {"decoder": {"type": "BPEDecoder", "suffix": ""}},
    "a thousandfold, three times": normalizers(GROW, GROW, GROW),
    "forty doublings": normalizers(*[DOUBLE] * 40),
    "thirty-three steps that do nothing": normalizers(*[{"type": "NFC"}] * 33),
    "a text before each piece": normalizers({"type": "Prepend", "prepend": "a" * 200}),
    "a pattern of nothing": normalizers({**GROW, "pattern": {"String": ""}}),
    "a catastrophic expression": split({"Regex": "(a+)+$"}),
    "a table that makes a character long": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": table(500)}},
    "a table that ends early": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////fw=="}},
    "a kind that nobody needs": {"decoder": {"type": "CTC"}},
    "a decoder that grows": {"decoder": GROW},
    "words of a million characters": {"model": {**GOOD["model"], "max_input_chars_per_word": 1 << 20}},
    "an added token without text": {"added_tokens": [{"id": 0, "content": ""}]},
    "an added token that is too long": {"added_tokens": [{"id": 0, "content": "a" * 2000}]},
    "a token that is too long": {"model": {**GOOD["model"], "vocab": {"a" * 2000: 0}}},
    "no model": {"model": None},
    "chance": {"model": {**GOOD["model"], "dropout": 0.5}},
}


@pytest.mark.parametrize("sentence", HOSTILE)
def test_a_hostile_tokenizer_never_reaches_the_library(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "Tokenizer", None)
    part = bytearray(json.dumps({**GOOD, **HOSTILE[sentence]}).encode())
    assert tokenizer_fault(part) is not None
    with pytest.raises(EnclaveError, match=r"a tokenizer\.json,") as refusal:
        text.words("t", {"t": part}, 1000)
    assert refusal.value.code is EnclaveCode.MODEL_UNUSABLE


@pytest.mark.parametrize("data", [b"[" * 100_000, b"[" * (3 << 20), b"\xff", b"{", b"3", b'{"model":{},"model":{}}'])
def test_what_is_no_table_has_a_fault(data: bytes) -> None:
    assert tokenizer_fault(data) is not None


def test_sealing_refuses_it_before_anything_is_written(tmp_path: Path) -> None:
    owner = Owner()
    manifest = poet_manifest(owner.public, None, vocabulary="tokenizer", tokenizer="t.json")
    bad = json.dumps({**GOOD, **HOSTILE["forty doublings"]}).encode()
    with running() as rig, pytest.raises(ManifestError) as refusal:
        owner.seal(rig.host, tmp_path, poet_bytes(), manifest=manifest, extra_parts={"t.json": bad})
    assert refusal.value.code is ManifestCode.TOKENIZER


def test_the_check_of_a_model_looks_at_its_tokenizer(tmp_path: Path) -> None:
    manifest = poet_manifest(Owner().public, None, vocabulary="tokenizer", tokenizer="t.json")
    path = tmp_path / "t.json"
    path.write_bytes(json.dumps({**GOOD, **HOSTILE["a catastrophic expression"]}).encode())
    with pytest.raises(ManifestError, match="regular expression") as refusal:
        check_tokenizers(manifest, {"t.json": path})
    assert refusal.value.code is ManifestCode.TOKENIZER


ORDINARY: dict[str, dict[str, Any]] = {
    "as trained": {},
    "Llama's": normalizers({"type": "Prepend", "prepend": "▁"}, {**GROW, "pattern": {"String": " "}, "content": "▁"}),
    "T5's": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": table(33)},
             "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}},
    **{f"the expression {pattern!r}": split({"Regex": pattern}) for pattern in sorted(PATTERNS)},
}  # fmt: skip


@pytest.mark.parametrize("sentence", ORDINARY)
def test_ordinary_tokenizers_pass(sentence: str) -> None:
    assert tokenizer_fault(json.dumps({**GOOD, **ORDINARY[sentence]}).encode()) is None
    assert tokenizer_fault(trained_bytes(["one two"])) is None


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((SPACED,), id="bytes"),
        pytest.param((DIGIT, SPACED), id="bytes of single digits"),
        pytest.param(({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},), id="a space's mark"),
        pytest.param(
            (DIGIT, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}),
            id="a space's mark before single digits",
        ),
        pytest.param(
            ({"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}),
            id="a space's mark before words",
        ),
    ],
)
@pytest.mark.parametrize("given", ["1" * 64, " " * 64, "1 " * 32, "é" * 32, "1\x80" * 20])
def test_no_admitted_step_makes_a_text_longer_than_it_is_counted(steps: tuple[dict[str, Any], ...], given: str) -> None:
    table = {**GOOD, **pieces(*steps)}
    assert tokenizer_fault(json.dumps(table).encode()) is None
    made = Tokenizer.from_str(json.dumps(table)).pre_tokenizer.pre_tokenize_str(given)
    longest = _growth("pre_tokenizer", table["pre_tokenizer"]) * len(given.encode())
    assert sum(len(piece.encode()) for piece, _ in made) <= longest + 4  # the one before the whole text


class Looked(dict[bytes, int]):
    looks = 0

    def __contains__(self, key: object) -> bool:
        Looked.looks += 1
        return super().__contains__(key)


def test_a_prompt_is_split_no_further_than_the_context_has_room() -> None:
    size = 256
    labels = ["a", "b" * 255, *(chr(0x4E00 + at) for at in range(size - 2))]
    manifest = poet_manifest(Owner().public, {"labels": labels}, vocabulary="labels")
    words = TableWords(manifest, size)
    words._numbers = Looked(words._numbers)
    context = manifest.serving.generation.context if manifest.serving.generation else 0
    for prompt, looks in ((b"a" * 128 * 1024, 0), (b"a" * 200 * context, context)):
        Looked.looks = 0
        with pytest.raises(EnclaveError) as refusal:
            words.encode(prompt)
        assert refusal.value.code is EnclaveCode.PROMPT_REFUSED
        assert Looked.looks <= looks
    assert words.encode(b"aa") == [0, 0]


def test_a_prompt_longer_than_its_tokens_can_be_never_reaches_the_library() -> None:
    words = text.words("t", {"t": bytearray(trained_tokenizer(["one two three"], 60))}, 60, 4)
    assert words.encode(b"one two")
    words._tokenizer = None  # type: ignore[attr-defined]
    with pytest.raises(EnclaveError, match="fewer tokens") as refusal:
        words.encode(b"one " * 65)
    assert refusal.value.code is EnclaveCode.PROMPT_REFUSED
