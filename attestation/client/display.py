"""What a session shows of itself: what was attested, in words, and no secrets."""

from __future__ import annotations

import datetime as dt
import html as escaping

from attestation.appraise import SessionAppraisal

SIMULATED = "SIMULATED"


def facts(address: str, attested: SessionAppraisal) -> dict[str, str]:
    """Return what a reader wants to know of a session, in the order to show it."""
    verified = attested.verified
    expires = dt.datetime.fromtimestamp(attested.expires, dt.UTC)
    return {
        "platform": attested.appraisal.platform,
        "address": address,
        "tee": verified.tee,
        "measurement": measurement(attested),
        "TCB status": verified.tcb_status or "not published",
        "owners": ", ".join(state.owner.hex() for state in attested.claims.owners) or "none yet",
        "checks passed": str(sum(finding.passed for finding in attested.appraisal.findings)),
        "evidence": attested.evidence_digest.hex(),
        "valid until": f"{expires:%Y-%m-%d %H:%M} UTC",
    }


def measurement(attested: SessionAppraisal) -> str:
    """Return the enclave's measurement in hex."""
    return attested.verified.measurement.hex()


def text(kind: str, address: str, attested: SessionAppraisal) -> str:
    """Return one line for `repr`."""
    known = facts(address, attested)
    return (
        f"<{kind} {known['platform']} {address} {known['tee']} {known['measurement'][:16]}… {known['TCB status']}"
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
