"""OpenTelemetry: the same metrics, pushed as OTLP over HTTP with JSON to a collector, by opentelemetry-sdk.

The library is an optional extra of the host (`pip install strongroom[otel]`); no enclave ever imports it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from host.errors import HostCode, HostError
from host.metrics import Family, Labels
from host.prometheus import most
from manifests.telemetry import SECONDS, Kind

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import export

_log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two pushes."""
TIMEOUT = 10.0


class Pusher:
    """Pushes an agent's metrics to one collector, now and then."""

    def __init__(self, endpoint: str, collect: Callable[[], Sequence[Family]], every: float = EVERY) -> None:
        """Push to the URL of a collector's metrics, such as http://localhost:4318/v1/metrics.

        Raises HostError `otlp-missing` where the library is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.json.http.metric_exporter import OTLPMetricExporter
        except ImportError:
            raise HostError(HostCode.OTLP_MISSING, "opentelemetry-sdk is not installed") from None
        self._exporter = OTLPMetricExporter(endpoint=endpoint, timeout=TIMEOUT)
        self._collect = collect
        self._every = every
        self._began = time.time_ns()
        self.failed = 0
        """Pushes that the collector did not take."""

    async def run(self) -> None:
        """Push until cancelled; a collector that is away is tried again, and costs nothing else."""
        loop = asyncio.get_running_loop()
        while True:
            data = to_otlp(self._collect(), self._began, time.time_ns())
            if not await loop.run_in_executor(None, self._push, data):
                self.failed += 1
                _log.warning("the OpenTelemetry collector did not take the metrics")
            await asyncio.sleep(self._every)

    def _push(self, data: Any) -> bool:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        try:
            return bool(self._exporter.export(data) is MetricExportResult.SUCCESS)
        except Exception as error:  # noqa: BLE001 - the library's exceptions have no common root, and end no agent
            _log.warning("OpenTelemetry: %s", type(error).__name__)
            return False


def to_otlp(families: Sequence[Family], began: int, now: int) -> export.MetricsData:
    """Return families as OpenTelemetry has them; times in nanoseconds of Unix time."""
    from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    metrics = [Metric(one.name, one.help, _unit(one), _data(one, began, now)) for one in families if one.values]
    scope = ScopeMetrics(InstrumentationScope("strongroom"), metrics, "")
    return MetricsData([ResourceMetrics(Resource({"service.name": "strongroom-host"}), [scope], "")])


def _unit(family: Family) -> str:
    if family.name.endswith("_seconds"):
        return "s"
    return "By" if "bytes" in family.name else "1"


def _data(family: Family, began: int, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Histogram, NumberDataPoint, Sum

    cumulative = AggregationTemporality.CUMULATIVE
    if family.kind is Kind.HISTOGRAM:
        return Histogram([_buckets(labels, value, began, now) for labels, value in family.values], cumulative)
    points = [NumberDataPoint(dict(labels), began, now, value) for labels, value in family.values]
    return Gauge(points) if family.kind is Kind.GAUGE else Sum(points, cumulative, is_monotonic=True)


def _buckets(labels: Labels, buckets: list[int], began: int, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    return HistogramDataPoint(
        attributes=dict(labels),
        start_time_unix_nano=began,
        time_unix_nano=now,
        count=sum(buckets),
        sum=most(buckets),
        bucket_counts=buckets,
        explicit_bounds=SECONDS,
        min=0.0,
        max=SECONDS[-1],
    )
