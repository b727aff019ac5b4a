"""What a `tokenizer.json` may ask for: held against a list before the library that runs it sees it.

The library is native code that ends the process where it cannot allocate, and its steps can be told to grow a text
without bound or to match patterns for ever.  So kinds of steps, patterns and growth are those of ordinary tokenizers.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

MAX_TOKENIZER = 64 << 20
"""Bytes of a tokenizer.json: the largest vocabularies in use, of 262,144 tokens, take half of that."""
MAX_LISTS = 1 << 21
"""Lists and objects, or braces in texts: a vocabulary of 500,000 merges has as many lists, each of two."""
MAX_COMMAS = 1 << 23
MAX_STEPS = 32
"""Steps of one kind; ordinary tokenizers have up to eight."""
MAX_GROWTH = 128
"""How often as long a text may become: T5's normalizers together admit 99."""
MAX_ADDED = 1 << 16
MAX_NAME = 1024
"""UTF-8 bytes of one token or text of a step."""
MAX_AFFIX = 64
"""UTF-8 bytes of what a model puts before or behind the parts of a word, once for each attempt to find one."""
MAX_WORD = 1000
"""Characters of a word that WordPiece tries to split, in quadratic time; ordinary ones have 100."""

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = frozenset({_GPT2, _CL100K % "{1,3}", _CL100K % "", " {2,}", r"\s+", r"\d", r"\p{N}", r"\p{N}{1,3}", r"\n", "\n"})  # fmt: skip # noqa: E501
"""Regular expressions of GPT-2, Llama 3 and Qwen 2, and small ones; none of them backtracks far."""

_GROWTH = {
    "normalizer": {
        "Sequence": 1, "BertNormalizer": 9, "NFC": 3, "NFD": 4, "NFKC": 11, "NFKD": 11, "Lowercase": 2, "Nmt": 1,
        "StripAccents": 1, "Strip": 1, "ByteLevel": 2, "Prepend": 1, "Replace": 1, "Precompiled": 1,
    },
    "pre_tokenizer": {
        "Sequence": 1, "BertPreTokenizer": 1, "ByteLevel": 2, "Whitespace": 1, "WhitespaceSplit": 1, "Metaspace": 3,
        "Punctuation": 1, "Digits": 1, "CharDelimiterSplit": 1, "UnicodeScripts": 1, "Split": 1,
    },
    "post_processor": {
        "Sequence": 1, "BertProcessing": 1, "RobertaProcessing": 1, "TemplateProcessing": 1, "ByteLevel": 1,
    },
    "decoder": {
        "Sequence": 1, "ByteLevel": 1, "WordPiece": 2, "Metaspace": 1, "BPEDecoder": 1, "ByteFallback": 1, "Fuse": 1,
        "Strip": 1, "Replace": 1,
    },
}  # fmt: skip
"""Kinds of steps, and how often as many bytes each makes of a text at most, besides what it is told to."""
_PREFIXED = {"ByteLevel": 2, "Metaspace": 3}
"""Steps before the model that put something before each piece, and its bytes: a space as the model writes it."""
_KEEPS_PIECES_APART = frozenset({"Sequence", "WhitespaceSplit", "CharDelimiterSplit", *_PREFIXED})
"""Steps that make as many pieces as there were separators, which they take away; the others cut after any byte."""
_INNER = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "post_processor": "processors",
          "decoder": "decoders"}  # fmt: skip
_MODELS = frozenset({"WordPiece", "BPE", "Unigram", "WordLevel"})


def tokenizer_fault(data: bytes | bytearray) -> str | None:
    """Return why a tokenizer.json is refused, without a word of its own, or None; total."""
    try:
        table = _parsed(data)
        growths = {part: _growth(part, table.get(part)) for part in _GROWTH}
        _need(growths["normalizer"] * growths["pre_tokenizer"] <= MAX_GROWTH, "makes texts too long")
        _need(growths["decoder"] <= MAX_GROWTH, "makes texts too long")
        _check_model(table.get("model"))
        _check_added(table.get("added_tokens") or [])
    except _FaultError as fault:
        return str(fault)
    except (ValueError, RecursionError, TypeError, AttributeError, LookupError, OverflowError, struct.error):
        return "is no tokenizer.json"
    return None


class _FaultError(Exception):
    """Why a tokenizer is refused."""


def _need(holds: object, message: str) -> None:
    if not holds:
        raise _FaultError(message)


def _parsed(data: bytes | bytearray) -> dict[str, Any]:
    small = data.count(b"{") + data.count(b"[") <= MAX_LISTS and data.count(b",") <= MAX_COMMAS
    _need(len(data) <= MAX_TOKENIZER and small, "is too large")
    table = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    _need(isinstance(table, dict), "is no tokenizer.json")
    found: dict[str, Any] = table
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    _need(len(table) == len(pairs), "says something twice")
    return table


