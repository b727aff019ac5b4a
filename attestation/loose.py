"""Collateral as it comes from a vendor's service: certificates and lists in files of their own, and not in ours.

AMD's key distribution service gives a VCEK or VLEK (DER), a `cert_chain` (PEM) and a revocation list (DER); NVIDIA's
tools print a chain (PEM), and its service has reference manifests (XML).  `open_collateral` takes such files, folders
of them, and JSON files of Intel's collateral and of ours, whatever their names.  Nothing of this is verified here: what
is sorted wrongly leads to collateral that does not fit.

What a folder has filed for other platforms counts for the lists in it, which may be of the same authorities.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from attestation.amd.collateral import SnpCollateral
from attestation.amd.files import AmdFiles
from attestation.collateral import (
    Collateral,
    CollateralKey,
    CollateralSource,
    DirectorySource,
)
from attestation.collateral.bundle import MAX_BUNDLE, looks_like_bundle
from attestation.collateral.held import identify
from attestation.collateral.kinds import decode
from attestation.collateral.sources import DataSource, missing
from attestation.errors import EvidenceCode, EvidenceError
from attestation.folders import Folder, Reading, is_loose, is_manifest, read_folder
from attestation.intel.collateral import IntelCollateral
from attestation.intel.newest import newest, said_key
from attestation.nvidia.container import DeviceEvidence, is_container, pack, parse_evidence
from attestation.nvidia.offered import serving
from attestation.nvidia.rim import Rim
from attestation.nvidia.sdk_json import pem_chain
from attestation.nvidia.verify import is_signed, wanted_rims
from attestation.roots import Roots
from attestation.validity import Validity
from attestation.wrapping import unwrap
from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.files import naming, read_bounded


@dataclass(frozen=True)
class _Wanted:
    """What collateral is looked for.

    carried: certificates in the evidence (DER).  now: Unix seconds, None for now.  signed: whether the key that
    collateral is of signed the evidence; None where that does not matter.
    """

    key: CollateralKey
    carried: tuple[bytes, ...] = ()
    now: int | None = None
    signed: Callable[[Collateral], bool] | None = None


@dataclass(frozen=True)
class _Judged:
    """Collateral of AMD's that is for the key that is asked for, with its dates; None where it was revoked."""

    item: SnpCollateral
    validities: Sequence[Validity] | None


