"""Prometheus' text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/), written out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from host.metrics import Family, Labels
from manifests.telemetry import SECONDS, Kind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def to_text(families: Iterable[Family]) -> str:
    """Return the families as one page."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    name = f"{family.name}_total" if family.kind is Kind.COUNTER else family.name
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {family.kind}"
    for labels, value in family.values:
        if family.kind is Kind.HISTOGRAM:
            yield from _histogram(name, labels, value)
        else:
            yield f"{name}{_labels(labels)} {value}"


def _histogram(name: str, labels: Labels, buckets: list[int]) -> Iterator[str]:
    """Yield cumulative buckets; the sum is what it could be at most, since nobody was told the times themselves."""
    bounds = [*(f"{bound:g}" for bound in SECONDS), "+Inf"]
    for bound, count in zip(bounds, itertools.accumulate(buckets), strict=True):
        yield f"{name}_bucket{_labels((*labels, ('le', bound)))} {count}"
    yield f"{name}_sum{_labels(labels)} {most(buckets):g}"
    yield f"{name}_count{_labels(labels)} {sum(buckets)}"


def most(buckets: list[int]) -> float:
    """Return the sum of times in buckets, each taken for its bucket's bound; those beyond the last bound, for that."""
    return sum(count * bound for count, bound in zip(buckets, (*SECONDS, SECONDS[-1]), strict=True))


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
