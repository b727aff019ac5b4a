"""AMD's certificates and revocation lists as files of its service, told apart by what is in them, and put together.

Nothing of this is verified here: what is sorted wrongly leads to collateral that does not fit.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from attestation.amd.collateral import SnpCollateral
from attestation.amd.signatures import split_signed
from attestation.der import INTEGER, SEQUENCE, DerReader
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import pem
from attestation.strict_x509 import Fields, common_name, parse_certificate

_BLOCK = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL)-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_LEAVES: Final = frozenset({"SEV-VCEK", "SEV-VLEK"})

MAX_PARTS: Final = 1024
"""Certificates and lists in one call: the endorsement keys of a thousand chips; each is parsed, and may be verified."""
MAX_CERTIFICATE: Final = 16 * 1024
"""AMD's take 2 KiB.  A chain is written out once for each leaf below it."""
_SHOWN: Final = 8
"""Distinct names in an error: two chains, and some leaves."""
_SHOWN_NAME: Final = 64
"""Characters of a name in an error, the most that a common name may have (RFC 5280, ub-common-name)."""


@dataclass(frozen=True)
class Certificate:
    """An AMD certificate as it says of itself; nothing is verified."""

    der: bytes
    fields: Fields

    @property
    def name(self) -> str:
        """The common name, such as SEV-VCEK, SEV-Milan or ARK-Milan; an empty text where it has none."""
        return self.fields.name


@dataclass(frozen=True)
class AmdFiles:
    """What is in files of AMD's service.

    leaves: VCEKs and VLEKs.  others: every other certificate.  lists: (issuer, DER) of each revocation list.  broken:
    DER that is neither certificate nor list.
    """

    leaves: tuple[Certificate, ...] = ()
    others: tuple[Certificate, ...] = ()
    lists: tuple[tuple[bytes, bytes], ...] = ()
    broken: tuple[bytes, ...] = ()

    @classmethod
    def sort(cls, contents: Iterable[bytes]) -> AmdFiles:
        """Tell the parts of these files apart; raises EvidenceError `collateral-malformed` where there are too many."""
        leaves: list[Certificate] = []
        others: list[Certificate] = []
        lists: list[tuple[bytes, bytes]] = []
        broken: list[bytes] = []
        parts = filter(_is_der, (der for content in contents for der in _ders(content)))
        for number, der in enumerate(parts, 1):
            if number > MAX_PARTS:
                raise _too_many()
            if (certificate := _read_certificate(der)) is not None:
                (leaves if certificate.name in _LEAVES else others).append(certificate)
            elif (issuer := _issuer_of_list(der)) is not None:
                lists.append((issuer, der))
            else:
                broken.append(der)
        return cls(tuple(leaves), tuple(others), tuple(lists), tuple(broken))

    def collateral(self) -> list[SnpCollateral]:
        """Return the collateral of every leaf whose chain is there, too."""
        made = [self._chain(leaf.der, self._signer(leaf)) for leaf in self.leaves]
        return [item for item in made if item is not None]

    def chains(self, family: str) -> list[SnpCollateral]:
        """Return the chain of a product without a leaf, for evidence that carries its own.

        The one file that is broken stands for the leaf, for verification to tell what is wrong with it.
        """
        vek = self.broken[0] if len(self.broken) == 1 else b""
        signers = [each for each in self.others if each.name.lower() == f"sev-{family}"]
        return [item for signer in signers if (item := self._chain(vek, signer)) is not None]

    def missing(self, wanted: str) -> EvidenceError:
        """Return the error for files that do not make up the collateral that is wanted: which part is not there."""
        orphan = next((leaf for leaf in self.leaves if self._root(self._signer(leaf)) is None), None)
        if not self.leaves:
            message = "neither a certificate of the endorsement key nor a chain of its product is among the files"
            remedy = "fetch them: `strongroom collateral fetch --evidence FILE --output FOLDER`"
        elif orphan is not None:
            signer = common_name(orphan.fields.issuer)[:_SHOWN_NAME] or "its authority"
            message = f"the {orphan.name} certificate is given, but not the chain that it is below"
            wanted = f"{signer} and {'ARK-' + signer.rpartition('-')[2]}"
            remedy = "add the chain of its product: `cert_chain` of AMD's key distribution service"
        else:
            message = "the endorsement keys' certificates are of other chips or TCB versions, or do not verify"
            remedy = "give the certificate for the chip and the TCB version that the report names"
        return EvidenceError(
            EvidenceCode.COLLATERAL_MISSING, message, expected=wanted, found=self._names(), remedy=remedy
        )

    def _names(self) -> str:
        """Return the certificates' names for an error, each once, and not more than an error can show."""
        names = sorted({each.name or "a certificate without a name" for each in (*self.leaves, *self.others)})
        shown = [name[:_SHOWN_NAME] for name in names[:_SHOWN]]
        more = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
        return ", ".join(shown + more) or "no certificate"

    @functools.cached_property
    def _authorities(self) -> dict[bytes, Certificate]:
        """The other certificates by subject, the first of each."""
        return {each.fields.subject: each for each in reversed(self.others)}

    @functools.cached_property
    def _lists(self) -> dict[bytes, bytes]:
        """The revocation lists by issuer, the first of each."""
        return dict(reversed(self.lists))

    def _signer(self, leaf: Certificate) -> Certificate | None:
        return self._authorities.get(leaf.fields.issuer)

    def _root(self, signer: Certificate | None) -> Certificate | None:
        return None if signer is None else self._authorities.get(signer.fields.issuer)

    def _chain(self, leaf: bytes, signer: Certificate | None) -> SnpCollateral | None:
        """Return the collateral of a leaf whose signer is known, if its root is there, too."""
        root = self._root(signer)
        if signer is None or root is None:
            return None
        crl = self._lists.get(signer.fields.issuer, b"")
        return SnpCollateral(vek=leaf, chain=pem.encode_chain(signer.der, root.der), crl=crl)


def holds_der(content: bytes) -> bool:
    """Tell whether a file has anything of a certificate's form in it: PEM of certificates or lists, or DER."""
    return any(map(_is_der, _ders(content)))


def _is_der(data: bytes) -> bool:
    """Tell whether bytes begin as a SEQUENCE of more than 127 bytes does, which no text does."""
    return data[:1] == b"\x30" and data[1:2] >= b"\x81"


def _ders(content: bytes) -> Iterator[bytes]:
    """Yield the DER in a file of either form."""
    if _BLOCK.search(content) is None:
        yield content
    for match in _BLOCK.finditer(content):
        try:
            yield base64.b64decode(b"".join(match[2].split()), validate=True)
        except binascii.Error:
            continue


def _too_many() -> EvidenceError:
    return EvidenceError(
        EvidenceCode.COLLATERAL_MALFORMED,
        "the files hold too many certificates and revocation lists",
        expected=f"at most {MAX_PARTS}",
        found="more",
        remedy="give fewer of them at once",
    )


def _read_certificate(der: bytes) -> Certificate | None:
    if len(der) > MAX_CERTIFICATE:
        return None
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
