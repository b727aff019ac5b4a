"""Folders of collateral: which of their files hold any, by what is in them, and what is filed under other names.

Nothing is verified here.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from attestation.amd.files import holds_der
from attestation.collateral import MAX_COLLATERAL, Collateral, CollateralKey
from attestation.collateral.bundle import Bundle, looks_like_bundle
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceCode, EvidenceError
from manifests.errors import StrongroomError
from manifests.files import PARTIAL_SUFFIX, naming, read_beginning, read_bounded

MAX_FILES: Final = 2048
"""Files of one folder that are looked at: twice as many as AMD's certificates in it may be (`MAX_PARTS`)."""
MAX_FILED: Final = 4096
"""Files for other platforms that are read for their lists: a site's machines of one product."""
MAX_LOOSE: Final = 12 * 1024 * 1024
"""A revocation list has up to 8 MiB, and a third more as PEM."""
MAX_FOLDER: Final = 64 * 1024 * 1024
"""Bytes of a folder's files that are kept: a thousand certificates, and some of the longest lists."""
NAMESPACED: Final = b"SoftwareIdentity"
"""What NVIDIA's manifests are, by the name of their root element; torn ones have it, too."""
SUFFIX_OF_OURS: Final = ".json"


@dataclass
class Folder:
    """What a folder holds beside what is filed in it under the name of its content.

    loose: by path, the content of files as vendors publish them.  unnamed: by path, collateral in JSON, and that of
    bundles.  others: files that hold no collateral.
    """

    loose: dict[Path, bytes] = field(default_factory=dict)
    unnamed: dict[Path, tuple[Collateral, ...]] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)


def read_folder(folder: Path) -> Folder:
    """Look at every file of a folder whose name is of no collateral, in the order of names.

    All of them or none: one that is left out might be the list that revokes.  Raises ManifestError, or EvidenceError
    `collateral-malformed` for a folder that holds too much.
    """
    paths = sorted(path for path in folder.iterdir() if not _is_filed(path) and path.is_file())
    if len(paths) > MAX_FILES:
        raise _too_much(folder, f"at most {MAX_FILES} files beside those of ours", str(len(paths)))
    found = Folder()
    size = 0
    for path in paths:
        size += _sort(path, found)
        if size > MAX_FOLDER:
            raise _too_much(folder, f"at most {MAX_FOLDER} bytes of certificates, lists and manifests", "more")
    return found


def filed_beside(folder: Path, key: CollateralKey) -> list[Collateral]:
    """Return what a folder has filed for other platforms below the authorities of `key`'s: their lists are its own.

    What cannot be read is passed over: `collateral status` tells.  Raises as `read_folder` does.
    """
    with naming(folder):
        paths = sorted(path for path in folder.iterdir() if _is_related(_key_of(path), key))
    if len(paths) > MAX_FILED:
        raise _too_much(folder, f"at most {MAX_FILED} files for platforms of one family", str(len(paths)))
    found: list[Collateral] = []
    for path in paths:
        with suppress(StrongroomError):
            found.append(decode(read_bounded(path, MAX_COLLATERAL)))
    return found


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


def _is_filed(path: Path) -> bool:
    return path.name.endswith(PARTIAL_SUFFIX) or _key_of(path) is not None


def _is_related(other: CollateralKey | None, key: CollateralKey) -> bool:
    """Tell whether another platform's authorities are those of `key`'s: AMD has them by product, Intel by unit."""
    if other is None or other == key or (other.tee == "snp") is not (key.tee == "snp"):
        return False
    return other.family == key.family if key.tee == "snp" else other.unit == key.unit


def _sort(path: Path, found: Folder) -> int:
    """Add a file to what was found; returns how many bytes of it are kept."""
    content = _read_loose(path)
    if content is not None:
        found.loose[path] = content
        return len(content)
    unnamed = _read_json(path)
    if unnamed:
        found.unnamed[path] = unnamed
        return sum(len(item.to_json()) for item in unnamed)
    found.others.append(path)
    return 0


def _read_json(path: Path) -> tuple[Collateral, ...]:
    """Return the collateral in a JSON file, or in a bundle; none of anything else."""
    if read_beginning(path, _HEAD).lstrip()[:1] != b"{":
        return ()
    with suppress(StrongroomError):
        data = read_bounded(path, MAX_COLLATERAL)
        return tuple(Bundle.from_json(data).collateral.values()) if looks_like_bundle(data) else (decode(data),)
    return ()


_HEAD: Final = 64
"""Bytes that show whether a file is JSON."""


def _read_loose(path: Path) -> bytes | None:
    """Return the content of a file of vendors'; None for anything else.

    Raises ManifestError `file-too-large` for one that begins as collateral does, which may hold a revocation.
    """
    content = read_beginning(path, MAX_LOOSE + 1)
    if is_manifest(content) and NAMESPACED not in content and not holds_der(content):
        return None  # some other XML, such as a page that a proxy answered with
    if content.lstrip()[:1] == b"{":
        return None
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
