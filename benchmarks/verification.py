"""Verify quotes, against the `dcap-qvl` package: same quotes, same collateral, same time, one after the other.

cold: nothing is known of the platform but the pinned root, and the collateral is verified with each quote.  warm: the
collateral and the platform's chain were verified before, and each timed quote is another one, so that no verdict could
be remembered; new_key: each with another attestation key, too, which the platform's quoting enclave vouches for.
signatures: the nine signature checks of a cold verification by themselves, which is as fast as one can be that makes
them with `cryptography`.  batch: different quotes through all cores.

The quotes and the collateral are a simulated platform's, in Intel's formats, but without the mark of a simulated
platform in its certificates: the peer cannot read its long identifier.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dcap_qvl
from cryptography.hazmat.primitives.asymmetric import ec

from attestation import evidence
from attestation.batch import BatchVerifier
from attestation.errors import EvidenceCode
from attestation.intel import ecdsa
from attestation.intel.abi import QuoteV3, parse_quote
from attestation.intel.certificates import SGX_EXTENSION
from attestation.intel.collateral import IntelCollateral
from attestation.intel.pem import encode_chain
from attestation.intel.td_abi import TdQuote
from attestation.intel.verify import ValidatedCollateral
from attestation.roots import Roots
from attestation.sim.extension import encode_extension
from attestation.sim.pki import Authority, Pki, Profile, certify
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.signature import raw_point, sign_raw
from attestation.sim.tdx import SimulatedTdx
from benchmarks.timing import Times, repeat_in_turn

SEED, CREATED = bytes(range(32)), 1_760_000_000
NOW = CREATED + 1_000_000
COUNT = 2000
SIGNATURES = 9
"""PCK CA, TCB signing, PCK; two revocation lists; TCB info, QE identity; QE report, quote."""
LIMITS = {"cold_ratio": 1.5, "warm_ratio": 0.3}
"""What is aimed at."""


def measure(count: int = COUNT) -> dict[str, object]:
    """Return times and their ratios to the peer's, for SGX and TDX."""
    enclave, machine = SimulatedPlatform(SEED, CREATED), SimulatedTdx(SEED, CREATED)
    enclave.pki, machine.pki = unmarked(enclave.pki), unmarked(machine.pki)
    root = enclave.pki.root.der
    body = enclave.report_body(bytes(32))
    makers: dict[str, tuple[Callable[[bytes], bytes], IntelCollateral, Authority]] = {
        "sgx": (
            lambda data: with_chain(enclave.quote(body, data), enclave.pki),
            enclave.collateral(NOW),
            enclave.pki.pck,
        ),
        "tdx": (lambda data: machine.evidence(bytes(48), data), machine.collateral(NOW), machine.pki.pck),
    }
    results: dict[str, object] = {}
    for tee, (make, collateral, pck) in makers.items():
        quotes = [make(number.to_bytes(64, "big")) for number in range(count)]
        new_keys = [with_new_key(parse_any(quote), pck) for quote in quotes]
        results[tee] = _compare(quotes, new_keys, collateral, root)
    return results


def unmarked(pki: Pki) -> Pki:
    """Return the same hierarchy, keys and dates, without the simulator's mark."""

    def again(old: Authority, name: str, issuer: Authority | None, **profile: Any) -> Authority:
        dates = old.certificate.not_valid_before_utc, old.certificate.not_valid_after_utc
        start, end = (int(date.timestamp()) for date in dates)
        serial = old.certificate.serial_number
        return certify(Profile(name, marked=False, **profile), old.key, issuer, serial=serial, start=start, end=end)

    root = again(pki.root, "Root CA", None)
    pck_ca = again(pki.pck_ca, "PCK Processor CA", root)
    extension = ((SGX_EXTENSION, encode_extension(pki.extension)),)
    return Pki(
        root=root,
        pck_ca=pck_ca,
        tcb_signing=again(pki.tcb_signing, "TCB Signing", root, authority=False),
        pck=again(pki.pck, "PCK Certificate", pck_ca, authority=False, extra=extension),
        extension=pki.extension,
    )


