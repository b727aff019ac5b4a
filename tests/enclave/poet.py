"""A language model that nobody trained, small enough to make anew in each test, and how plain onnxruntime steps it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from evaluation.examples.export import export, review
from evaluation.examples.transformer import Shape, initial
from manifests.draft import draft_manifest, load_graph
from manifests.model import ModelManifest

SHAPE = Shape(width=16, heads=2, layers=2, inner=16, context=48)
ASK: dict[str, Any] = {"op": "generate", "prompt": "The sea", "max_new_tokens": 12, "window": 64}


@functools.cache
def poet_bytes() -> bytes:
    return export(initial(SHAPE, np.random.default_rng(11)), SHAPE)


def poet_manifest(owner: bytes, changes: dict[str, Any] | None = None, **generation: Any) -> ModelManifest:
    """The drafted manifest with what its owner sets; `generation` changes that table."""
    draft = draft_manifest(load_graph(poet_bytes()), owner=owner, name="poet").to_map()
    table = {**draft, **review(SHAPE, **generation), **(changes or {})}
    return ModelManifest.from_map(table)


def stepped(
    data: bytes, prompt: Sequence[int], count: int, pick: Callable[[np.ndarray, int], int] | None = None
) -> list[int]:
    """Step the graph with plain onnxruntime: the prompt at once, then each token; greedy, unless `pick` draws."""
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    past = [node for node in session.get_inputs() if node.name.startswith("past_")]
    cache = {
        node.name: np.zeros([axis if isinstance(axis, int) else 0 for axis in node.shape], np.float32) for node in past
    }
    names = ["logits", *(name.removeprefix("past_") for name in cache)]
    found: list[int] = []
    fed, done = list(prompt), 0
    for step in range(count):
        places = np.arange(done, done + len(fed))[np.newaxis]
        logits, *after = session.run(names, {"tokens": np.array([fed]), "positions": places, **cache})
        cache = dict(zip(cache, after, strict=True))
        done += len(fed)
        token = int(np.argmax(logits[0, -1])) if pick is None else pick(logits[0, -1], step)
        found.append(token)
        fed = [token]
    return found
