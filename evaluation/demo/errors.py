"""Codes of the demonstration."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError


class DemoCode(ErrorCode):
    """Codes of the demonstration."""

    EXTRAS_MISSING = (
        "demo-extras-missing",
        Fault.USAGE,
        "the packages that bring the demonstration's data are missing",
        "pip install 'strongroom[demo]'",
    )
    FOLDER_IN_USE = "demo-folder-in-use", Fault.USAGE, "the folder to keep everything in holds something already"
    COMMAND_FAILED = (
        "demo-command-failed",
        Fault.INTERNAL,
        "a command of the demonstration failed",
        "please report it, with what was found",
    )
    PART_FAILED = (
        "demo-part-failed",
        Fault.UNAVAILABLE,
        "a process of the deployment ended or did not become ready",
        "read what it said last; `strongroom host check` tells whether this machine is fit",
    )
    NOT_AS_CLAIMED = (
        "demo-not-as-claimed",
        Fault.INTERNAL,
        "something that the demonstration claims is not so",
        "please report it",
    )


class DemoError(StrongroomError):
    """Raised by the demonstration and its deployment."""
