"""What an enclave may tell of itself: the allow-list of its telemetry.  Nothing that is not in this table leaves.

A value is a count.  A label is one of a fixed set: stable codes, or the first digits of a model's digest where the
settings admit that.  No label is text that a client, or an owner, has chosen.  Times are told as counts in fixed
buckets, and all values are those of the last whole window, so that no single request shows.  docs/telemetry.md is
held to this table by a test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from manifests import fields
from manifests.errors import ManifestCode, ManifestError

SECONDS = (0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0, 16.0, 64.0)
"""Upper bounds of the buckets for times, each four times the one before; a last bucket has no bound."""
MAX_COUNT = 1 << 63
MAX_LABELS = 256
"""Values of one label in one report: there are fewer codes, and fewer models that an enclave loads."""
_CODE = re.compile(r"[a-z][a-z0-9-]{1,63}")
_DIGEST = re.compile(r"[0-9a-f]{16}")


class Kind(StrEnum):
    """How a value behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Label(StrEnum):
    """What tells the values of one metric apart."""

    CODE = "code"
    MODEL = "model"

    def admits(self, value: object) -> bool:
        """Tell whether a label has the form that this table allows."""
        form = _CODE if self is Label.CODE else _DIGEST
        return isinstance(value, str) and form.fullmatch(value) is not None


@dataclass(frozen=True)
class Metric:
    """One entry of the allow-list.  label: None for a single value."""

    name: str
    kind: Kind
    help: str
    label: Label | None = None

    def check(self, value: object) -> Any:
        """Return a reported value: a count, a count for each label, or for each bucket; raises ManifestError."""
        if self.kind is Kind.HISTOGRAM:
            buckets = fields.list_of(value, self.name, len(SECONDS) + 1)
            if len(buckets) != len(SECONDS) + 1:
                raise _malformed(self.name)
            return [_count(item, self.name) for item in buckets]
        if self.label is None:
            return _count(value, self.name)
        table = fields.of_type(value, self.name, dict)
        if len(table) > MAX_LABELS or not all(self.label.admits(label) for label in table):
            raise _malformed(self.name)
        return {label: _count(item, self.name) for label, item in table.items()}


def _count(value: object, name: str) -> int:
    return fields.number(value, name, 0, MAX_COUNT)


def _malformed(name: str) -> ManifestError:
    return ManifestError(ManifestCode.FIELD_INVALID, f"the metric {name!r} has labels or buckets that are not admitted")


METRICS = (
    Metric("sessions", Kind.COUNTER, "Sessions that were opened."),
    Metric("sessions_open", Kind.GAUGE, "Sessions that are open."),
    Metric("sessions_refused", Kind.COUNTER, "Sessions that were refused, or ended to make room."),
    Metric("sessions_ended", Kind.COUNTER, "Sessions that ended with a code.", Label.CODE),
    Metric("handshakes_open", Kind.GAUGE, "Handshakes that wait for their quote."),
    Metric("quotes", Kind.COUNTER, "Quotes that the platform gave."),
    Metric("requests", Kind.COUNTER, "Requests of any kind."),
    Metric("refused", Kind.COUNTER, "Requests that were refused, by the code of the refusal.", Label.CODE),
    Metric("model_requests", Kind.COUNTER, "Answered requests by model; only with telemetry_models.", Label.MODEL),
    Metric("request_seconds", Kind.HISTOGRAM, "Time of a thread for one request that was answered."),
    Metric("run_seconds", Kind.HISTOGRAM, "Time within the runtime for one request."),
    Metric("waiting", Kind.GAUGE, "Sessions that wait for a thread."),
    Metric("held_bytes", Kind.GAUGE, "Bytes that were received and not yet answered."),
    Metric("models", Kind.GAUGE, "Models that are loaded."),
    Metric("tickets", Kind.GAUGE, "Tickets that are out."),
    Metric(
        "abuse_identities", Kind.GAUGE, "Identities that a model watches, as a power of two; of all models the most."
    ),
    *(
        Metric(f"abuse_{action}", Kind.GAUGE, f"Identities on the rung `{action}`, as a power of two; likewise.")
        for action in ("log", "fewer_digits", "label_only", "slow", "refuse", "revoke")
    ),
    Metric("abuse_score", Kind.GAUGE, "Greatest share of a limit that any identity has reached, in quarters, to 8."),
    Metric("stuck", Kind.COUNTER, "Runs that could not be stopped; the process ends for the first."),
)
BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def read_telemetry(value: object) -> dict[str, Any]:
    """Check what an enclave reported, name by name and label by label; raises ManifestError `field-invalid`."""
    table = fields.closed_map(value, "telemetry", (), BY_NAME)
    return {name: BY_NAME[name].check(table[name]) for name in table}
