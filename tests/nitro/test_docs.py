"""The page explains every code."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.errors import EvidenceCode
from attestation.nitro.errors import NitroCode, NitroFinding

PAGE = Path(__file__).resolve().parents[2] / "docs" / "attestation-nitro.md"


@pytest.mark.parametrize("code", [*NitroCode, *NitroFinding, EvidenceCode.CBOR_MALFORMED, EvidenceCode.COSE_MALFORMED])
def test_every_code_is_explained(code: str) -> None:
    assert f"`{code}`" in PAGE.read_text(encoding="utf-8")
