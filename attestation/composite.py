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

from dataclasses import dataclass, replace
from typing import Final, Self

from attestation import binding, evidence
from attestation.appraise import (
    Appraisal,
    OpenedSession,
    SessionAppraisal,
    appraise,
    appraise_session,
    open_session,
)
from attestation.collateral import CollateralSource
from attestation.errors import SessionFinding
from attestation.evidence import Roots
from attestation.findings import Finding, Phase, Severity, check
from attestation.lasting import accepted_until
from attestation.nvidia.container import parse_evidence
from attestation.policy import Policy
from attestation.types import Claims, EvidenceRecord
from attestation.verified import Verified

UNBOUND: Final = "the claims of the session, which its quote covers and which name the devices' evidence"
"""What it takes to say that a processor's evidence and that of devices belong together."""


@dataclass(frozen=True)
class SessionClaims:
    """What an enclave said in one session, and the 64 bytes that its quote must be bound to in order to cover it.

    Nothing in it is verified: it counts where the quote carries `report_data`.
    """

    claims: Claims
    report_data: bytes

    @classmethod
    def of(cls, record: EvidenceRecord, handshake_hash: bytes) -> Self:
        """Decode the claims of a record that was sent after this handshake (64 bytes); raises ManifestError."""
        leaf = binding.session_leaf(handshake_hash, record.claims)
        return cls(Claims.decode(record.claims), binding.expected_report_data(leaf, record.proof))

    @property
    def asked(self) -> bytes:
        """The 64 bytes that the enclave's devices must be bound to."""
        return binding.device_report_data(self.claims.boot_id, self.claims.receipt_key, self.claims.hpke_key)


def joined(
    processor: Verified, gpu: bytes | None, devices: Verified | None, session: SessionClaims | None, *, decided: bool
) -> tuple[Finding, ...]:
    """Return whether evidence of a processor and of devices (`gpu`) belongs together, and is of one class.

    devices: `gpu`, verified; None where it does not verify.  session: None where nobody has given the claims; that
    they name the devices is then open, or refused where a policy decides.  Empty where there is nothing to join.
    """
    if gpu is None and session is None:
        return ()
    name = _unbound(gpu or b"", decided=decided) if session is None else _named(session.claims, gpu)
    return (name,) if devices is None else (name, _class(processor, devices))


def appraise_record(  # noqa: PLR0917 - as `appraise_session`
    record: EvidenceRecord,
    handshake_hash: bytes,
    policy: Policy,
    source: CollateralSource,
    roots: Roots,
    now: int,
) -> SessionAppraisal:
    """Verify and appraise all that an enclave sent in a session: its own evidence, and that of its devices if any.

    Raises and returns what `appraise_session` does, and where there are devices `appraise_session_with_devices`.
    """
    if record.devices:
        return appraise_session_with_devices(record, record.devices, handshake_hash, policy, source, roots, now)
    return appraise_session(record, handshake_hash, policy, source, roots, now)


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
    holds the findings of both and expires with the first of them.  Evidence of devices that the claims do not name is
    refused as it is, and not parsed.
    """
    session = open_session(record, handshake_hash, source, roots, now)
    named = _named(session.claims, devices)
    if not named.passed:
        alone = appraise(session.verified, policy, now, report_data=session.report_data)
        appraisal = Appraisal(alone.simulated, (*alone.findings, named))
        return _session(session, appraisal, accepted_until((session.verified,), policy))
    verified = evidence.verify(parse_evidence(devices), None, roots, now)
    appraisal = appraise_composite(
        session.verified, session.claims, verified, policy, now, report_data=session.report_data
    )
    return _session(session, appraisal, accepted_until((session.verified, verified), policy))


def _session(session: OpenedSession, appraisal: Appraisal, expires: int) -> SessionAppraisal:
    return SessionAppraisal(appraisal, session.verified, session.claims, session.evidence_digest, expires)


def appraise_composite(
    processor: Verified, claims: Claims, devices: Verified, policy: Policy, now: int, *, report_data: bytes
) -> Appraisal:
    """Hold verified evidence of a processor and of devices against a policy at `now`, as one.

    claims: those that the processor's evidence covers.  report_data: the 64 bytes that follow from them.
    """
    asked = SessionClaims(claims, report_data).asked
    findings = (
        *appraise(processor, policy, now, report_data=report_data).findings,
        _named(claims, devices.evidence.serialize()),
        _class(processor, devices),
        *appraise(devices, policy, now, report_data=asked, beside=True).findings,
    )
    return Appraisal(processor.simulated or devices.simulated, findings)


def _named(claims: Claims, devices: bytes | None) -> Finding:
    """Hold the claims' digest against the devices' evidence, if there is any; both are public."""
    found = b"" if devices is None else binding.device_digest(devices)
    return check(
        SessionFinding.DEVICES,
        passed=found == claims.gpu_evidence,
        expected=claims.gpu_evidence.hex() or "no device: the claims name none",
        found=found.hex() or "no evidence of a device",
        remedy="treat the peer as an attacker: this evidence is of other devices than the enclave's",
        phase=Phase.SESSION,
    )


def _unbound(devices: bytes, *, decided: bool) -> Finding:
    """Return the finding for evidence of devices that nothing ties to the processor's."""
    finding = check(
        SessionFinding.DEVICES,
        passed=False,
        expected=UNBOUND,
        found=f"no claims; the devices' evidence is {binding.device_digest(devices).hex()}",
        remedy="give the session's evidence record with --claims and --handshake-hash, or verify each part by itself",
        phase=Phase.SESSION,
    )
    return finding if decided else replace(finding, severity=Severity.OPEN)


def _class(processor: Verified, devices: Verified) -> Finding:
    return check(
        SessionFinding.DEVICE_CLASS,
        passed=processor.platform is devices.platform,
        expected=f"{processor.platform}, as the processor",
        found=devices.platform,
        remedy="use devices of the same class as the platform; the two are never mixed",
        phase=Phase.SESSION,
    )
