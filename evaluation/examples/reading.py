"""Find the digits on photographed pages, and read each: two sealed models of one owner, asked as one.

    python -m evaluation.examples.reading

The training takes some tens of seconds.  Everything else is what an owner, an operator and a client do.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import numpy as np

from attestation.client import Found, Session
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from evaluation.examples.pages import DIGIT, LABELS, PAGE, Page, compose, finder, finder_review, reader, reader_review

NEAR = DIGIT / 4 / PAGE
"""How far from a digit's place a box may be that is said to have found it, as a fraction of the page."""


def models() -> list[ModelToSeal]:
    """Train both models, as they are to be sealed."""
    return [
        ModelToSeal("pages", finder(), review=finder_review()),
        ModelToSeal("digits", reader(), review=reader_review()),
    ]


def photograph(page: Page) -> bytes:
    """Return a page's JPEG file."""
    file = io.BytesIO()
    page.image.save(file, format="JPEG", quality=90)
    return file.getvalue()


def read(session: Session, page: Page) -> tuple[int, int]:
    """Have a page read; return how many of its digits were found, and how many of these read right."""
    answers = [each for each in session.ask("pages", photograph(page)) if isinstance(each, Found)]
    names = [_at(answers, left, top) for left, top in page.places]
    right = sum(name == LABELS[digit] for name, digit in zip(names, page.digits, strict=True))
    return sum(name is not None for name in names), right


def _at(answers: Sequence[Found], left: int, top: int) -> str | None:
    """Return what was read at a place of the page, or None where nothing was found there."""
    near = (a.name for a in answers if max(abs(a.box[0] - left / PAGE), abs(a.box[1] - top / PAGE)) < NEAR)
    return next(near, None)


def main(pages: int = 20) -> None:
    """Train, seal, serve, and read."""
    rng = np.random.default_rng(3)
    written = [compose(rng, int(rng.integers(0, 20))) for _ in range(pages)]
    with (
        temporary_home() as home,
        Deployment(home, models(), components=["image"]) as deployment,
        deployment.session() as session,
    ):
        print(session)
        counts = [read(session, page) for page in written]
    digits = sum(len(page.digits) for page in written)
    found, right = (sum(column) for column in zip(*counts, strict=True))
    print(f"{digits} digits on {pages} pages: {found} found, {right} read right")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
