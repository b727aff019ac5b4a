"""Helpers of the wire's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attestation.errors import WireCode, WireError


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the call returns, or the code under which it refuses; other exceptions pass through."""
    try:
        return call(*arguments)
    except WireError as error:
        return error.code


def refusal(call: Callable[..., Any], *arguments: Any) -> WireCode:
    """Return the code under which the call refuses; it must."""
    with pytest.raises(WireError) as caught:
        call(*arguments)
    assert isinstance(caught.value.code, WireCode)
    return caught.value.code
