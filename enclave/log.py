"""The enclave's log: one JSON line per event on standard error, which the host reads.

An event is a fixed word, stable codes and counts.  Nothing else can be logged: the signature admits no free text,
so neither content nor names given by clients can slip into a line.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum

from manifests.errors import ErrorCode

_STDERR = 2


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
    DEFECT = "defect"
    IMPORT_REFUSED = "import-refused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    START_FAILED = "start-failed"


def log(event: Event, code: ErrorCode | None = None, /, **counts: int) -> None:
    """Write one line; a standard error that is gone is no reason to stop."""
    line: dict[str, str | int] = {"event": str(event), **{name: int(value) for name, value in counts.items()}}
    if code is not None:
        line["code"] = str(code)
    try:
        os.write(_STDERR, json.dumps(line).encode("ascii") + b"\n")
    except OSError:
        return
