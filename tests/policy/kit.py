"""What the tests of policies share: a list of broken hardware and its key."""

from __future__ import annotations

from typing import Any

from attestation.policy.feed import sign_feed
from attestation.validity import rfc3339
from manifests.signing import Signer
from tests.attestation.kit import NOW, platform

WATCHER = Signer.from_seed(bytes([9]) * 32)
STRANGER = Signer.from_seed(bytes([8]) * 32)
DAY = 86400

PPID = platform().pki.extension.ppid.hex()
FMSPC = platform().pki.extension.fmspc.hex()


def entry(**changes: Any) -> dict[str, Any]:
    """An entry that hits the simulated SGX platform, by its PPID; None drops a field."""
    values: dict[str, Any] = {
        "id": "SR-1",
        "date": "2025-09-01T00:00:00Z",
        "reason": "its attestation key was read off the memory bus",
        "tees": ["sgx"],
        "platforms": {"ppid": [PPID]},
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def body(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The signed part of a list that was issued a day before NOW, and expires thirty days after."""
    values = {
        "version": 1,
        "serial": 7,
        "issued": rfc3339(NOW - DAY),
        "expires": rfc3339(NOW + 30 * DAY),
        "entries": list(entries),
    }
    return values | changes


def feed(*entries: dict[str, Any], signer: Signer = WATCHER, **changes: Any) -> str:
    return sign_feed(body(*entries, **changes), signer)


def named(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The fields of [evidence] that name a list with these entries."""
    return {"broken_hardware": feed(*entries), "broken_hardware_key": WATCHER.public.hex()} | changes
