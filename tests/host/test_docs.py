"""The operator's page names every code that an operator can meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.errors import WireCode
from host.cli import host
from host.errors import GuardCode, HostCode

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", [*HostCode, *GuardCode, *(one for one in WireCode if one.startswith("frame-"))])
def test_every_code_has_its_place_on_the_page(code: str) -> None:
    assert f"`{code}`" in PAGE


def test_every_command_and_option_of_up_has_its_place_on_the_page() -> None:
    assert [name for name in host.commands if f"`host {name}`" not in PAGE] == []
    options = [text for option in host.commands["up"].params for text in option.opts]
    assert [text for text in options if text not in PAGE] == []
