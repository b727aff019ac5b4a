"""The table `[watch]`: how much a language model tells one identity, and what follows beyond that.

The detectors of `[abuse]` compare numbers with benign numbers; token numbers have no distances, so nothing of them is
used here.  What is left is honest counting: tokens, tokens a minute, and how many different contexts an identity was
told a token for, which is what copying a language model takes.  docs/generation.md explains each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifests import fields
from manifests.abuse.policy import AbusePolicy, Action, Rung
from manifests.pairs import unfit
from manifests.tensors import TensorField

CELLS = 1 << 18
"""Cells that contexts fall into, one bit each: 32 KiB for an identity."""
MAX_COVERAGE = 1 << 20
"""Different contexts that CELLS can still count, within some per cent: four for each cell leave one in 55 empty."""
CONTEXT = 8
"""Tokens before the next one that make a context."""
RECORD_BYTES = 2048
"""What an identity takes besides its cells, generously."""

_ACTIONS = (Action.LOG, Action.SLOW, Action.REFUSE, Action.REVOKE)
_SHARED = ("pause_ms", "hold", "identities", "pool", "pool_factor", "ladder")
_LADDER = (Rung(Action.LOG), Rung(Action.SLOW, after=1), Rung(Action.REFUSE, after=8))
_DEFAULTS: dict[str, Any] = {"pool": str(Action.SLOW), "ladder": [rung.to_map() for rung in _LADDER]}


@dataclass(frozen=True)
class PromptWatch:
    """The checked table; a bound of 0 is none, and at least one is set.

    tokens: of prompts and answers of one identity, as long as the process runs.  rate: the same in a minute of the
    host's clock.  coverage: different contexts for which an identity was told the next token.  policy: what follows.
    """

    tokens: int = 0
    rate: int = 0
    coverage: int = 0
    policy: AbusePolicy = field(default_factory=lambda: AbusePolicy.from_map(_DEFAULTS))

    @classmethod
    def from_map(cls, value: object) -> PromptWatch:
        """Read the table; raises ManifestError `field-invalid` or `manifest-invalid`."""
        bounds = {"tokens": fields.U63, "rate": fields.U63, "coverage": MAX_COVERAGE}
        table = fields.closed_map(value, "watch", (), (*bounds, *_SHARED))
        read = {name: fields.number(table[name], name, 1, most) for name, most in bounds.items() if name in table}
        policy = AbusePolicy.from_map({**_DEFAULTS, **{name: table[name] for name in _SHARED if name in table}})
        if not read:
            raise unfit("[watch] bounds nothing", "`tokens`, `rate` or `coverage`")
        if any(action not in _ACTIONS for action in (policy.pool, *(rung.action for rung in policy.ladder))):
            raise unfit("text is neither rounded nor reduced to a label", ", ".join(_ACTIONS))
        if any(rung.detectors > len(read) for rung in policy.ladder):
            raise unfit("a rung of [watch] asks for more bounds than there are", f"at most {len(read)}")
        if read.get("coverage", 0) * policy.pool_factor > MAX_COVERAGE:
            raise unfit("`coverage` times `pool_factor` is more than can be counted", f"at most {MAX_COVERAGE}")
        return cls(**read, policy=policy)

    def to_map(self) -> dict[str, Any]:
        """Return the bounds that are set, and all that differs from the defaults."""
        bounds = {name: getattr(self, name) for name in ("tokens", "rate", "coverage") if getattr(self, name)}
        usual = AbusePolicy.from_map(_DEFAULTS).to_map()
        changed = {name: value for name, value in self.policy.to_map().items() if value != usual.get(name)}
        return bounds | changed

    def reserved(self, inputs: Mapping[str, TensorField]) -> int:  # noqa: ARG002 - one signature for all tables
        """Return the bytes that all identities may take together."""
        return (self.policy.identities + 3) * (CELLS // 8 + RECORD_BYTES)
