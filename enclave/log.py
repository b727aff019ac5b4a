"""The enclave's log: one JSON line per event on standard error, which the host reads.

Once the attester is open, every line also says of which class the platform is: SIMULATED where nothing is protected.
An event is a fixed word, stable codes and counts.  Nothing else can be logged: the signature admits no free text,
so neither content nor names given by clients can slip into a line.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum

from manifests.errors import ErrorCode

_STDERR = 2
_platform: dict[str, str] = {}


class Event(StrEnum):
    """What can be logged."""

    HARDENED = "hardened"
    STARTED = "started"
    SESSION_ENDED = "session-ended"
    FRAME_REFUSED = "frame-refused"
    QUOTED = "quoted"
    PROVISIONED = "provisioned"
    PROVISION_REFUSED = "provision-refused"
    HEARTBEAT = "heartbeat"
    REVOKED = "revoked"
    ABUSE = "abuse"
    """An identity went up the ladder of a model's policy."""
    DEFECT = "defect"
    IMPORT_REFUSED = "import-refused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    START_FAILED = "start-failed"


def show_platform(platform: StrEnum) -> None:
    """Have every line from now on carry the attester's class (attestation.types.PlatformClass) in capitals."""
    _platform["platform"] = str(platform).upper()


def log(event: Event, code: ErrorCode | None = None, /, **counts: int) -> None:
    """Write one line; a standard error that is gone is no reason to stop."""
    line: dict[str, str | int] = {
        "event": str(event),
        **_platform,
        **{name: int(value) for name, value in counts.items()},
    }
    if code is not None:
        line["code"] = str(code)
    try:
        os.write(_STDERR, json.dumps(line).encode("ascii") + b"\n")
    except OSError:
        return
