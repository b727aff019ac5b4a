"""Real files of this machine, of as many kinds as it has."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

MAX_SIZE = 64 * 1024 * 1024
"""Only the ends of a file matter, but it is read whole."""
PER_PATTERN = 1

_SYSTEM = (
    "/usr/bin/ls",
    "/etc/passwd",
    "/usr/share/pixmaps/*.png",
    "/usr/share/doc/*/changelog*.gz",
    "/usr/share/man/man1/*.1.gz",
    "/usr/share/perl5/**/*.pm",
    "/usr/share/mime/**/*.xml",
    "/usr/bin/ldd",
)
_PACKAGES = {
    "attestation": ("binding.py",),
    "sklearn": ("datasets/data/breast_cancer.csv", "datasets/images/*.jpg", "**/*.css"),
    "onnx": ("**/*.proto", "defs/**/*.h"),
    "onnxruntime": ("capi/*.so", "LICENSE", "ThirdPartyNotices.txt"),
    "numpy": ("**/__pycache__/*.pyc", "**/*.pyi"),
    "magika": ("config/*.json", "models/**/*.md", "models/**/*.onnx"),
}
"""Files that arrive with the packages of the demonstration, so that every machine has some."""


def real_files(limit: int = 16) -> list[Path]:
    """Return up to `limit` existing files, one for each kind that is looked for."""
    return list(itertools.islice(_existing(), limit))


def _existing() -> Iterator[Path]:
    yield Path(sys.executable).resolve()
    for pattern in _SYSTEM:
        yield from _matches(Path("/"), pattern.removeprefix("/"))
    for package, patterns in _PACKAGES.items():
        folder = _package_folder(package)
        for pattern in patterns if folder else ():
            yield from _matches(folder, pattern)
    yield from _matches(Path(sysconfig.get_path("stdlib")), "this.py")


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _matches(folder: Path | None, pattern: str) -> Iterator[Path]:
    """Yield the first usable file, in name order, so that two runs agree."""
    found = sorted(folder.glob(pattern)) if folder else []
    usable = (path for path in found if _usable(path))
    yield from itertools.islice(usable, PER_PATTERN)


def _usable(path: Path) -> bool:
    try:
        return path.is_file() and 64 <= path.stat().st_size <= MAX_SIZE
    except OSError:
        return False
