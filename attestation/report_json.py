"""A report for programs: one map, with the same names always."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attestation import evidence
from attestation.log_checks import shown
from attestation.validity import rfc3339
from manifests.errors import StrongroomError

if TYPE_CHECKING:
    from attestation.report import Report

_VERIFIED_FIELDS: Final = ("root", "measurement", "tcb_evaluation_data_number", "platform_ids")
"""What only verified evidence has, beside its TCB's standing."""


def report_map(report: Report) -> dict[str, Any]:
    """Return everything for programs: the same names always, null for what is not known."""
    found, verified = report.evidence, report.verified
    known: dict[str, Any] = dict.fromkeys(_VERIFIED_FIELDS) | {
        "devices": _devices(report),
        "collateral": {},
        "platform": None,
        "simulated": None,
    }
    known |= verified.to_dict() if verified else {}
    collateral: dict[str, Any] = {"key": None if report.key is None else str(report.key)}
    collateral |= {"issued": None, "expires": None, "documents": _documents(report) if verified is None else []}
    known["collateral"] |= {"passed_over": list(report.passed_over)}
    return (
        {
            "accepted": report.accepted,
            "genuine": report.genuine,
            "exit_code": report.exit_code,
            "at": rfc3339(report.now),
            "as_of": None if report.as_of is None else rfc3339(report.as_of),
            "tee": report.tee,
            "version": None if found is None else found.version,
            "wrapping": list(report.wrapping),
            "phases": {name: str(outcome) for name, outcome in report.phases.items()},
            "policy": None if report.policy is None else report.policy.digest.hex(),
            "report_data": None if found is None else found.report_data.hex(),
        }
        | known
        | {
            "collateral": collateral | known["collateral"],
            "tcb_status": report.tcb_status,
            "tcb_date": None if report.tcb_date is None else rfc3339(report.tcb_date),
            "tcb_age_seconds": report.tcb_age,
            "advisories": list(report.advisories),
            "event_log": _event_log(report),
            "gpu": None if report.gpu is None else report.gpu.hex(),
            "error": None if report.error is None else report.error.to_dict(),
            "findings": [finding.to_dict() for finding in report.findings],
            "quote": None if found is None else found.to_dict(),
        }
    )


def _devices(report: Report) -> list[dict[str, Any]] | None:
    """Return what each device is that lies beside a processor's evidence, with every field of its report."""
    if report.devices is None:
        return None
    of_each = zip(report.devices.details()["devices"], report.devices.parts, strict=True)
    return [shown | {"quote": part.evidence.to_dict()} for shown, part in of_each]


def _documents(report: Report) -> list[dict[str, Any]] | None:
    """Return from when until when each document of the collateral counts; None where none of it is authentic."""
    if report.held is None or report.roots is None or report.evidence is None:
        return None
    try:
        dated = evidence.authenticate(evidence.completed(report.evidence, report.held), report.roots)
    except StrongroomError:
        return None
    return [validity.to_dict() for validity in dated.validities]


def _event_log(report: Report) -> dict[str, Any] | None:
    if report.event_log is None or report.evidence is None:
        return None
    return shown(report.event_log, report.evidence)
