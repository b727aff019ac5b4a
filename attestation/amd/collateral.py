"""AMD's collateral, in the forms of its key distribution service (AMD 57230, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.collateral.document import Collateral, hexadecimal, text


@dataclass(frozen=True)
class SnpCollateral(Collateral):
    """Collateral of one chip at one TCB version, or of one lent key; nothing in it is verified.

    vek: DER of the VCEK or VLEK certificate.  chain: PEM text of what signed it, the ASK or ASVK, and the ARK, as
    `cert_chain` of the service returns it.  crl: DER of the ARK's revocation list; empty where there is none, which a
    policy must permit by name.
    """

    vek: bytes = hexadecimal()
    chain: bytes = text()
    crl: bytes = hexadecimal()
