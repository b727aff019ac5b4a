"""Collateral straight from the vendors' services: Intel's PCS, or a PCCS that caches it, and AMD's KDS.

Sources: Intel SGX and TDX Provisioning Certification Service API, version 4; Intel's PCCS, "API version 4"; Versioned
Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (AMD 57230), section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlencode

from attestation.amd.collateral import SnpCollateral
from attestation.amd.tcb import Product, Tcb
from attestation.collateral.answers import check_address
from attestation.collateral.document import Collateral
from attestation.collateral.documents import certificate, certificate_chain, revocation_list, signed_json
from attestation.collateral.errors import FetchCode, FetchError
from attestation.collateral.fetcher import Fetcher
from attestation.collateral.key import CollateralKey
from attestation.collateral.sources import CollateralSource
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.collateral import IntelCollateral

T = TypeVar("T")

PCS: Final = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
"""PCS does not serve the root's list itself; a PCCS does."""
KDS: Final = "https://kdsintf.amd.com"

_SPL: Final = {"fmc": "fmcSPL", "bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}
"""By component of a TCB version, the parameter of KDS."""


class VendorSource(CollateralSource):
    """Fetches the collateral of one platform after the other.

    What `fetch` returns is not verified, and never kept in the fetcher's cache; `fetch_verified` keeps it.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        pccs: str | None = None,
        kds: str | None = None,
        early: bool = False,
        vlek: bytes = b"",
    ) -> None:
        """Ask Intel's PCS, or the PCCS at the address `pccs`, and AMD's KDS, or another at `kds`.

        early: Intel's TCB info as of the latest recovery, months before it is the standard.  vlek: DER of a lent key's
        certificate, which only its machine has.  Raises FetchError `fetch-address`.
        """
        for address in (pccs, kds):
            if address is not None:
                check_address(address)
        self._fetcher, self._early, self._vlek = fetcher, early, vlek
        self._intel, self._amd = (pccs or PCS).rstrip("/"), (kds or KDS).rstrip("/")
        root = f"{self._intel}/sgx/certification/v4/rootcacrl"
        self._root_crl = root if pccs and self._intel != PCS else INTEL_ROOT_CRL

    def fetch_verified(self, key: CollateralKey, verify: Callable[[Collateral], T]) -> tuple[Collateral, T]:
        """Return verified collateral, and keep it; what the cache had part in is fetched anew if it does not verify."""
        self._fetcher.begin()
        try:
            found = self._verified_twice(key, verify)
            self._fetcher.keep()
        finally:
            self._fetcher.begin()
        return found

    def _verified_twice(self, key: CollateralKey, verify: Callable[[Collateral], T]) -> tuple[Collateral, T]:
        try:
            return super().fetch_verified(key, verify)
        except (EvidenceError, FetchError) as error:
            if error.code is EvidenceCode.CERTIFICATE_REVOKED:
                raise  # by a list whose signature holds: an answer that lacks the entry would be an older one
            refused = isinstance(error, EvidenceError) or error.code in {FetchCode.MISFILED, FetchCode.OLDER}
            if not (refused and self._fetcher.distrust()):
                raise
        return super().fetch_verified(key, verify)

    def _fetch(self, key: CollateralKey) -> bytes | None:
        self._fetcher.drop()  # what came for another candidate has no part in what is verified
        fetch = self._snp_collateral if key.tee == "snp" else self._intel_collateral
        try:
            return fetch(key).encode("utf-8")
        except FetchError as error:
            if error.code is not FetchCode.NOT_FOUND:
                raise
            return None

    def _intel_collateral(self, key: CollateralKey) -> str:
        api = f"{self._intel}/{{}}/certification/v4"
        tcb = {"fmspc": key.family.upper()} | ({"update": "early"} if self._early else {})
        update = f"?{urlencode({'update': 'early'})}" if self._early else ""
        crl_query = urlencode({"ca": key.unit, "encoding": "der"})
        pck_crl = self._fetcher.fetch(
            revocation_list(f"{api.format('sgx')}/pckcrl?{crl_query}", "SGX-PCK-CRL-Issuer-Chain")
        )
        root_crl = self._fetcher.fetch(revocation_list(self._root_crl))
        tcb_info = self._fetcher.fetch(
            signed_json(f"{api.format(key.tee)}/tcb?{urlencode(tcb)}", "tcbInfo", "TCB-Info-Issuer-Chain")
        )
        identity = self._fetcher.fetch(
            signed_json(
                f"{api.format(key.tee)}/qe/identity{update}", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"
            )
        )
        return IntelCollateral(
            pck_crl_issuer_chain=pck_crl.chain,
            root_ca_crl=root_crl.body,
            pck_crl=pck_crl.body,
            tcb_info_issuer_chain=tcb_info.chain,
            tcb_info=tcb_info.body,
            tcb_info_signature=tcb_info.signature,
            qe_identity_issuer_chain=identity.chain,
            qe_identity=identity.body,
            qe_identity_signature=identity.signature,
        ).to_json()

    def _snp_collateral(self, key: CollateralKey) -> str:
        product = Product(key.family)
        kind, *parts = key.unit.split("-")
        service = f"{self._amd}/{kind}/v1/{product.label}"
        vek = self._vlek
        if kind == "vcek":
            hwid, tcb = parts
            versions = Tcb.parse(product, bytes.fromhex(tcb)).to_dict()
            query = urlencode({_SPL[name]: version for name, version in versions.items()})
            vek = self._fetcher.fetch(certificate(f"{service}/{hwid}?{query}")).body
        elif not vek:
            raise FetchError(
                FetchCode.NOT_SERVED,
                "AMD publishes no certificate of a key that is lent to a cloud provider",
                expected="the VLEK certificate of the machine",
                remedy="take it from the machine's certificate table, and give it with --vlek",
            )
        chain = self._fetcher.fetch(certificate_chain(f"{service}/cert_chain"))
        return SnpCollateral(vek=vek, chain=chain.body, crl=self._snp_crl(service)).to_json()

    def _snp_crl(self, service: str) -> bytes:
        """Return the list of the product's root key; empty where AMD has none, which policies must permit by name."""
        try:
            return self._fetcher.fetch(revocation_list(f"{service}/crl")).body
        except FetchError as error:
            if error.code is not FetchCode.NOT_FOUND:
                raise
            return b""
