"""AMD's certificates and revocation lists as files of its service, told apart by what is in them, and put together.

Nothing of this is verified here: what is sorted wrongly leads to collateral that does not fit.
"""

from __future__ import annotations

import base64
import binascii
import collections
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.amd.collateral import SnpCollateral
from attestation.amd.lists import UNREADABLE, Lists
from attestation.amd.signatures import split_signed, verify_pss
from attestation.der import INTEGER, SEQUENCE, DerReader
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import pem
from attestation.roots import Roots
from attestation.strict_x509 import Fields, common_name, parse_certificate

_BLOCK = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL)-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_BEGIN_LIST: Final = b"-----BEGIN X509 CRL-----"
_LENGTH = rb"(?:[\x00-\x7f]|\x81.|\x82..|\x83...)"
_LIST = re.compile(rb"\x30" + _LENGTH + rb"\x30" + _LENGTH + rb"(?=\x02\x01\x01\x30)", re.DOTALL)
"""How a revocation list of version 2 begins (RFC 5280, 5.1): a certificate has its version in a tag of its own."""
_LEAVES: Final = frozenset({"SEV-VCEK", "SEV-VLEK"})
_CHIP_SERIAL: Final = 0
"""The serial number that AMD gives every VCEK."""

MAX_PARTS: Final = 1024
"""Certificates and lists in one call: the endorsement keys of a thousand chips; each is parsed, and may be verified."""
MAX_CERTIFICATE: Final = 16 * 1024
"""AMD's take 2 KiB.  A chain is written out once for each leaf below it."""
_MAX_NAMESAKES: Final = 8
"""Authorities of one name that are tried: AMD has one for each product."""
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

    leaves: VCEKs and VLEKs.  others: every other certificate.  lists: (issuer, DER) of each revocation list; the issuer
    is empty where the list is too broken to say.  broken: DER that is neither certificate nor list.
    """

    leaves: tuple[Certificate, ...] = ()
    others: tuple[Certificate, ...] = ()
    lists: tuple[tuple[bytes, bytes], ...] = ()
    broken: tuple[bytes, ...] = ()

    @property
    def has_any(self) -> bool:
        """Whether there is any part at all."""
        return any((self.leaves, self.others, self.lists, self.broken))

    @classmethod
    def sort(cls, contents: Iterable[bytes]) -> AmdFiles:
        """Tell the parts of these files apart; raises EvidenceError `collateral-malformed` where there are too many."""
        leaves: list[Certificate] = []
        others: list[Certificate] = []
        lists: list[tuple[bytes, bytes]] = []
        broken: list[bytes] = []
        for number, der in enumerate((der for content in contents for der in _parts(content)), 1):
            if number > MAX_PARTS:
                raise _too_many()
            if (certificate := _read_certificate(der)) is not None:
                (leaves if certificate.name in _LEAVES else others).append(certificate)
            elif not _is_der(der):
                lists.append((UNREADABLE, der))
            elif (issuer := _issuer_of_list(der)) is not None:
                lists.append((issuer, der))
            else:
                broken.append(der)
        return cls(tuple(leaves), tuple(others), tuple(lists), tuple(broken))

    def collateral(self, roots: Roots, now: int | None = None) -> list[SnpCollateral]:
        """Return the collateral of every leaf whose chain is there, too, with the list that counts under `roots`.

        now: Unix seconds at which it will be used, where that is in the past.
        """
        lists = Lists(self.lists, roots, now)
        made = [self._chain(leaf.der, leaf.fields.serial, self._signer(leaf), lists) for leaf in self.leaves]
        return [item for item in made if item is not None]

    def chains(self, family: str, roots: Roots, now: int | None = None) -> list[SnpCollateral]:
        """Return the chain of a product without a leaf, for evidence that carries its own.

        The one file that is broken stands for the leaf, for verification to tell what is wrong with it.
        """
        lists = Lists(self.lists, roots, now)
        vek = self.broken[0] if len(self.broken) == 1 else b""
        signers = [each for each in self.others if each.name.lower() == f"sev-{family}"]
        made = [self._chain(vek, _CHIP_SERIAL, signer, lists) for signer in signers]
        return [item for item in made if item is not None]

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
            message = f"{self._counted} this chip's at the TCB version that the report names, and verifies"
            remedy = "give the certificate for the chip and the TCB version that the report names"
        return EvidenceError(
            EvidenceCode.COLLATERAL_MISSING, message, expected=wanted, found=self._names(), remedy=remedy
        )

    @property
    def _counted(self) -> str:
        """Say how many endorsement keys' certificates there are, none of which fits: the beginning of a sentence."""
        kinds = collections.Counter(leaf.name.removeprefix("SEV-") for leaf in self.leaves)
        shown = " and ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(kinds.items()))
        return f"none of the {shown} here is"

    def _names(self) -> str:
        """Return the certificates' names for an error, each once, and not more than an error can show."""
        names = sorted({each.name or "a certificate without a name" for each in (*self.leaves, *self.others)})
        shown = [name[:_SHOWN_NAME] for name in names[:_SHOWN]]
        more = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
        return ", ".join(shown + more) or "no certificate"

    @functools.cached_property
    def _authorities(self) -> dict[bytes, list[Certificate]]:
        """The other certificates by subject, each once."""
        found: dict[bytes, list[Certificate]] = {}
        for each in {each.der: each for each in self.others}.values():
            found.setdefault(each.fields.subject, []).append(each)
        return found

    @functools.cached_property
    def _standing(self) -> frozenset[bytes]:
        """DER of the authorities that another of the files, or their own key, signed."""
        every = [each for named in self._authorities.values() for each in named]
        return frozenset(each.der for each in every if any(_signed(each, above) for above in self._above(each)))

    def _above(self, certificate: Certificate) -> list[Certificate]:
        """Return the authorities that have the name of a certificate's issuer, as many as are tried."""
        return self._authorities.get(certificate.fields.issuer, [])[:_MAX_NAMESAKES]

    def _signer(self, leaf: Certificate) -> Certificate | None:
        """Return who signed a certificate: of several of the name, the first that did and is signed itself."""
        named = self._above(leaf)
        if len(named) > 1:
            named = [each for each in named if each.der in self._standing and _signed(leaf, each)] or named
        return next(iter(named), None)

    def _root(self, signer: Certificate | None) -> Certificate | None:
        return None if signer is None else self._signer(signer)

    def _chain(self, leaf: bytes, serial: int, signer: Certificate | None, lists: Lists) -> SnpCollateral | None:
        """Return the collateral of a leaf whose signer is known, if its root is there, too."""
        root = self._root(signer)
        if signer is None or root is None:
            return None
        crl = lists.newest(root.der, root.fields.subject, {serial, signer.fields.serial})
        return SnpCollateral(vek=leaf, chain=pem.encode_chain(signer.der, root.der), crl=crl)


