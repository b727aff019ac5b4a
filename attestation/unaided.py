"""What holds of evidence for which collateral is missing: signatures, the chain to a pinned root, and bindings.

It never makes evidence genuine: whether a key was revoked, how the platform stands, and whether the quoting enclave is
the vendor's takes collateral.  But a forgery shows without it, and so does what is no forgery.

The checks are those of the TEE's own verification, in its order and with its codes; the steps are named as there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.amd.abi import Report
from attestation.amd.errors import SnpCode
from attestation.amd.signatures import split_signed
from attestation.amd.signatures import verify_report as verify_snp_signature
from attestation.azure.abi import AzureEvidence
from attestation.azure.errors import AzureCode
from attestation.azure.verify import check_vtpm
from attestation.errors import EvidenceCode, EvidenceError
from attestation.findings import Finding, Phase, Severity
from attestation.intel import ecdsa, pem
from attestation.intel.certificates import PCK, PCK_CA, read_issued, read_root
from attestation.intel.pck import extension_of
from attestation.intel.quote import Quote
from attestation.intel.verify import check_binding
from attestation.ratls.certificate import RatlsCertificate
from attestation.ratls.errors import RatlsCode
from attestation.ratls.verify import check_same
from attestation.roots import Roots
from attestation.strict_x509 import parse_certificate
from attestation.tpm.errors import TpmCode
from attestation.validity import DateError, Validity
from attestation.verified import Evidence
from manifests.errors import ErrorCode

HOLDS: Final = "holds"


class _Held(NamedTuple):
    """The code that a failure would have, what holds, and of which part, where there are several."""

    code: ErrorCode
    what: str
    part: str | None = None


@dataclass(frozen=True)
class Unaided:
    """What was found without collateral.

    held: a finding that passed for each check.  error: the first signature, chain or binding that does not hold; None
    where all do.  dates: refusals of certificates that are not valid at the time; they decide nothing by themselves.
    """

    held: tuple[Finding, ...] = ()
    error: EvidenceError | None = None
    dates: tuple[EvidenceError, ...] = ()


def check_unaided(evidence: Evidence, roots: Roots, now: int) -> Unaided:
    """Check what can be checked of evidence at `now` (Unix seconds) without collateral; raises nothing."""
    checks = _CHECKS.get(evidence.tee)
    held: list[Finding] = []
    validities: list[Validity] = []
    try:
        for code, what, part in checks(evidence, roots, validities) if checks else ():
            held.append(Finding(code, Phase.VERIFY, True, Severity.OK, what, HOLDS, part=part))
    except EvidenceError as error:
        return Unaided(tuple(held), error)
    return Unaided(tuple(held), None, tuple(_dates(validities, now)))


def _dates(validities: list[Validity], now: int) -> Iterator[EvidenceError]:
    for validity in dict.fromkeys(validities):
        try:
            validity.check(now)
        except DateError as error:
            yield error


def _intel(quote: Quote, roots: Roots, validities: list[Validity]) -> Iterator[_Held]:
    """Check steps 2 and 5 to 7 of `attestation.intel.verify`, with the root that is pinned instead of collateral's."""
    leaf_der, ca_der, root_der = pem.decode_chain(quote.certification_data, 3)
    root, anchor = read_root(root_der, roots)
    yield _Held(EvidenceCode.CHAIN_ROOT, f"the PCK chain ends in a pinned root, {anchor}")
    ca = read_issued(ca_der, root, PCK_CA, anchor)
    leaf = read_issued(leaf_der, ca, PCK, anchor)
    extension_of(leaf)
    validities += [root.validity, ca.validity, leaf.validity]
    yield _Held(EvidenceCode.CHAIN_SIGNATURE, "each certificate of the PCK chain is signed by the next one")
    report = quote.qe_report.serialize()
    ecdsa.verify_raw(leaf.key, quote.qe_report_signature, report, EvidenceCode.QE_REPORT_SIGNATURE)
    yield _Held(EvidenceCode.QE_REPORT_SIGNATURE, "the QE report is signed by the platform's PCK")
    check_binding(quote)
    yield _Held(EvidenceCode.QE_REPORT_BINDING, "the QE report vouches for the attestation key")
    key = ecdsa.load_point(quote.attestation_key)
    ecdsa.verify_raw(key, quote.signature, quote.signed, EvidenceCode.QUOTE_SIGNATURE)
    yield _Held(EvidenceCode.QUOTE_SIGNATURE, "the quote is signed by its attestation key")


def _azure(evidence: AzureEvidence, roots: Roots, validities: list[Validity]) -> Iterator[_Held]:
    """Check the processor's part as far as it goes, and then the vTPM's: steps 3 to 7 of `attestation.azure.verify`."""
    inner = evidence.inner
    if isinstance(inner, Report):
        yield from _carried_vcek(inner, evidence.vcek or b"")
    else:
        yield from _intel(inner, roots, validities)
    check_vtpm(evidence)
    yield _Held(
        AzureCode.RUNTIME_DATA, "the processor's report covers the paravisor's runtime data, which has the vTPM's key"
    )
    yield _Held(TpmCode.SIGNATURE, "the vTPM's quote is signed by that key")
    yield _Held(TpmCode.PCR_DIGEST, "the quote is over the PCR values that are carried")


def _carried_vcek(report: Report, vcek: bytes) -> Iterator[_Held]:
    """Check a report's signature by a certificate that nothing vouches for yet."""
    if not vcek:
        return
    tbs, algorithm, _ = split_signed(vcek, EvidenceCode.CERTIFICATE_MALFORMED)
    try:
        key = load_der_public_key(parse_certificate(tbs, algorithm).key)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise EvidenceError(EvidenceCode.CERTIFICATE_MALFORMED, "the VCEK that is carried has no key on P-384")
    verify_snp_signature(key, report.signature_r, report.signature_s, report.signed, SnpCode.SIGNATURE)
    yield _Held(SnpCode.SIGNATURE, "the report is signed by the VCEK that is carried, whose own chain is not checked")


def _ratls(certificate: RatlsCertificate, roots: Roots, validities: list[Validity]) -> Iterator[_Held]:
    """Check each quote as far as it goes, and steps 3 and 4 of `attestation.ratls.verify`."""
    for each in certificate.bound:
        of = each.form if len(certificate.bound) > 1 else None
        yield from (held._replace(part=of) for held in _intel(each.quote, roots, validities))
        each.check_binding()
    check_same(*(each.quote for each in certificate.bound))
    yield _Held(RatlsCode.BINDING, "the evidence is bound to the certificate's key")


_CHECKS: Final[Mapping[str, Callable[[Any, Roots, list[Validity]], Iterator[_Held]]]] = MappingProxyType(
    {"sgx": _intel, "tdx": _intel, "azure-snp": _azure, "azure-tdx": _azure, "ratls": _ratls}
)
"""By TEE.  A bare SEV-SNP report shows nothing without the certificate of its key."""
