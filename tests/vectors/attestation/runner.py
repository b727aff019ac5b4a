"""What this implementation makes of a case, through its public functions."""

from __future__ import annotations

from typing import Any

from attestation import evidence
from attestation.appraise import Appraisal, appraise, appraise_session
from attestation.composite import SessionClaims, appraise_session_with_devices, joined
from attestation.ear import open_token
from attestation.eventlog.log import parse_event_log
from attestation.eventlog.replay import replay_pcrs, replay_rtmrs
from attestation.evidence import Evidence
from attestation.policy import Policy, load_policy
from attestation.tees import BY_NAME
from attestation.tpm.algorithms import Hash
from attestation.types import EvidenceRecord
from attestation.validity import parse_rfc3339
from attestation.verified import Verified
from attestation.wrapping import unwrap
from tests.vectors.attestation.stages import Outcome, Stopped, collateral_of, judged, roots_of, source_of, stage
from tests.vectors.attestation.vector import Vector

__all__ = ["Outcome", "declared", "run"]

EVENT_LOG_VERSION = 2
"""The crypto-agile format is that of TPM 2.0."""


def run(vector: Vector) -> Outcome:
    """Take a case through the stages of its kind, as far as it goes."""
    try:
        return {"evidence": _evidence, "session": _session, "token": _token, "eventlog": _event_log}[vector.kind](
            vector
        )
    except Stopped as stopped:
        return stopped.outcome


def declared(vector: Vector) -> Outcome:
    """What a case says should come of it."""
    reached = vector.expect == "accepted" or vector.phase in {"appraise", "require"}
    return Outcome(
        expect=vector.expect,
        phase=vector.phase,
        codes=vector.codes,
        warnings=vector.warnings,
        tcb_status=vector.tcb_status,
        tee=vector.tee if reached else None,
        version=vector.version if reached else None,
        token=vector.details.get("token"),
        registers=vector.details.get("registers"),
    )


# ---------------------------------------------------------------------------------------------------------- evidence


def _evidence(vector: Vector) -> Outcome:
    """Policy, unwrapping, parsing, collateral, verification, appraisal, token."""
    policy: Policy = stage("policy", load_policy, vector.policy.encode())
    data, beside = vector.evidence, None
    if vector.wrapped:
        unwrapped = stage("unwrap", unwrap, data)
        data, beside = unwrapped.evidence, unwrapped.gpu
    parse = BY_NAME[vector.details["as"]].parse if "as" in vector.details else evidence.parse
    parsed = stage("parse", parse, data)
    roots = roots_of(vector.roots)
    collateral = stage("collateral", _collateral, vector, parsed)
    verified: Verified = stage("verify", evidence.verify, parsed, collateral, roots, vector.now)
    at = parse_rfc3339(vector.details["appraised"]) if "appraised" in vector.details else vector.now
    appraisal, devices = appraise(verified, policy, at, report_data=vector.report_data), None
    if beside is not None:
        devices = stage("verify", lambda: evidence.verify(evidence.parse(beside), None, roots, vector.now))
        tied = joined(verified, beside, devices, None, decided=True)
        findings = (*appraisal.findings, *tied, *appraise(devices, policy, at, beside=True).findings)
        appraisal = Appraisal(appraisal.simulated or devices.simulated, findings)
    return judged(vector, policy, appraisal, verified, at=at, devices=devices)


def _collateral(vector: Vector, parsed: Evidence) -> Any:
    """Take the case's collateral, look it up, or verify it beforehand, as the case says."""
    if vector.store is None:
        held = collateral_of(vector)
    else:
        with source_of(vector) as source:
            held = evidence.collateral_for(parsed, source)
    return held if vector.prepared is None else evidence.authenticate(held, roots_of(vector.prepared))


# ----------------------------------------------------------------------------------------------------------- session


def _session(vector: Vector) -> Outcome:
    """Policy; record, claims, proof, quote and devices; verification and appraisal of all."""
    policy: Policy = stage("policy", load_policy, vector.policy.encode())
    handshake, roots, now = bytes.fromhex(vector.details["handshake"]), roots_of(vector.roots), vector.now
    record: EvidenceRecord = stage("parse", EvidenceRecord.decode, vector.evidence)
    stage("parse", SessionClaims.of, record, handshake)
    stage("parse", evidence.parse, record.quote)
    devices = None
    if vector.devices is not None:
        parsed = stage("parse", BY_NAME["nvidia"].parse, vector.devices)
    stage("collateral", collateral_of, vector)
    with source_of(vector) as source:
        if vector.devices is None:
            found = stage("verify", appraise_session, record, handshake, policy, source, roots, now)
        else:
            given = (record, vector.devices, handshake, policy, source, roots, now)
            found = stage("verify", appraise_session_with_devices, *given)
            devices = evidence.verify(parsed, None, roots, now)
    return judged(vector, policy, found.appraisal, found.verified, at=now, devices=devices)


# ------------------------------------------------------------------------------------------------------------- token


def _token(vector: Vector) -> Outcome:
    """Check a token, and then what it says."""
    details = vector.details
    token = stage(
        "open",
        open_token,
        vector.evidence.decode("utf-8"),
        [bytes.fromhex(key) for key in details.get("keys", "").split(", ") if key],
        vector.now,
        audience=details.get("audience"),
        nonce=bytes.fromhex(details["nonce"]) if "nonce" in details else None,
        leeway=int(details.get("leeway", 0)),
    )
    said = Outcome("accepted", tee=token.tee, version=token.appraisal["version"])
    wanted = details.get("require")
    if wanted is not None:
        try:
            stage("require", token.require, simulation=wanted == "simulated", warnings=wanted == "warnings")
        except Stopped as stopped:
            return Outcome(stopped.outcome.expect, "require", stopped.outcome.codes, tee=said.tee, version=said.version)
    return said


# --------------------------------------------------------------------------------------------------------- event log


def _event_log(vector: Vector) -> Outcome:
    """Read a log, and say what registers hold after it."""
    log = stage("parse", parse_event_log, vector.evidence, padded="padded" in vector.details)
    if vector.tee == "tdx":
        values = dict(enumerate(stage("replay", replay_rtmrs, log)))
    else:
        values = stage("replay", replay_pcrs, log, Hash[vector.details["bank"].upper()])
    return Outcome(
        "accepted",
        tee=vector.tee,
        version=EVENT_LOG_VERSION,
        registers=", ".join(f"{index} {values[index].hex()}" for index in sorted(values)) or None,
    )
