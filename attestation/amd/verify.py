"""Verification of SEV-SNP reports, step by step.

Sources: SEV Secure Nested Paging Firmware ABI Specification (ABI, AMD 56860); Versioned Chip Endorsement Key (VCEK)
Certificate and KDS Interface Specification (KDS, AMD 57230).

Collateral, once for many reports of one key (`prepare`):
  C1  chain: the ARK is the pinned one, bit for bit                                         KDS 3, 4
  C2  the ARK signed the ASK or the ASVK                                                    KDS 3
  C3  the ASK signed the VCEK, or the ASVK the VLEK                                         KDS 3
  C4  what the certificate says of its key: product, TCB version, chip or cloud provider    KDS 3.1
  C5  revocation list, if there is one: signed by the ARK; names neither of the two         KDS 4
  C6  all their dates contain `now`

Each report (`verify_report`); step 1 is `abi.parse_report`:
  2   a key signed the report, and it is of the certificate's kind                          ABI "SIGNING_KEY"
  3   CPUID names the certificate's product; version 2 leaves it to the certificate         ABI "CPUID_FAM_ID"
  4   the certificate is of this chip: hwID = CHIP_ID; a VLEK is of no chip                 ABI "CHIP_ID", KDS 3.1
  5   the certificate is of this TCB version: every component = REPORTED_TCB                ABI "REPORTED_TCB", KDS 3.1
  6   dates of collateral contain `now`
  7   signature over bytes 0 to 29Fh by the certificate's key                               ABI "SIGNATURE"
  8   reported <= committed <= current, in every component                                  ABI "SNP_COMMIT"

Steps 2 to 5 come before the signature, which they could not replace, because a certificate of another chip or of the
firmware before an update is what goes wrong in practice: they say so, where a failed signature would not.

Considered and rejected: launch <= current (firmware that was not committed may be rolled back while a guest runs);
equality of the stepping in the product's name with CPUID_STEP (real certificates say B0 for steppings 0 and 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.amd.abi import Report, SigningKey
from attestation.amd.certificates import ASK, ASVK, VCEK, VLEK, Certificate, read_issued, read_root
from attestation.amd.collateral import SnpCollateral
from attestation.amd.crl import RevocationList, read_crl
from attestation.amd.endorsement import Endorsement, endorsement_of
from attestation.amd.errors import SnpCode
from attestation.amd.signatures import split_signed
from attestation.amd.signatures import verify_report as verify_signature
from attestation.amd.tcb import Product, Tcb
from attestation.amd.verified import SnpTcb, SnpVerified
from attestation.collateral.document import Collateral
from attestation.collateral.key import CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import pem
from attestation.roots import Anchor, Roots
from attestation.strict_x509 import parse_certificate
from attestation.validity import Validity, check_dates

_KINDS = {SigningKey.VCEK: VCEK, SigningKey.VLEK: VLEK}


@dataclass(frozen=True)
class ValidatedEndorsement:
    """Collateral whose signatures and chain hold under `roots`.  Its dates are checked again at every use."""

    roots: Roots
    anchor: Anchor
    vek: Certificate = field(repr=False)
    endorsement: Endorsement
    crl: RevocationList | None = field(repr=False)
    validities: tuple[Validity, ...] = field(repr=False)

    @property
    def issued(self) -> int:
        """Unix seconds of the revocation list; without one, of the endorsement key's certificate."""
        return (self.crl or self.vek).validity.start

    @property
    def lacks(self) -> tuple[str, ...]:
        """The revocation list, where there is none."""
        return () if self.crl is not None else ("revocation list",)

    @property
    def expires(self) -> int:
        """The first Unix second at which some part of it is no longer valid."""
        return min(validity.end for validity in self.validities)

    def check_dates(self, now: int) -> None:
        """Raise DateError for all documents that are not valid at `now`."""
        check_dates(self.validities, now)


def prepare(collateral: SnpCollateral, roots: Roots, now: int) -> ValidatedEndorsement:
    """Verify collateral under `roots` at `now` (Unix seconds), steps C1 to C6; raises EvidenceError."""
    validated = authenticate(collateral, roots)
    validated.check_dates(now)  # C6
    return validated


def authenticate(collateral: SnpCollateral, roots: Roots) -> ValidatedEndorsement:
    """Verify collateral at no time in particular, steps C1 to C5: its dates are still to be checked."""
    signer_der, ark_der = pem.decode_chain(collateral.chain, 2)
    ark, anchor = read_root(ark_der, roots)  # C1
    signer = read_issued(signer_der, ark, (ASK, ASVK), anchor)  # C2
    kind = VCEK if signer.role is ASK else VLEK
    vek = read_issued(collateral.vek, signer, (kind,), anchor)  # C3
    endorsement = endorsement_of(vek)  # C4
    crl = read_crl(collateral.crl, ark) if collateral.crl else None  # C5
    if crl is not None:
        crl.check(signer)
        crl.check(vek)
    dated = (ark, signer, vek) if crl is None else (ark, signer, vek, crl)
    return ValidatedEndorsement(roots, anchor, vek, endorsement, crl, tuple(item.validity for item in dated))


def collateral_key(report: Report) -> CollateralKey:
    """Return which collateral the unverified report asks for; raises EvidenceError.

    A report of version 2 does not name its product: see `CollateralKey.candidates`.
    """
    product = report.product
    if report.signing_key is SigningKey.NONE:
        raise _unsigned()
    unit = f"vlek-{report.reported_tcb.hex()}"
    if report.signing_key is SigningKey.VCEK:
        chip_id = report.chip_id[:8] if product is Product.TURIN else report.chip_id
        unit = f"vcek-{chip_id.hex()}-{report.reported_tcb.hex()}"
    return CollateralKey(report.tee, str(product or "unnamed"), unit)


