"""The page explains every code."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.errors import EvidenceCode, SessionFinding
from attestation.nvidia.errors import NvidiaCode, NvidiaFinding

PAGE = Path(__file__).resolve().parents[2] / "docs" / "attestation-nvidia.md"


@pytest.mark.parametrize("code", [*NvidiaCode, *NvidiaFinding, *SessionFinding, EvidenceCode.EVIDENCE_DEVICE])
def test_every_code_is_explained(code: str) -> None:
    assert f"`{code}`" in PAGE.read_text(encoding="utf-8")
