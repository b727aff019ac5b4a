"""Language models: tokens made one after the other, with a cache that belongs to one request.

The prompt runs at once, then each token alone behind the cache of those before it: exactly as anybody would step the
graph with plain ONNX Runtime, and bit-equal to it.  Each run spends one of the lease, so a long answer costs what as
many requests would.  The cache is made at the request's first step and dropped at its last, whichever way it ends; no
other request and no other session has a reference to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from attestation.wire.messages import Body
from enclave.deadline import OVERDUE
from enclave.errors import EnclaveCode, EnclaveError
from enclave.prompts import Ask, read_ask
from enclave.promptwatch import PromptGuard
from enclave.slots import Slots
from enclave.spelling import Speller, TableWords, Words
from enclave.streams import Piece, Source
from enclave.values import Array
from manifests import canonical
from manifests.generation import Generation
from manifests.model import ModelManifest
from manifests.tensors import Axis, TensorField
from manifests.watch import CONTEXT

Run: TypeAlias = Callable[[Sequence[str], dict[str, Array], float], list[Array]]
"""Runs the graph: names of outputs, inputs, seconds that are left."""
Spend: TypeAlias = Callable[[], bool]
"""Takes one of budget and lease; tells whether the identity has a budget."""


@dataclass(frozen=True)
class GenerationPlan:
    """A manifest's `[generation]`, compiled; one for each loaded model."""

    manifest: ModelManifest
    table: Generation
    words: Words
    inputs: dict[str, TensorField]
    slots: Slots = field(repr=False)
    guard: PromptGuard | None = field(default=None, repr=False)

    @classmethod
    def compile(
        cls, manifest: ModelManifest, guard: PromptGuard | None = None, words: Words | None = None
    ) -> GenerationPlan | None:
        """Compile the table, or return None where there is none; words: of a tokenizer, where the table names one."""
        table = manifest.serving.generation
        if table is None:
            return None
        size = table.vocabulary_size({tensor.name: tensor for tensor in manifest.outputs})
        inputs = {tensor.name: tensor for tensor in manifest.inputs}
        return cls(manifest, table, words or TableWords(manifest, size), inputs, _slots(manifest, table), guard)

    def read(self, body: Body) -> Ask:
        """Read a request; raises ManifestError or EnclaveError."""
        return read_ask(body, self.manifest, self.words)

    def try_out(self, run: Run) -> None:
        """Take two steps with token 0; raises EnclaveError where the graph does not do what its manifest says."""
        stepper = Stepper(self, run)
        for _ in range(min(2, self.table.context - 1)):
            stepper.step((0,))

    def generate(self, ask: Ask, run: Run, spend: Spend, principal: bytes = b"") -> Source:
        """Give the answer's pieces, one step of the graph for each; a step that shows nothing yet gives None."""
        if self.guard is not None:
            self.guard.admit(principal)
        self.slots.take(principal)
        try:
            yield from self._pieces(ask, Stepper(self, run), spend, principal)
        finally:
            self.slots.give(principal)

    def _pieces(self, ask: Ask, stepper: Stepper, spend: Spend, principal: bytes) -> Source:
        speller = self.words.speller()
        answer = Answer(ask.stops, self.manifest.limits.max_response_bytes)
        most = min(ask.max_new_tokens, self.table.context - len(ask.tokens))
        fed, context = ask.tokens, ask.tokens[-CONTEXT:]
        charged = False
        for count in range(1, most + 1):
            charged |= spend()
            token = ask.sampler.pick(stepper.step(fed), count - 1)
            if self.guard is not None:
                self.guard.see(principal, len(fed), context)
            reason = self._reason(answer, speller, token, count, ask.max_new_tokens if count == most else 0)
            piece = answer.take(final=reason is not None)
            if reason is not None:
                yield Piece({**piece, "reason": reason, **ask.sampler.told()}, final=True, charged=charged)
                return
            yield Piece(piece) if piece["tokens"] or piece["text"] else None
            fed, context = (token,), (*context, token)[-CONTEXT:]

    def _reason(self, answer: Answer, speller: Speller, token: int, count: int, most: int) -> str | None:
        """Add a token to the answer, and return why it ends with it, if it does."""
        reason = "stop-token" if token in self.table.stop_tokens else None
        if reason is None and answer.add(token, speller.add(token)):
            return "stop"
        if reason is None and most:
            reason = "length" if count == most else "context"
        if reason is not None:
            answer.close(speller.end())
        return reason


