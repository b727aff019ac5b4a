"""How long a verdict lasts: what it was reached with goes stale, or gets older than the policy takes."""

from __future__ import annotations

from collections.abc import Iterable

from attestation.policy import Policy
from attestation.verified import Verified


def accepted_until(evidence: Iterable[Verified], policy: Policy) -> int:
    """Return the first Unix second at which a policy no longer accepts what it accepts before.

    evidence: all that was appraised, whole; each of its parts counts.
    """
    parts = [part for whole in evidence for part in (whole, *whole.parts)]
    ends = [part.expires for part in parts]
    terms, feed = policy.evidence, policy.evidence.feed
    if terms.max_collateral_age is not None:
        ends += [part.issued + terms.max_collateral_age + 1 for part in parts]
    if feed is not None:
        ends.append(feed.expires)
        if terms.broken_hardware_max_age is not None:
            ends.append(feed.issued + terms.broken_hardware_max_age + 1)
    return min(ends)
