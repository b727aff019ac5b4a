"""The table `[generation]`: a decoder-only language model, whose tokens the enclave makes one after the other.

It says which tensors of the graph are tokens, positions, logits and cache, how far a request may go, and which ways of
drawing a token its owner admits.  docs/generation.md explains each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from manifests import fields
from manifests.pairs import Pair, admits, pairs_to_list, read_pairs, static_bytes, take, unfit
from manifests.tensors import MAX_TENSOR_NAME, Axis, Dimension, TensorField
from manifests.values import FLOATS

MAX_CONTEXT = 1 << 20
"""Tokens of prompt and answer together."""
MAX_CACHE = 16 << 30
"""Bytes of one request's cache; what an enclave holds is bounded by its settings besides."""
MAX_STREAMS = 1024
MAX_STOP_TOKENS = 64
BYTES = 256
"""Tokens of the vocabulary "bytes" that stand for one; those above stand for no text."""

_TOKEN_TYPES = frozenset({"int32", "int64"})
_NAMES = ("tokens", "logits", "positions", "mask", "tokenizer")
_REQUIRED = ("tokens", "logits", "cache", "context", "max_new_tokens", "vocabulary")
_OPTIONAL = ("positions", "mask", "stop_tokens", "sampling", "streams", "tokenizer")


class Vocabulary(StrEnum):
    """What a token stands for."""

    BYTES = "bytes"
    """Tokens 0 to 255 are bytes of UTF-8; any above have no text."""
    LABELS = "labels"
    """The manifest's label of that number."""
    TOKENIZER = "tokenizer"
    """What the sealed part `tokenizer` says, a `tokenizer.json`; it takes the enclave's component `text`."""


class Sampling(StrEnum):
    """What a client may ask for besides the greatest logit each time."""

    TEMPERATURE = "temperature"
    TOP_K = "top_k"
    TOP_P = "top_p"