class Stepper:
    """A graph that is stepped, its cache, and the time that it has left."""

    def __init__(self, plan: GenerationPlan, run: Run) -> None:
        """Start with an empty cache."""
        self._table = plan.table
        self._inputs = plan.inputs
        self._run = run
        self._names = [plan.table.logits, *(pair.output for pair in plan.table.cache)]
        self._cache = {pair.input: _empty(plan.inputs[pair.input]) for pair in plan.table.cache}
        self._past = 0
        self._seconds = plan.manifest.limits.timeout_ms / 1000

    def step(self, tokens: Sequence[int]) -> Array:
        """Run tokens behind those before them, and return the scores of the next one, of shape [vocabulary].

        Raises EnclaveError `inference-timeout` where all steps together have taken the time of a request.
        """
        if self._seconds <= 0:
            raise EnclaveError(EnclaveCode.INFERENCE_TIMEOUT, OVERDUE)
        began = time.monotonic()
        logits, *cache = self._run(self._names, self._feeds(tokens), self._seconds)
        self._seconds -= time.monotonic() - began
        self._past += len(tokens)
        self._keep(cache)
        return self._last(logits, len(tokens))

    def _feeds(self, tokens: Sequence[int]) -> dict[str, Array]:
        table, past = self._table, self._past
        feeds = {**self._cache, table.tokens: np.array([tokens], self._inputs[table.tokens].dtype)}
        if table.positions is not None:
            places = np.arange(past, past + len(tokens), dtype=self._inputs[table.positions].dtype)
            feeds[table.positions] = places[np.newaxis]
        if table.mask is not None:
            feeds[table.mask] = np.ones((1, past + len(tokens)), self._inputs[table.mask].dtype)
        return feeds

    def _keep(self, cache: Sequence[Array]) -> None:
        for pair, array in zip(self._table.cache, cache, strict=True):
            if array.shape != _shape(self._inputs[pair.input], self._past):
                raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model's cache does not grow as announced")
            self._cache[pair.input] = array

    @staticmethod
    def _last(logits: Array, count: int) -> Array:
        """Return the last position's scores of [1, n, vocabulary] or [1, vocabulary]."""
        if logits.shape[0] != 1 or (logits.ndim == 3 and logits.shape[1] != count):
            raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model's scores are not of the shape announced")
        return np.asarray(logits[0] if logits.ndim == 2 else logits[0, -1])


class Answer:
    """What was made and not yet given: text that may be the beginning of a stop string waits for what follows."""

    def __init__(self, stops: Sequence[bytes], most: int) -> None:
        """Watch for `stops`; the answer's text and tokens have at most `most` bytes."""
        self._stops = stops
        self._room = most
        self._text = b""
        self._tokens: list[tuple[int, int]] = []
        """Each token with the end of its text in `_text`."""

    def add(self, token: int, text: bytes) -> bool:
        """Add a token; return whether a stop string is complete, and cut the text before it.

        Raises EnclaveError `response-too-large`.
        """
        self._room -= len(text) + 8
        self._check_room()
        self._text += text
        self._tokens.append((token, len(self._text)))
        found = [place for stop in self._stops if (place := self._text.find(stop)) >= 0]
        if found:
            self._text = self._text[: min(found)]
            self._tokens = [(token, end) for token, end in self._tokens if end <= len(self._text)]
        return bool(found)

    def close(self, text: bytes) -> None:
        """Add what the speller has kept; raises EnclaveError `response-too-large`."""
        self._room -= len(text)
        self._check_room()
        self._text += text

    def _check_room(self) -> None:
        if self._room < 0:
            raise EnclaveError(EnclaveCode.RESPONSE_TOO_LARGE, "the answer would be longer than the model admits")

    def take(self, *, final: bool) -> dict[str, canonical.Value]:
        """Return what can be given: all at the end, else what no stop string can begin in."""
        end = len(self._text) - (0 if final else self._held())
        tokens: list[canonical.Value] = [token for token, reach in self._tokens if reach <= end]
        given, self._text = self._text[:end], self._text[end:]
        self._tokens = [(token, reach - end) for token, reach in self._tokens if reach > end]
        return {"tokens": tokens, "text": given}

    def _held(self) -> int:
        """Return how many bytes at the end of the text are the beginning of a stop string."""
        beginnings = (stop[:size] for stop in self._stops for size in range(1, len(stop)))
        return max((len(start) for start in beginnings if self._text.endswith(start)), default=0)


def _slots(manifest: ModelManifest, table: Generation) -> Slots:
    """Return places for answers that are under way: who waits for a turn would wait for a whole one, so nobody does."""
    limits = manifest.limits
    most = min(table.streams, limits.max_concurrent or table.streams)
    return Slots(most, "caches", limits.max_concurrent_per_client or 0)


def _shape(tensor: TensorField, length: int) -> tuple[int, ...]:
    """Return a cache's shape after `length` tokens: a dynamic first axis is a batch of one, the other grows."""
    lengths = (axis if isinstance(axis, int) else length for axis in tensor.shape[1:])
    return (1 if isinstance(tensor.shape[0], Axis) else tensor.shape[0], *lengths)


def _empty(tensor: TensorField) -> Array:
    return np.zeros(_shape(tensor, 0), tensor.dtype)
