"""Verification of SGX and TDX quotes, step by step.

Sources: Intel's Quote Verification Library (QVL), with the sections 4.1.2.5.x of its specification that its source
names; Intel SGX PCK Certificate and CRL Profile Specification (profile); PCS API version 4 (API); Appendix A of the
Quote Generation Library (A) and of the TDX DCAP Quoting Library (TDX A).

Collateral, once for many quotes (`prepare`):
  C1  PCK CRL issuer chain: the CA that certifies platforms, up to the pinned root          profile 1.3, 1.4
  C2  issuer chains of TCB info and QE identity: a TCB signing certificate each             API "Get ... TCB Info"
  C3  root CA CRL: signed by the root                                                       profile 2
  C4  PCK CRL: signed by the PCK CA                                                         profile 2
  C5  neither the PCK CA nor a TCB signing certificate is revoked                           profile 2
  C6  TCB info: signature over its exact bytes, then its format                             API
  C7  QE identity: signature over its exact bytes, then its format; of the same TEE         API "Get ... QE Identity"
  C8  all their dates contain `now`

Each quote (`verify_quote`); step 1 is `abi.parse_quote` or `td_abi.parse_td_quote`:
  2   PCK chain of the quote: PCK leaf, CA and the pinned root, in the one PEM form         A, TDX A
  3   the PCK is not revoked, and its CA is the one whose list was consulted                QVL .7, .8
  4   dates of collateral and chain contain `now`
  5   QE report: signed by the PCK                                                          QVL .13
  6   QE report data = SHA-256(attestation key || QE authentication data) || 32 zero bytes  QVL .14
  7   quote: everything before the signature data signed by the attestation key             QVL .17
  8   QE report: the TEE's quoting enclave by its identity; its TCB level                   QVL .15, .16
  9   TDX: the module's signer and attributes are those of its identity                     QVL .12
  10  platform: TCB level by the PCK's component SVNs and PCESVN, for a TD also by
      TEE_TCB_SVN, and the TDX module's own level; FMSPC and PCE id match                   QVL .11, .18, .19
  11  all levels merged; of a TD report 1.5 also those of TEE_TCB_SVN2, which may advise
      a relaunch; Revoked is refused, every other status is data for the policy             QVL .20

The order matters: nothing is parsed by an X.509 or JSON parser before the bytes are authenticated.
Considered and rejected: equality of the header's QE SVN with the QE report's ISVSVN (Intel does not promise it), and
of CPUSVN in PCK and report (the certificate may be of an older TCB of the same platform).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from attestation.collateral.document import Collateral
from attestation.collateral.key import CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import ecdsa, pem, tcb
from attestation.intel.abi import QuoteV3
from attestation.intel.certificates import PCK, PCK_CA, TCB_SIGNING, Certificate, read_issued, read_root
from attestation.intel.collateral import IntelCollateral
from attestation.intel.crl import RevocationList, read_crl
from attestation.intel.pck import PckExtension, extension_of, peek
from attestation.intel.quote import Quote
from attestation.intel.td_abi import TdQuote
from attestation.intel.verified import IntelVerified, SgxVerified, TdxVerified
from attestation.roots import Anchor, Roots
from attestation.unsigned import fingerprint
from attestation.validity import Validity, check_dates

K = TypeVar("K")
V = TypeVar("V")

KEPT = 256
"""Platforms and attestation keys that validated collateral remembers: machines of one family at one site."""


@dataclass(frozen=True)
class Platform:
    """A PCK certificate below the pinned root, not revoked by the collateral's list; its dates are still to check."""

    leaf: Certificate
    ca: Certificate
    pck: PckExtension
    validities: tuple[Validity, ...] = field(repr=False)
    """Those of the collateral's documents and of the chain, each once."""
    certified: dict[tuple[bytes, ...], None] = field(default_factory=dict, repr=False, compare=False)
    """Attestation keys that the platform has vouched for: all that steps 5 and 6 look at; the oldest goes first."""

    @functools.cached_property
    def expires(self) -> int:
        """The first Unix second at which one of the documents is no longer valid."""
        return min(validity.end for validity in self.validities)


@dataclass(frozen=True)
class ValidatedCollateral:
    """Collateral whose signatures and chains hold under `roots`.  Its dates are checked again at every use.

    What it has shown once of a platform it need not show again: signatures do not change, and the revocation list is
    this collateral's own.
    """

    roots: Roots
    anchor: Anchor
    root: Certificate = field(repr=False)
    pck_ca: Certificate = field(repr=False)
    root_crl: RevocationList = field(repr=False)
    pck_crl: RevocationList = field(repr=False)
    tcb_info: tcb.TcbInfo = field(repr=False)
    qe_identity: tcb.QeIdentity = field(repr=False)
    validities: tuple[Validity, ...] = field(repr=False)
    platforms: dict[bytes, Platform] = field(default_factory=dict, repr=False, compare=False)
    """Platforms whose chain holds under this collateral, by the chain's text; the oldest goes first."""

    @property
    def tee(self) -> str:
        """Which TEE's TCB info and QE identity these are: "sgx" or "tdx"."""
        return self.tcb_info.tee

    @functools.cached_property
    def issued(self) -> int:
        """Unix seconds of the oldest of TCB info, QE identity and PCK revocation list."""
        return min(item.validity.start for item in (self.tcb_info, self.qe_identity, self.pck_crl))

    @property
    def lacks(self) -> tuple[str, ...]:
        """Nothing: Intel's collateral is whole, or malformed."""
        return ()

    def check_dates(self, now: int) -> None:
        """Raise DateError for all documents that are not valid at `now`."""
        check_dates(self.validities, now)