def _steps(part: str, step: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Give all steps of a part, in sequences too."""
    _need(isinstance(step, dict) and step.get("type") in _GROWTH[part], f"has a {part} of a kind that is not admitted")
    _need(depth < 8, "is nested too deep")
    yield step
    for inner in step[_INNER[part]] if step["type"] == "Sequence" else ():
        yield from _steps(part, inner, depth + 1)


def _growth(part: str, step: Any) -> int:
    """Check the steps of a part, and return how often as long they make a text."""
    growth, cut, prefixed = 1, False, 0
    for count, each in enumerate(() if step is None else _steps(part, step)):
        _need(count < MAX_STEPS, "has too many steps")
        growth *= _GROWTH[part][each["type"]] * _told(each)
        if part == "pre_tokenizer" and each["type"] in _PREFIXED:
            prefixed += 1
            growth *= 2 if cut and _has_prefix(each) else 1  # each piece may be of one byte, and the prefix of no more
        cut = cut or each["type"] not in _KEEPS_PIECES_APART
        _need(growth <= MAX_GROWTH and prefixed <= 1, "makes texts too long")
    return growth


def _has_prefix(step: dict[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return step.get("add_prefix_space", True) is not False
    return bool(step.get("prepend_scheme", "always") != "never")


def _told(step: dict[str, Any]) -> int:
    """Check what a step is told, and return how often as long that makes a text."""
    kind = step["type"]
    if kind in {"Replace", "Split"}:
        least = _pattern(step["pattern"])
        return 1 if kind == "Split" else max(1, math.ceil(_text(step["content"]) / least))
    if kind == "Prepend":
        return 1 + _text(step["prepend"])
    if kind == "Metaspace":
        _need(_text(step.get("replacement", "")) <= _PREFIXED[kind], "has a text that is too long")
    if kind == "BPEDecoder":
        _need(0 < _text(step.get("suffix", "</w>")) <= MAX_AFFIX, "has a text that is too long")
    if kind == "WordPiece":
        _need(_text(step.get("prefix", "")) <= 8, "has a text that is too long")
    if kind == "TemplateProcessing":
        _template(step)
    return _mapped(step["precompiled_charsmap"]) if kind == "Precompiled" else 1


def _text(text: Any) -> int:
    _need(isinstance(text, str) and len(text) <= MAX_NAME, "has a text that is too long")
    return len(text.encode())


def _pattern(pattern: dict[str, Any]) -> int:
    """Check a pattern, and return the least bytes that it matches."""
    _need(len(pattern) == 1, "has a pattern that is not admitted")
    if "Regex" in pattern:
        _need(pattern["Regex"] in PATTERNS, "has a regular expression that is not admitted")
        return 1
    length = _text(pattern["String"])
    _need(length > 0, "has a pattern that is not admitted")
    return length


def _template(step: dict[str, Any]) -> None:
    names = step["special_tokens"]
    few = max(len(step["single"]), len(step["pair"]), len(names)) <= 16
    _need(few and all(len(item["ids"]) <= 16 for item in names.values()), "adds too many special tokens")
    sequences = sum("Sequence" in item for item in step["single"])
    _need(sequences <= 1, "repeats a text")


def _mapped(text: str) -> int:
    """Return the longest that one character becomes by SentencePiece's table: the size of a trie, the trie, texts."""
    try:
        blob = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _FaultError("is no tokenizer.json") from None
    (size,) = struct.unpack_from("<I", blob)
    _need(size % 4 == 0 and size + 4 <= len(blob), "is no tokenizer.json")
    return max(1, *map(len, blob[4 + size :].split(b"\0")))


def _check_model(model: Any) -> None:
    kind = model.get("type", "BPE" if "merges" in model else None)
    _need(kind in _MODELS and not model.get("dropout"), "has a model of a kind that is not admitted")
    _need(0 <= model.get("max_input_chars_per_word", 0) <= MAX_WORD, "splits words that are too long")
    affixes = ("continuing_subword_prefix", "end_of_word_suffix", "unk_token")
    _need(all(_text(model.get(name) or "") <= MAX_AFFIX for name in affixes), "has a text that is too long")
    vocabulary = model["vocab"]
    names = vocabulary if isinstance(vocabulary, dict) else (name for name, _ in vocabulary)
    _need(all(len(name) <= MAX_NAME for name in names), "has a token that is too long")


def _check_added(tokens: list[dict[str, Any]]) -> None:
    _need(len(tokens) <= MAX_ADDED, "has too many added tokens")
    for token in tokens:
        _need(_text(token["content"]) > 0, "has an added token without text")
