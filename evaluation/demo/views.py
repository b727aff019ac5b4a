"""What the client saw beside what the host saw, and the search for plain text in the host's view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from evaluation.demo.models import DemoModel
from evaluation.demo.report import HostView
from evaluation.demo.tap import Direction, Tap, hexdump

Answer = Mapping[str, npt.NDArray[Any]]

PIECE = 24
"""Bytes: six numbers, which ciphertext does not repeat by chance before the sun burns out."""
SHOWN_FIELDS = 4
DUMP_ROWS, DUMP_WIDTH = 9, 8


def host_view(tap: Tap, models: Sequence[DemoModel], answers: Sequence[Answer], files: Sequence[Path]) -> HostView:
    """Search all that passed through the host, and the files that it holds, for pieces of inputs, outputs, models."""
    seen = b"\0".join([tap.bytes_seen(), *(path.read_bytes() for path in files)])
    pieces = set(_pieces(models, answers))
    sizes = tap.sizes()
    return HostView(
        to_enclave=sizes[Direction.TO_ENCLAVE],
        to_client=sizes[Direction.TO_CLIENT],
        pieces_searched=len(pieces),
        pieces_found=sum(piece in seen for piece in pieces),
    )


def client_text(model: DemoModel, answer: Answer) -> str:
    """Return the first case as the client has it: the input's first numbers and the answer."""
    lines = [model.cases[0]]
    for name, value in model.inputs.items():
        lines += [f"{name}[{index}] = {value[0][index]}" for index in range(SHOWN_FIELDS)] + ["…"]
    scores = answer[model.scores][0]
    lines += [f"{label}: {score:.6f}" for label, score in zip(model.classes, scores, strict=True)]
    return "\n".join(lines)


def host_text(tap: Tap) -> str:
    """Return what the host has of the same: the last frame to the enclave, as bytes."""
    frames = [seen.frame for seen in tap.seen if seen.direction is Direction.TO_ENCLAVE and seen.frame.body]
    frame = frames[-1]
    head = f"route {frame.route!r}, sid {frame.sid}, {len(frame.body)} bytes"
    return f"{head}\n{hexdump(bytes(frame.body), DUMP_ROWS, DUMP_WIDTH)}"


def _pieces(models: Sequence[DemoModel], answers: Sequence[Answer]) -> Iterator[bytes]:
    for model, answer in zip(models, answers, strict=True):
        yield from _cuts(model.onnx)
        for value in (*model.inputs.values(), *answer.values()):
            yield from _cuts(value.tobytes())


def _cuts(data: bytes) -> Iterator[bytes]:
    """Yield pieces from all over the data, leaving out those that say nothing, such as padding."""
    step = max(PIECE, len(data) // 200)
    for start in range(0, len(data) - PIECE + 1, step):
        piece = data[start : start + PIECE]
        if len(set(piece)) > PIECE // 4:
            yield piece
