"""Tokens of version 1 are read for ever, and written bit for bit as they were."""

from __future__ import annotations

import pytest

from attestation.ear import open_token
from tests.attestation.kit import NOW
from tests.ear.kit import NONCE, VERIFIER
from tests.vectors.ear.generate import AUDIENCE, FOLDER, tokens

RECORDED = {path.name: path.read_text(encoding="ascii").removesuffix("\n") for path in FOLDER.iterdir()}


def test_the_same_verdict_makes_the_same_token() -> None:
    assert tokens() == RECORDED


@pytest.mark.parametrize(
    ("name", "options", "simulation"),
    [("hardware.jwt", {"nonce": NONCE, "audience": AUDIENCE}, False), ("simulated.jwt", {}, True)],
)
def test_a_recorded_token_is_read(name: str, options: dict[str, object], simulation: bool) -> None:
    open_token(RECORDED[name], [VERIFIER.public], NOW, **options).require(simulation=simulation)
