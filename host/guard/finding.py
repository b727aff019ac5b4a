"""What a check of the guard says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from host.errors import GuardCode


class Severity(StrEnum):
    """What a failed finding means for the deployment."""

    BLOCKING = "blocking"
    """It would not work, or not safely: `host check` ends with status 10."""
    WARNING = "warning"
    """It works with less protection or less room than it should have."""
    NOTE = "note"
    """Worth knowing; nothing has to be done."""


@dataclass(frozen=True)
class Finding:
    """One expectation of the machine, and how it is met."""

    code: GuardCode
    severity: Severity
    passed: bool
    found: str
    needed: str
    remedy: str
    """What to do if it has not passed."""

    @property
    def blocks(self) -> bool:
        """Whether the deployment must not start."""
        return not self.passed and self.severity is Severity.BLOCKING

    def to_dict(self) -> dict[str, Any]:
        """Return what `host check --json` shows."""
        return {
            "code": str(self.code),
            "severity": str(self.severity),
            "passed": self.passed,
            "found": self.found,
            "needed": self.needed,
            "remedy": None if self.passed else self.remedy,
        }