def prepare(collateral: IntelCollateral, roots: Roots, now: int) -> ValidatedCollateral:
    """Verify collateral under `roots` at `now` (Unix seconds), steps C1 to C8; raises EvidenceError."""
    validated = authenticate(collateral, roots)
    validated.check_dates(now)  # C8
    return validated


def authenticate(collateral: IntelCollateral, roots: Roots) -> ValidatedCollateral:
    """Verify collateral at no time in particular, steps C1 to C7: its dates are still to be checked."""
    ca_der, root_der = pem.decode_chain(collateral.pck_crl_issuer_chain, 2)  # C1
    root, anchor = read_root(root_der, roots)
    pck_ca = read_issued(ca_der, root, PCK_CA, anchor)
    tcb_signer = qe_signer = _signer(collateral.tcb_info_issuer_chain, root, anchor)  # C2
    if collateral.qe_identity_issuer_chain != collateral.tcb_info_issuer_chain:
        qe_signer = _signer(collateral.qe_identity_issuer_chain, root, anchor)
    root_crl = read_crl(collateral.root_ca_crl, root)  # C3
    pck_crl = read_crl(collateral.pck_crl, pck_ca)  # C4
    for certificate in (pck_ca, tcb_signer, qe_signer):  # C5
        root_crl.check(certificate)
    ecdsa.verify_raw(  # C6
        tcb_signer.key, collateral.tcb_info_signature, collateral.tcb_info, EvidenceCode.TCB_INFO_SIGNATURE
    )
    tcb_info = tcb.parse_tcb_info(collateral.tcb_info)
    ecdsa.verify_raw(  # C7
        qe_signer.key, collateral.qe_identity_signature, collateral.qe_identity, EvidenceCode.QE_IDENTITY_SIGNATURE
    )
    qe_identity = tcb.parse_qe_identity(collateral.qe_identity)
    _check_tee("QE identity", tcb_info.tee, qe_identity.tee)
    dated = (root, pck_ca, tcb_signer, qe_signer, root_crl, pck_crl, tcb_info, qe_identity)
    validities = tuple(item.validity for item in dated)
    return ValidatedCollateral(roots, anchor, root, pck_ca, root_crl, pck_crl, tcb_info, qe_identity, validities)


def _check_tee(what: str, expected: str, found: str) -> None:
    if found != expected:
        raise _other_tee(what, expected, found)


def _other_tee(what: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.COLLATERAL_TEE,
        f"the {what} is of another TEE",
        expected=expected,
        found=found,
        remedy=f"use collateral that was fetched for {expected}",
    )


def _signer(chain: bytes, root: Certificate, anchor: Anchor) -> Certificate:
    signer_der, root_der = pem.decode_chain(chain, 2)
    _check_root(root_der, root)
    return read_issued(signer_der, root, TCB_SIGNING, anchor)


def _check_root(found: bytes, root: Certificate) -> None:
    """Refuse a chain that ends in another root than the PCK CRL's, which is pinned."""
    if found != root.der:
        raise EvidenceError(
            EvidenceCode.CHAIN_ROOT,
            "the chain ends in another root than the platform's own",
            expected=hashlib.sha256(root.der).hexdigest(),
            found=hashlib.sha256(found).hexdigest(),
            remedy="fetch the collateral anew, all of it for one platform",
        )


def collateral_key(quote: Quote) -> CollateralKey:
    """Return which collateral the quote's own, unverified PCK certificate asks for; raises EvidenceError."""
    fmspc, ca = peek(pem.decode_chain(quote.certification_data, 3)[0])
    return CollateralKey(quote.tee, fmspc.hex(), ca)


