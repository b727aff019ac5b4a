"""Monitoring: Prometheus' own parser reads the page, a collector on this machine takes what is pushed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from attestation.wire.address import TcpAddress, UnixAddress
from host.errors import HostCode, HostError
from host.metrics import families
from host.otlp import Pusher, to_otlp
from host.prometheus import to_text
from host.scrape import MAX_HEAD, MAX_READERS, Page, check_address
from manifests.errors import ManifestError
from manifests.telemetry import METRICS, SECONDS, read_telemetry
from tests.host.rig import run, until
from tests.host.test_agent import prepare, up

TELEMETRY = {
    "sessions": 5,
    "refused": {"tensor-shape": 2, "inference-timeout": 1},
    "model_requests": {"00ff00ff00ff00ff": 7},
    "run_seconds": [1, 2, 0, 0, 0, 0, 0, 0, 0, 1],
}


def status(**telemetry: Any) -> dict[str, Any]:
    """What an agent with two processes says of itself."""
    names = (
        "connections",
        "connections_total",
        "sessions",
        "frames_in",
        "frames_out",
        "bytes_in",
        "bytes_out",
        "queued",
    )
    process = {"route": "default", "class": "SIMULATED", "restarts": 1, "stuck_ends": 1, "unanswered": 0, "places": 224}
    return {
        "relay": {**dict.fromkeys(names, 3), "refusals": {"host-busy": 4}},
        "deployments": [
            {**process, "process": 1, "state": "ready", "serving": True, "telemetry": telemetry},
            {**process, "process": 2, "state": "backing-off", "serving": False, "telemetry": {}},
        ],
    }


def parsed(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_prometheus_reads_every_family_with_its_kind_and_values() -> None:
    found = parsed(to_text(families(status(**TELEMETRY))))
    kinds = {f"strongroom_enclave_{metric.name}": str(metric.kind) for metric in METRICS}
    assert {name: found[name].type for name in kinds} == kinds
    refused = {sample.labels["code"]: sample.value for sample in found["strongroom_enclave_refused"].samples}
    assert refused == {"tensor-shape": 2, "inference-timeout": 1}
    (sample,) = found["strongroom_host_refused"].samples
    assert (sample.name, sample.labels, sample.value) == ("strongroom_host_refused_total", {"code": "host-busy"}, 4)
    states = {(s.labels["process"], s.labels["state"]) for s in found["strongroom_process_state"].samples if s.value}
    assert states == {("1", "ready"), ("2", "backing-off")}


def test_a_histogram_is_cumulative_and_its_sum_is_what_it_could_be_at_most() -> None:
    samples = parsed(to_text(families(status(**TELEMETRY))))["strongroom_enclave_run_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert [buckets[f"{bound:g}"] for bound in SECONDS] == [1, 3, 3, 3, 3, 3, 3, 3, 3]
    assert buckets["+Inf"] == 4
    totals = {s.name.rsplit("_", 1)[1]: s.value for s in samples if not s.name.endswith("_bucket")}
    assert totals == {"count": 4, "sum": pytest.approx(0.001 + 2 * 0.004 + 64)}


def test_every_value_of_a_simulated_platform_says_so() -> None:
    for family in text_string_to_metric_families(to_text(families(status(**TELEMETRY)))):
        if not family.name.startswith("strongroom_host_"):
            assert {sample.labels["class"] for sample in family.samples} <= {"SIMULATED"}


@pytest.mark.parametrize(
    "told",
    [
        {"novelty": 1},
        {"sessions": -1},
        {"sessions": "5"},
        {"sessions": 1.5},
        {"refused": 3},
        {"refused": {"A free text of a client": 1}},
        {"refused": {"x" * 65: 1}},
        {"refused": {"ok": -1}},
        {"refused": {f"code-{n}": 1 for n in range(257)}},
        {"model_requests": {"linear": 1}},
        {"run_seconds": [1] * len(SECONDS)},
        {"run_seconds": [1] * (len(SECONDS) + 2)},
        {"run_seconds": {"0.1": 1}},
        [],
        None,
    ],
    ids=str,
)
def test_what_is_not_on_the_allow_list_is_not_shown(told: Any) -> None:
    with pytest.raises(ManifestError):
        read_telemetry(told)


# ---------------------------------------------------------------------------------------------- the page


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def fetch(address: Any, request: bytes) -> tuple[int, str]:
    """Return status and body of one answer."""
    if isinstance(address, UnixAddress):
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    await hang_up(writer)
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_an_agent_serves_its_metrics(tmp_path: Path, kind: str) -> None:
    address = f"unix:{tmp_path}/m.sock" if kind == "unix" else "tcp:127.0.0.1:0"

    async def scenario() -> None:
        async with up(prepare(tmp_path, metrics=address)) as running:
            bound = running.agent.metrics_address
            code, body = await fetch(bound, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert code == 200
            assert parsed(body)["strongroom_process_serving"].samples[0].value == 1
            assert (await running.ask("status"))["metrics"] == str(bound)
            assert parsed((await running.ask("metrics"))["text"]).keys() == parsed(body).keys()
        assert not (tmp_path / "m.sock").exists()

    run(scenario())


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics SPDY/3\r\n\r\n", 400),
        (b"\xff\xfe\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n" + b"x" * 2 * MAX_HEAD, 431),
    ],
)
def test_the_page_answers_one_question_and_nothing_else(tmp_path: Path, request_bytes: bytes, code: int) -> None:
    async def scenario() -> None:
        async with Page(UnixAddress(f"{tmp_path}/m.sock"), lambda: "a 1\n").serving() as bound:
            assert (await fetch(bound, request_bytes))[0] == code

    run(scenario())


def test_readers_that_say_nothing_do_not_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.scrape.PATIENCE", 0.3)

    async def scenario() -> None:
        path = f"{tmp_path}/m.sock"
        async with Page(UnixAddress(path), lambda: "a 1\n").serving() as bound:
            mute = [await asyncio.open_unix_connection(path) for _ in range(MAX_READERS)]
            await asyncio.sleep(0.05)
            assert (await fetch(bound, b"GET /metrics HTTP/1.1\r\n\r\n"))[0] == 503
            for reader, writer in mute:
                assert await reader.read() == b""
                await hang_up(writer)
            assert (await fetch(bound, b"GET /metrics HTTP/1.1\r\n\r\n"))[0] == 200

    run(scenario())


@pytest.mark.parametrize(
    "address", ["tcp:0.0.0.0:9100", "tcp:192.0.2.1:9100", "tcp:metrics.example:9100", "tcp:[::]:9100"]
)
def test_a_page_that_other_machines_reach_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(HostError) as error:
        prepare(tmp_path, metrics=address).check()
    assert error.value.code is HostCode.METRICS_EXPOSED


@pytest.mark.parametrize("address", ["tcp:127.0.0.1:9100", "tcp:[::1]:9100", "tcp:localhost:9100", "unix:/run/m.sock"])
def test_a_page_for_this_machine_is_not(address: str) -> None:
    assert isinstance(check_address(address), TcpAddress | UnixAddress)


# ---------------------------------------------------------------------------------------------- OpenTelemetry


class Collector:
    """An OTLP receiver on this machine: keeps what it is sent, and answers with `status`."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.types: list[str] = []
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.bodies.append(json.loads(body))
                collector.types.append(self.headers["Content-Type"])
                self.send_response(collector.status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def metrics(self) -> dict[str, Any]:
        (resource,) = self.bodies[-1]["resourceMetrics"]
        (scope,) = resource["scopeMetrics"]
        return {metric["name"]: metric for metric in scope["metrics"]}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_a_collector_takes_counters_gauges_and_histograms(collector: Collector) -> None:
    pusher = Pusher(collector.url, lambda: families(status(**TELEMETRY)))
    assert pusher._push(to_otlp(families(status(**TELEMETRY)), 1, 2))
    assert collector.types == ["application/json"]
    told = collector.metrics()
    refused = told["strongroom_enclave_refused"]["sum"]
    assert refused["isMonotonic"]
    points = {p["attributes"][-1]["value"]["stringValue"]: int(p["asInt"]) for p in refused["dataPoints"]}
    assert points == TELEMETRY["refused"]
    (histogram,) = told["strongroom_enclave_run_seconds"]["histogram"]["dataPoints"]
    assert [int(count) for count in histogram["bucketCounts"]] == TELEMETRY["run_seconds"]
    assert histogram["explicitBounds"] == list(SECONDS)
    assert told["strongroom_process_serving"]["gauge"]["dataPoints"]
    assert "strongroom_enclave_sessions_open" not in told


def test_an_agent_pushes_to_its_collector(tmp_path: Path, collector: Collector) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path, otlp=collector.url)):
            await until(lambda: bool(collector.bodies))

    run(scenario())
    assert "strongroom_host_connections" in collector.metrics()


def test_a_collector_that_fails_costs_the_agent_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path, otlp="http://127.0.0.1:9/v1/metrics")) as running:
            assert (await running.ask("status"))["deployments"][0]["state"] == "ready"

    run(scenario())


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector", "unix:/x"])
def test_a_collector_without_a_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(HostError) as error:
        prepare(tmp_path, otlp=url).check()
    assert error.value.code is HostCode.CONFIGURATION_INVALID


def test_without_the_library_the_agent_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.json.http.metric_exporter", None)
    with pytest.raises(HostError) as error:
        Pusher("http://127.0.0.1:4318/v1/metrics", list)
    assert error.value.code is HostCode.OTLP_MISSING


def test_a_busy_port_of_the_page_names_its_own_option(tmp_path: Path) -> None:
    errors: list[HostError] = []

    async def scenario(address: str) -> None:
        with pytest.raises(HostError) as error:
            async with up(prepare(tmp_path, metrics=address)):
                pass
        errors.append(error.value)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        run(scenario(f"tcp:127.0.0.1:{taken.getsockname()[1]}"))
    (refused,) = errors
    assert refused.code is HostCode.ADDRESS_IN_USE
    assert "--metrics" in str(refused.remedy)
    assert "--listen" not in str(refused.remedy)
