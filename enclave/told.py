"""What a stream has told so far, kept for the receipt that its final part carries.

A receipt covers a whole answer: a stream that ends earlier, by whatever, has none.
"""

from __future__ import annotations

from attestation.types.receipt import Verdict
from attestation.wire.commitments import Tensor, received
from attestation.wire.generated import answered, asked
from attestation.wire.messages import Body
from enclave.receipts import verdict_of_text
from enclave.streams import Piece
from manifests import canonical


class Told:
    """The parts of one generated answer; `max_response_bytes` bounds them (enclave/generation.py)."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tokens: list[int] = []
        self._text = bytearray()
        self._last: Piece | None = None

    def add(self, piece: Piece) -> bool:
        """Take note of the next part; return whether it is the final one."""
        self._tokens += _list(piece.header["tokens"])
        self._text += _bytes(piece.header["text"])
        self._last = piece
        return piece.final

    def verdict(self) -> Verdict:
        """Return the verdict; the final part has come."""
        return verdict_of_text(charged=self._last is not None and self._last.charged)

    @staticmethod
    def request(body: Body) -> list[Tensor]:
        """Return what the receipt commits to of the request."""
        return asked(body.header, received(body))

    def answer(self) -> list[Tensor]:
        """Return what the receipt commits to of the answer; the final part has come."""
        header = {} if self._last is None else self._last.header
        seed = header.get("seed")
        return answered(
            self._tokens, bytes(self._text), str(header.get("reason", "")), seed if isinstance(seed, int) else None
        )


def _list(value: canonical.Value) -> list[int]:
    return [item for item in value if isinstance(item, int)] if isinstance(value, list) else []


def _bytes(value: canonical.Value) -> bytes:
    return value if isinstance(value, bytes) else b""
