"""What the tests of Nitro documents share: the catalogued documents, a simulated hypervisor, and policies."""

from __future__ import annotations

import functools
import json
from typing import Any

from attestation import evidence
from attestation.chains import Chain
from attestation.evidence import Roots
from attestation.nitro.document import NitroDocument
from attestation.nitro.verify import NitroVerified
from attestation.policy import Policy, load_policy
from attestation.sim.nitro import NitroState, SimulatedNitro
from tests.shared import vectors

NOW = 1_760_000_000
"""2025-10-09T08:53:20Z, for everything simulated."""
CREATED = NOW - 10 * 86400
SEED = bytes(range(32))
IMAGE = bytes([7]) * 48
REPORT_DATA = bytes([5]) * 64

REAL_NOW = 1_766_668_537
"""2025-12-25T13:15:37Z, the second in which the catalogued document NITRO-1 was made."""
DEBUG_NOW = 1_766_650_846


@functools.cache
def hypervisor(**state: Any) -> SimulatedNitro:
    return SimulatedNitro(SEED, CREATED, NitroState(**state))


def simulated(**changes: Any) -> bytes:
    return hypervisor().evidence({0: IMAGE}, REPORT_DATA, NOW, **changes)


def sim_roots() -> Roots:
    return Roots.simulated(hypervisor().root_pem)


def verify_sim(data: bytes, now: int = NOW, known: Chain | None = None) -> NitroVerified:
    return evidence.verify(evidence.parse(data), known, sim_roots(), now)


def real(name: str = "prod-a.cose.cbor") -> bytes:
    return (vectors() / "nitro" / name).read_bytes()


def verify_real(data: bytes, now: int = REAL_NOW, known: Chain | None = None) -> NitroVerified:
    return evidence.verify(evidence.parse(data), known, Roots.vendor(), now)


def parsed(data: bytes) -> NitroDocument:
    document = evidence.parse(data)
    assert isinstance(document, NitroDocument)
    return document


def rows() -> list[dict[str, Any]]:
    """The catalogue's rows of Nitro documents."""
    catalogue = json.loads((vectors() / "catalogue.json").read_text(encoding="utf-8"))
    return [row for row in catalogue["rows"] if row["id"].startswith("NITRO-")]


def policy(*, simulation: bool = True, **table: Any) -> Policy:
    """A policy that accepts the simulated document; keywords replace fields of [nitro]."""
    source: dict[str, Any] = {
        "version": 1,
        "evidence": {"tcb_status": ["UpToDate"]},
        "nitro": {"pcrs": {"pcr0": [IMAGE.hex()]}} | table,
    }
    if simulation:
        source["evidence"] |= {"simulation": True, "simulated_root": hypervisor().root_fingerprint.hex()}
    return load_policy(source)
