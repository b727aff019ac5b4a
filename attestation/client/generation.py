"""What a language model answers: text that comes in parts, read by iterating.

    with session.generate("poet", "The sea ", max_new_tokens=100) as answer:
        for piece in answer:
            print(piece.text, end="")

An answer that does not come to its last part ends with an error, never as if it were whole.  `close` (or leaving the
`with` block) gives the rest up; the session goes on.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from attestation.client.conversation import Answer
from attestation.client.errors import ClientCode, ClientError
from attestation.client.refusals import check_text
from attestation.receipts.bundle import ReceiptBundle
from attestation.wire.commitments import Tensor
from attestation.wire.generated import answered
from attestation.wire.messages import Body
from manifests import canonical, fields
from manifests.errors import ManifestError

WINDOW = 64
"""Parts that the enclave may send ahead; half of them taken, the client asks for as many more."""
MAX_TEXT = 1 << 24
MAX_TOKENS = 1 << 20

Prompt = str | bytes | Sequence[int] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Piece:
    """One part.  text: what it adds, where a character may wait for its last byte.  data: its bytes as they came."""

    text: str
    data: bytes
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """How tokens are drawn; without a temperature the most likely one is taken each time."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def header(self) -> dict[str, canonical.Value]:
        """Return the fields of a request."""
        real = {"temperature": self.temperature, "top_p": self.top_p}
        header: dict[str, canonical.Value] = {name: float(v) for name, v in real.items() if v is not None}
        return header | {n: v for n, v in {"top_k": self.top_k, "seed": self.seed}.items() if v is not None}


def question(
    prompt: Prompt, max_new_tokens: int, stop: Sequence[str], draw: Draw
) -> tuple[dict[str, canonical.Value], dict[str, npt.NDArray[Any]] | None]:
    """Return the fields and the tensors of a request to generate; raises ClientError.

    The error is `tensor-invalid`, or an UnsentError for a text that is not UTF-8.
    """
    for name, text in [("prompt", prompt), *(("stop", item) for item in ([stop] if isinstance(stop, str) else stop))]:
        if isinstance(text, str):
            check_text(text, "prompt-refused" if name == "prompt" else "sampling-refused", name)
    header = {"max_new_tokens": max_new_tokens, "window": WINDOW, **draw.header()}
    if stop:
        header["stop"] = [stop] if isinstance(stop, str) else list(stop)
    if isinstance(prompt, str):
        return header | {"prompt": prompt}, None
    tokens = np.asarray(list(prompt) if isinstance(prompt, bytes) else prompt)
    if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
        raise ClientError(ClientCode.TENSOR_INVALID, "a prompt is text, bytes, or a list of token numbers")
    return header, {"tokens": tokens.astype(np.int64)}


@dataclass(frozen=True)
class Whole:
    """A whole answer: all tokens and bytes in order, and its last part's fields."""

    tokens: Sequence[int] = field(repr=False)
    data: bytes = field(repr=False)
    reason: str
    seed: int | None
    last: Mapping[str, Any] = field(repr=False)

    def tensors(self) -> list[Tensor]:
        """Return what a receipt of it commits to."""
        return answered(self.tokens, self.data, self.reason, self.seed)


Conclude = Callable[[Whole], ReceiptBundle | None]
"""Takes the receipt of a whole answer, where it carries one; raises ReceiptError for one that is not of it."""


class Transcript:
    """What has come of an answer, without I/O.  reason, seed, receipt: of its last part, None before that."""

    def __init__(self, check: Callable[[Body], dict[str, Any]], conclude: Conclude = lambda _whole: None) -> None:
        """`check` holds a part against what was asked, and returns its own fields; it raises ClientError."""
        self._check = check
        self._conclude = conclude
        self._model = b""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._data = bytearray()
        self._text: list[str] = []
        self._taken = 0
        self.tokens: list[int] = []
        self.reason: str | None = None
        self.seed: int | None = None
        self.receipt: ReceiptBundle | None = None

    @property
    def data(self) -> bytes:
        """The bytes so far."""
        return bytes(self._data)

    @property
    def text(self) -> str:
        """The text so far; bytes that are no UTF-8 are shown as U+FFFD."""
        return "".join(self._text)

    def take(self, answer: Answer) -> Piece:
        """Take a part; raises ClientError, and for the last one ReceiptError or ManifestError of its receipt."""
        value = self._check(answer.body)
        if self._model not in {b"", value["model"]}:
            raise ClientError(ClientCode.RESPONSE_UNEXPECTED, "the parts of one answer come from several models")
        self._model = value["model"]
        reason, seed = None, None
        try:
            data = fields.bounded_bytes(value["text"], "text", MAX_TEXT)
            tokens = [fields.number(item, "token", 0) for item in fields.list_of(value["tokens"], "tokens", MAX_TOKENS)]
            if answer.final:
                reason = fields.text(value.get("reason"), "reason", 32)
                seed = fields.number(value["seed"], "seed", 0) if "seed" in value else None
        except ManifestError as error:
            raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"a part is malformed: {error.message}") from None
        text = self._decode(data, final=answer.final)
        self._data += data
        self._text.append(text)
        self.tokens += tokens
        self._taken += 1
        if reason is not None:
            self.receipt = self._conclude(Whole(self.tokens, self.data, reason, seed, value))
            self.reason, self.seed = reason, seed
        return Piece(text, data, tuple(tokens))

    def owed(self) -> int:
        """Return how many more parts to ask for now: none, until half the window was taken."""
        if self.reason is not None or self._taken < WINDOW // 2:
            return 0
        taken, self._taken = self._taken, 0
        return taken


