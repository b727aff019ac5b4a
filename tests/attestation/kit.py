"""What the tests of evidence share: one simulated platform, the real vector, policies, and a way to expect refusals."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from attestation import evidence
from attestation.evidence import Roots
from attestation.intel.abi import QuoteV3
from attestation.intel.collateral import IntelCollateral
from attestation.intel.verified import IntelVerified
from attestation.policy import Policy, load_policy
from attestation.sim.issue import Span, spans
from attestation.sim.platform import SimulatedPlatform
from attestation.sim.state import State
from manifests.errors import ErrorCode, StrongroomError
from tests.shared import vectors

T = TypeVar("T")

NOW = 1_760_000_000
"""2025-10-09T08:53:20Z, for everything simulated."""
CREATED = NOW - 1_000_000
SEED = bytes(range(32))
MRENCLAVE = bytes([7]) * 32
REPORT_DATA = bytes([5]) * 64

REAL_NOW = 1_752_919_277
"""2025-07-19T10:01:17Z, as the catalogue has it."""
REAL_MRENCLAVE = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"


@functools.lru_cache(maxsize=64)
def platform(**state: Any) -> SimulatedPlatform:
    return SimulatedPlatform(SEED, CREATED, dataclasses.replace(State(), **state))


@functools.lru_cache(maxsize=1)
def sim_quote() -> bytes:
    return platform().quote(platform().report_body(MRENCLAVE), REPORT_DATA)


def sim_roots() -> Roots:
    return Roots.simulated(platform().root_pem)


def dates(**changed: Span) -> dict[str, Span]:
    """Healthy dates at NOW, with those of the named documents replaced (underscores for hyphens)."""
    return spans(State(), NOW) | {name.replace("_", "-"): span for name, span in changed.items()}


def verify_sim(data: bytes | None = None, collateral: IntelCollateral | None = None, now: int = NOW) -> IntelVerified:
    return evidence.verify(
        evidence.parse(data or sim_quote()), collateral or platform().collateral(NOW), sim_roots(), now
    )


def real_quote() -> bytes:
    return (vectors() / "sgx" / "v3-dcapqvl.quote.bin").read_bytes()


def real_collateral() -> IntelCollateral:
    return IntelCollateral.from_json((vectors() / "sgx/collateral/dcapqvl-00a067110000.json").read_bytes())


def verify_real(data: bytes, now: int = REAL_NOW, collateral: IntelCollateral | None = None) -> IntelVerified:
    return evidence.verify(evidence.parse(data), collateral or real_collateral(), Roots.vendor(), now)


def parsed() -> QuoteV3:
    return evidence.parse(sim_quote())


def policy_map(**changes: dict[str, Any]) -> dict[str, Any]:
    """A policy that accepts the simulated quote; a keyword replaces fields of the table of that name."""
    base: dict[str, Any] = {
        "version": 1,
        "evidence": {
            "simulation": True,
            "simulated_root": platform().root_fingerprint.hex(),
            "tcb_status": ["UpToDate"],
        },
        "sgx": {"mrenclave": [MRENCLAVE.hex()]},
    }
    for table, fields in changes.items():
        merged = base.get(table, {}) | fields
        base[table] = {name: value for name, value in merged.items() if value is not None}
    return base


def policy(**changes: dict[str, Any]) -> Policy:
    return load_policy(policy_map(**changes))


@contextlib.contextmanager
def refused(code: ErrorCode) -> Iterator[pytest.ExceptionInfo[StrongroomError]]:
    """Expect the one error with this code."""
    with pytest.raises(StrongroomError) as caught:
        yield caught
    assert caught.value.code is code, f"{caught.value} instead of {code}"


def outcome(action: Callable[[], T]) -> T | ErrorCode:
    """What a call gives: its value, or the code of its refusal; any other exception is a defect."""
    try:
        return action()
    except StrongroomError as error:
        return error.code
