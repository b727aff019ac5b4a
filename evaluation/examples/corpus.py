"""Text that every Python has: the docstrings of the standard library's modules."""

from __future__ import annotations

import ast
import contextlib
import re
import sysconfig
from pathlib import Path

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]


def library_text(limit: int = 400_000) -> bytes:
    """Return at most `limit` bytes of docstrings of the standard library's top-level modules, in order of name.

    Indentation is taken out: a small model would learn little else.
    """
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(path.read_bytes())
        nodes = (n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef))
        found += [text for node in nodes if (text := ast.get_docstring(node))]
        if sum(map(len, found)) > limit:
            break
    return re.sub(r"[ \t]+", " ", "\n\n".join(found)).encode("ascii", "ignore")[:limit]


def windows(tokens: Tokens, count: int, length: int, random: np.random.Generator) -> tuple[Tokens, Tokens]:
    """Return `count` random windows, [count, length], and what follows each of their tokens."""
    starts = random.integers(0, len(tokens) - length - 1, count)
    places = starts[:, np.newaxis] + np.arange(length + 1)
    drawn = tokens[places]
    return drawn[:, :-1], drawn[:, 1:]


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Keep numpy's products to one thread: for small ones several cost more than they bring, on a busy machine most."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # it comes with scikit-learn; without it training is only slower
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1)
    return limits


def unigram_loss(train: Tokens, held_out: Tokens, size: int) -> float:
    """Return the loss, in nats a token, of a model that knows only how frequent each token is."""
    counts = np.bincount(train, minlength=size) + 1.0
    return float(-np.log(counts / counts.sum())[held_out].mean())
