"""Intel's collateral, in the JSON shape of the `dcap-qvl` project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attestation.collateral.document import Collateral, hexadecimal, text


@dataclass(frozen=True)
class IntelCollateral(Collateral):
    """Collateral of one SGX or TDX platform family; nothing in it is verified.

    Chains are PEM text (issuer first, root last), revocation lists DER, signatures r || s (64 bytes).  tcb_info and
    qe_identity are the exact JSON bytes that their signatures cover.  The chain of the PCK certificate, which
    `dcap-qvl` keeps beside them for quotes that lack it, is not used: quotes that verify here carry it.
    """

    passed_over: ClassVar[frozenset[str]] = frozenset({"pck_certificate_chain"})

    pck_crl_issuer_chain: bytes = text()
    root_ca_crl: bytes = hexadecimal()
    pck_crl: bytes = hexadecimal()
    tcb_info_issuer_chain: bytes = text()
    tcb_info: bytes = text()
    tcb_info_signature: bytes = hexadecimal()
    qe_identity_issuer_chain: bytes = text()
    qe_identity: bytes = text()
    qe_identity_signature: bytes = hexadecimal()
