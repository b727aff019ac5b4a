"""What tokens stand for: the tokens of a prompt, and the text of an answer as its tokens come."""

from __future__ import annotations

from typing import Protocol

from enclave.errors import EnclaveCode, EnclaveError
from manifests.generation import BYTES, Vocabulary
from manifests.model import ModelManifest


class Speller(Protocol):
    """Spells one answer."""

    def add(self, token: int) -> bytes:
        """Return the bytes that a token adds to those before it; what waits for further tokens comes later."""

    def end(self) -> bytes:
        """Return what has waited in vain."""


class Words(Protocol):
    """A vocabulary.  size: how many tokens there are."""

    size: int

    def encode(self, text: bytes) -> list[int]:
        """Return the tokens of a text, which is UTF-8; raises EnclaveError `prompt-refused`."""

    def speller(self) -> Speller:
        """Return what spells one answer."""


def too_long() -> EnclaveError:
    """Return the refusal of a text that has more tokens than the context has room for."""
    return EnclaveError(EnclaveCode.PROMPT_REFUSED, "must have fewer tokens than the model's context", field="prompt")


def _lengths(pieces: list[bytes]) -> dict[int, tuple[int, ...]]:
    """Return for each first byte the lengths that pieces have, the longest first."""
    found: dict[int, set[int]] = {}
    for piece in pieces:
        found.setdefault(piece[0] if piece else -1, set()).add(len(piece))
    return {first: tuple(sorted(lengths, reverse=True)) for first, lengths in found.items()}


class TableWords:
    """A vocabulary in which each token has bytes of its own, whatever stands beside it."""

    def __init__(self, manifest: ModelManifest, size: int) -> None:
        """Read the manifest's vocabulary of `size` tokens: bytes, or labels."""
        generation = manifest.serving.generation
        self.size = size
        self._is_bytes = generation is not None and generation.vocabulary is Vocabulary.BYTES
        labels = [bytes((n,)) for n in range(BYTES)] if self._is_bytes else [text.encode() for text in manifest.labels]
        self._pieces: tuple[bytes, ...] = tuple(labels) + (b"",) * (size - len(labels))
        self._numbers = {piece: number for number, piece in reversed([*enumerate(labels)])}
        self._lengths = _lengths(labels)
        self._most = (generation.context if generation is not None else 0) * max(map(len, labels), default=0)
        self._context = generation.context if generation is not None else 0

    def encode(self, text: bytes) -> list[int]:
        """Return the tokens of a text: at each place the longest that fits; raises EnclaveError `prompt-refused`.

        Stops where the text has more tokens than the context has room for: nothing else bounds what it costs.
        """
        if len(text) > self._most:
            raise too_long()
        if self._is_bytes:
            return list(text)
        tokens, at = [], 0
        while at < len(text):
            length = next((n for n in self._lengths.get(text[at], ()) if text[at : at + n] in self._numbers), None)
            if length is None:
                rule = "holds a text that the model has no tokens for"
                raise EnclaveError(EnclaveCode.PROMPT_REFUSED, rule, field="prompt")
            tokens.append(self._numbers[text[at : at + length]])
            if len(tokens) >= self._context:
                raise too_long()
            at += length
        return tokens

    def speller(self) -> Speller:
        """Return this: nothing waits for anything."""
        return self

    def add(self, token: int) -> bytes:
        """Return a token's bytes."""
        return self._pieces[token]

    def end(self) -> bytes:
        """Return nothing."""
        return b""
