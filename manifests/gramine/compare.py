"""Two rendered manifests side by side: what one trusts that the other does not, and what that weighs.

A manifest holds hashes, and no sizes.  So sizes are those of the files on this machine that still have the hash.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from manifests.files import read_bounded
from manifests.gramine.errors import GramineError
from manifests.gramine.manifest import MAX_MANIFEST, EnclaveManifest, parse_manifest
from manifests.gramine.measure import file_sha256, measure, resolve

SITE = ("site-packages", "dist-packages")
"""Folders of installed packages: what lies in one is counted by package."""
SETTINGS = "the enclave's settings"
"""Stands for the settings file, so that it is the same one in two folders."""
INTERPRETER = "interpreter and system"

_APART = ("trusted_files", "mounts")
"""Fields that follow from the files, which are compared one by one."""


@dataclass(frozen=True)
class Weight:
    """Some trusted files: how many, how many of them are shared libraries, their bytes, and how many weigh unknown."""

    files: int = 0
    libraries: int = 0
    size: int = 0
    unknown: int = 0

    def __add__(self, other: Weight) -> Weight:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Weight(*(a + b for a, b in pairs))


@dataclass(frozen=True)
class Rendered:
    """A manifest that was read: its measurement (32 bytes), its content, and its trusted files by absolute path."""

    path: Path
    measurement: bytes
    manifest: EnclaveManifest
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, path: Path) -> Rendered:
        """Read and parse; raises GramineError, or ManifestError `file-unavailable`."""
        data = read_bounded(path, MAX_MANIFEST)
        manifest = parse_manifest(data)
        base = path.absolute().parent
        files = {str(resolve(file, base)): file.sha256 for file in manifest.trusted_files}
        settings = manifest.argv[-1]
        if manifest.argv[-2:-1] == ("--settings",) and settings in files:  # lies beside its manifest, wherever that is
            files[SETTINGS] = files.pop(settings)
            manifest = dataclasses.replace(manifest, argv=(*manifest.argv[:-1], SETTINGS))
        return cls(path, measure(data), manifest, files)


@dataclass(frozen=True)
class Comparison:
    """What changed from one manifest to the other: files by path, and options by name."""

    before: Rendered
    after: Rendered
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    options: tuple[str, ...]

    def costs(self) -> dict[str, Weight]:
        """Return what the added files weigh, by the package that they are of."""
        return _weighed((path, self.after.files[path]) for path in self.added)

    def savings(self) -> dict[str, Weight]:
        """Return what the removed files weigh, likewise."""
        return _weighed((path, self.before.files[path]) for path in self.removed)

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form; sizes in bytes."""
        costs, savings = self.costs(), self.savings()
        return {
            "before": _side(self.before),
            "after": _side(self.after),
            "same_measurement": self.before.measurement == self.after.measurement,
            "adds": dataclasses.asdict(sum(costs.values(), Weight())),
            "removes": dataclasses.asdict(sum(savings.values(), Weight())),
            "added_by_package": {name: dataclasses.asdict(weight) for name, weight in costs.items()},
            "removed_by_package": {name: dataclasses.asdict(weight) for name, weight in savings.items()},
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": list(self.changed),
            "options": list(self.options),
        }


def compare(before: Path, after: Path) -> Comparison:
    """Compare two rendered manifests; raises GramineError, or ManifestError `file-unavailable`."""
    old, new = Rendered.read(before), Rendered.read(after)
    both = old.files.keys() & new.files.keys()
    return Comparison(
        before=old,
        after=new,
        added=tuple(sorted(new.files.keys() - old.files.keys())),
        removed=tuple(sorted(old.files.keys() - new.files.keys())),
        changed=tuple(sorted(path for path in both if old.files[path] != new.files[path])),
        options=tuple(_options(old.manifest, new.manifest)),
    )


def _options(old: EnclaveManifest, new: EnclaveManifest) -> Iterable[str]:
    names = [item.name for item in dataclasses.fields(EnclaveManifest) if item.name not in _APART]
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _side(rendered: Rendered) -> dict[str, Any]:
    return {
        "manifest": str(rendered.path),
        "mrenclave": rendered.measurement.hex(),
        "trusted_files": len(rendered.files),
    }


def _weighed(files: Iterable[tuple[str, bytes]]) -> dict[str, Weight]:
    weights: dict[str, Weight] = {}
    for path, sha256 in files:
        name = package_of(path)
        weights[name] = weights.get(name, Weight()) + _weigh(path, sha256)
    return dict(sorted(weights.items(), key=lambda item: -item[1].size))


def package_of(path: str) -> str:
    """Return the package that a trusted file belongs to, by where it lies."""
    parts = PurePosixPath(path).parts
    for folder in SITE:
        if folder in parts[:-1]:
            return parts[parts.index(folder) + 1]
    for ours in ("enclave", "manifests", "attestation"):
        if ours in parts[:-1] and path.endswith((".py", ".toml")):
            return f"strongroom ({ours})"
    return INTERPRETER


def _weigh(path: str, sha256: bytes) -> Weight:
    library = int(".so" in PurePosixPath(path).suffixes)
    try:
        if file_sha256(Path(path)) == sha256:
            return Weight(1, library, Path(path).stat().st_size)
    except (GramineError, OSError):
        pass  # the file is gone: its manifest is of another time, or of another machine
    return Weight(1, library, 0, 1)
