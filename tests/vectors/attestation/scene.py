"""How cases are written down: a scene that is accepted, and what a case changes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import tomli_w

from attestation.errors import EvidenceCode as E
from attestation.sim.pki import DAY, YEAR
from manifests.errors import ErrorCode
from tests.vectors.attestation.stages import OUTCOMES
from tests.vectors.attestation.vector import Vector

NOW: Final = 1_760_000_000
"""2025-10-09T08:53:20Z."""
CREATED: Final = NOW - 30 * DAY
LAST: Final = NOW + 100
"""When what a case is about ends, if it begins at NOW."""
SEED: Final = bytes(range(100, 132))
REPORT_DATA: Final = bytes(range(64))
SIMULATED: Final = "platform-class"
"""The warning that every accepted piece of simulated evidence carries."""

__all__ = ["CREATED", "DAY", "LAST", "NOW", "REPORT_DATA", "SEED", "YEAR", "Scene", "edges", "merged"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Evidence that is accepted as it stands.  policy: a map in the shape of its TOML, or the text itself."""

    tee: str
    version: int
    evidence: bytes
    roots: tuple[tuple[str, str], ...]
    policy: Mapping[str, Any] | str
    collateral: str | None = None
    report_data: bytes | None = REPORT_DATA
    now: int = NOW
    wrapped: bool = False
    kind: str = "evidence"
    store: tuple[tuple[str, str], ...] | None = None
    prepared: tuple[tuple[str, str], ...] | None = None
    devices: bytes | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    tcb_status: str | None = None

    def but(self, **changes: Any) -> Scene:
        """Return another scene; `policy` as a map of tables is merged into this one's."""
        return replace(self, **changes)

    def accepted(self, edge: str, comment: str, *, warnings: tuple[ErrorCode, ...] = (), **changes: Any) -> Vector:
        """Return a case that passes every phase."""
        loud = (SIMULATED,) if any(kind == "simulated" for kind, _ in self.but(**changes).roots) else ()
        names = tuple(dict.fromkeys([*loud, *map(str, warnings)]))
        return self._vector(edge, comment, changes, expect="accepted", warnings=tuple(sorted(names)))

    def fails(self, phase: str, edge: str, comment: str, *codes: ErrorCode, **changes: Any) -> Vector:
        """Return a case that ends in `phase` with exactly these codes."""
        (outcome,) = {OUTCOMES[code.fault] for code in codes}
        if phase != "appraise":
            changes = {"tcb_status": None} | changes
        names = tuple(sorted(set(map(str, codes))))
        return self._vector(edge, comment, changes, expect=outcome, phase=phase, codes=names)

    def refused(self, edge: str, comment: str, *codes: ErrorCode, **changes: Any) -> Vector:
        """Return a case of genuine evidence that the policy refuses."""
        return self.fails("appraise", edge, comment, *codes, **changes)

    def unverified(self, edge: str, comment: str, code: ErrorCode, **changes: Any) -> Vector:
        """Return a case of evidence that parses and does not verify."""
        return self.fails("verify", edge, comment, code, **changes)

    def unparsed(self, edge: str, comment: str, code: ErrorCode, evidence: bytes, **changes: Any) -> Vector:
        """Return a case of bytes that do not parse."""
        return self.fails("parse", edge, comment, code, evidence=evidence, **changes)

    def _vector(self, edge: str, comment: str, changes: Mapping[str, Any], **outcome: Any) -> Vector:
        scene = self.but(**changes)
        policy = scene.policy if isinstance(scene.policy, str) else tomli_w.dumps(dict(scene.policy))
        return Vector(
            tee=scene.tee,
            version=scene.version,
            edge=edge,
            comment=comment,
            evidence=scene.evidence,
            roots=scene.roots,
            policy=policy,
            now=scene.now,
            report_data=scene.report_data,
            collateral=scene.collateral,
            wrapped=scene.wrapped,
            kind=scene.kind,
            store=scene.store,
            prepared=scene.prepared,
            devices=scene.devices,
            details=dict(scene.details),
            tcb_status=scene.tcb_status,
            **outcome,
        )


def merged(policy: Mapping[str, Any], **tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy with fields replaced, by table; None takes a field out.  Underscores stand for hyphens."""
    result = {name: dict(value) if isinstance(value, dict) else value for name, value in policy.items()}
    for name, fields in tables.items():
        table = name.replace("_", "-")
        values = {**result.get(table, {}), **fields}
        result[table] = {field: value for field, value in values.items() if value is not None}
    return result


OF_CERTIFICATES: Final = (E.CERTIFICATE_EARLY, E.CERTIFICATE_EXPIRED)
OF_LISTS: Final = (E.CRL_EARLY, E.CRL_EXPIRED)


def edges(
    scene: Scene,
    name: str,
    rule: str,
    codes: tuple[ErrorCode, ErrorCode] = OF_CERTIFICATES,
    last: int = LAST,
    **changes: Any,
) -> Iterator[Vector]:
    """Return the four edges of a document that counts from NOW to `last`, both inclusive, and that changes hold.

    codes: of the second before the first, and of the second after the last.
    """
    early, late = codes
    yield scene.unverified(f"{name} not valid yet", rule, early, **changes | {"now": NOW - 1})
    yield scene.accepted(f"{name} first second", rule, **changes | {"now": NOW})
    yield scene.accepted(f"{name} last second", rule, **changes | {"now": last})
    yield scene.unverified(f"{name} just expired", rule, late, **changes | {"now": last + 1})