def verify_report(
    report: Report, collateral: Collateral | ValidatedEndorsement | None, roots: Roots, now: int
) -> SnpVerified:
    """Verify a report at `now` (Unix seconds), steps C1 to C6 and 2 to 8.

    Raises EvidenceError at the first chain, date, mismatch or signature that does not hold.  Prepared collateral must
    have been prepared under the same roots (`collateral-roots`).
    """
    endorsed = _prepared(report, collateral, roots, now)  # C1 to C6
    reported = _check_endorsement(report, endorsed)  # 2 to 5
    endorsed.check_dates(now)  # 6
    verify_signature(  # 7
        endorsed.vek.ec_key, report.signature_r, report.signature_s, report.signed, SnpCode.SIGNATURE
    )
    return SnpVerified(
        simulated=endorsed.anchor.simulated,
        root=endorsed.anchor.fingerprint,
        issued=endorsed.issued,
        expires=endorsed.expires,
        validities=endorsed.validities,
        report=report,
        endorsement=endorsed.endorsement,
        tcb=_tcb(report, reported),  # 8
        revocation_checked=endorsed.crl is not None,
    )


def is_signed_by(report: Report, vek: bytes) -> bool:
    """Tell whether the key of a VCEK's or VLEK's certificate (DER) signed a report, as step 7 does; proves no more."""
    try:
        tbs, algorithm, _ = split_signed(vek, EvidenceCode.CERTIFICATE_MALFORMED)
        key = load_der_public_key(parse_certificate(tbs, algorithm).key)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        verify_signature(key, report.signature_r, report.signature_s, report.signed, SnpCode.SIGNATURE)
    except (EvidenceError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _prepared(
    report: Report, collateral: Collateral | ValidatedEndorsement | None, roots: Roots, now: int
) -> ValidatedEndorsement:
    if collateral is None or (isinstance(collateral, SnpCollateral) and not collateral.vek):
        raise EvidenceError(
            EvidenceCode.COLLATERAL_MISSING,
            "the certificate of the report's endorsement key is missing",
            expected=str(collateral_key(report)),
            remedy="fetch it from AMD's key distribution service, or take it from the machine",
        )
    if isinstance(collateral, SnpCollateral):
        collateral = prepare(collateral, roots, now)
    if not isinstance(collateral, ValidatedEndorsement):
        raise EvidenceError(
            EvidenceCode.COLLATERAL_TEE,
            EvidenceCode.COLLATERAL_TEE.meaning,
            expected="collateral of an SEV-SNP report",
            found=type(collateral).__name__,
            remedy="use collateral that was fetched for this report",
        )
    if collateral.roots != roots:
        raise EvidenceError(
            EvidenceCode.COLLATERAL_ROOTS,
            EvidenceCode.COLLATERAL_ROOTS.meaning,
            expected=str(roots),
            found=str(collateral.roots),
        )
    return collateral


def _check_endorsement(report: Report, collateral: ValidatedEndorsement) -> Tcb:
    """Hold the certificate against the report; returns the reported TCB version."""
    endorsement = collateral.endorsement
    _check_kind(report, collateral.vek)  # 2
    _check_product(report, endorsement.product)  # 3
    if endorsement.chip_id is not None and endorsement.chip_id != report.chip_id:  # 4
        raise EvidenceError(
            SnpCode.VEK_CHIP,
            SnpCode.VEK_CHIP.meaning,
            expected=f"CHIP_ID {report.chip_id.hex()}",
            found=f"hwID {endorsement.chip_id.hex()}",
        )
    reported = Tcb.parse(endorsement.product, report.reported_tcb)  # 5
    if reported != endorsement.tcb:
        raise EvidenceError(
            SnpCode.VEK_TCB,
            SnpCode.VEK_TCB.meaning,
            expected=f"REPORTED_TCB: {reported}",
            found=str(endorsement.tcb),
        )
    return reported


def _check_kind(report: Report, vek: Certificate) -> None:
    if report.signing_key is SigningKey.NONE:
        raise _unsigned()
    if _KINDS[report.signing_key] is not vek.role:
        raise EvidenceError(
            SnpCode.VEK_KIND,
            SnpCode.VEK_KIND.meaning,
            expected=report.signing_key.name,
            found=vek.role.title,
            remedy=f"use the {report.signing_key.name} certificate and its chain",
        )


def _check_product(report: Report, product: Product) -> None:
    """Hold CPUID against the certificate.  Firmware of version 2 knew Milan and Genoa only."""
    said = (report.product,) if report.product else (Product.MILAN, Product.GENOA)
    if product not in said:
        raise EvidenceError(
            SnpCode.VEK_PRODUCT,
            SnpCode.VEK_PRODUCT.meaning,
            expected=" or ".join(each.label for each in said if each),
            found=product.label,
        )


def _tcb(report: Report, reported: Tcb) -> SnpTcb:
    """Decode the other TCB versions and hold their order."""
    product = reported.product
    raw = (report.committed_tcb, report.current_tcb, report.launch_tcb)
    committed, current, launch = (Tcb.parse(product, each) for each in raw)
    if not committed.reaches(reported) or not current.reaches(committed):
        raise EvidenceError(
            SnpCode.TCB_ORDER,
            SnpCode.TCB_ORDER.meaning,
            expected="reported <= committed <= current, in every component",
            found=f"reported {reported}; committed {committed}; current {current}",
        )
    return SnpTcb(reported, committed, current, launch)


def _unsigned() -> EvidenceError:
    return EvidenceError(
        SnpCode.UNSIGNED,
        SnpCode.UNSIGNED.meaning,
        expected="SIGNING_KEY 0 (VCEK) or 1 (VLEK)",
        found=f"SIGNING_KEY {SigningKey.NONE:d} (none)",
    )
