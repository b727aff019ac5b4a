"""Write the recorded tokens: run once per version, and never again for it."""

from __future__ import annotations

from pathlib import Path

from tests.ear.kit import NONCE, simulated_token, token

FOLDER = Path(__file__).with_name("v1")
AUDIENCE = "https://relying.example"


def tokens() -> dict[str, str]:
    """Return the tokens of version 1 by the name of their files."""
    return {
        "hardware.jwt": token(nonce=NONCE, audience=AUDIENCE),
        "simulated.jwt": simulated_token(),
    }


if __name__ == "__main__":
    for name, text in tokens().items():
        (FOLDER / name).write_text(text + "\n", encoding="ascii")
