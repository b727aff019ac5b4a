"""The file format of the conformance corpus: `key: value` lines, an empty line, and the policy's TOML.

README.md describes it for other implementations.  Reading is strict, so that a vector which says something that this
reader would pass over cannot exist.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestation.validity import parse_rfc3339, rfc3339

FOLDER: Final = Path(__file__).parent
CASES: Final = FOLDER / "cases"
SHARED: Final = FOLDER / "shared"

FORMAT: Final = 1
OUTCOMES: Final = ("accepted", "refused", "malformed", "unsupported", "usage", "unavailable")
PHASES: Final = ("policy", "unwrap", "parse", "verify", "appraise")
ROOT_KINDS: Final = ("vendor", "simulated", "replacement-intel", "replacement-amd", "replacement-nitro", "tpm")

_KEYS: Final = (
    "vector",
    "tee",
    "version",
    "edge",
    "comment",
    "wrapped",
    "now",
    "report_data",
    "roots",
    "collateral",
    "expect",
    "phase",
    "codes",
    "warnings",
    "tcb_status",
    "evidence",
)
_OPTIONAL: Final = {"wrapped", "report_data", "collateral", "phase", "codes", "warnings", "tcb_status"}


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One case.  See README.md for each field.

    roots: (kind, content) each; content is PEM, the hex of a fingerprint for "tpm", and empty for "vendor".
    collateral: the text of its JSON; None where none is given.  policy: TOML.  now: Unix seconds.
    shares_evidence: whether the evidence stands in a file that other cases refer to, too.
    """

    tee: str
    version: int
    edge: str
    comment: str
    evidence: bytes
    roots: tuple[tuple[str, str], ...]
    policy: str
    now: int
    expect: str
    report_data: bytes | None = None
    collateral: str | None = None
    wrapped: bool = False
    phase: str | None = None
    codes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tcb_status: str | None = None
    shares_evidence: bool = False

    @property
    def name(self) -> str:
        """Folder and file, without the ending."""
        return f"{self.tee}/{self.edge.replace(' ', '-')}"

    @property
    def path(self) -> Path:
        """Where the case lies."""
        return CASES / f"{self.name}.txt"

    @property
    def identity(self) -> str:
        """A digest of everything that an implementation is given: no two cases have the same."""
        parts = (self.evidence, self.collateral, self.policy, self.now, self.roots, self.report_data, self.wrapped)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def encode(self) -> tuple[str, dict[str, str]]:
        """Return the file's text, and the shared files that it refers to, by name."""
        shared: dict[str, str] = {}
        evidence = base64.b64encode(self.evidence).decode("ascii")
        values = {
            "vector": str(FORMAT),
            "tee": self.tee,
            "version": str(self.version),
            "edge": self.edge,
            "comment": self.comment,
            "wrapped": "yes" if self.wrapped else None,
            "now": rfc3339(self.now),
            "report_data": None if self.report_data is None else self.report_data.hex(),
            "roots": ", ".join(_root(kind, content, shared) for kind, content in self.roots),
            "collateral": None if self.collateral is None else _share(self.collateral, "json", shared),
            "expect": self.expect,
            "phase": self.phase,
            "codes": ", ".join(self.codes) or None,
            "warnings": ", ".join(self.warnings) or None,
            "tcb_status": self.tcb_status,
            "evidence": _share(evidence, "b64", shared) if self.shares_evidence else evidence,
        }
        head = "".join(f"{key}: {value}\n" for key, value in values.items() if value is not None)
        return f"{head}\n{self.policy}", shared


def read(path: Path) -> Vector:
    """Read a case; raises ValueError for anything that is not exactly the format."""
    head, _, policy = path.read_text(encoding="utf-8").partition("\n\n")
    pairs = [line.partition(": ") for line in head.split("\n")]
    values = {key: value for key, _, value in pairs}
    if len(values) != len(pairs) or [key for key in _KEYS if key in values] != list(values):
        raise ValueError(f"{path}: keys are unknown, repeated or out of order")
    missing = set(_KEYS) - _OPTIONAL - values.keys()
    if missing or not all(value.strip() == value != "" for value in values.values()) or values["vector"] != str(FORMAT):
        raise ValueError(f"{path}: {missing or 'an empty value, or another format'}")
    evidence = values["evidence"]
    shares = evidence.startswith("shared/")
    vector = Vector(
        tee=values["tee"],
        version=int(values["version"]),
        edge=values["edge"],
        comment=values["comment"],
        wrapped="wrapped" in values,
        now=parse_rfc3339(values["now"]),
        report_data=bytes.fromhex(values["report_data"]) if "report_data" in values else None,
        roots=tuple(_parse_root(item) for item in values["roots"].split(", ")),
        collateral=_fetch(values["collateral"]) if "collateral" in values else None,
        expect=values["expect"],
        phase=values.get("phase"),
        codes=_list(values.get("codes")),
        warnings=_list(values.get("warnings")),
        tcb_status=values.get("tcb_status"),
        evidence=base64.b64decode(_fetch(evidence) if shares else evidence, validate=True),
        shares_evidence=shares,
        policy=policy,
    )
    if vector.encode()[0] != path.read_text(encoding="utf-8") or vector.path != path:
        raise ValueError(f"{path}: not the one encoding of its case, or not under its name")
    return vector


def read_all() -> list[Vector]:
    """Read every file under `cases`, in order of name; whatever lies there is a case, or an error."""
    return [read(path) for path in sorted(CASES.rglob("*")) if path.is_file()]


def _share(content: str, ending: str, shared: dict[str, str]) -> str:
    """Return the name of a shared file: the first 16 hex digits of the SHA-256 of its content."""
    name = f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.{ending}"
    shared[name] = content
    return f"shared/{name}"


def _root(kind: str, content: str, shared: dict[str, str]) -> str:
    if kind == "vendor":
        return kind
    return f"{kind} {content if kind == 'tpm' else _share(content, 'pem', shared)}"


def _parse_root(item: str) -> tuple[str, str]:
    kind, _, content = item.partition(" ")
    if kind not in ROOT_KINDS:
        raise ValueError(f"no kind of root: {kind}")
    return kind, content if kind in {"vendor", "tpm"} else _fetch(content)


def _fetch(name: str) -> str:
    path = SHARED / name.removeprefix("shared/")
    text = path.read_text(encoding="utf-8")
    if hashlib.sha256(text.encode()).hexdigest()[:16] != path.stem:
        raise ValueError(f"{path} was changed")
    return text


def _list(value: str | None) -> tuple[str, ...]:
    return tuple(value.split(", ")) if value else ()
