"""What a session shows of itself: what was attested, in words, and no secrets."""

from __future__ import annotations

import html as escaping
from typing import Any

from attestation.appraise import SessionAppraisal
from attestation.validity import rfc3339

SIMULATED = "SIMULATED"


def data(address: str, attested: SessionAppraisal) -> dict[str, Any]:
    """Return what a program wants to know of a session; times are RFC 3339, and None is what nobody publishes."""
    verified = attested.verified
    return {
        "platform": attested.appraisal.platform,
        "address": address,
        "tee": verified.tee,
        "measurement": measurement(attested),
        "tcb_status": verified.tcb_status or None,
        "owners": [state.owner.hex() for state in attested.claims.owners],
        "checks_passed": sum(finding.passed for finding in attested.appraisal.findings),
        "evidence": attested.evidence_digest.hex(),
        "valid_until": rfc3339(attested.expires),
    }


def facts(address: str, attested: SessionAppraisal) -> dict[str, str]:
    """Return the same in words, in the order to show it."""
    known = data(address, attested)
    words = {"tcb_status": "not published", "owners": "none yet"}
    return {name.replace("_", " "): _word(value) or words.get(name, "") for name, value in known.items()}


def _word(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def measurement(attested: SessionAppraisal) -> str:
    """Return the enclave's measurement in hex."""
    return attested.verified.measurement.hex()


def text(kind: str, address: str, attested: SessionAppraisal) -> str:
    """Return one line for `repr`."""
    known = facts(address, attested)
    return (
        f"<{kind} {known['platform']} {address} {known['tee']} {known['measurement'][:16]}… {known['tcb status']}"
        f" owners {known['owners'][:16]}…>"
    )


def html(kind: str, address: str, attested: SessionAppraisal) -> str:
    """Return a small table for notebooks; every value is escaped."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escaping.escape(name)}</th>"
        f"<td><code>{escaping.escape(value)}</code></td></tr>"
        for name, value in facts(address, attested).items()
    )
    return f"<table><caption>{escaping.escape(kind)}</caption>{rows}</table>"
