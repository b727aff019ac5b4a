"""What the tests of trust domains share: a simulated platform, real captures, and policies."""

from __future__ import annotations

import functools
import json
from typing import Any

from attestation import evidence
from attestation.evidence import Roots
from attestation.intel.collateral import IntelCollateral
from attestation.intel.td_abi import TdQuote, TdReport, parse_td_quote
from attestation.intel.verified import TdxVerified
from attestation.policy import Policy, load_policy
from attestation.sim.tdx import SimulatedTdx, TdxState
from tests.shared import vectors

NOW = 1_760_000_000
"""2025-10-09T08:53:20Z, for everything simulated."""
CREATED = NOW - 1_000_000
SEED = bytes(range(32))
MRTD = bytes([7]) * 48
REPORT_DATA = bytes([5]) * 64

REAL_NOW = 1_752_919_234
"""2025-07-19T10:00:34Z, as the catalogue has it."""


@functools.lru_cache(maxsize=64)
def platform(**state: Any) -> SimulatedTdx:
    return SimulatedTdx(SEED, CREATED, TdxState(**state))


def sim_roots() -> Roots:
    return Roots.simulated(platform().root_pem)


@functools.lru_cache(maxsize=2)
def sim_quote(version: int = 4) -> bytes:
    return platform().evidence(MRTD, REPORT_DATA, version=version)


def parsed(version: int = 4) -> TdQuote:
    return parse_td_quote(sim_quote(version))


def verify_sim(
    data: bytes | None = None, collateral: IntelCollateral | None = None, now: int = NOW, version: int = 4
) -> TdxVerified:
    quote = evidence.parse(data or sim_quote(version))
    return evidence.verify(quote, collateral or platform().collateral(NOW), sim_roots(), now)


def in_state(version: int = 4, **state: Any) -> TdxVerified:
    """Verify a TD of a platform in this state."""
    subject = platform(**state)
    return verify_sim(subject.evidence(MRTD, REPORT_DATA, version=version), subject.collateral(NOW))


def reporting(version: int = 4, **changes: Any) -> TdxVerified:
    """Verify a TD whose report has these fields."""
    return verify_sim(platform().evidence(changes.pop("mr_td", MRTD), REPORT_DATA, version=version, **changes))


def report(version: int = 4) -> TdReport:
    return parsed(version).body


# ------------------------------------------------------------------------------------------------ real captures


def real(path: str) -> bytes:
    """The quote in a captured file, out of whichever wrapping that has, with its padding."""
    data = (vectors() / path).read_bytes()
    if path.endswith(".hex"):
        return bytes.fromhex(data.decode("ascii"))
    if path.endswith(".json"):
        return bytes.fromhex(json.loads(data)["quote"])
    return data[4:5010] if path.endswith(".attestation.bin") else data


def real_collateral(path: str) -> IntelCollateral:
    return IntelCollateral.from_json((vectors() / path).read_bytes())


# ----------------------------------------------------------------------------------------------------- policies


def policy_map(**changes: dict[str, Any]) -> dict[str, Any]:
    """A policy that accepts the simulated TD; a keyword replaces fields of the table of that name."""
    base: dict[str, Any] = {
        "version": 1,
        "evidence": {
            "simulation": True,
            "simulated_root": platform().root_fingerprint.hex(),
            "tcb_status": ["UpToDate"],
        },
        "tdx": {"mrtd": [MRTD.hex()], "rtmr1": ["00" * 48], "rtmr2": ["00" * 48]},
    }
    for table, fields in changes.items():
        merged = base.get(table, {}) | fields
        base[table] = {name: value for name, value in merged.items() if value is not None}
    return base


def policy(**changes: dict[str, Any]) -> Policy:
    return load_policy(policy_map(**changes))
