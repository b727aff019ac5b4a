"""The file format of the conformance corpus: `key: value` lines, an empty line, and the policy's TOML.

README.md describes it for other implementations.  Reading is strict, so that a vector which says something that this
reader would pass over cannot exist.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from attestation.validity import parse_rfc3339, rfc3339

FOLDER: Final = Path(__file__).parent
CASES: Final = FOLDER / "cases"
SHARED: Final = FOLDER / "shared"

FORMAT: Final = 1
OUTCOMES: Final = ("accepted", "refused", "malformed", "unsupported", "usage", "unavailable")
PHASES: Final = (
    "policy",
    "unwrap",
    "parse",
    "collateral",
    "verify",
    "appraise",
    "issue",
    "replay",
    "open",
    "require",
)
ROOT_KINDS: Final = (
    "vendor",
    "simulated",
    "replacement-intel",
    "replacement-amd",
    "replacement-nitro",
    "replacement-nvidia-device",
    "replacement-nvidia-rim",
    "tpm",
)

SCALARS: Final[Mapping[str, frozenset[str]]] = {
    "evidence": frozenset({"as", "appraised", "signer", "nonce", "audience", "lifetime", "token"}),
    "session": frozenset({"handshake", "signer", "nonce", "audience", "lifetime", "token"}),
    "token": frozenset({"keys", "nonce", "audience", "leeway", "require"}),
    "eventlog": frozenset({"padded", "bank", "registers"}),
}
"""By kind of case, the keys whose values are kept as the text that they are."""
_UNJUDGED: Final = frozenset({"token", "eventlog"})
"""Kinds that no policy and no root has a part in."""

KEYS: Final = (
    "vector",
    "kind",
    "tee",
    "version",
    "edge",
    "comment",
    "wrapped",
    "as",
    "now",
    "appraised",
    "report_data",
    "handshake",
    "devices",
    "roots",
    "prepared",
    "collateral",
    "store",
    "signer",
    "keys",
    "nonce",
    "audience",
    "lifetime",
    "leeway",
    "require",
    "padded",
    "bank",
    "registers",
    "expect",
    "phase",
    "codes",
    "warnings",
    "tcb_status",
    "token",
    "filled",
    "evidence",
)
_REQUIRED: Final = {"vector", "tee", "version", "edge", "comment", "expect", "evidence"}
_FILLING: Final = 4096
"""From how many zeros at the end of evidence on they are left out of its file."""

Roots = tuple[tuple[str, str], ...]
"""(kind, content) each; content is PEM, the hex of a fingerprint for "tpm", and empty for "vendor"."""


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One case.  See README.md for each field.

    collateral: the text of its JSON; None where none is given.  store: the same by file name, for a folder to look it
    up in.  policy: TOML.  now: Unix seconds; 0 where no time matters.  details: the keys that only some kinds have, as
    text.  shares_evidence: whether the evidence stands in a file that other cases refer to, too.
    """

    tee: str
    version: int
    edge: str
    comment: str
    evidence: bytes
    roots: Roots
    policy: str
    now: int
    expect: str
    kind: str = "evidence"
    report_data: bytes | None = None
    collateral: str | None = None
    store: tuple[tuple[str, str], ...] | None = None
    prepared: Roots | None = None
    devices: bytes | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    wrapped: bool = False
    phase: str | None = None
    codes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tcb_status: str | None = None
    shares_evidence: bool = False

    @property
    def folder(self) -> str:
        """Where cases of this TEE, or of this kind, lie."""
        return self.tee if self.kind == "evidence" else self.kind

    @property
    def name(self) -> str:
        """Folder and file, without the ending."""
        return f"{self.folder}/{self.edge.replace(' ', '-')}"

    @property
    def path(self) -> Path:
        """Where the case lies."""
        return CASES / f"{self.name}.txt"

    @property
    def identity(self) -> str:
        """A digest of everything that an implementation is given: no two cases have the same."""
        given = {name: value for name, value in sorted(self.details.items()) if name not in {"token", "registers"}}
        parts = (
            *(self.kind, self.evidence, self.collateral, self.policy, self.now, self.roots, self.report_data),
            *(self.wrapped, self.store, self.prepared, self.devices, given),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def encode(self) -> tuple[str, dict[str, str]]:
        """Return the file's text, and the shared files that it refers to, by name."""
        shared: dict[str, str] = {}
        kept, filled = _unfilled(self.evidence)
        evidence = _base64(kept)
        values = {
            "vector": str(FORMAT),
            "kind": None if self.kind == "evidence" else self.kind,
            "tee": self.tee,
            "version": str(self.version),
            "edge": self.edge,
            "comment": self.comment,
            "wrapped": "yes" if self.wrapped else None,
            "now": None if self.kind == "eventlog" else rfc3339(self.now),
            "report_data": None if self.report_data is None else self.report_data.hex(),
            "devices": None if self.devices is None else _share(_base64(self.devices), "b64", shared),
            "roots": _roots(self.roots, shared) or None,
            "prepared": None if self.prepared is None else _roots(self.prepared, shared),
            "collateral": None if self.collateral is None else _share(self.collateral, "json", shared),
            "store": None if self.store is None else _store(self.store, shared),
            "expect": self.expect,
            "phase": self.phase,
            "codes": ", ".join(self.codes) or None,
            "warnings": ", ".join(self.warnings) or None,
            "tcb_status": self.tcb_status,
            "filled": None if filled is None else str(filled),
            "evidence": _share(evidence, "b64", shared) if self.shares_evidence else evidence,
            **self.details,
        }
        head = "".join(f"{key}: {value}\n" for key in KEYS if (value := values.get(key)) is not None)
        return f"{head}\n{self.policy}", shared


def read(path: Path) -> Vector:
    """Read a case; raises ValueError for anything that is not exactly the format."""
    head, _, policy = path.read_text(encoding="utf-8").partition("\n\n")
    pairs = [line.partition(": ") for line in head.split("\n")]
    values = {key: value for key, _, value in pairs}
    if len(values) != len(pairs) or [key for key in KEYS if key in values] != list(values):
        raise ValueError(f"{path}: keys are unknown, repeated or out of order")
    if not all(value.strip() == value != "" for value in values.values()) or values.get("vector") != str(FORMAT):
        raise ValueError(f"{path}: an empty value, or another format")
    kind = values.get("kind", "evidence")
    _check_keys(path, kind, values, judged=bool(policy))
    evidence = values["evidence"]
    vector = Vector(
        tee=values["tee"],
        version=int(values["version"]),
        edge=values["edge"],
        comment=values["comment"],
        kind=kind,
        wrapped="wrapped" in values,
        now=parse_rfc3339(values["now"]) if "now" in values else 0,
        report_data=bytes.fromhex(values["report_data"]) if "report_data" in values else None,
        devices=_decode(_fetch(values["devices"])) if "devices" in values else None,
        roots=_parse_roots(values["roots"]) if "roots" in values else (),
        prepared=_parse_roots(values["prepared"]) if "prepared" in values else None,
        collateral=_fetch(values["collateral"]) if "collateral" in values else None,
        store=_parse_store(values["store"]) if "store" in values else None,
        details={key: values[key] for key in KEYS if key in values and key in SCALARS[kind]},
        expect=values["expect"],
        phase=values.get("phase"),
        codes=_list(values.get("codes")),
        warnings=_list(values.get("warnings")),
        tcb_status=values.get("tcb_status"),
        evidence=_decode(_fetch(evidence) if evidence.startswith("shared/") else evidence, values.get("filled")),
        shares_evidence=evidence.startswith("shared/"),
        policy=policy,
    )
    if vector.encode()[0] != path.read_text(encoding="utf-8") or vector.path != path:
        raise ValueError(f"{path}: not the one encoding of its case, or not under its name")
    return vector


def read_all() -> list[Vector]:
    """Read every file under `cases`, in order of name; whatever lies there is a case, or an error."""
    return [read(path) for path in sorted(CASES.rglob("*")) if path.is_file()]


def _check_keys(path: Path, kind: str, values: Mapping[str, str], *, judged: bool) -> None:
    """Refuse a key that a case of this kind has no use for, and one that it lacks."""
    others = frozenset().union(*SCALARS.values()) - SCALARS.get(kind, frozenset())
    if kind in _UNJUDGED:
        others |= {"wrapped", "report_data", "roots", "prepared", "collateral", "store", "warnings", "tcb_status"}
    if kind != "evidence":
        others |= {"wrapped", "report_data", "prepared", "store"}
    if kind != "session":
        others |= {"devices"}
    needed = _REQUIRED | ({"now"} if kind != "eventlog" else set()) | ({"roots"} if kind not in _UNJUDGED else set())
    if kind not in SCALARS or others & values.keys() or needed - values.keys() or judged is (kind in _UNJUDGED):
        raise ValueError(f"{path}: {others & values.keys() or needed - values.keys()} or policy do not fit {kind}")


def _unfilled(data: bytes) -> tuple[bytes, int | None]:
    """Return what stands in the file, and up to how many bytes it is filled up with zeros."""
    kept = data.rstrip(b"\0") or data[:1]
    return (data, None) if len(data) - len(kept) < _FILLING else (kept, len(data))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str, filled: str | None = None) -> bytes:
    data = base64.b64decode(text, validate=True)
    return data if filled is None else data.ljust(int(filled), b"\0")