@dataclass(frozen=True)
class Generation:
    """The table, checked by itself; `check` holds it against the tensors of its manifest."""

    tokens: str
    """Input of token numbers, [1, n]."""
    logits: str
    """Output of scores, [1, n, vocabulary] or [1, vocabulary]: the last position's count."""
    cache: tuple[Pair, ...]
    """Inputs and outputs with one axis that grows from 0 by n at each run."""
    context: int
    """Most tokens of prompt and answer together."""
    max_new_tokens: int
    vocabulary: Vocabulary
    positions: str | None = None
    """Input of each token's position, [1, n], where the graph takes one."""
    mask: str | None = None
    """Input of ones, [1, positions so far], where the graph takes one."""
    stop_tokens: tuple[int, ...] = ()
    """Tokens that end an answer, and are no part of it."""
    sampling: frozenset[Sampling] = frozenset()
    streams: int = 4
    """Requests that may hold a cache at once."""
    tokenizer: str | None = None
    """Name of the sealed part that holds the vocabulary, where that is "tokenizer"."""

    @classmethod
    def from_map(cls, value: object) -> Generation:
        """Read the table; raises ManifestError `field-invalid` or `manifest-invalid`."""
        table = fields.closed_map(value, "generation", _REQUIRED, _OPTIONAL)
        names = {name: fields.text(table[name], name, MAX_TENSOR_NAME) for name in _NAMES if name in table}
        context = fields.number(table["context"], "context", 2, MAX_CONTEXT)
        stops = fields.list_of(table.get("stop_tokens", []), "stop_tokens", MAX_STOP_TOKENS)
        sampling = [
            fields.member(Sampling, item, "sampling")
            for item in fields.list_of(table.get("sampling", []), "sampling", 3)
        ]
        fields.ascending([str(item) for item in sampling], "sampling")
        read = cls(
            cache=read_pairs(table["cache"], "cache"),
            context=context,
            max_new_tokens=fields.number(table["max_new_tokens"], "max_new_tokens", 1, context - 1),
            vocabulary=fields.member(Vocabulary, table["vocabulary"], "vocabulary"),
            stop_tokens=tuple(fields.number(item, "stop_tokens", 0, (1 << 31) - 1) for item in stops),
            sampling=frozenset(sampling),
            streams=fields.number(table.get("streams", 4), "streams", 1, MAX_STREAMS),
            **names,
        )
        fields.ascending(list(read.stop_tokens), "stop_tokens")
        return read

    def to_map(self) -> dict[str, Any]:
        """Return the fields that are required, and those that differ from their defaults."""
        table: dict[str, Any] = {name: getattr(self, name) for name in _NAMES if getattr(self, name) is not None}
        table |= {"cache": pairs_to_list(self.cache), "context": self.context, "max_new_tokens": self.max_new_tokens}
        table["vocabulary"] = str(self.vocabulary)
        if self.stop_tokens:
            table["stop_tokens"] = list(self.stop_tokens)
        if self.sampling:
            table["sampling"] = sorted(map(str, self.sampling))
        return table if self.streams == 4 else table | {"streams": self.streams}

    def check(self, inputs: Mapping[str, TensorField], outputs: Mapping[str, TensorField], labels: int) -> None:
        """Hold the table against its manifest's tensors; raises ManifestError `manifest-invalid`."""
        for name in filter(None, (self.tokens, self.positions)):
            _check_shape(take(inputs, name, "an input", _TOKEN_TYPES), (1, 1), (1, self.context - 1))
        if self.mask is not None:
            _check_shape(take(inputs, self.mask, "the mask", _TOKEN_TYPES), (1, 1), (1, self.context - 1))
        for pair in self.cache:
            self._check_pair(inputs, outputs, pair)
        if inputs.keys() != {pair.input for pair in self.cache} | set(filter(None, self._fed)):
            raise unfit("a model that generates has inputs of tokens, positions, mask and cache, and no others")
        if (self.tokenizer is None) == (self.vocabulary is Vocabulary.TOKENIZER):
            raise unfit("`tokenizer` names the sealed part of the vocabulary 'tokenizer', and of no other")
        size = self.vocabulary_size(outputs)
        if not self._spans(size, labels):
            raise unfit("the last axis of the logits is not as long as the vocabulary", labels or f"at least {BYTES}")
        if any(token >= size for token in self.stop_tokens):
            raise unfit("a stop token is not in the vocabulary", f"below {size}")
        if self.cache_bytes(inputs) > MAX_CACHE:
            raise unfit("a request's cache would be too large", f"at most {MAX_CACHE} bytes")

    def _spans(self, size: int, labels: int) -> bool:
        """Tell whether so many scores go with the vocabulary; a tokenizer is held against them when it is loaded."""
        if self.vocabulary is Vocabulary.LABELS:
            return size == labels
        return self.vocabulary is Vocabulary.TOKENIZER or size >= BYTES

    @property
    def own_parts(self) -> frozenset[str]:
        """Names of the sealed parts that the table reads."""
        return frozenset() if self.tokenizer is None else frozenset({self.tokenizer})

    @property
    def _fed(self) -> tuple[str | None, ...]:
        return self.tokens, self.positions, self.mask

    def vocabulary_size(self, outputs: Mapping[str, TensorField]) -> int:
        """Return how many tokens there are; raises ManifestError `manifest-invalid`."""
        logits = take(outputs, self.logits, "the logits", FLOATS)
        *lengths, size = logits.shape or (None,)
        if not 1 <= len(lengths) <= 2 or not isinstance(size, int) or not admits(logits.shape[0], 1):
            raise unfit("logits have the shape [1, n, vocabulary] or [1, vocabulary]")
        return size

    def cache_bytes(self, inputs: Mapping[str, TensorField]) -> int:
        """Return the bytes of one request's cache at its longest."""
        sizes = (static_bytes(_alone(inputs[pair.input]), self.context) for pair in self.cache)
        return sum(sizes)

    def reserved(self, inputs: Mapping[str, TensorField]) -> int:
        """Return the bytes that all requests together may hold: old and new cache of each step."""
        return 2 * self.streams * self.cache_bytes(inputs)

    def _check_pair(self, inputs: Mapping[str, TensorField], outputs: Mapping[str, TensorField], pair: Pair) -> None:
        before, after = take(inputs, pair.input, "a cache input"), take(outputs, pair.output, "a cache output")
        one, other = _alone(before), _alone(after)
        grows = [isinstance(axis, Axis) for axis in one.shape]
        if grows.count(True) != 1 or grows != [isinstance(axis, Axis) for axis in other.shape]:
            raise unfit(f"{pair.input!r} and {pair.output!r} need one axis that grows, in the same place")
        at = grows.index(True)
        fixed = [axis for axis in one.shape if not isinstance(axis, Axis)]
        if one.dtype != other.dtype or fixed != [axis for axis in other.shape if not isinstance(axis, Axis)]:
            raise unfit(f"{pair.input!r} and {pair.output!r} differ in dtype or shape")
        if not admits(one.shape[at], 0) or not admits(one.shape[at], self.context - 1):
            raise unfit(f"the growing axis of {pair.input!r} must admit lengths from 0 to {self.context - 1}")


def _alone(tensor: TensorField) -> TensorField:
    """Return a tensor as it is for one request alone: a dynamic first axis is a batch of one."""
    if tensor.shape and isinstance(tensor.shape[0], Axis):
        return tensor.bare(shape=(1, *tensor.shape[1:]))
    return tensor


def _check_shape(tensor: TensorField, *shapes: tuple[int, ...]) -> None:
    for shape in shapes:
        if len(shape) != len(tensor.shape) or not all(map(_takes, tensor.shape, shape)):
            raise unfit(f"{tensor.name!r} must admit the shape {list(shape)}")


def _takes(axis: Dimension, length: int) -> bool:
    return admits(axis, length)
