"""Texts into tokens, by Hugging Face's `tokenizers`, which is written in Rust.

It is used for splitting alone: no network, no threads of its own, no padding, no files.  A tokenizer comes as the
bytes of its `tokenizer.json`, a sealed part of the model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from enclave.components import Parts, Step
from enclave.components.spelling import TokenizerWords
from enclave.errors import EnclaveCode, EnclaveError
from enclave.spelling import Words
from enclave.validate import Tensors
from enclave.values import Array
from manifests.generation import MAX_CONTEXT
from manifests.steps import ComponentStep, Tokenize
from manifests.tokenizer import MAX_TOKENIZER, tokenizer_fault

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # or the library would start a thread for each core

from tokenizers import Tokenizer

_SMALL = (
    b'{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":{"type":"BertNormalizer",'
    b'"clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":'
    b'"BertPreTokenizer"},"post_processor":null,"decoder":null,"model":{"type":"WordPiece","unk_token":"[UNK]",'
    b'"continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"a":1,"##b":2}}}'
)


def compile(step: ComponentStep, parts: Parts) -> Step:  # noqa: A001 - what it does; the builtin is not used here
    """Return the function that replaces a request's texts by their tokens; raises EnclaveError `model-unusable`."""
    assert isinstance(step, Tokenize)  # noqa: S101 - tells the type checker what the registry of steps holds
    tokenizer = _open(step.tokenizer, parts, step.max_length if step.truncate else None)

    def run(tensors: Tensors) -> Tensors:
        others = {name: value for name, value in tensors.items() if name != step.input}
        return {**others, **_tokens(step, tokenizer, tensors[step.input])}

    return run


def words(name: str, parts: Parts, size: int, context: int = MAX_CONTEXT) -> Words:
    """Return the vocabulary of a language model; raises EnclaveError `model-unusable`.

    Prompts get the special tokens that the tokenizer adds by itself.  size: scores that the graph gives.
    context: tokens that a prompt and its answer may have.
    """
    tokenizer = _open(name, parts, None)
    if not 0 < tokenizer.get_vocab_size(with_added_tokens=True) <= size:
        raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, f"part {name!r} has other tokens than the graph has scores for")
    return TokenizerWords(tokenizer, size, context)


def rehearse() -> None:
    """Tokenize once, with padding and truncation, and spell."""
    vocabulary = words("part", {"part": bytearray(_SMALL)}, 3)
    speller = vocabulary.speller()
    for token in vocabulary.encode(b"ab a"):
        speller.add(token)
    speller.end()
    step = Tokenize("t", "part", 2, mask="mask", types="types", truncate=True)
    run = compile(step, {"part": bytearray(_SMALL)})
    run({"t": np.array(["ab a é", ""], dtype=object)})


def _open(name: str, parts: Parts, most: int | None) -> Any:
    """Read the sealed part; what it says of padding and truncation, to `most` tokens, is the manifest's to say."""
    part = parts.get(name)
    if part is None or len(part) > MAX_TOKENIZER:
        bound = f"a part {name!r} of at most {MAX_TOKENIZER} bytes"
        raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, f"the model needs {bound}, with a tokenizer.json")
    fault = tokenizer_fault(part)
    if fault is not None:
        raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, f"part {name!r}, a tokenizer.json, {fault}")
    try:
        tokenizer = Tokenizer.from_str(bytes(part).decode("utf-8"))
        tokenizer.no_padding()
        if most is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(most)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a panic of Rust is no Exception; all texts may hold content
        raise EnclaveError(EnclaveCode.MODEL_UNUSABLE, f"part {name!r} is no usable tokenizer.json") from None
    return tokenizer


def _tokens(step: Tokenize, tokenizer: Any, texts: Array) -> Tensors:
    encodings = [_encode(step, tokenizer, text) for text in texts.tolist()]
    longest = max((len(encoding.ids) for encoding in encodings), default=0)
    if longest > step.max_length:
        raise EnclaveError(
            EnclaveCode.TEXT_TOO_LONG,
            f"input {step.input!r} must hold texts of at most {step.max_length} tokens",
            field=step.input,
        )
    length = step.max_length if step.padding == "max_length" else max(1, longest)
    rows = {
        step.ids: ([encoding.ids for encoding in encodings], step.pad_id),
        step.mask: ([encoding.attention_mask for encoding in encodings], 0),
        step.types: ([encoding.type_ids for encoding in encodings], 0),
    }
    return {name: _padded(values, length, fill, step.dtype) for name, (values, fill) in rows.items() if name}


def _encode(step: Tokenize, tokenizer: Any, text: str) -> Any:
    try:
        return tokenizer.encode(text, add_special_tokens=step.special)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a panic of Rust is no Exception; all texts may hold content
        raise EnclaveError(
            EnclaveCode.TEXT_REFUSED,
            f"input {step.input!r} holds a text that the model's tokenizer cannot split",
            field=step.input,
        ) from None


def _padded(rows: Sequence[Sequence[int]], length: int, fill: int, dtype: str) -> Array:
    array = np.full((len(rows), length), fill, dtype)
    for row, values in zip(array, rows, strict=True):
        row[: len(values)] = values
    return array
