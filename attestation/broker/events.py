"""What a running broker tells its operator.  Content-free: names, digests, codes and counts, never keys or data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias


class EventName(StrEnum):
    """What happened."""

    SERVING = "serving"
    ATTESTED = "attested"
    RELEASED = "released"
    REFUSED = "refused"
    FAILED = "failed"
    RENEWED = "renewed"
    REVOKED = "revoked"
    STUCK = "stuck"
    RECONNECTING = "reconnecting"
    UNREACHABLE = "unreachable"
    CHANGED = "changed"
    STOPPED = "stopped"


TROUBLE = frozenset({EventName.REFUSED, EventName.FAILED, EventName.STUCK, EventName.UNREACHABLE})


@dataclass(frozen=True)
class Event:
    """One line of the log.  address: the host's, or empty.  details: strings, numbers, and lists of them."""

    name: EventName
    address: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form."""
        return {"event": str(self.name), **({"address": self.address} if self.address else {}), **self.details}

    def to_text(self) -> str:
        """Give the form for people: the event, where, and the details as name=value."""
        parts = [f"{name}={_plain(value)}" for name, value in self.details.items()]
        return " ".join([str(self.name), *([self.address] if self.address else []), *parts])


Emit: TypeAlias = Callable[[Event], None]
"""Takes events from any thread."""


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_plain(item) for item in value) or "-"
    text = str(value)
    return f"{text!r}" if " " in text else text
