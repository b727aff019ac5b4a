"""The enclave's log: one JSON line per event on standard error, which the host reads.

Once the attester is open, every line also says of which class the platform is: SIMULATED where nothing is protected.
An event is a fixed word, stable codes and counts.  Nothing else can be logged: the signature admits no free text,
so neither content nor names given by clients can slip into a line.
"""

from __future__ import annotations

import io
import json
import os
import sys
from enum import StrEnum

from manifests.errors import ErrorCode

_STDOUT, _STDERR = 1, 2
_target = _STDERR
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
    STUCK = "stuck"
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


class _Nowhere(io.TextIOBase):
    """A text stream that keeps nothing."""

    def write(self, text: str, /) -> int:
        """Take a text and forget it."""
        return len(text)


def silence_libraries() -> None:
    """Keep standard error for this log alone: what libraries write there may repeat what they were given.

    Decoders in other languages warn, and say what they choked on.  From now on that goes into a pipe that nobody
    reads, whose writers are told so (the interpreter ignores SIGPIPE): a confined process reaches no /dev/null.
    """
    global _target
    _target = os.dup(_STDERR)
    reading, writing = os.pipe()
    os.close(reading)
    for standard in (_STDOUT, _STDERR):
        os.dup2(writing, standard)
    os.close(writing)
    sys.stdout = sys.stderr = _Nowhere()


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
        os.write(_target, json.dumps(line).encode("ascii") + b"\n")
    except OSError:
        return
