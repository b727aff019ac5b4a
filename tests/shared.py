"""Where the shared attestation evidence lies, for the tests that read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "vectors"


def vectors() -> Path:
    """Return the folder of shared vectors, or skip the test with the reason."""
    folder = Path(os.environ.get("STRONGROOM_VECTORS", _BESIDE_THE_CHECKOUT))
    if not (folder / "CATALOGUE.md").is_file():
        pytest.skip(f"shared attestation evidence is not at {folder} (set STRONGROOM_VECTORS)")
    return folder
