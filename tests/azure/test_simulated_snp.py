"""Azure's wrapping around a simulated SEV-SNP processor, whose certificate travels with the evidence."""

from __future__ import annotations

import dataclasses

import pytest

from attestation import evidence
from attestation.amd.errors import SnpCode
from attestation.appraise import appraise
from attestation.azure.hcl import ReportType
from attestation.azure.verified import AzureVerified
from attestation.errors import EvidenceCode
from attestation.policy import load_policy
from attestation.roots import Roots
from attestation.sim.azure import SimulatedAzure
from tests.amd import kit as amd
from tests.attestation.kit import NOW, REPORT_DATA, SEED, refused


@pytest.fixture(scope="module", autouse=True)
def amd_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    amd.share_keys(tmp_path_factory.getbasetemp())


def vm() -> SimulatedAzure:
    vek = amd.collateral(amd.snp()).vek
    return SimulatedAzure(SEED, ReportType.SNP, lambda data: amd.snp().evidence(amd.MEASUREMENT, data), lambda _: vek)


def verify(data: bytes) -> AzureVerified:
    """The collateral's own certificate is left out: the evidence brings it."""
    collateral = dataclasses.replace(amd.collateral(amd.snp()), vek=b"")
    roots = Roots.simulated(amd.snp().root_pem)
    verified = evidence.verify(evidence.parse(data), collateral, roots, NOW)
    assert isinstance(verified, AzureVerified)
    return verified


def test_a_healthy_vm_is_accepted_under_all_three_tables() -> None:
    policy = load_policy(
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
            "tpm": {"pcrs": {"sha256": {"pcr4": ["00" * 32]}}},
        }
    )
    verified = verify(vm().evidence(REPORT_DATA))
    appraise(verified, policy, NOW, report_data=REPORT_DATA).require()
    assert (verified.tee, verified.tcb_status, verified.simulated) == ("azure-snp", "UpToDate", True)


def test_a_certificate_that_is_not_of_the_chip_is_refused() -> None:
    other = amd.collateral(amd.snp(tcb_status="OutOfDate")).vek
    with refused(SnpCode.VEK_TCB):
        verify(vm().evidence(REPORT_DATA, parts={"vcek": other}))
    with refused(EvidenceCode.CERTIFICATE_MALFORMED):
        verify(vm().evidence(REPORT_DATA, parts={"vcek": b"none"}))
