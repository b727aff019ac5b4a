"""Texts of answers out of a tokenizer's tokens, as they come: never with a part of a character.

What a token stands for may hang on the one before it (a space, a character's first bytes).  So a short run of tokens is
decoded, with and without the newest, and the difference is given once it ends with a whole character.  The run starts
anew each time that happens: the work for a token does not grow with the answer.
"""

from __future__ import annotations

from typing import Any

from enclave.errors import EnclaveCode, EnclaveError
from enclave.spelling import Speller, too_long

MAX_HELD = 16
"""Tokens that may wait for the rest of a character, which has four bytes at most: beyond it never comes."""
MIN_BYTES = 64
"""Bytes of a text that the shortest tokens are counted for: one may stand for an unknown word, or for spaces."""
_BROKEN = "\ufffd"
"""What a decoder gives for bytes that are no character, or not yet."""


def _bytes_of_a_token(tokenizer: Any) -> int:
    """Return the most bytes of a text that one token is counted for: unknown words and dropped spaces have no bound."""
    return max(MIN_BYTES, *(len(name.encode()) for name in tokenizer.get_vocab(with_added_tokens=True)))


class TokenizerWords:
    """A vocabulary out of a `tokenizer.json`."""

    def __init__(self, tokenizer: Any, size: int, context: int) -> None:
        """Use an opened tokenizer of at most `size` tokens, for prompts of fewer than `context`."""
        self._tokenizer = tokenizer
        self._most = context * _bytes_of_a_token(tokenizer)
        self.size = size

    def encode(self, text: bytes) -> list[int]:
        """Return the tokens of a text, special ones among them; raises EnclaveError `prompt-refused`.

        A text that is longer than the context's tokens can be is refused before the library sees it.
        """
        if len(text) > self._most:
            raise too_long()
        try:
            return list(self._tokenizer.encode(text.decode()).ids)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - a panic of Rust is no Exception; all texts may hold content
            rule = "holds a text that the model's tokenizer cannot split"
            raise EnclaveError(EnclaveCode.PROMPT_REFUSED, rule, field="prompt") from None

    def speller(self) -> Speller:
        """Return what spells one answer."""
        return TokenizerSpeller(self._tokenizer)


class TokenizerSpeller:
    """Spells one answer.  The first `_read` of `_tokens` were given already; they are kept for what follows them."""

    def __init__(self, tokenizer: Any) -> None:
        """Begin with nothing."""
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._read = 0

    def add(self, token: int) -> bytes:
        """Return what a token adds, as far as it is whole characters; raises EnclaveError `inference-failed`."""
        self._tokens.append(token)
        text = self._new()
        if not text or (text.endswith(_BROKEN) and len(self._tokens) - self._read < MAX_HELD):
            return b""
        self._tokens = self._tokens[self._read :]
        self._read = len(self._tokens)
        return text.encode()

    def end(self) -> bytes:
        """Return what has waited, with U+FFFD for what is no character."""
        return self._new().encode()

    def _new(self) -> str:
        before = self._decode(self._tokens[: self._read])
        return self._decode(self._tokens)[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        try:
            return str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - a panic of Rust is no Exception; all texts may hold content
            raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model's tokenizer cannot spell its answer") from None
