"""What the tests of NVIDIA evidence share: captured reports, chains and manifests, simulated devices, policies."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from attestation import evidence
from attestation.appraise import appraise
from attestation.evidence import Roots
from attestation.nvidia.container import NvidiaEvidence, pack
from attestation.nvidia.sdk_json import pem_chain
from attestation.nvidia.verified import NvidiaVerified
from attestation.nvidia.verify import Known
from attestation.policy import Policy, load_policy
from attestation.sim.nvidia import Device, ReportChanges, SimulatedNvidia
from manifests.errors import ErrorCode
from tests.shared import vectors

NOW = 1_760_000_000
"""2025-10-09T08:53:20Z, for everything simulated, and for the captured reports without manifests of their time."""
SWITCH_NOW = 1_780_272_000
"""2026-06-01T00:00:00Z, when the captured switch manifest's signer is valid."""
CREATED = NOW - 10 * 86400
SEED = bytes(range(32))
REPORT_DATA = bytes([5]) * 64
NONCE = hashlib.sha256(REPORT_DATA).digest()

SWITCH_RIM = "rims/NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"
SWITCH = Device(product="LS10", vbios_version="96.10.00.00.01")
BLACKWELL = Device(product="GB100", vbios_version="97.00.00.00.01")


def file(name: str) -> bytes:
    return (vectors() / "nvidia" / name).read_bytes()


def real_report(name: str) -> bytes:
    return bytes.fromhex(file(name).decode("ascii").strip())


def captured(name: str, *rims: str, chain: str | None = None) -> bytes:
    """A container of a captured report with its chain and manifests."""
    ders = pem_chain(file(chain or f"{name}.chain.pem"))
    return pack([(real_report(f"{name}.report.hex"), ders)], [file(rim) for rim in rims])


def rows() -> list[dict[str, Any]]:
    """The catalogue's rows of NVIDIA evidence."""
    catalogue = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))
    return [row for row in catalogue["rows"] if row["id"].startswith("NV-")]


def verify_real(data: bytes, now: int = NOW, known: Known | None = None) -> NvidiaVerified:
    return evidence.verify(evidence.parse(data), known, Roots.vendor(), now)


@functools.cache
def platform() -> SimulatedNvidia:
    return SimulatedNvidia(SEED, CREATED)


@functools.cache
def rims(*devices: Device) -> tuple[bytes, ...]:
    return platform().rims(*devices)


def simulated(*devices: Device, manifests: Sequence[bytes] | None = None, **changes: Any) -> bytes:
    devices = devices or (Device(),)
    return platform().evidence(
        REPORT_DATA,
        *devices,
        rims=rims(*devices) if manifests is None else manifests,
        changes=ReportChanges(**changes),
    )


def sim_roots() -> Roots:
    return Roots.simulated(platform().root_pem)


def parsed(data: bytes) -> NvidiaEvidence:
    container = evidence.parse(data)
    assert isinstance(container, NvidiaEvidence)
    return container


def verify_sim(data: bytes, now: int = NOW, known: Known | None = None) -> NvidiaVerified:
    return evidence.verify(parsed(data), known, sim_roots(), now)


def policy_map(*, simulation: bool = True, **table: Any) -> dict[str, Any]:
    """A policy that accepts the simulated GPU; keywords replace fields of [nvidia], None leaves one out."""
    base: dict[str, Any] = {
        "products": ["GH100"],
        "driver_versions": ["580.00"],
        "vbios_versions": ["96.00.00.00.01"],
    }
    source: dict[str, Any] = {
        "version": 1,
        "evidence": {"tcb_status": ["UpToDate"]},
        "nvidia": {name: value for name, value in (base | table).items() if value is not None},
    }
    if simulation:
        source["evidence"] |= {"simulation": True, "simulated_root": platform().root_fingerprint.hex()}
    return source


def policy(*, simulation: bool = True, **table: Any) -> Policy:
    return load_policy(policy_map(simulation=simulation, **table))


def failed(verified: NvidiaVerified, **table: Any) -> list[ErrorCode]:
    """Codes of the checks that fail under the policy, in order."""
    chosen = policy(simulation=verified.simulated, **table)
    return [finding.code for finding in appraise(verified, chosen, NOW).failed]


def changed(data: bytes, **report: Any) -> NvidiaEvidence:
    """Parsed evidence whose first report has other fields."""
    container = parsed(data)
    first = container.devices[0]
    device = dataclasses.replace(first, report=dataclasses.replace(first.report, **report))
    return dataclasses.replace(container, devices=(device, *container.devices[1:]))
