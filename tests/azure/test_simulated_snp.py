"""Azure's wrapping around a simulated SEV-SNP processor, whose certificate travels with the evidence."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation import evidence
from attestation.amd.errors import SnpCode
from attestation.appraise import appraise
from attestation.azure.errors import AzureCode
from attestation.azure.hcl import ReportType
from attestation.azure.verified import AzureVerified
from attestation.errors import EvidenceCode, FindingCode
from attestation.policy import Policy, load_policy
from attestation.roots import Roots
from attestation.sim.azure import BOOTED, SimulatedAzure
from tests.amd import kit as amd
from tests.attestation.kit import NOW, REPORT_DATA, SEED, refused


@pytest.fixture(scope="module", autouse=True)
def amd_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    amd.share_keys(tmp_path_factory.getbasetemp())


def vm(**changes: Any) -> SimulatedAzure:
    """A VM; keywords replace fields of its processor's report."""
    vek = amd.collateral(amd.snp()).vek
    return SimulatedAzure(
        SEED, ReportType.SNP, lambda data: amd.snp().evidence(amd.MEASUREMENT, data, **changes), lambda _: vek
    )


def verify(data: bytes) -> AzureVerified:
    """The collateral's own certificate is left out: the evidence brings it."""
    collateral = dataclasses.replace(amd.collateral(amd.snp()), vek=b"")
    roots = Roots.simulated(amd.snp().root_pem)
    verified = evidence.verify(evidence.parse(data), collateral, roots, NOW)
    assert isinstance(verified, AzureVerified)
    return verified


def policy() -> Policy:
    return load_policy(
        {
            "version": 1,
            "evidence": {
                "simulation": True,
                "simulated_root": amd.snp().root_fingerprint.hex(),
                "tcb_status": ["UpToDate"],
            },
            "azure-snp": {},
            "snp": {
                "measurement": [amd.MEASUREMENT.hex()],
                "reported_tcb_min": {"milan": {"snp": 20}},
                "policy_allowed": ["SMT"],
            },
            "tpm": {"pcrs": {"sha256": {"pcr4": [BOOTED[4].hex()]}}},
        }
    )


def test_a_healthy_vm_is_accepted_under_all_three_tables() -> None:
    verified = verify(vm().evidence(REPORT_DATA))
    appraise(verified, policy(), NOW, report_data=REPORT_DATA).require()
    assert (verified.tee, verified.tcb_status, verified.simulated) == ("azure-snp", "UpToDate", True)


def test_a_certificate_that_is_not_of_the_chip_is_refused() -> None:
    other = amd.collateral(amd.snp(tcb_status="OutOfDate")).vek
    with refused(SnpCode.VEK_TCB):
        verify(vm().evidence(REPORT_DATA, parts={"vcek": other}))
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        verify(vm().evidence(REPORT_DATA, parts={"vcek": b"none"}))


@pytest.mark.parametrize("vmpl", [1, 3, 0xFFFFFFFF])
def test_a_report_that_the_paravisor_did_not_ask_for_is_refused_whatever_the_policy_says(vmpl: int) -> None:
    """A guest above VMPL 0 could have runtime data with its own key reported.  All ones: the host asked."""
    with refused(AzureCode.VMPL) as caught:
        verify(vm(vmpl=vmpl).evidence(REPORT_DATA))
    assert caught.value.found == f"VMPL {vmpl}"


def test_a_bare_report_is_refused_by_a_policy_for_azure() -> None:
    report = evidence.parse(amd.snp().evidence(amd.MEASUREMENT, REPORT_DATA))
    verified = evidence.verify(report, amd.collateral(amd.snp()), Roots.simulated(amd.snp().root_pem), NOW)
    (found,) = appraise(verified, policy(), NOW, report_data=REPORT_DATA).failed
    assert (found.code, found.expected) == (FindingCode.BARE, "snp together with azure-snp")
