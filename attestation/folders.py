"""Folders of collateral: which of their files hold any, by what is in them, and what is filed under other names.

Nothing is verified here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from attestation.amd.collateral import SnpCollateral
from attestation.amd.files import holds_der
from attestation.collateral import MAX_COLLATERAL, Collateral, CollateralKey
from attestation.collateral.bundle import MAX_BUNDLE, Bundle, looks_like_bundle
from attestation.collateral.document import without_mark
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.collateral import IntelCollateral
from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.files import PARTIAL_SUFFIX, naming, read_beginning, read_bounded

MAX_FILES: Final = 2048
"""Files of one folder that are looked at: twice as many as AMD's certificates in it may be (`MAX_PARTS`)."""
MAX_FILED: Final = 4096
"""Files of one folder that are filed by platform, and read for their lists: a site's machines."""
MAX_LOOSE: Final = 12 * 1024 * 1024
"""A revocation list has up to 8 MiB, and a third more as PEM."""
MAX_FOLDER: Final = 64 * 1024 * 1024
"""Bytes of a folder's files that are kept: a thousand certificates, and some of the longest lists."""
MAX_READ: Final = 256 * 1024 * 1024
"""Bytes that are read of all folders of one call, kept or not: what is filed for a site's machines takes 50 MiB."""
NAMESPACED: Final = b"SoftwareIdentity"
"""What NVIDIA's manifests are, by the name of their root element; torn ones have it, too."""
SUFFIX_OF_OURS: Final = ".json"
_HEAD: Final = 320
"""Bytes that show whether a file is JSON, and whether it is a bundle, behind a mark of its encoding and spaces."""


@dataclass
class Folder:
    """What a folder holds beside what is filed in it under the name of its content.

    loose: by path, the content of files as vendors publish them.  unnamed: by path, collateral in JSON, and that of
    bundles.  others: files that hold no collateral, or none that can be read.  filed: the lists of what is filed, with
    the chains that they are below and nothing else, by the name that it is filed under.
    """

    loose: dict[Path, bytes] = field(default_factory=dict)
    unnamed: dict[Path, tuple[Collateral, ...]] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    filed: list[tuple[CollateralKey, Collateral]] = field(default_factory=list)


class Reading:
    """The files that one call reads out of folders: each once, however many names it has, within one budget."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._left = MAX_READ
        self._seen: dict[tuple[int, int], Path] = {}

    def first_name(self, path: Path) -> Path:
        """Return the name under which a file was seen first: this one, if it is new."""
        found = path.stat()
        return self._seen.setdefault((found.st_dev, found.st_ino), path)

    def beginning(self, path: Path, limit: int) -> bytes:
        """Return the first bytes of a file, at most `limit`.

        Raises ManifestError `file-unavailable`, or EvidenceError `collateral-malformed` beyond what may be read.
        """
        content = read_beginning(path, min(limit, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise _too_much(path.parent, f"at most {MAX_READ} bytes to read, in all folders together", "more")
        return content

    def whole(self, path: Path, limit: int) -> bytes:
        """Return a file's content; raises ManifestError `file-too-large` above `limit`, and as `beginning` does."""
        content = self.beginning(path, limit + 1)
        return content if len(content) <= limit else read_bounded(path, limit)


def read_folder(folder: Path, reading: Reading | None = None) -> Folder:
    """Look at every file of a folder, in the order of names.

    All of them or none: one that is left out might be the list that revokes.  What is filed counts for its lists,
    whatever platform its name is of; where it cannot be read, it is among the others.  Raises ManifestError, or
    EvidenceError `collateral-malformed` for a folder that holds too much.
    """
    reading = reading or Reading()
    paths = sorted(path for path in folder.iterdir() if not path.name.endswith(PARTIAL_SUFFIX) and path.is_file())
    named = [(key, path) for path in paths if (key := _key_of(path)) is not None]
    free = [path for path in paths if _key_of(path) is None]
    if len(free) > MAX_FILES:
        raise _too_much(folder, f"at most {MAX_FILES} files beside those of ours", str(len(free)))
    if len(named) > MAX_FILED:
        raise _too_much(folder, f"at most {MAX_FILED} files that are filed by platform", str(len(named)))
    found = Folder()
    _read_free(folder, free, found, reading)
    _read_filed(named, found, reading)
    return found


def _read_free(folder: Path, paths: list[Path], found: Folder, reading: Reading) -> None:
    size = 0
    for path in paths:
        first = reading.first_name(path)
        if first is path:
            size += _sort(path, found, reading)
        elif first in found.others:
            found.others.append(path)
        if size > MAX_FOLDER:
            raise _too_much(folder, f"at most {MAX_FOLDER} bytes of certificates, lists and manifests", "more")