def verify_quote(
    quote: QuoteV3 | TdQuote, collateral: Collateral | ValidatedCollateral | None, roots: Roots, now: int
) -> IntelVerified:
    """Verify a quote at `now` (Unix seconds), steps C1 to C8 and 2 to 11.

    Raises EvidenceError at the first signature, chain, date or level that does not hold.  Prepared collateral must
    have been prepared under the same roots (`collateral-roots`).
    """
    collateral = _prepared(quote, collateral, roots)  # C1 to C7
    platform = _platform(quote.certification_data, collateral)  # 2, 3
    pck = platform.pck
    check_dates(platform.validities, now)  # C8, 4
    _check_attestation_key(quote, platform)  # 5, 6
    key = ecdsa.load_point(quote.attestation_key)  # 7
    ecdsa.verify_raw(key, quote.signature, quote.signed, EvidenceCode.QUOTE_SIGNATURE)
    common: dict[str, Any] = {
        "simulated": collateral.anchor.simulated,
        "root": collateral.anchor.fingerprint,
        "pck": pck,
        "issued": collateral.issued,
        "expires": platform.expires,
        "validities": platform.validities,
    }
    documents = (collateral.tcb_info, collateral.qe_identity)
    if isinstance(quote, TdQuote):  # 8 to 11
        verdict = tcb.td_verdict(*documents, pck, quote.qe_report, quote.body)
        return TdxVerified(quote=quote, tcb=verdict, **common)
    return SgxVerified(quote=quote, tcb=tcb.verdict(*documents, pck, quote.qe_report), **common)


def _prepared(quote: Quote, collateral: Collateral | ValidatedCollateral | None, roots: Roots) -> ValidatedCollateral:
    """Return the collateral, verified under the same roots and of the quote's TEE."""
    if collateral is None:
        raise EvidenceError(
            EvidenceCode.COLLATERAL_MISSING,
            EvidenceCode.COLLATERAL_MISSING.meaning,
            expected=str(collateral_key(quote)),
            remedy="fetch it from Intel's provisioning certification service, or from a cache of it",
        )
    if isinstance(collateral, IntelCollateral):
        collateral = authenticate(collateral, roots)  # its dates are held together with those of the platform
    if not isinstance(collateral, ValidatedCollateral):
        raise _other_tee("collateral", quote.tee, type(collateral).__name__)
    if collateral.roots != roots:
        raise EvidenceError(
            EvidenceCode.COLLATERAL_ROOTS,
            EvidenceCode.COLLATERAL_ROOTS.meaning,
            expected=str(roots),
            found=str(collateral.roots),
        )
    _check_tee("collateral", quote.tee, collateral.tee)
    return collateral


def _platform(chain: bytes, collateral: ValidatedCollateral) -> Platform:
    """Return the platform that a quote's PCK chain stands for (steps 2 and 3)."""
    platform = collateral.platforms.get(chain)
    if platform is None:
        platform = _read_platform(chain, collateral)
        _remember(collateral.platforms, chain, platform)
    return platform


def _read_platform(chain: bytes, collateral: ValidatedCollateral) -> Platform:
    leaf_der, ca_der, root_der = pem.decode_chain(chain, 3)
    _check_root(root_der, collateral.root)
    ca = collateral.pck_ca
    if ca_der != ca.der:
        ca = read_issued(ca_der, collateral.root, PCK_CA, collateral.anchor)
        collateral.root_crl.check(ca)
        _check_same_authority(ca, collateral.pck_ca)
    leaf = read_issued(leaf_der, ca, PCK, collateral.anchor)
    collateral.pck_crl.check(leaf)
    validities = tuple(dict.fromkeys((*collateral.validities, ca.validity, leaf.validity)))
    return Platform(leaf, ca, extension_of(leaf), validities)


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    memory[key] = value
    while len(memory) > KEPT:
        with suppress(KeyError, StopIteration, RuntimeError):  # another thread may be at it, too
            del memory[next(iter(memory))]


def _check_same_authority(found: Certificate, expected: Certificate) -> None:
    """Refuse a PCK CA other than the revocation list's; a renewed certificate of the same key is the same CA."""
    if found.subject != expected.subject or found.key != expected.key:
        raise EvidenceError(
            EvidenceCode.CRL_ISSUER,
            "the PCK revocation list is from another authority than the quote's PCK",
            expected=_authority(found),
            found=_authority(expected),
            remedy="use the collateral of this platform's CA (processor or platform)",
        )


def _authority(certificate: Certificate) -> str:
    """Return an authority's name and SHA-256 of its key: two may have the same name."""
    return f"{certificate.common_name} with the key {fingerprint(certificate.key)}"


def check_binding(quote: Quote) -> None:
    """Hold that the QE report names the attestation key (step 6); raises EvidenceError `qe-report-binding`."""
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    if not hmac.compare_digest(bound, quote.qe_report.report_data):
        raise EvidenceError(
            EvidenceCode.QE_REPORT_BINDING,
            EvidenceCode.QE_REPORT_BINDING.meaning,
            expected=bound.hex(),
            found=quote.qe_report.report_data.hex(),
        )


def _check_attestation_key(quote: Quote, platform: Platform) -> None:
    """Hold that the platform's quoting enclave vouches for the attestation key (steps 5 and 6)."""
    report = quote.qe_report.serialize()
    seen = report, quote.qe_report_signature, quote.attestation_key, quote.qe_auth_data
    if seen in platform.certified:
        return
    leaf = platform.leaf
    ecdsa.verify_raw(leaf.key, quote.qe_report_signature, report, EvidenceCode.QE_REPORT_SIGNATURE)  # 5
    check_binding(quote)  # 6
    _remember(platform.certified, seen, None)