class Parts(Protocol):
    """A connection that has a stream open."""

    def part(self, number: int) -> Answer: ...
    def more(self, number: int, parts: int) -> None: ...
    def cancel(self, number: int) -> None: ...


class AsyncParts(Protocol):
    """The same over asyncio."""

    async def part(self, number: int) -> Answer: ...
    async def more(self, number: int, parts: int) -> None: ...
    async def cancel(self, number: int) -> None: ...


class GenerationBase:
    """What both kinds of answer know."""

    def __init__(self, number: int, transcript: Transcript) -> None:
        """Keep the request's number."""
        self._number = number
        self._transcript = transcript
        self._over = False

    @property
    def text(self) -> str:
        """The text so far."""
        return self._transcript.text

    @property
    def data(self) -> bytes:
        """The bytes so far."""
        return self._transcript.data

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens so far."""
        return tuple(self._transcript.tokens)

    @property
    def finished(self) -> bool:
        """Whether the last part has come: only then text and tokens are the whole answer."""
        return self._transcript.reason is not None

    @property
    def reason(self) -> str | None:
        """Why the answer ends: "length", "context", "stop" or "stop-token"; None before its last part."""
        return self._transcript.reason

    @property
    def seed(self) -> int | None:
        """The seed of a drawn answer, told by its last part: the same request with it gives the same answer."""
        return self._transcript.seed

    @property
    def receipt(self) -> ReceiptBundle | None:
        """The receipt of the whole answer, which its last part carries where it was asked for; checked."""
        return self._transcript.receipt

    def __repr__(self) -> str:
        state = self.reason or ("given up" if self._over else "not at its end")
        return f"<{type(self).__name__} {len(self._transcript.tokens)} tokens, {state}>"

    def _whole(self) -> str:
        if not self.finished:
            raise ClientError(ClientCode.ANSWER_TRUNCATED, "the answer was given up before its last part")
        return self.text


class Generation(GenerationBase, Iterator[Piece]):
    """An answer that is read by iterating; a context manager.  Made by `Session.generate`."""

    def __init__(
        self, connection: Parts, turn: AbstractContextManager[Any], number: int, transcript: Transcript
    ) -> None:
        """Read the parts of a request over its connection, each within the session's turn."""
        super().__init__(number, transcript)
        self._connection = connection
        self._turn = turn

    def __next__(self) -> Piece:
        """Return the next part; raises RemoteError where the enclave ends the answer, ClientError or WireError."""
        if self._over:
            raise StopIteration
        try:
            with self._turn:
                piece = self._transcript.take(self._connection.part(self._number))
                if owed := self._transcript.owed():
                    self._connection.more(self._number, owed)
        except BaseException:
            self.close()
            raise
        self._over = self.finished
        return piece

    def read(self) -> str:
        """Return the whole text, reading what is left; raises ClientError `answer-truncated` after `close`."""
        for _ in self:
            pass
        return self._whole()

    def close(self) -> None:
        """Give up what has not come; the session goes on.  Safe to call twice."""
        if not self._over:
            self._over = True
            with self._turn:
                self._connection.cancel(self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncGeneration(GenerationBase, AsyncIterator[Piece]):
    """An answer that is read by `async for`; an asynchronous context manager.  Made by `AsyncSession.generate`."""

    def __init__(
        self, connection: AsyncParts, turn: AbstractAsyncContextManager[Any], number: int, transcript: Transcript
    ) -> None:
        """Read the parts of a request over its connection, each within the session's turn."""
        super().__init__(number, transcript)
        self._connection = connection
        self._turn = turn

    async def __anext__(self) -> Piece:
        """Return the next part; raises what `Generation.__next__` does."""
        if self._over:
            raise StopAsyncIteration
        try:
            async with self._turn:
                answer = await self._connection.part(self._number)
                take = self._transcript.take
                piece = await asyncio.to_thread(take, answer) if answer.final else take(answer)
                if owed := self._transcript.owed():
                    await self._connection.more(self._number, owed)
        except BaseException:
            await self.close()
            raise
        self._over = self.finished
        return piece

    async def read(self) -> str:
        """Return the whole text, reading what is left; raises ClientError `answer-truncated` after `close`."""
        async for _ in self:
            pass
        return self._whole()

    async def close(self) -> None:
        """Give up what has not come; the session goes on.  Safe to call twice."""
        if not self._over:
            self._over = True
            async with self._turn:
                await self._connection.cancel(self._number)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
