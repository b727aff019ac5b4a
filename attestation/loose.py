"""Collateral as it comes from a vendor's service: certificates and lists in files of their own, and not in ours.

AMD's key distribution service gives a VCEK or VLEK (DER), a `cert_chain` (PEM) and a revocation list (DER); NVIDIA's
tools print a chain (PEM), and its service has reference manifests (XML).  `open_collateral` takes such files, folders
of them, and our own JSON files, whatever their names.  Nothing of this is verified here: what is sorted wrongly leads
to collateral that does not fit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from attestation.amd.collateral import SnpCollateral
from attestation.amd.files import AmdFiles, holds_der
from attestation.collateral import (
    MAX_COLLATERAL,
    Collateral,
    CollateralKey,
    CollateralSource,
    DirectorySource,
    FileSource,
)
from attestation.collateral.held import identify
from attestation.collateral.kinds import decode
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.collateral import IntelCollateral
from attestation.intel.newest import newest
from attestation.nvidia.container import DeviceEvidence, is_container, pack, parse_evidence
from attestation.nvidia.offered import serving
from attestation.nvidia.rim import Rim
from attestation.nvidia.sdk_json import pem_chain
from attestation.nvidia.verify import is_signed, wanted_rims
from attestation.roots import Roots
from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.files import PARTIAL_SUFFIX, naming, read_beginning, read_bounded

MAX_FILES: Final = 2048
"""Files of one folder that are looked at: twice as many as AMD's certificates in it may be (`MAX_PARTS`)."""
MAX_LOOSE: Final = 12 * 1024 * 1024
"""A revocation list has up to 8 MiB, and a third more as PEM."""
MAX_FOLDER: Final = 64 * 1024 * 1024
"""Bytes of a folder's files that are kept: a thousand certificates, and some of the longest lists."""
NAMESPACED: Final = b"SoftwareIdentity"
"""What NVIDIA's manifests are, by the name of their root element; torn ones have it, too."""
SUFFIX_OF_OURS: Final = ".json"
"""Files of ours are found by their name; every other file of a folder is looked at, whatever its name."""