def _share(content: str, ending: str, shared: dict[str, str]) -> str:
    """Return the name of a shared file: the first 16 hex digits of the SHA-256 of its content."""
    name = f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.{ending}"
    shared[name] = content
    return f"shared/{name}"


def _store(store: tuple[tuple[str, str], ...], shared: dict[str, str]) -> str:
    return ", ".join(f"{name} {_share(text, 'json', shared)}" for name, text in store) or "empty"


def _parse_store(text: str) -> tuple[tuple[str, str], ...]:
    pairs = () if text == "empty" else tuple(item.partition(" ") for item in text.split(", "))
    return tuple((name, _fetch(content)) for name, _, content in pairs)


def _roots(roots: Roots, shared: dict[str, str]) -> str:
    return ", ".join(_root(kind, content, shared) for kind, content in roots)


def _root(kind: str, content: str, shared: dict[str, str]) -> str:
    if kind == "vendor":
        return kind
    return f"{kind} {content if kind == 'tpm' else _share(content, 'pem', shared)}"


def _parse_roots(text: str) -> Roots:
    return tuple(_parse_root(item) for item in text.split(", "))


def _parse_root(item: str) -> tuple[str, str]:
    kind, _, content = item.partition(" ")
    if kind not in ROOT_KINDS:
        raise ValueError(f"no kind of root: {kind}")
    return kind, content if kind in {"vendor", "tpm"} else _fetch(content)


def _fetch(name: str) -> str:
    path = SHARED / name.removeprefix("shared/")
    if not name.startswith("shared/") or not path.is_file():
        raise ValueError(f"{name!r} is no shared file")
    text = path.read_text(encoding="utf-8")
    if hashlib.sha256(text.encode()).hexdigest()[:16] != path.stem:
        raise ValueError(f"{path} was changed")
    return text


def _list(value: str | None) -> tuple[str, ...]:
    return tuple(value.split(", ")) if value else ()
