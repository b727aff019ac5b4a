"""Collateral as it comes from a vendor's service: certificates and lists in files of their own, and not in ours.

AMD's key distribution service gives a VCEK or VLEK (DER), a `cert_chain` (PEM) and a revocation list (DER); NVIDIA's
tools print a chain (PEM), and its service has reference manifests (XML).  `open_collateral` takes such files, folders
of them, and our own JSON files, whatever their names.  Nothing of this is verified here: what is sorted wrongly leads
to collateral that does not fit.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestation.amd.collateral import SnpCollateral
from attestation.amd.signatures import split_signed
from attestation.collateral import (
    MAX_COLLATERAL,
    Collateral,
    CollateralKey,
    CollateralSource,
    DirectorySource,
    FileSource,
)
from attestation.collateral.held import identify
from attestation.der import INTEGER, SEQUENCE, DerReader
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import pem
from attestation.nvidia.container import pack
from attestation.nvidia.sdk_json import pem_chain
from attestation.roots import Roots
from attestation.strict_x509 import Fields, parse_certificate
from manifests.errors import ManifestCode, ManifestError, StrongroomError
from manifests.files import naming, read_bounded

MAX_FILES: Final = 256
MAX_LOOSE: Final = 1024 * 1024
"""A reference manifest takes 100 KiB."""
SUFFIXES: Final = frozenset({"", ".crl", ".crt", ".cer", ".der", ".pem", ".xml"})
"""Which files of a folder are looked at; AMD's service names its chain and its list without any."""

_BLOCK = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL)-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_LEAVES = frozenset({"SEV-VCEK", "SEV-VLEK"})


@dataclass(frozen=True)
class Certificate:
    """An AMD certificate as it says of itself; nothing is verified."""

    der: bytes
    fields: Fields


@dataclass(frozen=True)
class LooseFiles(CollateralSource):
    """Files by content: AMD's certificates and lists for evidence of SEV-SNP, our own files for all."""

    contents: tuple[bytes, ...]
    sources: tuple[CollateralSource, ...]
    roots: Roots

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

    def _snp(self, key: CollateralKey) -> SnpCollateral | None:
        """Put the parts for one key together; without a leaf, the chain alone, for evidence that carries its own."""
        ders = [der for content in self.contents for der in _ders(content)]
        certificates = [each for each in map(_read_certificate, ders) if each is not None]
        leaves = [each for each in certificates if each.fields.name in _LEAVES]
        lists = [(issuer, der) for der in ders if (issuer := _issuer_of_list(der)) is not None]
        made = [item for leaf in leaves if (item := _with_chain(leaf, certificates, lists)) is not None]
        if not leaves:
            vek = _other(ders)
            signers = [each for each in certificates if each.fields.name.lower() == f"sev-{key.family}"]
            made = [item for signer in signers if (item := _chain(vek, signer, certificates, lists)) is not None]
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
        manifests = [content for content in self.contents if content.lstrip()[:1] == b"<"]
        chains = [content for content in self.contents if content.count(b"-----BEGIN CERTIFICATE-----") > 1]
        if len(chains) != 1:
            raise EvidenceError(
                EvidenceCode.COLLATERAL_MISSING,
                "a device report is verified with its certificate chain",
                expected="one file with the device's certificates (PEM, leaf first)",
                found=f"{len(chains)} such files",
                remedy="add it with --collateral, and the driver's and VBIOS' reference manifests (XML) likewise",
            )
        return pack([(report, pem_chain(chains[0]))], manifests)


def open_collateral(paths: Iterable[Path], roots: Roots) -> LooseFiles:
    """Read the files and folders that hold collateral; raises ManifestError `file-unavailable`."""
    contents: list[bytes] = []
    sources: list[CollateralSource] = []
    for path in paths:
        with naming(path):
            if path.is_dir():
                sources.append(DirectorySource(path))
                contents += [read_bounded(item, MAX_LOOSE) for item in _loose_in(path)]
            elif path.is_file():
                _add(path, contents, sources)
            else:
                raise ManifestError(
                    ManifestCode.FILE_UNAVAILABLE,
                    f"{path} is neither a folder nor a file",
                    remedy="name collateral that exists",
                )
    return LooseFiles(tuple(contents), tuple(sources), roots)


def _add(path: Path, contents: list[bytes], sources: list[CollateralSource]) -> None:
    data = read_bounded(path, 2 * MAX_COLLATERAL)
    if data.lstrip()[:1] == b"{":
        sources.append(FileSource(path))
    else:
        contents.append(data)


def _loose_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    return found[:MAX_FILES]


def _ders(content: bytes) -> Iterator[bytes]:
    """Yield the DER in a file of either form."""
    blocks = [match[2] for match in _BLOCK.finditer(content)]
    if not blocks:
        yield content
    for block in blocks:
        try:
            yield base64.b64decode(b"".join(block.split()), validate=True)
        except binascii.Error:
            continue


def _read_certificate(der: bytes) -> Certificate | None:
    try:
        tbs, algorithm, _ = split_signed(der, EvidenceCode.CERTIFICATE_MALFORMED)
        return Certificate(der, parse_certificate(tbs, algorithm))
    except EvidenceError:
        return None


def _issuer_of_list(der: bytes) -> bytes | None:
    """Return the DER name of a revocation list's issuer (RFC 5280, 5.1.2); None where it is none of AMD's."""
    try:
        tbs, _, _ = split_signed(der, EvidenceCode.CRL_MALFORMED)
        reader = DerReader(tbs, EvidenceCode.CRL_MALFORMED).inside(SEQUENCE)
        reader.content(INTEGER)
        reader.element(SEQUENCE)
        issuer = reader.element(SEQUENCE)
    except EvidenceError:
        return None
    return issuer


def _other(ders: Sequence[bytes]) -> bytes:
    """Return what is neither certificate nor list, for verification to tell what is wrong; empty if there is none."""
    found = [der for der in ders if der[:1] == b"\x30" and not (_read_certificate(der) or _issuer_of_list(der))]
    return found[0] if len(found) == 1 else b""


def _with_chain(
    leaf: Certificate, certificates: Sequence[Certificate], lists: Sequence[tuple[bytes, bytes]]
) -> SnpCollateral | None:
    signers = [each for each in certificates if each.fields.subject == leaf.fields.issuer]
    return _chain(leaf.der, signers[0], certificates, lists) if signers else None


def _chain(
    leaf: bytes, signer: Certificate, certificates: Sequence[Certificate], lists: Sequence[tuple[bytes, bytes]]
) -> SnpCollateral | None:
    """Return the collateral of a leaf whose signer is known, if its root is there, too."""
    roots = [each for each in certificates if each.fields.subject == signer.fields.issuer]
    if not roots:
        return None
    crl = next((der for issuer, der in lists if issuer == signer.fields.issuer), b"")
    return SnpCollateral(vek=leaf, chain=pem.encode_chain(signer.der, roots[0].der), crl=crl)
