"""The roots of simulated platforms that an option of a command names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attestation.roots import Roots, fingerprint_of_simulated
from manifests.errors import configuring
from manifests.files import read_bounded

OPTION: Final = "--simulated-root"
MAX_ROOT: Final = 64 * 1024
"""A certificate takes some KiB."""


def simulated_roots(paths: Iterable[Path]) -> Roots:
    """Return the roots of one simulated platform; raises EvidenceError or ManifestError that names option and file."""
    return Roots.simulated_fingerprints(*(_fingerprint(path) for path in paths))


def _fingerprint(path: Path) -> bytes:
    with configuring(OPTION, path, "give the root certificate of the simulated platform: root.pem in its folder"):
        return fingerprint_of_simulated(read_bounded(path, MAX_ROOT))
