"""Codes of detector profiles and of their calibration."""

from __future__ import annotations

from manifests.errors import ErrorCode, Fault, StrongroomError

_AGAIN = "calibrate anew: `strongroom model calibrate`"


class AbuseCode(ErrorCode):
    """Codes of detector profiles and of their calibration."""

    PROFILE_INVALID = "profile-invalid", Fault.MALFORMED, "the bytes are not a detector profile", _AGAIN
    PROFILE_MISMATCH = (
        "profile-other-model",
        Fault.REFUSED,
        "the detector profile was made for a model with another interface",
        _AGAIN,
    )
    LABEL_HIDDEN = (
        "abuse-label-hidden",
        Fault.REFUSED,
        "a rung gives the best class alone, which the manifest's own answers do not tell",
        "write a ladder without `label_only` and `slow`, with a `pool` that is neither; or serve the watched output",
    )
    SAMPLE_INVALID = (
        "calibration-sample-invalid",
        Fault.USAGE,
        "the sample is not an .npz file with the model's inputs as arrays of numbers",
        "write it with numpy.savez(FILE, NAME=array): one array for the input, with a row for each query",
    )
    SAMPLE_SHORT = (
        "calibration-sample-short",
        Fault.REFUSED,
        "the sample is too small to hold a false positive rate",
        "collect more benign rows",
    )
    RATE_MISSED = (
        "calibration-rate-missed",
        Fault.REFUSED,
        "honest sessions that were held out raise more alarms than were asked for",
        "collect rows of more objects, or name all that clients do with --behaviours; or ask for a higher --fpr",
    )
    MODEL_UNSUITED = (
        "calibration-unsupported",
        Fault.UNSUPPORTED,
        "the detectors work on one numeric input of a row each, and on scores or labels",
        "serve the model without a profile; budgets and output steps still apply",
    )
    MODEL_FAILED = (
        "calibration-model-failed",
        Fault.REFUSED,
        "the model cannot be run on the sample",
        "check that the manifest fits the graph, and the sample both",
    )


class AbuseError(StrongroomError):
    """Raised by `manifests.abuse`."""