def with_chain(quote: bytes, pki: Pki) -> bytes:
    """Return a quote with another chain, which no signature covers."""
    chain = encode_chain(pki.pck.der, pki.pck_ca.der, pki.root.der)
    return replace(parse_quote(quote), certification_data=chain).serialize()


def with_new_key(quote: QuoteV3 | TdQuote, pck: Authority) -> bytes:
    """Return the quote under another attestation key, which the platform vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = raw_point(key)
    bound = hashlib.sha256(point + quote.qe_auth_data).digest() + bytes(32)
    report = replace(quote.qe_report, report_data=bound)
    return replace(
        quote,
        attestation_key=point,
        signature=sign_raw(key, quote.signed),
        qe_report=report,
        qe_report_signature=pck.sign_raw(report.serialize()),
    ).serialize()


def parse_any(quote: bytes) -> QuoteV3 | TdQuote:
    """Parse a quote of SGX or TDX."""
    parsed = evidence.parse(quote)
    assert isinstance(parsed, QuoteV3 | TdQuote)
    return parsed


def _compare(quotes: list[bytes], new_keys: list[bytes], collateral: IntelCollateral, root: bytes) -> dict[str, object]:
    roots = Roots.dangerous_replacement(root)  # of no other use than here
    prepared = evidence.authenticate(collateral, roots)
    theirs = dcap_qvl.QuoteCollateralV3.from_json(collateral.to_json())
    signed = parse_any(quotes[0])
    key = ecdsa.load_point(signed.attestation_key)

    def signatures() -> None:
        for _ in range(SIGNATURES):
            ecdsa.verify_raw(key, signed.signature, signed.signed, EvidenceCode.QUOTE_SIGNATURE)

    def verifying(pieces: list[bytes], known: IntelCollateral | ValidatedCollateral) -> Callable[[], object]:
        left = iter(pieces)  # which ends: no piece is timed twice
        return lambda: evidence.verify(evidence.parse(next(left)), known, roots, NOW)

    theirs_left = iter(quotes)
    peer, cold, warm, new_key, nine = repeat_in_turn(
        lambda: dcap_qvl.verify_with_root_ca(next(theirs_left), theirs, root, NOW),
        verifying(quotes, collateral),
        verifying(quotes, prepared),
        verifying(new_keys, prepared),
        signatures,
        most=len(quotes),
    )
    batch = _batch(quotes, collateral, roots)
    ratios = {"cold_ratio": round(cold.median / peer.median, 3), "warm_ratio": round(warm.median / peer.median, 3)}
    return {
        **{
            name: {"ratio": ratio, "limit": LIMITS[name], "met": ratio <= LIMITS[name]}
            for name, ratio in ratios.items()
        },
        "new_key_ratio": round(new_key.median / peer.median, 3),
        "signatures_ratio": round(nine.median / peer.median, 3),
        "dcap_qvl_ms": _milliseconds(peer),
        "cold_ms": _milliseconds(cold),
        "warm_ms": _milliseconds(warm),
        "new_key_ms": _milliseconds(new_key),
        "signatures_ms": _milliseconds(nine),
        "batch_per_second": round(len(quotes) / batch),
        "batch_cores": len(os.sched_getaffinity(0)),
        "batch_ratio_to_warm": round(batch / len(quotes) / warm.median, 3),
    }


def _batch(quotes: list[bytes], collateral: IntelCollateral, roots: Roots) -> float:
    """Return the seconds that all quotes take, once the processes have begun."""
    with BatchVerifier(collateral, roots) as verifier:
        verifier.verify(quotes[:64], NOW)
        start = time.perf_counter()
        verifier.verify(quotes, NOW)
        return time.perf_counter() - start


def _milliseconds(times: Times) -> dict[str, float]:
    return {"median": round(times.median * 1e3, 3), "p99": round(times.p99 * 1e3, 3), "runs": times.runs}
