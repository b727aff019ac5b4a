"""Texts: the tokens are those of `tokenizers` called directly, whatever characters a text is made of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from enclave.components import text
from enclave.errors import EnclaveError
from enclave.process import compile_pre, run_steps
from tests.enclave.decoding import LOADED, manifest
from tests.testkit.files import trained_tokenizer

SENTENCES = [
    "Beautiful is better than ugly.",
    "Explicit is better than implicit.",
    "Simple is better than complex.",
    "In the face of ambiguity, refuse the temptation to guess.",
]
TOKENIZER = trained_tokenizer(SENTENCES, 200)
STEP: dict[str, Any] = {
    "kind": "tokenize",
    "input": "texts",
    "tokenizer": "tokenizer.json",
    "max_length": 32,
    "mask": "attention_mask",
    "types": "token_type_ids",
}
STRANGE = {
    "nothing": "",
    "a space": " ",
    "NUL": "a\0b",
    "right to left, and an override": "abc \u202e cba \u2066 x \u2069 שלום",
    "combining marks without a letter": "\u0301\u0301\u0301",
    "a thousand marks on one letter": "e" + "\u0301" * 1000,
    "emoji of seven code points": "👩‍👩‍👧‍👦",
    "private use and non-characters": "\ue000\uffff\U0010ffff",
    "a byte order mark": "\ufeffSimple",
    "the names of special tokens": "[CLS] [SEP] [PAD] [UNK]",
    "line ends of all kinds": "a\r\nb\u2028c\x85d\x0be",
    "ten thousand letters": "a" * 10_000,
}


def tokens(texts: list[str], part: bytes = TOKENIZER, **changes: Any) -> dict[str, np.ndarray]:
    described = manifest({**STEP, **changes})
    steps = compile_pre(described, LOADED, {"tokenizer.json": bytearray(part)})
    arrays = run_steps(steps, {"texts": np.array(texts, dtype=object)})
    assert list(arrays) == [tensor.name for tensor in described.graph_inputs()]
    return arrays


def plain(texts: list[str], **options: Any) -> Any:
    tokenizer = Tokenizer.from_str(TOKENIZER.decode())
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(**options)
    return tokenizer.encode_batch(texts)


def test_tokens_are_those_of_the_library_called_directly() -> None:
    expected = plain(SENTENCES)
    arrays = tokens(SENTENCES)
    np.testing.assert_array_equal(arrays["input_ids"], [each.ids for each in expected])
    np.testing.assert_array_equal(arrays["attention_mask"], [each.attention_mask for each in expected])
    np.testing.assert_array_equal(arrays["token_type_ids"], [each.type_ids for each in expected])
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("case", STRANGE)
def test_strange_texts_are_read_as_the_library_reads_them(case: str) -> None:
    arrays = tokens([STRANGE[case], "Simple"], truncate=True, padding="max_length", dtype="int32")
    expected = plain([STRANGE[case], "Simple"], length=32)
    np.testing.assert_array_equal(arrays["input_ids"], [each.ids for each in expected])
    np.testing.assert_array_equal(arrays["attention_mask"], [each.attention_mask for each in expected])
    assert arrays["input_ids"].dtype == np.int32


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=4))
def test_every_text_that_can_travel_has_tokens(texts: list[str]) -> None:
    """Unpaired surrogates are no UTF-8, and so no text that a message carries."""
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    np.testing.assert_array_equal(
        tokens(texts, truncate=True, padding="max_length")["input_ids"], [e.ids for e in plain(texts, length=32)]
    )


def test_a_text_with_too_many_tokens_is_refused_or_loses_its_end() -> None:
    long = " ".join(["simple"] * 31)
    with pytest.raises(EnclaveError) as refusal:
        tokens(["Simple", long])
    assert (refusal.value.code, refusal.value.field) == ("text-too-long", "texts")
    assert "32" in refusal.value.message
    kept = tokens([long], truncate=True)["input_ids"]
    assert kept.shape == (1, 32)
    assert kept[0, -1] == 3, "the special token at the end stays"


def test_a_request_is_padded_to_its_longest_text_with_the_token_that_the_manifest_names() -> None:
    arrays = tokens(["Simple", "Simple is better"], pad_id=7, special=False)
    first, second = (
        Tokenizer.from_str(TOKENIZER.decode()).encode(t, add_special_tokens=False).ids
        for t in ("simple", "simple is better")
    )
    assert arrays["input_ids"].tolist() == [first + [7] * (len(second) - len(first)), second]
    assert arrays["attention_mask"].sum(axis=1).tolist() == [len(first), len(second)]
    assert tokens([""], special=False)["input_ids"].tolist() == [[0]], "a text of no tokens is padding alone"


def test_what_the_tokenizer_says_of_padding_and_truncation_does_not_count() -> None:
    table = json.loads(TOKENIZER)
    table["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    table["padding"] = {
        "strategy": {"Fixed": 9000}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 1, "pad_type_id": 0, "pad_token": "[UNK]",
    }  # fmt: skip
    changed = tokens(SENTENCES, json.dumps(table).encode())
    np.testing.assert_array_equal(changed["input_ids"], tokens(SENTENCES)["input_ids"])


BROKEN = {"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}
UNUSABLE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "JSON of something else": b'{"version": "1.0"}',
    "a list": b"[]",
    "JSON nested beyond reason": b"[" * 100_000,
    "a model of an unknown kind": TOKENIZER.replace(b'"WordPiece"', b'"NoPiece"'),
    "a pattern that is no expression": json.dumps({**json.loads(TOKENIZER), "pre_tokenizer": BROKEN}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_part_that_is_no_tokenizer_makes_the_model_unusable(case: str) -> None:
    with pytest.raises(EnclaveError) as refusal:
        tokens(SENTENCES, UNUSABLE[case])
    assert refusal.value.code == "model-unusable"
    assert "tokenizer.json" in refusal.value.message


def test_a_missing_part_and_one_that_is_too_large_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_TOKENIZER", len(TOKENIZER) - 1)
    for parts in ({}, {"tokenizer.json": bytearray(TOKENIZER)}):
        with pytest.raises(EnclaveError) as refusal:
            compile_pre(manifest(STEP), LOADED, parts)
        assert refusal.value.code == "model-unusable"


def test_a_library_that_fails_is_a_coded_refusal_without_content() -> None:
    """A vocabulary without its unknown token: the library fails at the first word that it does not know."""
    table = json.loads(TOKENIZER)
    del table["model"]["vocab"]["[UNK]"]
    table["added_tokens"] = []
    with pytest.raises(EnclaveError) as refusal:
        tokens(["Ωmega"], json.dumps(table).encode(), special=False)
    assert (refusal.value.code, refusal.value.field) == ("text-refused", "texts")
    assert "mega" not in refusal.value.message


def test_tokenizing_starts_no_thread() -> None:
    import threading
    from pathlib import Path

    before = len(list(Path("/proc/self/task").iterdir()))
    tokens(SENTENCES * 16)
    assert len(list(Path("/proc/self/task").iterdir())) == before
    assert threading.active_count() >= 1
