"""The checks that tell one machine from another, for every TEE: those a policy refuses, and those known as broken.

What evidence hides counts as refused.  A machine that does not say which it is could be the one that is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attestation.errors import FindingCode
from attestation.findings import Finding, check
from attestation.policy import EvidencePolicy
from attestation.policy.feed import Broken, HardwareFeed
from attestation.policy.platforms import PLATFORM_IDS
from attestation.validity import rfc3339
from attestation.verified import Verified


def platform_checks(verified: Verified, policy: EvidencePolicy, now: int) -> Iterator[Finding]:
    """Hold the machine against the platforms that the policy refuses, and against its list of broken hardware."""
    yield _denied(verified, policy)
    feed = policy.feed
    if feed is None:
        for code in (FindingCode.BROKEN, FindingCode.FEED_DATES, FindingCode.FEED_AGE):
            yield check(code, passed=True, expected="any: the policy names no list", found="no list")
        return
    yield _broken(verified, feed)
    yield check(
        FindingCode.FEED_DATES,
        passed=feed.issued <= now < feed.expires,
        expected=f"from {rfc3339(feed.issued)} until before {rfc3339(feed.expires)}",
        found=rfc3339(now),
    )
    age, most = now - feed.issued, policy.broken_hardware_max_age
    yield check(
        FindingCode.FEED_AGE,
        passed=most is None or age <= most,
        expected="any that is valid" if most is None else f"at most {most} s",
        found=f"{age} s",
    )


def _denied(verified: Verified, policy: EvidencePolicy) -> Finding:
    named = [(name, ids) for name, ids in policy.platforms_denied if verified.tee in PLATFORM_IDS[name].tees]
    hits = [_shown(verified, name) for name, _ in denied_by(verified, policy)]
    shown = [_shown(verified, name) for name in verified.platform_ids]
    return check(
        FindingCode.DENIED,
        passed=not hits,
        expected=f"no {' and no '.join(f'{name} of {len(ids)}' for name, ids in named)}" if named else "any",
        found=", ".join(hits or shown) or "no id",
    )


def denied_by(verified: Verified, policy: EvidencePolicy) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what refuses a machine by name: each kind of id, with those ids that it shows, or could hide."""
    for name, ids in policy.platforms_denied:
        if verified.tee in PLATFORM_IDS[name].tees and _is_among(verified, name, ids):
            found = verified.platform_ids.get(name, "")
            yield name, (found,) if found in ids else ids


def _broken(verified: Verified, feed: HardwareFeed) -> Finding:
    hits = [entry for entry in feed.entries if _hits(entry, verified)]
    return check(
        FindingCode.BROKEN,
        passed=not hits,
        expected=f"no entry of list {feed.serial}, issued {rfc3339(feed.issued)}",
        found="; ".join(f"{hit.id} since {rfc3339(hit.date)}: {hit.reason}" for hit in hits) or "no entry",
    )


def _hits(entry: Broken, verified: Verified) -> bool:
    """Tell whether every condition of an entry holds, or cannot be told."""
    return (
        verified.tee in entry.tees
        and all(_is_among(verified, name, ids) for name, ids in entry.platforms)
        and (not entry.below or any(_is_below(verified, name, least) for name, least in entry.below))
        and (not entry.advisories or bool(set(entry.advisories) & set(verified.advisories)))
    )


def _is_among(verified: Verified, name: str, ids: Iterable[str]) -> bool:
    """Tell whether the evidence shows one of these ids, or hides which it has."""
    found = verified.platform_ids.get(name, "")
    return found in ids if found.strip("0") else PLATFORM_IDS[name].everywhere


def _is_below(verified: Verified, name: str, least: int) -> bool:
    """Tell whether a component is below a security version, or hides which it has."""
    return verified.tcb_components.get(name, -1) < least


def _shown(verified: Verified, name: str) -> str:
    found = verified.platform_ids.get(name, "")
    return f"{name} {found}" if found.strip("0") else f"{name} is not shown"
