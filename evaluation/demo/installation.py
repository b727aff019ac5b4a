"""A copy of the enclave's code with an interpreter of its own, so that a demonstration may patch a file of it.

The interpreter is a virtual environment whose path names the copy first and then the packages of this one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("attestation", "enclave", "manifests")
"""What the enclave process may import of ours."""


class Installation:
    """The copy: `code` holds the packages, `python` runs them."""

    def __init__(self, folder: Path) -> None:
        """Name the places; `make` fills them."""
        self.code = folder / "code"
        self._environment = folder / "environment"

    @property
    def python(self) -> Path:
        """The interpreter that finds the copy."""
        return self._environment / "bin" / "python"

    def make(self) -> None:
        """Copy the packages and set the environment up."""
        for package in PACKAGES:
            shutil.copytree(_source(package), self.code / package, ignore=shutil.ignore_patterns("__pycache__"))
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = self._environment / "lib" / version / "site-packages"
        site.mkdir(parents=True)
        (self._environment / "bin").mkdir()
        base = Path(sys.executable).resolve()
        self.python.symlink_to(base)
        (self._environment / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
        libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
        (site / "strongroom.pth").write_text("\n".join([str(self.code), *libraries]) + "\n")

    @contextlib.contextmanager
    def patched(self, file: str, text: str) -> Iterator[None]:
        """Append to one file of the enclave's code, as an intruder on the machine could, and take it back."""
        path = self.code / file
        genuine = path.read_bytes()
        path.write_bytes(genuine + text.encode())
        try:
            yield
        finally:
            path.write_bytes(genuine)


def _source(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return Path(spec.origin).parent
