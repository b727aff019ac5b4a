"""What the host tells to monitoring: its own counters, and what each enclave process has chosen to tell.

One list of families serves every form: Prometheus' text (host.prometheus) and OpenTelemetry (host.otlp).  Enclaves'
values are checked against the allow-list of `manifests.telemetry` before they come here; the host adds the names of its
own routes, which its operator chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from host.supervisor import State
from manifests.telemetry import METRICS, Kind, Metric

PREFIX = "strongroom"
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Family:
    """One metric with all its values.  values: by labels; a count, or for a histogram the counts of its buckets."""

    name: str
    kind: Kind
    help: str
    values: tuple[tuple[Labels, Any], ...]


_HOST = (
    ("connections", Kind.GAUGE, "Connections of clients."),
    ("connections_total", Kind.COUNTER, "Connections that were made."),
    ("sessions", Kind.GAUGE, "Streams that are open."),
    ("frames_in", Kind.COUNTER, "Frames that clients sent."),
    ("frames_out", Kind.COUNTER, "Frames that clients were sent."),
    ("bytes_in", Kind.COUNTER, "Bytes that clients sent."),
    ("bytes_out", Kind.COUNTER, "Bytes that clients were sent."),
    ("queued", Kind.GAUGE, "Bytes that wait for clients to read."),
)
"""Counters of the relay, as `host status` has them."""
_PROCESS = (
    ("restarts", Kind.COUNTER, "Times that the process was started again."),
    ("stuck_ends", Kind.COUNTER, "Times that it was ended because a run was stuck."),
    ("unanswered", Kind.GAUGE, "Questions in a row that it has not answered."),
    ("places", Kind.GAUGE, "Sessions that the host lets through to it at once."),
    ("fetches", Kind.COUNTER, "Pieces of sealed models that it has fetched."),
)
"""Counters of one enclave process, by the host's own knowledge."""


def families(status: Mapping[str, Any]) -> list[Family]:
    """Return every metric of an agent's status (HostAgent.status)."""
    return [*_of_host(status["relay"]), *_of_processes(status["deployments"]), *_of_enclaves(status["deployments"])]


def _of_host(relay: Mapping[str, Any]) -> Iterator[Family]:
    for name, kind, text in _HOST:
        yield Family(f"{PREFIX}_host_{name.removesuffix('_total')}", kind, text, (((), relay[name]),))
    refusals = tuple(((("code", code),), count) for code, count in sorted(relay["refusals"].items()))
    yield Family(f"{PREFIX}_host_refused", Kind.COUNTER, "Streams and connections that were refused.", refusals)


def _of_processes(processes: list[Mapping[str, Any]]) -> Iterator[Family]:
    for name, kind, text in _PROCESS:
        values = tuple((_who(one), one.get(name, 0)) for one in processes)
        yield Family(f"{PREFIX}_process_{name}", kind, text, values)
    serving = tuple((_who(one), int(one["serving"])) for one in processes)
    yield Family(f"{PREFIX}_process_serving", Kind.GAUGE, "1 where new sessions go to the process.", serving)
    states = tuple(((*_who(one), ("state", state)), int(one["state"] == state)) for one in processes for state in State)
    yield Family(f"{PREFIX}_process_state", Kind.GAUGE, "1 for the state that the process is in.", states)


def _of_enclaves(processes: list[Mapping[str, Any]]) -> Iterator[Family]:
    for metric in METRICS:
        values = tuple(value for one in processes for value in _told(metric, one))
        yield Family(f"{PREFIX}_enclave_{metric.name}", metric.kind, metric.help, values)


def _told(metric: Metric, process: Mapping[str, Any]) -> Iterator[tuple[Labels, Any]]:
    """Yield what one process told of one metric; nothing where it told nothing."""
    value = process["telemetry"].get(metric.name)
    if value is None:
        return
    if metric.label is None:
        yield _who(process), value
        return
    for label, count in value.items():
        yield (*_who(process), (str(metric.label), label)), count


def _who(process: Mapping[str, Any]) -> Labels:
    """Say whose value it is; a class that protects nothing is named in every value."""
    return ("route", process["route"]), ("process", str(process["process"])), ("class", process["class"])