def _read_filed(named: list[tuple[CollateralKey, Path]], found: Folder, reading: Reading) -> None:
    """Read what is filed for its lists, of which those that are the same are kept once."""
    kept: dict[Collateral, Collateral] = {}
    for key, path in named:
        if reading.first_name(path) is not path:
            continue
        items: tuple[Collateral, ...] = ()
        with _passing_over_unavailable():
            items = _read_json(path, reading)
        if not items:
            found.others.append(path)
        for item in map(_lists_of, items):
            found.filed.append((key, kept.setdefault(item, item)))


@contextmanager
def _passing_over_unavailable() -> Iterator[None]:
    try:
        yield
    except ManifestError as error:
        if error.code is not ManifestCode.FILE_UNAVAILABLE:
            raise


def _lists_of(item: Collateral) -> Collateral:
    """Return collateral with its lists, the chains that they are below, and nothing else."""
    if isinstance(item, SnpCollateral):
        return replace(item, vek=b"")
    if isinstance(item, IntelCollateral):
        return IntelCollateral(item.pck_crl_issuer_chain, item.root_ca_crl, item.pck_crl, *[b""] * 6)
    return item


def loose_names(folder: Path) -> list[str]:
    """Return the names of a folder's files that are collateral, but none that `inspect_folder` looks at.

    Raises as `read_folder`.
    """
    with naming(folder):
        found = read_folder(folder)
    unnamed = (path for path in found.unnamed if path.suffix != SUFFIX_OF_OURS)
    return sorted(path.name for path in (*found.loose, *unnamed))


def is_manifest(content: bytes) -> bool:
    """Tell whether a file begins as a reference manifest of NVIDIA's does (XML)."""
    return content.lstrip()[:1] == b"<"


def is_loose(content: bytes) -> bool:
    """Tell whether a file is collateral as vendors publish it, by how it begins."""
    return holds_der(content) or is_manifest(content)


def _key_of(path: Path) -> CollateralKey | None:
    """Return what a file is filed under, by its name."""
    with suppress(EvidenceError):
        return CollateralKey.parse(path.name.removesuffix(SUFFIX_OF_OURS)) if path.suffix == SUFFIX_OF_OURS else None
    return None


def _sort(path: Path, found: Folder, reading: Reading) -> int:
    """Add a file to what was found; returns how many bytes of it are kept."""
    unnamed = _read_json(path, reading)
    if unnamed:
        found.unnamed[path] = unnamed
        return sum(len(item.to_json()) for item in unnamed)
    content = _read_loose(path, reading)
    if content is not None:
        found.loose[path] = content
        return len(content)
    found.others.append(path)
    return 0


def _read_json(path: Path, reading: Reading) -> tuple[Collateral, ...]:
    """Return the collateral in a JSON file, or in a bundle; none of anything else.

    Raises ManifestError `file-too-large` for JSON that is larger than collateral can be, which may hold a revocation.
    """
    data = _json(path, reading)
    if data is not None:
        with suppress(StrongroomError):
            return tuple(Bundle.from_json(data).collateral.values()) if looks_like_bundle(data) else (decode(data),)
    return ()


def _json(path: Path, reading: Reading) -> bytes | None:
    """Return the content of a file that begins as JSON does; None for anything else."""
    head = reading.beginning(path, _HEAD)
    if not _is_json(head):
        return None
    return reading.whole(path, MAX_BUNDLE if looks_like_bundle(head) else MAX_COLLATERAL)


def _is_json(head: bytes) -> bool:
    return without_mark(head).lstrip()[:1] == b"{"


def _read_loose(path: Path, reading: Reading) -> bytes | None:
    """Return the content of a file of vendors'; None for anything else.

    Raises ManifestError `file-too-large` for one that begins as collateral does, which may hold a revocation.
    """
    if _is_json(reading.beginning(path, _HEAD)):
        return None
    content = reading.beginning(path, MAX_LOOSE + 1)
    if is_manifest(content) and NAMESPACED not in content and not holds_der(content):
        return None  # some other XML, such as a page that a proxy answered with
    if not is_loose(content) and not (len(content) > MAX_LOOSE and b"-----BEGIN" in content):
        return None
    return content if len(content) <= MAX_LOOSE else read_bounded(path, MAX_LOOSE)


def _too_much(folder: Path, expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.COLLATERAL_MALFORMED,
        f"{folder} holds too much to look at",
        expected=expected,
        found=found,
        remedy="file AMD's certificates with `strongroom collateral import FILES --output FOLDER`, and name that "
        "folder; or name the files that are meant",
    )
