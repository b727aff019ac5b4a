"""Collateral as it comes from a vendor's service: certificates and lists in files of their own, and not in ours.

AMD's key distribution service gives a VCEK or VLEK (DER), a `cert_chain` (PEM) and a revocation list (DER); NVIDIA's
tools print a chain (PEM), and its service has reference manifests (XML).  `open_collateral` takes such files, folders
of them, and our own JSON files, whatever their names.  Nothing of this is verified here: what is sorted wrongly leads
to collateral that does not fit.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
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
from attestation.errors import EvidenceCode, EvidenceError
from attestation.nvidia.container import DeviceEvidence, is_container, pack, parse_evidence
from attestation.nvidia.rim import parse_rim
from attestation.nvidia.sdk_json import pem_chain
from attestation.nvidia.verify import wanted_rims
from attestation.roots import Roots
from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.files import naming, read_bounded

MAX_FILES: Final = 256
MAX_LOOSE: Final = 1024 * 1024
"""A reference manifest takes 100 KiB."""
SUFFIXES: Final = frozenset({"", ".crl", ".crt", ".cer", ".der", ".pem", ".xml"})
"""Which files of a folder are looked at; AMD's service names its chain and its list without any."""


@dataclass(frozen=True)
class LooseFiles(CollateralSource):
    """Files by content: AMD's certificates and lists for evidence of SEV-SNP, our own files for all."""

    contents: tuple[bytes, ...]
    sources: tuple[CollateralSource, ...]
    roots: Roots
    offered: frozenset[bytes] = frozenset()
    """Contents that lie in a folder and were not named: a manifest among them is used for the devices that need it."""

    def _fetch(self, key: CollateralKey) -> bytes | None:
        for source in self.sources:
            data = source._fetch(key)  # noqa: SLF001 - the same method of another source
            if data is not None:
                return data
        made = self._snp(key) if key.tee == "snp" else None
        return None if made is None else made.to_json().encode("utf-8")

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

    def _snp(self, key: CollateralKey) -> SnpCollateral | None:
        """Put the parts for one key together; without a leaf, the chain alone, for evidence that carries its own."""
        made = self.parts.collateral()
        if not self.parts.leaves:
            made = self.parts.chains(key.family)
        return made[0] if len(made) == 1 else self._fitting(made, key)

    def _fitting(self, made: Sequence[SnpCollateral], key: CollateralKey) -> SnpCollateral | None:
        """Of several, return the one for this key."""
        for item in made:
            try:
                if identify(item, self.roots)[1] == key:
                    return item
            except StrongroomError:
                continue
        return None

    def complete(self, report: bytes) -> bytes:
        """Return a container of a bare NVIDIA report, with the chain and the manifests among the files.

        Raises EvidenceError `collateral-missing` where there is not one chain, or as the container does.
        """
        chains = [content for content in self.contents if content.count(b"-----BEGIN CERTIFICATE-----") > 1]
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

    @property
    def manifests(self) -> list[bytes]:
        """NVIDIA's reference manifests among the files, each once."""
        return [content for content in dict.fromkeys(self.contents) if is_manifest(content)]

    def _manifests_for(self, devices: Sequence[DeviceEvidence]) -> list[bytes]:
        """Return the manifests that were named, and those of folders but what is for none of the devices."""
        wanted = {key for device in devices for key in wanted_rims(device)}
        return [each for each in self.manifests if each not in self.offered or _may_serve(each, wanted)]

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
        devices = [(device.report.serialize(), device.chain) for device in parsed.devices]
        return pack(devices, held + [each for each in self._manifests_for(parsed.devices) if each not in held])


def open_collateral(paths: Iterable[Path], roots: Roots) -> LooseFiles:
    """Read the files and folders that hold collateral.

    Raises ManifestError `file-unavailable`, or EvidenceError `collateral-malformed` for a file that can be none: a
    folder may hold other things, but what is named is meant.
    """
    contents: list[bytes] = []
    offered: list[bytes] = []
    sources: list[CollateralSource] = []
    for path in paths:
        with naming(path):
            if path.is_dir():
                sources.append(DirectorySource(path))
                offered += [read_bounded(item, MAX_LOOSE) for item in _loose_in(path)]
            elif path.is_file():
                _add(path, contents, sources)
            else:
                raise ManifestError(
                    ManifestCode.FILE_UNAVAILABLE,
                    f"{path} is neither a folder nor a file",
                    remedy="name collateral that exists",
                )
    return LooseFiles((*contents, *offered), tuple(sources), roots, frozenset(offered) - frozenset(contents))


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


def _may_serve(content: bytes, wanted: Collection[tuple[str, str]]) -> bool:
    """Tell whether a manifest is for a wanted product and version; one that does not parse is left to be refused."""
    try:
        rim = parse_rim(content)
    except StrongroomError:
        return True
    return (rim.product, rim.version) in wanted


def loose_names(folder: Path) -> list[str]:
    """Return the names of a folder's files that are collateral as vendors publish it; raises ManifestError."""
    with naming(folder):
        found = _loose_in(folder)
        return [path.name for path in found if path.stat().st_size <= MAX_LOOSE and _is_loose(path.read_bytes())]


def _is_loose(content: bytes) -> bool:
    return holds_der(content) or is_manifest(content)


def _loose_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    return found[:MAX_FILES]