@dataclass(frozen=True)
class LooseFiles(CollateralSource):
    """Files by content: AMD's certificates and lists for evidence of SEV-SNP, our own files for all."""

    contents: tuple[bytes, ...]
    sources: tuple[CollateralSource, ...]
    roots: Roots
    offered: frozenset[bytes] = frozenset()
    """Contents that lie in a folder and were not named: a manifest among them is used for the devices that need it."""
    passed_over: tuple[str, ...] = ()
    """Files of folders that hold no collateral."""

    def _fetch(self, key: CollateralKey) -> bytes | None:
        held = [data for source in self.sources if (data := source._fetch(key)) is not None]  # noqa: SLF001 - the same method of other sources
        made = self._among(held, key) if len(held) > 1 or self._has_parts(key) else None
        if made is not None:
            return made.to_json().encode("utf-8")
        return held[0] if held else None

    def _has_parts(self, key: CollateralKey) -> bool:
        return key.tee == "snp" and any((self.parts.leaves, self.parts.others, self.parts.lists, self.parts.broken))

    def _among(self, held: Sequence[bytes], key: CollateralKey) -> Collateral | None:
        """Return what counts among files of ours and loose ones: nothing older wins over what is newer.

        None where nothing is for this key.  Raises EvidenceError.
        """
        items = [decode(data) for data in held]
        if key.tee == "snp":
            return self._snp([item for item in items if isinstance(item, SnpCollateral)], key)
        of_intel = [item for item in items if isinstance(item, IntelCollateral)]
        return newest(of_intel, key, self.roots) if of_intel else None

    def only(self) -> Collateral | None:
        """Return the collateral of the one file of ours, if that is all there is."""
        return self.sources[0].only() if len(self.sources) == 1 and not self.contents else None

    def fetch(self, key: CollateralKey) -> Collateral:
        """Return the collateral for `key`; raises EvidenceError, which says what of AMD's files is there without it."""
        try:
            return super().fetch(key)
        except EvidenceError as error:
            missing = error.code is EvidenceCode.COLLATERAL_MISSING and key.tee == "snp"
            if missing and (self.parts.leaves or self.parts.others):
                raise self.parts.missing(" or ".join(map(str, key.candidates))) from None
            raise

    @functools.cached_property
    def parts(self) -> AmdFiles:
        """AMD's certificates and lists among the files."""
        return AmdFiles.sort(self.contents)

    def _snp(self, held: Sequence[SnpCollateral], key: CollateralKey) -> SnpCollateral | None:
        """Put the parts for one key together; without a leaf, the chain alone, for evidence that carries its own."""
        ours = [part for item in held for part in (item.vek, item.chain, item.crl)]
        parts = AmdFiles.sort([*ours, *self.contents]) if ours else self.parts
        made = parts.collateral(self.roots) if parts.leaves else parts.chains(key.family, self.roots)
        return made[0] if len(made) == 1 else self._fitting(made, key)

    def _fitting(self, made: Sequence[SnpCollateral], key: CollateralKey) -> SnpCollateral | None:
        """Of several, return the one for this key: the first that verifies, or else the first that was revoked."""
        revoked = None
        for item in made:
            try:
                if identify(item, self.roots)[1] == key:
                    return item
            except StrongroomError as error:
                if revoked is None and error.code is EvidenceCode.CERTIFICATE_REVOKED and self._is_for(item, key):
                    revoked = item
        return revoked

    def _is_for(self, item: SnpCollateral, key: CollateralKey) -> bool:
        """Tell whether collateral is for this key, revoked or not."""
        try:
            return identify(replace(item, crl=b""), self.roots)[1] == key
        except StrongroomError:
            return False

    def complete(self, report: bytes) -> bytes:
        """Return a container of a bare NVIDIA report, with the chain and the manifests among the files.

        Raises EvidenceError `collateral-missing` where there is not one chain, or as the container does.
        """
        chains = [content for content in self.contents if content.count(b"-----BEGIN CERTIFICATE-----") > 1]
        if len(chains) > 1:
            chains = [chain for chain in dict.fromkeys(chains) if self._signed_by(report, chain)] or chains
        if len(chains) != 1:
            raise EvidenceError(
                EvidenceCode.COLLATERAL_MISSING,
                "a device report is verified with its certificate chain",
                expected="one file with the device's certificates (PEM, leaf first)",
                found=f"{len(chains)} such files",
                remedy="add it with --collateral, and the driver's and VBIOS' reference manifests (XML) likewise",
            )
        bare = pack([(report, pem_chain(chains[0]))])
        try:
            devices = parse_evidence(bare).devices
        except StrongroomError:
            return bare
        return pack([(report, pem_chain(chains[0]))], self._manifests_for(devices))

    def _signed_by(self, report: bytes, chain: bytes) -> bool:
        """Tell whether a chain leads from a pinned root to the key that signed a device's report."""
        try:
            return is_signed(parse_evidence(pack([(report, pem_chain(chain))])).devices[0], self.roots)
        except StrongroomError:
            return False

    @property
    def manifests(self) -> list[bytes]:
        """NVIDIA's reference manifests among the files, each once, whatever line feeds end it."""
        found = (content for content in self.contents if is_manifest(content))
        return list({content.rstrip(b"\n"): content for content in reversed(list(found))}.values())[::-1]

    def _manifests_for(self, devices: Sequence[DeviceEvidence], held: Iterable[Rim] = ()) -> list[bytes]:
        """Return the manifests that were named, and of folders those that serve one of the devices."""
        wanted = {key for device in devices for key in wanted_rims(device)}
        named = [each for each in self.manifests if each not in self.offered]
        offered = [each for each in self.manifests if each in self.offered]
        return named + serving(offered, wanted, self.roots, {(rim.product, rim.version) for rim in held})

    def with_manifests(self, container: bytes) -> bytes:
        """Return a container of device evidence with the manifests among the files that it lacks.

        What is no container, or does not parse, is returned as it is: parsing tells why.
        """
        if not self.manifests or not is_container(container):
            return container
        try:
            parsed = parse_evidence(container)
        except StrongroomError:
            return container
        held = [rim.raw for rim in parsed.rims]
        same = {raw.rstrip(b"\n") for raw in held}
        devices = [(device.report.serialize(), device.chain) for device in parsed.devices]
        more = [each for each in self._manifests_for(parsed.devices, parsed.rims) if each.rstrip(b"\n") not in same]
        return pack(devices, held + more)


