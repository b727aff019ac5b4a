"""Simulated vendors, as their services answer: Intel's PCS or a PCCS, and AMD's KDS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attestation.amd.collateral import SnpCollateral
from attestation.amd.tcb import Product
from attestation.collateral.cache import Cache
from attestation.collateral.fetcher import Fetcher
from attestation.collateral.http import Clock, HttpClient, Limits
from attestation.collateral.vendors import VendorSource
from attestation.intel.collateral import IntelCollateral
from attestation.sim.snp import SimulatedSnp
from tests.amd import kit as amd
from tests.attestation.kit import NOW, platform
from tests.collateral.service import Reply, Service, Time

FMSPC = "53494d000000"
KEY = f"sgx-{FMSPC}-processor"
DAY = 86400

QUICK = Limits(attempt=5, total=20, attempts=4, pause=0.01, longest_pause=0.05)
CRL = "application/pkix-crl"

SGX, TDX = "/sgx/certification/v4", "/tdx/certification/v4"
PCK_CRL = f"{SGX}/pckcrl?ca=processor&encoding=der"
ROOT_CRL = f"{SGX}/rootcacrl"
TCB = f"{SGX}/tcb?fmspc={FMSPC.upper()}"
IDENTITY = f"{SGX}/qe/identity"


def client(limits: Limits = QUICK, time: Time | None = None, **options: Any) -> HttpClient:
    """A client whose pauses take no time if `time` is given."""
    if time is None:
        return HttpClient(limits=limits, **options)
    clock = Clock(monotonic=time.monotonic, wall=lambda: float(NOW), sleep=time.sleep, chance=lambda: 1.0)
    return HttpClient(limits=limits, clock=clock, **options)


def source(
    service: Service, cache: Path | None = None, *, now: Callable[[], int] = lambda: NOW, **options: Any
) -> VendorSource:
    """Both vendors, at one service."""
    fetcher = Fetcher(client(), None if cache is None else Cache(cache), now=now, max_age=options.pop("max_age", None))
    return VendorSource(fetcher, pccs=service.url, kds=service.url, **options)


def serve_intel(service: Service, collateral: IntelCollateral | None = None, tee: str = "sgx") -> IntelCollateral:
    """Have a service answer as a PCCS does, with ETags; returns what it serves."""
    held = collateral or platform().collateral(NOW)
    prefix = SGX if tee == "sgx" else TDX
    service.replies |= {
        PCK_CRL: tagged(held.pck_crl, CRL, {"SGX-PCK-CRL-Issuer-Chain": quote(held.pck_crl_issuer_chain.decode())}),
        ROOT_CRL: tagged(held.root_ca_crl.hex().encode(), "text/plain"),
        f"{prefix}/tcb?fmspc={FMSPC.upper()}": tagged(
            signed("tcbInfo", held.tcb_info, held.tcb_info_signature),
            "application/json",
            {"TCB-Info-Issuer-Chain": quote(held.tcb_info_issuer_chain.decode())},
        ),
        f"{prefix}/qe/identity": tagged(
            signed("enclaveIdentity", held.qe_identity, held.qe_identity_signature),
            "application/json; charset=utf-8",
            {"SGX-Enclave-Identity-Issuer-Chain": quote(held.qe_identity_issuer_chain.decode())},
        ),
    }
    return held


def signed(member: str, body: bytes, signature: bytes) -> bytes:
    return b'{"%s":%s,"signature":"%s"}' % (member.encode(), body, signature.hex().encode())


def tagged(body: bytes, media: str, headers: dict[str, str] | None = None) -> Callable[[Any], Reply]:
    """A document with an ETag; who has it already gets 304."""
    tag = f'"{len(body)}-{body[-24:].hex()}"'

    def reply(asked: Any) -> Reply:
        if asked.get("If-None-Match") == tag:
            return Reply(b"", 304, length="")
        return Reply(body, headers={"ETag": tag, **(headers or {})}, media=media)

    return reply


def snp(product: Product = Product.MILAN, **options: Any) -> SimulatedSnp:
    return SimulatedSnp(amd.keys(), product, **options)


def serve_amd(service: Service, simulated: SimulatedSnp, query: str) -> SnpCollateral:
    """Have a service answer as AMD's KDS does; returns what it serves."""
    held = simulated.collateral(NOW)
    base = f"/vcek/v1/{simulated.product.label}"
    service.replies |= {
        f"{base}/{simulated.hwid.hex()}?{query}": Reply(held.vek),
        f"{base}/cert_chain": Reply(held.chain, media="application/x-pem-file"),
        f"{base}/crl": Reply(held.crl),
    }
    return held


def write_quote(path: Path) -> Path:
    subject = platform()
    path.write_bytes(subject.quote(subject.report_body(bytes(32)), bytes(64)))
    return path


def reissued(days: int) -> IntelCollateral:
    """The platform's collateral as of some days after NOW."""
    return platform().collateral(NOW + days * DAY)


def parsed(text: bytes) -> Any:
    return json.loads(text)
