"""Verification of RA-TLS certificates, step by step.

Sources: Interoperable RA-TLS (CCC Attestation SIG); those of the quotes inside.

  1  certificate: strict DER, its own signature, no extension twice, claims of this very key (`certificate`)
  2  each quote that is carried: all steps of its TEE
  3  all 64 bytes of each quote's report data bind the key
  4  two quotes are of the same program: everything that they report, but for the report data, is equal
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from attestation.collateral.key import CollateralKey
from attestation.errors import EvidenceError
from attestation.intel.verify import collateral_key as intel_collateral_key
from attestation.intel.verify import verify_quote
from attestation.ratls.certificate import RatlsCertificate
from attestation.ratls.claims import Quote
from attestation.ratls.errors import RatlsCode
from attestation.roots import Roots
from attestation.validity import rfc3339
from attestation.verified import Verified


@dataclass(frozen=True)
class RatlsVerified(Verified):
    """Genuine evidence of the program that holds the certificate's key.  Judged are the parts: the evidence inside.

    Whoever speaks TLS must hold `public_key` against the key of the connection.
    """

    certificate: RatlsCertificate = field(repr=False)
    inner: Verified

    @property
    def evidence(self) -> RatlsCertificate:
        """The certificate."""
        return self.certificate

    @property
    def public_key(self) -> bytes:
        """The key that the evidence is bound to, as DER SubjectPublicKeyInfo."""
        return self.certificate.key

    @property
    def measurement(self) -> bytes:
        """The measurement of the evidence inside."""
        return self.inner.measurement

    @property
    def tcb_status(self) -> str | None:
        """How the platform's security versions stand."""
        return self.inner.tcb_status

    @property
    def advisories(self) -> tuple[str, ...]:
        """Ids of the security advisories that apply."""
        return self.inner.advisories

    @property
    def tcb_date(self) -> int | None:
        """Unix seconds up to which the platform deals with what was published."""
        return self.inner.tcb_date

    @property
    def evaluation_number(self) -> int | None:
        """Intel's tcbEvaluationDataNumber."""
        return self.inner.evaluation_number

    @property
    def platform_ids(self) -> dict[str, str]:
        """What tells the platform of the evidence inside from others."""
        return self.inner.platform_ids

    @property
    def parts(self) -> tuple[Verified, ...]:
        """The evidence inside, under the table of its own TEE."""
        return self.inner.parts

    def details(self) -> dict[str, Any]:
        """Return the key, the dates that its holder chose, and the evidence inside."""
        nonce = self.certificate.bound[0].nonce
        return {
            "public_key": self.public_key.hex(),
            "not_before": rfc3339(self.certificate.not_before),
            "not_after": rfc3339(self.certificate.not_after),
            "nonce": None if nonce is None else nonce.hex(),
            self.inner.tee: {name: value for name, value in self.inner.to_dict().items() if name != "quote"},
        }


def collateral_key(certificate: RatlsCertificate) -> CollateralKey:
    """Return which collateral the evidence inside asks for; raises EvidenceError."""
    return intel_collateral_key(certificate.bound[0].quote)


def verify_certificate(certificate: RatlsCertificate, collateral: Any, roots: Roots, now: int) -> RatlsVerified:
    """Verify a certificate at `now` (Unix seconds), steps 2 to 4, with the collateral of the evidence inside.

    Raises EvidenceError.
    """
    verified = [verify_quote(each.quote, collateral, roots, now) for each in certificate.bound]  # 2
    for each in certificate.bound:  # 3
        each.check_binding()
    check_same(*(each.quote for each in certificate.bound))  # 4
    inner = verified[0]
    return RatlsVerified(
        simulated=inner.simulated,
        root=inner.root,
        issued=inner.issued,
        expires=min(each.expires for each in verified),
        validities=tuple(dict.fromkeys(validity for each in verified for validity in each.validities)),
        certificate=certificate,
        inner=inner,
    )


def check_same(first: Quote, *others: Quote) -> None:
    """Refuse quotes that differ in more than their report data, so that one verdict covers all."""
    for other in others:
        if type(other) is not type(first) or _without_report_data(other) != _without_report_data(first):
            raise EvidenceError(
                RatlsCode.MIXED,
                RatlsCode.MIXED.meaning,
                expected="the same in both, but for report data",
                found="another report",
            )


def _without_report_data(quote: Any) -> Any:
    return replace(quote.body, report_data=bytes(64))
