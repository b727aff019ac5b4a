"""Run every check that applies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attestation.wire.address import Address
from host.errors import HostCode, HostError
from host.guard.deployment import folder_findings, listener_findings, manifest_finding, model_findings
from host.guard.finding import Finding
from host.guard.kernel import kernel_findings
from host.guard.machine import machine_findings
from host.guard.probe import Probe
from host.models import ModelFolder


@dataclass(frozen=True)
class Plan:
    """What is to be deployed; what is None or empty is not checked."""

    home: Path
    models: Path | None = None
    manifest: Path | None = None
    platform_home: Path | None = None
    addresses: tuple[Address, ...] = ()
    dangerously_unconfined: bool = False
    processes: int = 1


def check(plan: Plan, probe: Probe | None = None) -> list[Finding]:
    """Return a finding for every expectation, met or not, in a fixed order."""
    probe = probe or Probe()
    models = _scan(plan.models)
    size = 0 if models is None else sum(entry.stamp.size for entry in models.models)
    findings = [
        *machine_findings(probe, plan.home, size, plan.processes),
        *kernel_findings(probe, may_run_unconfined=plan.dangerously_unconfined),
    ]
    findings += folder_findings(plan.home, plan.platform_home or plan.home / "platform")
    if plan.models is not None:
        findings += model_findings(plan.models, models)
    if plan.manifest is not None:
        findings.append(manifest_finding(plan.manifest))
    findings += listener_findings(plan.addresses)
    return findings


def require(findings: Sequence[Finding]) -> None:
    """Raise HostError `check-failed` if a finding blocks the deployment."""
    blocking = [finding for finding in findings if finding.blocks]
    if blocking:
        raise HostError(
            HostCode.CHECK_FAILED,
            f"{len(blocking)} blocking: {', '.join(str(finding.code) for finding in blocking)}",
            found="; ".join(finding.found for finding in blocking)[:500],
            remedy=blocking[0].remedy,
        )


def _scan(folder: Path | None) -> ModelFolder | None:
    if folder is None or not folder.is_dir():
        return None
    models = ModelFolder(folder)
    models.scan()
    models.verify()
    return models
