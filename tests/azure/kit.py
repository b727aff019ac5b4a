"""What the tests of Azure's evidence share: captured evidence with its collateral, and a simulated VM on TDX."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from attestation import evidence
from attestation.amd.collateral import SnpCollateral
from attestation.azure.abi import AzureEvidence
from attestation.azure.hcl import ReportType
from attestation.azure.verified import AzureVerified
from attestation.policy import Policy, load_policy
from attestation.roots import Roots
from attestation.sim.azure import BOOTED, SimulatedAzure, td_report_of
from attestation.sim.tdx import SimulatedTdx
from attestation.validity import parse_rfc3339
from tests.attestation.kit import CREATED, NOW, REPORT_DATA, SEED
from tests.shared import vectors

MR_TD = bytes([9]) * 48

CAPTURED = {
    "coco-evidence-v0.json": (b"challenge", "2025-06-01T00:00:00Z"),
    "coco-evidence-v1.json": (b"challenge", "2025-06-01T00:00:00Z"),
    "coco-evidence-v2.json": (
        bytes.fromhex(
            "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef"
        ),
        "2025-06-01T00:00:00Z",
    ),
    "attrs-evidence-v1-milan-v2.json": (b"challenge", "2024-01-01T00:00:00Z"),
    "attrs-live-evidence.json": (b"attestation-test-fixture", "2025-06-01T00:00:00Z"),
}
"""Captured evidence over SEV-SNP: qualifying data, and when to verify."""


@functools.lru_cache(maxsize=1)
def milan() -> SnpCollateral:
    """ASK and ARK of Milan, without the VCEK, which travels with the evidence, and without a revocation list."""
    text = (vectors() / "snp" / "certs" / "milan_ask_ark_asvk.pem").read_bytes()
    ask, ark, _asvk = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", text, re.DOTALL)
    return SnpCollateral(vek=b"", chain=ask + ark, crl=b"")


def captured(name: str, tee: str = "azure-snp") -> bytes:
    return (vectors() / tee / name).read_bytes()


def parsed(data: bytes) -> AzureEvidence:
    found = evidence.parse(data)
    assert isinstance(found, AzureEvidence)
    return found


def verify_captured(data: bytes, moment: str = "2025-06-01T00:00:00Z") -> AzureVerified:
    verified = evidence.verify(parsed(data), milan(), Roots.vendor(), parse_rfc3339(moment))
    assert isinstance(verified, AzureVerified)
    return verified


# ---------------------------------------------------------------------------------------------------- simulated


@functools.lru_cache(maxsize=4)
def tdx() -> SimulatedTdx:
    return SimulatedTdx(SEED, CREATED)


def quote(report_data: bytes, **changes: Any) -> bytes:
    return tdx().evidence(MR_TD, report_data, **changes)


@functools.lru_cache(maxsize=1)
def vm() -> SimulatedAzure:
    return SimulatedAzure(SEED, ReportType.TDX, lambda data: td_report_of(quote(data)), quote)


@functools.lru_cache(maxsize=1)
def healthy() -> bytes:
    return vm().evidence(REPORT_DATA)


def verify(data: bytes | None = None, now: int = NOW) -> AzureVerified:
    roots = Roots.simulated(tdx().root_pem)
    verified = evidence.verify(parsed(data or healthy()), tdx().collateral(NOW), roots, now)
    assert isinstance(verified, AzureVerified)
    return verified


def changed(data: bytes | None = None, **members: Any) -> bytes:
    """Evidence with members of its JSON replaced; None takes one out."""
    value = json.loads(data or healthy()) | members
    return json.dumps({name: item for name, item in value.items() if item is not None}).encode()


def policy(**tables: dict[str, Any]) -> Policy:
    """A policy that accepts the simulated VM; a keyword (underscores for hyphens) replaces fields of its table."""
    base: dict[str, Any] = {
        "version": 1,
        "evidence": {
            "simulation": True,
            "simulated_root": tdx().root_fingerprint.hex(),
            "tcb_status": ["UpToDate"],
        },
        "azure-tdx": {},
        "tdx": tdx_table(),
        "tpm": {"pcrs": {"sha256": {"pcr7": [BOOTED[7].hex()]}}},
    }
    for table, fields in tables.items():
        base[table.replace("_", "-")] = base.get(table.replace("_", "-"), {}) | fields
    return load_policy(base)


def tdx_table() -> dict[str, Any]:
    return {"mrtd": [MR_TD.hex()], "rtmr1": ["00" * 48], "rtmr2": ["00" * 48]}