MAX_COLLECTIONS: Final = 256
"""Collections of Intel's for one platform that are compared: each has four signatures, and chains, to verify."""
_MAX_BASES: Final = 2
"""Chains of the PCK CA's below which lists in files of their own are tried: there are two such authorities."""


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

    unnamed: tuple[Collateral, ...] = ()
    """Collateral in folders, in JSON, under names that are not of its content."""

    filed: tuple[tuple[CollateralKey, Collateral], ...] = ()
    """Of what folders have filed, the lists, by what it is filed under."""

    def _fetch(self, key: CollateralKey) -> bytes | None:
        made = self._made(_Wanted(key))
        return None if made is None else made.to_json().encode("utf-8")

    def _made(self, wanted: _Wanted) -> Collateral | None:
        """Return what counts among files of ours and loose ones: nothing older wins over what is newer.

        None where nothing is for this key.  Raises EvidenceError.
        """
        fetched = (source._fetch(wanted.key) for source in self.sources)  # noqa: SLF001 - the same method of other sources
        held = [decode(data) for data in fetched if data is not None]
        filed = [item for item, keys in self._lists.items() if keys != {wanted.key}]
        made: Collateral | None
        if wanted.key.tee == "snp":
            made = self._snp(_of_amd(held), _of_amd(self.unnamed), _of_amd(filed), wanted)
        else:
            made = self._intel(_of_intel(held), _of_intel(filed), wanted)
        return made or (held[0] if held else None)

    @functools.cached_property
    def _lists(self) -> dict[Collateral, set[CollateralKey]]:
        """What was filed, each once, by what it is filed under."""
        found: dict[Collateral, set[CollateralKey]] = {}
        for key, item in self.filed:
            found.setdefault(item, set()).add(key)
        return found

    def _intel(
        self, filed: Sequence[IntelCollateral], beside: Sequence[IntelCollateral], wanted: _Wanted
    ) -> IntelCollateral | None:
        """Choose among what is filed for this platform or says that it is for it, with the lists of all the rest."""
        held = [*filed, *(item for item, key in self._said if key == wanted.key)]
        if not held:
            return None
        if len(held) > MAX_COLLECTIONS:
            raise _too_many_collections(wanted.key, len(held))
        others = [*beside, *(item for item, key in self._said if key != wanted.key), *self._with_loose_lists(held)]
        return newest(held, wanted.key, self.roots, beside=others, carried=wanted.carried, now=wanted.now)

    @functools.cached_property
    def _said(self) -> list[tuple[IntelCollateral, CollateralKey | None]]:
        """Intel's collateral under other names, with what it says that it is for."""
        return [(item, said_key(item)) for item in _of_intel(self.unnamed)]

    def _with_loose_lists(self, held: Sequence[IntelCollateral]) -> Iterator[IntelCollateral]:
        """Yield collections with each list that is a file of its own: as the root's, and as the PCK CA's."""
        lists = [der for issuer, der in self.parts.lists if issuer] if self.contents else []
        bases = list({item.pck_crl_issuer_chain: item for item in held}.values())[:_MAX_BASES]
        for base, der in itertools.product(bases, lists):
            yield replace(base, root_ca_crl=der)
            yield replace(base, pck_crl=der)

    def only(self) -> Collateral | None:
        """Return the collateral of the one file of ours, if that is all there is."""
        return self.sources[0].only() if len(self.sources) == 1 and not self.contents else None

    def fetch(self, key: CollateralKey) -> Collateral:
        """Return the collateral for `key`; raises EvidenceError, which says what of AMD's files is there without it."""
        return self.fetch_for(key)

    def fetch_for(
        self,
        key: CollateralKey,
        carried: Sequence[bytes] = (),
        now: int | None = None,
        signed: Callable[[Collateral], bool] | None = None,
    ) -> Collateral:
        """Return what counts for evidence that carries these certificates, at `now`; raises as `fetch` does."""
        for candidate in key.candidates:
            made = self._made(_Wanted(candidate, tuple(carried), now, signed))
            if made is not None:
                return made
        if key.tee == "snp" and (self.parts.leaves or self.parts.others):
            raise self._parts_for(carried).missing(" or ".join(map(str, key.candidates)))
        raise missing(key)

    @functools.cached_property
    def parts(self) -> AmdFiles:
        """AMD's certificates and lists among the files."""
        return AmdFiles.sort(self.contents)

    def _parts_for(self, carried: Sequence[bytes], more: Sequence[bytes] = ()) -> AmdFiles:
        """Return AMD's parts; for evidence that carries its key's certificate, with that in the place of all others."""
        parts = AmdFiles.sort([*more, *self.contents]) if more else self.parts
        own = AmdFiles.sort(carried[:1])
        return AmdFiles(own.leaves, parts.others, parts.lists, own.broken) if carried else parts

    def _snp(
        self,
        held: Sequence[SnpCollateral],
        unnamed: Sequence[SnpCollateral],
        filed: Sequence[SnpCollateral],
        wanted: _Wanted,
    ) -> SnpCollateral | None:
        """Put the parts for one key together; without a leaf, the chain alone, for evidence that carries its own.

        Collateral as it was filed for this key stays as it is where nothing else is there.
        """
        ours = [part for item in held for part in (item.vek, item.chain, item.crl)]
        ours += [item.vek for item in unnamed]
        alone = len(held) == 1 and not unnamed and not filed
        if not self.parts.has_any and (alone or not (ours or wanted.carried)):
            return None
        ours += dict.fromkeys(part for item in (*filed, *unnamed) for part in (item.chain, item.crl))
        parts = self._parts_for(wanted.carried, ours)
        if parts.leaves:
            made = parts.collateral(self.roots, wanted.now)
        else:
            made = parts.chains(wanted.key.family, self.roots, wanted.now)
        return made[0] if len(made) == 1 else self._fitting(made, wanted)

    def _fitting(self, made: Sequence[SnpCollateral], wanted: _Wanted) -> SnpCollateral | None:
        """Of several, return the one for this key: of those that verify the first that is valid at `now`, if any is.

        Where none verifies, it is the first that was revoked.  Two lent keys may have one name: where one of them, or
        one that was revoked, signed the evidence, no other is taken.
        """
        found = [each for item in made if (each := self._judged(item, wanted.key)) is not None]
        if wanted.signed is not None and len(found) > 1:
            found = [each for each in found if wanted.signed(each.item)] or found
        now = wanted.now
        fitting = [each for each in found if each.validities is not None]
        valid = [each for each in fitting if now is None or all(span.holds(now) for span in each.validities or ())]
        return next((each.item for each in (*valid, *fitting, *found)), None)

    def _judged(self, item: SnpCollateral, key: CollateralKey) -> _Judged | None:
        """Return what there is to say of collateral that is for this key; None of what is not, or does not verify."""
        try:
            authentic, found = identify(item, self.roots)
        except StrongroomError as error:
            revoked = error.code is EvidenceCode.CERTIFICATE_REVOKED and self._is_for(item, key)
            return _Judged(item, None) if revoked else None
        return _Judged(item, authentic.validities) if found == key else None

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
        chains = list({tuple(content.split()): content for content in chains}.values())
        if len(chains) > 1:
            chains = [chain for chain in chains if self._signed_by(report, chain)] or chains
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
    sources: list[CollateralSource] = []
    folders: list[Folder] = []
    reading = Reading()
    for path in paths:
        with naming(path):
            if path.is_dir():
                sources.append(DirectorySource(path))
                folders.append(read_folder(path, reading))
            elif path.exists():
                _add(path, contents, sources)
            else:
                raise ManifestError(
                    ManifestCode.FILE_UNAVAILABLE,
                    f"{path} is neither a folder nor a file",
                    remedy="name collateral that exists",
                )
    return put_together(contents, sources, folders, roots)


