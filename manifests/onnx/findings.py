"""What a check found: every refusal with its place, collected, so that an owner sees them all at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from manifests.errors import ErrorCode, StrongroomError, shown
from manifests.onnx.bounds import MAX_FINDINGS
from manifests.onnx.errors import OnnxCode, OnnxError

_MAX_PLACE = 200
"""Characters of a place or a value that are repeated: names are a stranger's."""


@dataclass(frozen=True)
class Finding:
    """One refusal.  `place` names the node, tensor or value; it is the model's own, and for its owner alone."""

    code: ErrorCode
    """One of `OnnxCode`, or of what sealing says of the manifest."""
    message: str
    place: str = ""
    expected: object = None
    found: object = None

    remedy: str | None = None
    """What to do, where it is not what the code says."""

    @classmethod
    def of(cls, error: StrongroomError) -> Finding:
        """Return an error as a finding."""
        return cls(error.code, error.message, "", error.expected, error.found, error.remedy)

    def to_dict(self) -> dict[str, Any]:
        """Give the form that `--json` prints."""
        return {
            "code": str(self.code),
            "message": self.message,
            "place": self.place,
            "expected": None if self.expected is None else shown(self.expected),
            "found": None if self.found is None else shown(self.found),
            "remedy": self.remedy or self.code.remedy,
        }


@dataclass
class Findings:
    """Collects findings; more than `MAX_FINDINGS` are counted alone."""

    listed: list[Finding] = field(default_factory=list)
    count: int = 0

    def add(self, code: OnnxCode, message: str, place: str = "", expected: object = None, found: object = None) -> None:
        """Note one refusal."""
        self.count += 1
        if len(self.listed) < MAX_FINDINGS:
            self.listed.append(Finding(code, message, place[-_MAX_PLACE:], _cut(expected), _cut(found)))

    def take(self, error: OnnxError) -> None:
        """Note an error that ended a step of the check."""
        assert isinstance(error.code, OnnxCode)  # noqa: S101 - an OnnxError has no other
        self.add(error.code, error.message, "", error.expected, error.found)


def _cut(value: object) -> object:
    return value[:_MAX_PLACE] if isinstance(value, str) else value
