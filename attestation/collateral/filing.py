"""Importing: files as vendors publish them, or of our own making, filed in a folder under the names of their content.

One file that cannot be filed keeps no other from it.  AMD's certificates, chains and lists are files of their own that
belong together: they are put together whatever their order and names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attestation.amd.collateral import SnpCollateral
from attestation.amd.files import AmdFiles, holds_der
from attestation.collateral.bundle import MAX_BUNDLE
from attestation.collateral.held import file_into, key_of, place, store
from attestation.collateral.replacing import check_replaces
from attestation.errors import EvidenceCode, EvidenceError
from attestation.roots import Roots
from manifests.errors import StrongroomError
from manifests.files import concerning, read_bounded


@dataclass
class Imported:
    """What became of some files.  filed: where collateral is now, once each.  failed: files that gave none, and why."""

    filed: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, StrongroomError]] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Remember a file of the folder."""
        if path not in self.filed:
            self.filed.append(path)


@dataclass(frozen=True)
class _Filing:
    """Where collateral is filed.  older: whether it may replace what is newer."""

    folder: Path
    roots: Roots
    older: bool

    def file(self, item: SnpCollateral) -> Path:
        """Verify and store; raises EvidenceError, FetchError or ManifestError."""
        key = key_of(item, self.roots)
        if not self.older:
            check_replaces(place(self.folder, key), key, item, self.roots)
        return store(self.folder, key, item)


def import_files(folder: Path, paths: Sequence[Path], roots: Roots, *, older: bool = False) -> Imported:
    """Verify what files hold, whatever the time, and file it; replaces what is not newer, or with `older` anything.

    What fails is in the result.
    """
    imported = Imported()
    loose: dict[Path, bytes] = {}
    for path in paths:
        try:
            data = read_bounded(path, MAX_BUNDLE)
            if holds_der(data):
                loose[path] = data
                continue
            for _, place in file_into(folder, path, roots, older=older):
                imported.add(place)
        except StrongroomError as error:
            imported.failed.append((path, error))
    try:
        every = AmdFiles.sort(loose.values())
    except EvidenceError as error:
        imported.failed += [(path, error) for path in loose]
    else:
        _import_amd(_Filing(folder, roots, older), loose, every, imported)
    return imported


def _import_amd(filing: _Filing, loose: dict[Path, bytes], every: AmdFiles, imported: Imported) -> None:
    """File each endorsement key's certificate among the files, with the chain and the list that are there for it."""
    for path, data in loose.items():
        own = AmdFiles.sort([data])
        if own.broken:
            imported.failed.append((path, _broken(path)))
        elif not every.leaves:
            imported.failed.append((path, _without_leaf(path)))
        elif own.leaves:
            _import_leaves(filing, path, AmdFiles(own.leaves, every.others, every.lists), imported)


def _import_leaves(filing: _Filing, path: Path, parts: AmdFiles, imported: Imported) -> None:
    made = parts.collateral(filing.roots)
    try:
        with concerning(path):
            if len(made) != len(parts.leaves):
                raise parts.missing("its chain")
            for item in made:
                imported.add(filing.file(item))
    except StrongroomError as error:
        imported.failed.append((path, error))


def _broken(path: Path) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.CERTIFICATE_MALFORMED,
        f"{path}: it is neither a certificate nor a revocation list of AMD's",
        expected="a VCEK, a VLEK, their chain, or AMD's list, in DER or PEM",
        found="other DER",
        remedy="fetch it anew, or leave it out",
    )


def _without_leaf(path: Path) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.COLLATERAL_MISSING,
        f"{path}: collateral of SEV-SNP is filed by its VCEK or VLEK certificate, and none is among the files",
        expected="a VCEK or VLEK certificate beside its chain",
        found="no such certificate",
        remedy="import the certificate together with this file, in one command",
    )
