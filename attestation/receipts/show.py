"""What receipts and verdicts over them look like: data for programs, and words for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from attestation.findings import Severity
from attestation.receipts.bundle import Opening, ReceiptBundle
from attestation.receipts.checks import Held
from attestation.receipts.verify import ReceiptReport
from attestation.types.receipt import Receipt
from attestation.validity import rfc3339
from attestation.wire.commitments import Direction
from manifests.plain import printable


def receipt_map(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt's fields by name: bytes as hex, times as RFC 3339."""
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in receipt.to_map().items()}
    plain |= {"stages": [digest.hex() for digest in receipt.stages]} if receipt.stages else {}
    return plain | {"broker_time": rfc3339(receipt.broker_time), "resumed": receipt.resumed}


def openings_map(openings: Mapping[Direction, tuple[Opening, ...]]) -> dict[str, Any]:
    """Return, by direction, what of a commitment is opened; a withheld tensor is null."""
    return {str(way): [_opening(each) for each in openings.get(way, ())] for way in Direction}


def _opening(opening: Opening) -> dict[str, Any] | None:
    if opening.spec is None:
        return None
    spec = opening.spec
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape), "content": opening.data is not None}


def bundle_map(bundle: ReceiptBundle) -> dict[str, Any]:
    """Return what a bundle holds; nothing of it is verified."""
    return {
        "verified": False,
        "receipt": receipt_map(bundle.signed().receipt),
        "noted_at": rfc3339(bundle.time),
        "collateral": bundle.collateral is not None,
        "hint": bundle.evidence.hint,
        "openings": openings_map(bundle.openings),
    }


def report_map(report: ReceiptReport, held: Held) -> dict[str, Any]:
    """Return a verdict with everything that it rests on."""
    attested = report.attested
    return {
        "accepted": report.accepted,
        "platform": report.platform,
        "simulated": None if attested is None else attested.appraisal.simulated,
        "at": rfc3339(report.at),
        "tee": None if attested is None else attested.verified.tee,
        "measurement": None if attested is None else attested.verified.measurement.hex(),
        "receipt": receipt_map(report.receipt),
        "openings": openings_map(held.openings),
        "findings": [finding.to_dict() for finding in report.findings],
        "error": None if report.error is None else report.error.to_dict(),
    }


def print_json(value: Mapping[str, Any]) -> None:
    """Print data."""
    click.echo(json.dumps(value, indent=2))


def print_receipt(receipt: Receipt, openings: Mapping[Direction, tuple[Opening, ...]]) -> None:
    """Print a receipt's fields, one a line."""
    for name, value in receipt_map(receipt).items():
        click.echo(f"{name:<14} {printable(_words(value))}")
    for way in Direction:
        opened = [each.spec.name for each in openings.get(way, ()) if each.spec is not None]
        closed = len(openings.get(way, ())) - len(opened)
        click.echo(f"{f'{way} opens':<14} {', '.join(map(printable, opened)) or 'nothing'}; {closed} withheld")


def _words(value: Any) -> str:
    """Return a field's value in words: a verdict, a list of digests, or what is one word anyway."""
    if isinstance(value, dict):
        return f"{', '.join(value['checks'])}; {value['output']}; abuse {value['abuse']}"
    return ", ".join(value) if isinstance(value, list) else str(value)


def print_report(report: ReceiptReport, held: Held) -> None:
    """Print a verdict: each check that failed with what to do, then what the receipt says."""
    for finding in report.findings:
        if finding.passed and finding.severity is not Severity.WARNING:
            continue
        word = "note, no failed check: " if finding.passed else ""
        click.secho(f"{word}{finding.code}", fg="yellow" if finding.passed else "red", err=True)
        for name, value in (("expected", finding.expected), ("found", finding.found), ("next", finding.remedy)):
            if value is not None:
                click.echo(f"  {name}: {printable(value)}", err=True)
    word = "accepted" if report.accepted else "REFUSED"
    passed = sum(finding.passed for finding in report.findings)
    click.secho(
        f"{word}: {report.platform} evidence, {passed} of {len(report.findings)} checks, as of {rfc3339(report.at)}",
        fg="red" if not report.accepted else "yellow" if report.platform == "SIMULATED" else "green",
    )
    print_receipt(report.receipt, held.openings)
