"""Answers of the vendors' services as they were recorded, of the shared vectors, for the service on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from attestation.amd.tcb import Product
from attestation.intel import pem
from attestation.intel.collateral import IntelCollateral
from tests.amd import kit as amd
from tests.collateral.kit import CRL, SGX, TDX, signed, tagged
from tests.collateral.service import Reply, Service
from tests.shared import vectors

JSON = "application/json"
_SPL = {"fmc": "fmcSPL", "bl": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "ucode": "ucodeSPL"}
"""By the catalogue's name of a component, the parameter of KDS."""


@dataclass(frozen=True)
class Answers:
    """Bodies and issuers of Intel's four documents, as they came."""

    pck_crl: bytes
    pck_crl_issuers: bytes
    root_crl: bytes
    tcb_info: bytes
    tcb_info_issuers: bytes
    identity: bytes
    identity_issuers: bytes

    def serve(self, service: Service, tee: str, fmspc: str, ca: str) -> None:
        """Have a service give these answers to what is asked of a platform."""
        prefix = TDX if tee == "tdx" else SGX
        service.replies |= {
            f"{SGX}/pckcrl?ca={ca}&encoding=der": _reply(
                self.pck_crl, CRL, "SGX-PCK-CRL-Issuer-Chain", self.pck_crl_issuers
            ),
            f"{SGX}/rootcacrl": tagged(self.root_crl, CRL),
            f"{prefix}/tcb?fmspc={fmspc.upper()}": _reply(
                self.tcb_info, JSON, "TCB-Info-Issuer-Chain", self.tcb_info_issuers
            ),
            f"{prefix}/qe/identity": _reply(
                self.identity, JSON, "SGX-Enclave-Identity-Issuer-Chain", self.identity_issuers
            ),
        }


def _reply(body: bytes, media: str, header: str, issuers: bytes) -> Callable[[Any], Reply]:
    return tagged(body, media, {header: quote(issuers.decode("ascii"))})


def of_folder(folder: str, family: str) -> Answers:
    """Return the answers that a project has recorded one by one; those of the PCK CRL's issuers are in one alone."""
    place = vectors() / "tdx" / "collateral"
    tcb, identity = (
        ("tcb_info_issuer_chain.pem", "qe_identity_issuer_chain.pem")
        if folder == "go-tdx-guest"
        else ("tcb_signing_chain.pem", "qe_identity_signing_chain.pem")
    )
    here = place / folder
    return Answers(
        pck_crl=(here / "pck_crl_platform.der").read_bytes(),
        pck_crl_issuers=(place / "go-tdx-guest" / "pck_crl_issuer_chain.pem").read_bytes(),
        root_crl=(here / "root_ca_crl.der").read_bytes(),
        tcb_info=(here / f"tcb_info_{family}.json").read_bytes(),
        tcb_info_issuers=(here / tcb).read_bytes(),
        identity=(here / "td_qe_identity.json").read_bytes(),
        identity_issuers=(here / identity).read_bytes(),
    )


def of_collateral(name: str) -> Answers:
    """Return the answers that a file of collateral was made from: its parts are their exact text and bytes."""
    held = IntelCollateral.from_json((vectors() / name).read_bytes())
    return Answers(
        pck_crl=held.pck_crl,
        pck_crl_issuers=held.pck_crl_issuer_chain,
        root_crl=held.root_ca_crl,
        tcb_info=signed("tcbInfo", held.tcb_info, held.tcb_info_signature),
        tcb_info_issuers=held.tcb_info_issuer_chain,
        identity=signed("enclaveIdentity", held.qe_identity, held.qe_identity_signature),
        identity_issuers=held.qe_identity_issuer_chain,
    )


def serve_amd(service: Service, name: str, vector: amd.Vector) -> None:
    """Have a service answer as KDS did for a row of the catalogue; no revocation list of AMD's was recorded."""
    product = Product(vector.product)
    ask, ark, asvk = amd.certificates(f"certs/{vector.product}_ask_ark_asvk.pem")
    lent = "vlek" in vector.vek
    base = f"/{'vlek' if lent else 'vcek'}/v1/{product.label}"
    chain = pem.encode_chain(asvk if lent else ask, ark)
    service.replies[f"{base}/cert_chain"] = Reply(chain, media="application/x-pem-file")
    if lent:
        return
    fields = amd.catalogue()[name]["fields"]
    versions = "&".join(
        f"{_SPL[part]}={fields['reported_tcb_dec'][part]}" for part in _SPL if part in fields["reported_tcb_dec"]
    )
    hwid = fields["chip_id"][: 16 if product is Product.TURIN else 128]
    service.replies[f"{base}/{hwid}?{versions}"] = Reply((vectors() / "snp" / vector.vek).read_bytes())
