"""Cases of Azure's vTPM evidence over TDX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attestation.azure.errors import AzureCode
from attestation.azure.hcl import ReportType
from attestation.errors import EvidenceCode as E
from attestation.errors import FindingCode as F
from attestation.sim.azure import SimulatedAzure, td_report_of
from tests.vectors.attestation import tdx
from tests.vectors.attestation.azure import PCRS, Vm, shared_cases
from tests.vectors.attestation.intel import dated_cases, flip, put
from tests.vectors.attestation.scene import NOW, REPORT_DATA, SEED, Scene, merged
from tests.vectors.attestation.vector import Vector

MACHINE: Final = tdx.MACHINE.platform


def quote(report_data: bytes, **fields: Any) -> bytes:
    data: bytes = MACHINE.evidence(tdx.MRTD, report_data, **fields)
    return data


VM: Final = SimulatedAzure(SEED, ReportType.TDX, lambda data: td_report_of(quote(data)), quote)
POLICY: Final = merged(tdx.SCENE.policy, azure_tdx={}, tpm={"pcrs": PCRS})  # type: ignore[arg-type]
SCENE: Final = Scene(
    tee="azure-tdx",
    version=1,
    evidence=VM.evidence(REPORT_DATA),
    collateral=tdx.SCENE.collateral,
    roots=tdx.SCENE.roots,
    policy=POLICY,
    tcb_status="UpToDate",
)


def altered(at: int) -> bytes:
    """Evidence whose TD report differs from the quote in one byte."""

    def report(data: bytes) -> bytes:
        raw = td_report_of(quote(data))
        return put(raw, at, bytes([raw[at] ^ 1]))

    return SimulatedAzure(SEED, ReportType.TDX, report, quote).evidence(REPORT_DATA)


def wrapped(platform: Any) -> bytes:
    """Evidence of a VM on another platform."""

    def quote_there(report_data: bytes) -> bytes:
        data: bytes = platform.evidence(tdx.MRTD, report_data)
        return data

    vm = SimulatedAzure(SEED, ReportType.TDX, lambda data: td_report_of(quote_there(data)), quote_there)
    return vm.evidence(REPORT_DATA)


def cases() -> Iterator[Vector]:
    yield from shared_cases(Vm(SCENE, VM, "td_quote"))
    yield from dated_cases(tdx.MACHINE, SCENE, wrapped)
    yield SCENE.unverified(
        "quote for other runtime data",
        "The TD quote is bound to other runtime data.",
        AzureCode.RUNTIME_DATA,
        evidence=VM.evidence(REPORT_DATA, parts={"td_quote": quote(bytes(64))}),
    )
    yield SCENE.unverified(
        "quote altered",
        "A bit of the TD quote differs.",
        E.QUOTE_SIGNATURE,
        evidence=VM.evidence(REPORT_DATA, parts={"td_quote": flip(quote(bytes(64)), 30)}),
    )
    for edge, code, at in (
        ("td report of another td", AzureCode.TD_REPORT, 512 + 16),
        ("td report of another module", AzureCode.TD_REPORT, 256 + 40),
        ("td report of other report data", AzureCode.TD_REPORT, 128 + 3),
        ("td report of another type", AzureCode.TD_REPORT, 0),
        ("td report with a reserved byte", AzureCode.HCL_MALFORMED, 192),
    ):
        comment = "The TD report in the paravisor's report says what the TD quote says, and no more."
        yield SCENE.unverified(edge, comment, code, evidence=altered(at))
    yield SCENE.unverified(
        "collateral of the processor expired",
        "The dates are those of the processor's part.",
        E.CRL_EXPIRED,
        now=NOW + 40 * 86400,
    )
    yield SCENE.refused(
        "no table for the processor",
        "The policy has tables for the machine and its vTPM alone.",
        F.TEE,
        policy={name: table for name, table in POLICY.items() if name != "tdx"},
    )
    yield tdx.SCENE.refused(
        "stripped of azure",
        "Where the policy has a table for Azure's wrapping, a bare quote would escape the other tables.",
        F.BARE,
        policy=POLICY,
    )