def open_collateral(paths: Iterable[Path], roots: Roots) -> LooseFiles:
    """Read the files and folders that hold collateral.

    Raises ManifestError `file-unavailable` or `file-too-large`, or EvidenceError `collateral-malformed` for a file that
    can be none, and for a folder that holds too much: it may hold other things, but what is named is meant.
    """
    contents: list[bytes] = []
    offered: list[bytes] = []
    sources: list[CollateralSource] = []
    passed: list[str] = []
    for path in paths:
        with naming(path):
            if path.is_dir():
                sources.append(DirectorySource(path))
                found, others = _loose_in(path)
                offered += found.values()
                passed += others
            elif path.is_file():
                _add(path, contents, sources)
            else:
                raise ManifestError(
                    ManifestCode.FILE_UNAVAILABLE,
                    f"{path} is neither a folder nor a file",
                    remedy="name collateral that exists",
                )
    return LooseFiles(
        (*contents, *offered), tuple(sources), roots, frozenset(offered) - frozenset(contents), tuple(passed)
    )


def _add(path: Path, contents: list[bytes], sources: list[CollateralSource]) -> None:
    data = read_bounded(path, 2 * MAX_COLLATERAL)
    if data.lstrip()[:1] == b"{":
        sources.append(FileSource(path))
    elif _is_loose(data):
        contents.append(data)
    else:
        raise EvidenceError(
            EvidenceCode.COLLATERAL_MALFORMED,
            f"{path} holds no collateral",
            expected="JSON of `strongroom collateral`, a bundle, certificates or lists (PEM, DER), or a manifest (XML)",
            found=f"first bytes {data[:8].hex() or '(none)'}",
            remedy="leave it out, or name the file that was meant",
        )


def is_manifest(content: bytes) -> bool:
    """Tell whether a file begins as a reference manifest of NVIDIA's does (XML)."""
    return content.lstrip()[:1] == b"<"


def loose_names(folder: Path) -> list[str]:
    """Return the names of a folder's files that are collateral as vendors publish it; raises as `open_collateral`."""
    with naming(folder):
        return [path.name for path in _loose_in(folder)[0]]


def _is_loose(content: bytes) -> bool:
    return holds_der(content) or is_manifest(content)


def _loose_in(folder: Path) -> tuple[dict[Path, bytes], list[str]]:
    """Return the content of each file of a folder that is collateral as vendors publish it, and the names of others.

    In the order of names.  All of them or none: one that is left out might be the list that revokes.
    """
    paths = sorted(path for path in folder.iterdir() if not _is_ours(path) and path.is_file())
    if len(paths) > MAX_FILES:
        raise _too_much(folder, f"at most {MAX_FILES} files beside those of ours", str(len(paths)))
    found: dict[Path, bytes] = {}
    size = 0
    for path in paths:
        content = _read_loose(path)
        if content is not None:
            found[path] = content
            size += len(content)
        if size > MAX_FOLDER:
            raise _too_much(folder, f"at most {MAX_FOLDER} bytes of certificates, lists and manifests", "more")
    return found, [str(path) for path in paths if path not in found]


def _is_ours(path: Path) -> bool:
    return path.suffix == SUFFIX_OF_OURS or path.name.endswith(PARTIAL_SUFFIX)


def _read_loose(path: Path) -> bytes | None:
    """Return the content of a file of vendors'; None for anything else.

    Raises ManifestError `file-too-large` for one that begins as collateral does, which may hold a revocation.
    """
    content = read_beginning(path, MAX_LOOSE + 1)
    if is_manifest(content) and NAMESPACED not in content and not holds_der(content):
        return None  # some other XML, such as a page that a proxy answered with
    if not _is_loose(content) and not (len(content) > MAX_LOOSE and b"-----BEGIN" in content):
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