def holds_der(content: bytes) -> bool:
    """Tell whether a file has anything of a certificate's form in it: PEM of certificates or lists, or DER."""
    return next(_parts(content), None) is not None


def _is_der(data: bytes) -> bool:
    """Tell whether bytes begin as a SEQUENCE of more than 127 bytes does, which no text does."""
    return data[:1] == b"\x30" and data[1:2] >= b"\x81"


def _parts(content: bytes) -> Iterator[bytes]:
    """Yield the DER in a file of either form; and the file as it is, where it has a list in PEM that is torn."""
    if _BEGIN_LIST not in content and _BLOCK.search(content) is None:
        yield from filter(_is_der, [content])
    lists = content.count(_BEGIN_LIST)
    for match in _BLOCK.finditer(content):
        try:
            der = base64.b64decode(b"".join(match[2].split()), validate=True)
        except binascii.Error:
            continue
        if _is_der(der):
            lists -= match[1] == b"X509 CRL"
            yield der
    if lists > 0:
        yield content


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
    """Return the DER name of a revocation list's issuer (RFC 5280, 5.1.2); None where it begins as no list.

    It is read out of what is left of a torn or edited list, too: such a list is refused, and not overlooked.
    """
    start = _LIST.match(der)
    if start is None:
        return None
    reader = DerReader(der[start.end() :], EvidenceCode.CRL_MALFORMED)
    try:
        reader.content(INTEGER)
        reader.element(SEQUENCE)
        issuer = reader.element(SEQUENCE)
    except EvidenceError:
        return UNREADABLE
    return issuer


def _signed(certificate: Certificate, authority: Certificate) -> bool:
    """Tell whether an authority's key signed a certificate."""
    try:
        tbs, _, signature = split_signed(certificate.der, EvidenceCode.CERTIFICATE_MALFORMED)
        key = load_der_public_key(authority.fields.key)
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        verify_pss(key, signature, tbs, EvidenceCode.CHAIN_SIGNATURE, "the certificate")
    except (EvidenceError, ValueError, UnsupportedAlgorithm):
        return False
    return True
