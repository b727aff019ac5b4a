"""Verification of Azure's evidence, step by step.

Sources: Azure, "vTPM attestation of confidential VMs"; OpenHCL, `openhcl_attestation_protocol`; and those of the inner
evidence and of TPM quotes.

  1  JSON, paravisor's report, processor's report, TPM structures, one value for each PCR (`abi.parse_evidence`)
  2  processor's part: the SEV-SNP report under the VCEK that is carried, or the TD quote, by all of its own steps
  3  its report data = SHA-256(runtime data) || 32 zero bytes
  4  SEV-SNP: the report was asked for at VMPL 0, where the paravisor alone runs, whatever a policy says of VMPLs.
     TDX: the TD report inside the paravisor's says what the TD quote says (`td_report`)
  5  runtime data, authentic now: JSON with exactly one vTPM key, "HCLAkPub", RSA from 2048 bits
  6  vTPM's part: signature over the quote by that key; pcrDigest = hash over the PCR values that are carried
  7  version 2: the paravisor's user data is the quote's qualifying data, filled up with zeros

The vTPM's key is trusted because the paravisor, which the launch measurement covers, made it a restricted signing key.
Its public area is not carried, so neither attributes nor qualifiedSigner can be checked again here.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from attestation.amd.abi import Report
from attestation.amd.collateral import SnpCollateral
from attestation.amd.verify import ValidatedEndorsement, verify_report
from attestation.amd.verify import collateral_key as snp_collateral_key
from attestation.azure.abi import AzureEvidence
from attestation.azure.errors import AzureCode
from attestation.azure.runtime import RuntimeClaims
from attestation.azure.td_report import check_td_report
from attestation.azure.verified import AzureVerified
from attestation.collateral.key import CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.td_abi import TdQuote
from attestation.intel.verify import collateral_key as tdx_collateral_key
from attestation.intel.verify import verify_quote
from attestation.roots import Roots
from attestation.tpm.public import fingerprint
from attestation.tpm.verified import TpmVerified
from attestation.tpm.verify import check_quote
from attestation.verified import Verified

_STANDS = ("simulated", "root", "issued", "expires", "validities")
"""What all parts have from the processor's."""
_USES_USER_DATA = 2
"""The version from which user data is bound."""


def collateral_key(evidence: AzureEvidence) -> CollateralKey:
    """Return which collateral the processor's part asks for; raises EvidenceError."""
    inner = evidence.inner
    return snp_collateral_key(inner) if isinstance(inner, Report) else tdx_collateral_key(inner)


def verify_evidence(evidence: AzureEvidence, collateral: Any, roots: Roots, now: int) -> AzureVerified:
    """Verify evidence at `now` (Unix seconds), steps 2 to 7, with the collateral of the processor's part.

    For SEV-SNP the VCEK is taken from the evidence, and chain and revocation list from the collateral.  Raises
    EvidenceError.
    """
    inner = _verify_inner(evidence, collateral, roots, now)  # 2
    claims = check_vtpm(evidence)  # 3 to 7
    stands: dict[str, Any] = {name: getattr(inner, name) for name in _STANDS}
    vtpm = TpmVerified(**stands, source=evidence.quote, key=fingerprint(claims.ak))
    return AzureVerified(**stands, source=evidence, inner=inner, vtpm=vtpm, claims=claims)


def check_vtpm(evidence: AzureEvidence) -> RuntimeClaims:
    """Hold the vTPM's part against a processor's part that is authentic, steps 3 to 7; raises EvidenceError."""
    _check_runtime_data(evidence)  # 3
    if isinstance(evidence.inner, TdQuote):  # 4
        check_td_report(evidence.hcl.hardware_report, evidence.inner)
    else:
        _check_vmpl(evidence.inner)
    claims = RuntimeClaims.parse(evidence.hcl.runtime_data)  # 5
    check_quote(evidence.quote, claims.ak)  # 6
    if evidence.version >= _USES_USER_DATA:  # 7
        _check_user_data(evidence, claims)
    return claims


def _verify_inner(evidence: AzureEvidence, collateral: Any, roots: Roots, now: int) -> Verified:
    inner = evidence.inner
    if collateral is None:
        raise EvidenceError(
            EvidenceCode.COLLATERAL_MISSING,
            "the collateral of the processor's part is missing",
            expected=str(collateral_key(evidence)),
            remedy="fetch the processor vendor's collateral; Azure's evidence carries the VCEK alone, or nothing",
        )
    if isinstance(inner, TdQuote):
        return verify_quote(inner, collateral, roots, now)
    return verify_report(inner, _with_vcek(evidence, collateral), roots, now)


def _with_vcek(
    evidence: AzureEvidence, collateral: SnpCollateral | ValidatedEndorsement | None
) -> SnpCollateral | ValidatedEndorsement | None:
    """Return the collateral with the certificate that the evidence carries; one that was validated must have it."""
    if isinstance(collateral, SnpCollateral):
        return SnpCollateral(vek=evidence.vcek or b"", chain=collateral.chain, crl=collateral.crl)
    if isinstance(collateral, ValidatedEndorsement) and collateral.vek.der != evidence.vcek:
        raise EvidenceError(
            AzureCode.VCEK,
            AzureCode.VCEK.meaning,
            expected="the certificate that the evidence carries",
            found="another one",
        )
    return collateral


def _check_runtime_data(evidence: AzureEvidence) -> None:
    bound = hashlib.sha256(evidence.hcl.runtime_data).digest() + bytes(32)
    if not hmac.compare_digest(bound, evidence.inner.report_data):
        raise EvidenceError(
            AzureCode.RUNTIME_DATA,
            AzureCode.RUNTIME_DATA.meaning,
            expected=evidence.inner.report_data.hex(),
            found=bound.hex(),
        )


def _check_vmpl(report: Report) -> None:
    """Only VMPL 0 is the paravisor's: a guest above it can have runtime data with a key of its own reported."""
    if report.vmpl != 0:
        raise EvidenceError(AzureCode.VMPL, AzureCode.VMPL.meaning, expected="VMPL 0", found=f"VMPL {report.vmpl}")


def _check_user_data(evidence: AzureEvidence, claims: RuntimeClaims) -> None:
    """Nonces of Azure's guests have up to 64 bytes; user data always has 64."""
    bound = evidence.report_data.ljust(len(claims.user_data), b"\0")
    if not hmac.compare_digest(bound, claims.user_data):
        raise EvidenceError(
            AzureCode.USER_DATA,
            AzureCode.USER_DATA.meaning,
            expected=bound.hex(),
            found=claims.user_data.hex(),
        )
