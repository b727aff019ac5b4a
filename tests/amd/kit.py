"""What the tests of SEV-SNP share: simulated processors with one set of keys, the real vectors, and policies."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.amd.abi import Report, SigningKey, parse_report
from attestation.amd.collateral import SnpCollateral
from attestation.amd.tcb import Product
from attestation.amd.verified import SnpVerified
from attestation.amd.verify import verify_report
from attestation.findings import Appraisal
from attestation.intel import pem
from attestation.policy import Policy, load_policy
from attestation.roots import Roots
from attestation.sim.amd_keys import AmdKeys
from attestation.sim.snp import SimulatedSnp, SnpState
from manifests.errors import ErrorCode, StrongroomError
from tests.shared import vectors

NOW = 1_760_000_000
"""2025-10-09T08:53:20Z, for everything simulated."""
CREATED = NOW - 1_000_000
SEED = bytes(range(32))
MEASUREMENT = bytes([7]) * 48
REPORT_DATA = bytes([5]) * 64

DER = Encoding.DER

_keys: list[AmdKeys] = []


def share_keys(base: Path) -> None:
    """Make the keys, or take those that another process of this run has made; `base` is this process's folder."""
    if _keys:
        return
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = folder / "simulated-amd.key"
    with (folder / "simulated-amd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            path.write_bytes(AmdKeys.generate(CREATED, SEED).serialize())
    _keys.append(AmdKeys.parse(path.read_bytes()))


def keys() -> AmdKeys:
    return _keys[0]


def signature(message: bytes) -> bytes:
    """The ASK's signature, randomised and fast."""
    return keys().ask.sign(message, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())


def datetime_of(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@functools.lru_cache(maxsize=64)
def snp(product: Product = Product.MILAN, signing_key: SigningKey = SigningKey.VCEK, **state: Any) -> SimulatedSnp:
    return SimulatedSnp(keys(), product, signing_key, SnpState(**state))


@functools.lru_cache(maxsize=64)
def collateral(simulated: SimulatedSnp) -> SnpCollateral:
    return simulated.collateral(NOW)


def roots(simulated: SimulatedSnp) -> Roots:
    return Roots.simulated(simulated.root_pem)


def verify(
    simulated: SimulatedSnp | None = None,
    data: bytes | None = None,
    held: SnpCollateral | None = None,
    now: int = NOW,
    **changes: Any,
) -> SnpVerified:
    """Verify a report of a simulated processor; changes: fields of the report."""
    simulated = simulated or snp()
    data = data or simulated.evidence(**{"measurement": MEASUREMENT, "report_data": REPORT_DATA} | changes)
    return verify_report(parse_report(data), held or collateral(simulated), roots(simulated), now)


def policy_map(**changes: Any) -> dict[str, Any]:
    """A policy that accepts the simulated guest of `snp()`; a keyword replaces a field of [snp], None leaves it out."""
    table: dict[str, Any] = {
        "measurement": [MEASUREMENT.hex()],
        "reported_tcb_min": {"milan": {"snp": 20}, "genoa": {"snp": 20}, "turin": {"snp": 1}},
        "policy_allowed": ["SMT"],
    }
    table |= changes
    simulated_roots = [snp(product).root_fingerprint.hex() for product in Product]
    return {
        "version": 1,
        "evidence": {"simulation": True, "simulated_root": simulated_roots, "tcb_status": ["UpToDate"]},
        "snp": {name: value for name, value in table.items() if value is not None},
    }


def policy(**changes: Any) -> Policy:
    return load_policy(policy_map(**changes))


def failed(appraisal: Appraisal) -> list[ErrorCode]:
    return [finding.code for finding in appraisal.failed]


# ------------------------------------------------------------------------------------------------ real evidence


@dataclasses.dataclass(frozen=True)
class Vector:
    """A row of the catalogue: where its report, certificate and chain lie, and when it is verified."""

    report: str
    vek: str
    product: str
    now: str

    def data(self) -> bytes:
        return (vectors() / "snp" / self.report).read_bytes()

    def parsed(self) -> Report:
        return parse_report(self.data())

    def collateral(self, *, vek: str | None = None, chain: str | None = None) -> SnpCollateral:
        product = chain or self.product
        ask, ark, asvk = certificates(f"certs/{product}_ask_ark_asvk.pem")
        (leaf,) = certificates(vek or self.vek)
        signer = asvk if "vlek" in self.vek else ask
        return SnpCollateral(vek=leaf, chain=pem.encode_chain(signer, ark), crl=b"")


def certificates(name: str) -> list[bytes]:
    """The DER certificates of a file in either form."""
    data = (vectors() / "snp" / name).read_bytes()
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", data, re.DOTALL)
    return [base64.b64decode(block) for block in blocks] or [data]


def catalogue() -> dict[str, dict[str, Any]]:
    """The rows about SEV-SNP alone, by id."""
    rows = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))["rows"]
    return {row["id"]: row for row in rows if row["id"].startswith("SNP-")}


@contextlib.contextmanager
def refused(code: ErrorCode) -> Iterator[pytest.ExceptionInfo[StrongroomError]]:
    """Expect the one error with this code."""
    with pytest.raises(StrongroomError) as caught:
        yield caught
    assert caught.value.code is code, f"{caught.value} instead of {code}"
