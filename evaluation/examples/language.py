"""Train a byte model on what ships with Python, seal it, and stream text from it.

    python -m evaluation.examples.language

The training takes some tens of seconds.  Everything else is what an owner, an operator and a client do.
"""

from __future__ import annotations

import sys

import numpy as np

from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from evaluation.examples.corpus import library_text, unigram_loss, windows
from evaluation.examples.export import export, review
from evaluation.examples.transformer import Shape, Weights, loss_of, train

HELD_OUT = 10
"""One byte in so many is kept from the training, at the end of the text."""
SHAPE = Shape(width=48, heads=3, layers=1, inner=96, context=96)
STEPS = 600


def trained(shape: Shape, steps: int) -> tuple[Weights, float, float]:
    """Return a model, its loss on text that it has not seen, and that of byte frequencies alone, in nats a byte."""
    text = np.frombuffer(library_text(), np.uint8).astype(np.int64)
    known, unseen = np.split(text, [len(text) - len(text) // HELD_OUT])
    weights = train(shape, known, steps=steps, rate=1e-2)
    asked, wanted = windows(unseen, 64, shape.context, np.random.default_rng(1))
    return weights, loss_of(weights, shape, asked, wanted), unigram_loss(known, wanted.ravel(), shape.vocabulary)


def main(steps: int = STEPS) -> None:
    """Train, seal, serve, and stream."""
    weights, loss, frequencies = trained(SHAPE, steps)
    print(f"{loss:.2f} nats a byte; byte frequencies alone: {frequencies:.2f}")
    model = ModelToSeal("library", export(weights, SHAPE), review=review(SHAPE))
    with temporary_home() as home, Deployment(home, [model]) as deployment, deployment.session() as session:
        print(session)
        with session.generate("library", "Return the ", max_new_tokens=80, temperature=0.5, seed=1) as answer:
            for piece in answer:
                print(piece.text, end="", flush=True)
        print(f"\n[{len(answer.tokens)} tokens, {answer.reason}]")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
