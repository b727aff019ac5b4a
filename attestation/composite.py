"""An enclave and the devices that it uses (GPUs), in one appraisal.

The enclave's claims, which its quote covers, carry a digest of the devices' evidence; the devices have answered to a
nonce that follows from keys of this very start of the enclave (`attestation.binding`).  So:

    quote  --report data-->  handshake, claims  --gpu_evidence-->  devices' evidence
    devices' nonce  ------>  boot id, receipt key and HPKE key of the same claims

Neither can be exchanged without the other, and neither class of platform can stand in for the other: a simulated GPU
beside a real processor is refused, and so is the reverse.

What this does not prove is a path: that the enclave speaks to these devices, and over an encrypted channel, is its own
driver's doing, and so part of what the enclave's measurement stands for.
"""

from __future__ import annotations

from attestation import binding, evidence
from attestation.appraise import Appraisal, SessionAppraisal, appraise, open_session
from attestation.collateral import CollateralSource
from attestation.errors import SessionFinding
from attestation.evidence import Roots
from attestation.findings import Finding, Phase, check
from attestation.nvidia.container import parse_evidence
from attestation.policy import Policy
from attestation.types import Claims, EvidenceRecord
from attestation.verified import Verified


def appraise_session_with_devices(  # noqa: PLR0917 - as `appraise_session`, with the devices
    record: EvidenceRecord,
    devices: bytes,
    handshake_hash: bytes,
    policy: Policy,
    source: CollateralSource,
    roots: Roots,
    now: int,
) -> SessionAppraisal:
    """Verify and appraise what an enclave sent in a session, and the evidence of the devices that it uses.

    Broken evidence of either raises EvidenceError or ManifestError; a refusal of either shows in the result, which
    holds the findings of both and expires with the first of them.
    """
    session = open_session(record, handshake_hash, source, roots, now)
    verified = evidence.verify(parse_evidence(devices), None, roots, now)
    appraisal = appraise_composite(
        session.verified, session.claims, verified, policy, now, report_data=session.report_data
    )
    expires = min(session.verified.expires, verified.expires)
    return SessionAppraisal(appraisal, session.verified, session.claims, session.evidence_digest, expires)


def appraise_composite(
    processor: Verified, claims: Claims, devices: Verified, policy: Policy, now: int, *, report_data: bytes
) -> Appraisal:
    """Hold verified evidence of a processor and of devices against a policy at `now`, as one.

    claims: those that the processor's evidence covers.  report_data: the 64 bytes that follow from them.
    """
    asked = binding.device_report_data(claims.boot_id, claims.receipt_key, claims.hpke_key)
    findings = (
        *appraise(processor, policy, now, report_data=report_data).findings,
        _named(claims, devices),
        _class(processor, devices),
        *appraise(devices, policy, now, report_data=asked, beside=True).findings,
    )
    return Appraisal(processor.simulated or devices.simulated, findings)


def _named(claims: Claims, devices: Verified) -> Finding:
    """Hold the claims' digest against the devices' evidence; both are public."""
    found = binding.device_digest(devices.evidence.serialize())
    return check(
        SessionFinding.DEVICES,
        passed=found == claims.gpu_evidence,
        expected=claims.gpu_evidence.hex() or "no device: the claims name none",
        found=found.hex(),
        remedy="treat the peer as an attacker: this evidence is of other devices than the enclave's",
        phase=Phase.SESSION,
    )


def _class(processor: Verified, devices: Verified) -> Finding:
    return check(
        SessionFinding.DEVICE_CLASS,
        passed=processor.platform is devices.platform,
        expected=f"{processor.platform}, as the processor",
        found=devices.platform,
        remedy="use devices of the same class as the platform; the two are never mixed",
        phase=Phase.SESSION,
    )