def put_together(
    contents: Sequence[bytes], sources: Iterable[CollateralSource], folders: Sequence[Folder], roots: Roots
) -> LooseFiles:
    """Return the source of what was read: named files as vendors publish them, files of ours, and folders."""
    offered = [content for folder in folders for content in folder.loose.values()]
    unnamed = (item for folder in folders for items in folder.unnamed.values() for item in items)
    return LooseFiles(
        (*contents, *offered),
        tuple(sources),
        roots,
        frozenset(offered) - frozenset(contents),
        tuple(str(path) for folder in folders for path in folder.others),
        tuple(dict.fromkeys(unnamed)),
        tuple(each for folder in folders for each in folder.filed),
    )


def _too_many_collections(key: CollateralKey, found: int) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.COLLATERAL_MALFORMED,
        f"there is too much collateral for {key} to compare",
        expected=f"at most {MAX_COLLECTIONS} files of it",
        found=str(found),
        remedy="leave out what is older: `strongroom collateral import FILES --output FOLDER` keeps the newest",
    )


def _add(path: Path, contents: list[bytes], sources: list[CollateralSource]) -> None:
    data = read_bounded(path, MAX_BUNDLE)  # once: it may be a pipe
    if data.lstrip()[:1] == b"{" and not _is_evidence(data):
        sources.append(_travelling(data) or DataSource(data))
    elif data.lstrip()[:1] != b"{" and is_loose(data) and not _is_evidence(data):
        contents.append(data)
    else:
        raise _no_collateral(path, data)


def _travelling(data: bytes) -> CollateralSource | None:
    """Return the collateral that lies beside evidence in JSON of another tool's; None where that is not so."""
    if looks_like_bundle(data):
        return None
    try:
        return unwrap(data).collateral
    except StrongroomError:
        return None


def _no_collateral(path: Path, data: bytes) -> EvidenceError:
    swapped = _is_evidence(data)
    return EvidenceError(
        EvidenceCode.COLLATERAL_MALFORMED,
        f"{path} holds {'evidence, and no collateral' if swapped else 'no collateral'}",
        expected="JSON of `strongroom collateral`, a bundle, certificates or lists (PEM, DER), or a manifest (XML)",
        found=f"first bytes {data[:8].hex() or '(none)'}",
        remedy="give it with --evidence, and collateral with --collateral: the two look swapped"
        if swapped
        else "leave it out, or name the file that was meant",
    )


def _is_evidence(data: bytes) -> bool:
    """Tell whether a file holds evidence, wrapped or not, and nothing else: a bundle has collateral, too."""
    if looks_like_bundle(data):
        return False
    try:
        unwrapped = unwrap(data)
    except StrongroomError:
        return False
    return unwrapped.collateral is None


def _of_amd(items: Iterable[Collateral]) -> list[SnpCollateral]:
    return [item for item in items if isinstance(item, SnpCollateral)]


def _of_intel(items: Iterable[Collateral]) -> list[IntelCollateral]:
    return [item for item in items if isinstance(item, IntelCollateral)]
