"""What leaves the enclave as telemetry: what the allow-list names, in windows, and no word of a client's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attestation.errors import WireCode
from attestation.wire.frames import Frame
from enclave.errors import EnclaveCode
from enclave.metrics import Metrics
from manifests import canonical
from manifests.errors import ManifestCode
from manifests.gramine.settings import EnclaveSettings, Limits
from manifests.telemetry import BY_NAME, METRICS, SECONDS, Kind, Label, read_telemetry
from tests.enclave.rig import Owner, Refused, Rig, linear, running

X = np.ones((1, 4), np.float32)
SECRET = "patient-4711"
PRESENT = {m.name: 3 for m in METRICS if m.label is None and m.kind is not Kind.HISTOGRAM}


def report(rig: Rig) -> bytes:
    while not rig.host.control.empty():
        rig.host.control.get()
    rig.host.send(Frame("!stats", 0, b""))
    return bytes(rig.host.control.get(timeout=10).body)


def told(rig: Rig) -> dict[str, Any]:
    return read_telemetry(canonical.decode(report(rig), max_size=1 << 16)["telemetry"])


def served(rig: Rig, owner: Owner, folder: Path) -> bytes:
    data, manifest = linear(owner, name=SECRET)
    digest = owner.seal(rig.host, folder, data, manifest=manifest)
    owner.provision(rig.client(), digest, name=SECRET)
    return digest


def settings(**limits: int) -> EnclaveSettings:
    return EnclaveSettings("first", limits=Limits(**limits))


def test_nothing_leaves_but_the_allow_list_and_no_text_of_a_client_or_owner(owner: Owner, tmp_path: Path) -> None:
    """Whatever words a client puts into names, operations and values, the report has none of them."""
    with running(settings(telemetry_window=0, telemetry_models=1)) as rig:
        digest = served(rig, owner, tmp_path)
        client = rig.client()
        client.infer(digest, x=X)
        hostile: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"op": SECRET}, {}),
            ({"op": "infer", "model": {"digest": digest}}, {SECRET: X}),
            ({"op": "infer", "model": {"owner": owner.public, "name": SECRET + "x", "epoch": 1}}, {"x": X}),
            ({"op": "infer", "model": {"digest": digest}}, {"x": np.array([[SECRET] * 4], dtype=object)}),
            ({"op": "models", SECRET: 1}, {}),
        ]
        for header, tensors in hostile:
            with pytest.raises(Refused):
                client.request(header, tensors)
        raw = report(rig)
        assert SECRET.encode() not in raw
        whole = canonical.decode(raw, max_size=1 << 16)
        telemetry = whole.pop("telemetry")
        assert all(type(value) is int for value in whole.values())
        assert telemetry.keys() <= BY_NAME.keys()
        codes = {str(code) for table in (EnclaveCode, ManifestCode, WireCode) for code in table}
        assert telemetry["refused"].keys() <= codes
        assert sum(telemetry["refused"].values()) == len(hostile)
        assert telemetry["model_requests"] == {digest.hex()[:16]: 1}
        assert read_telemetry(telemetry) == telemetry
        assert sum(telemetry["run_seconds"]) == sum(telemetry["request_seconds"]) == 1


def test_counts_by_model_are_told_where_the_settings_admit_it_alone(owner: Owner, tmp_path: Path) -> None:
    with running(settings(telemetry_window=0)) as rig:
        digest = served(rig, owner, tmp_path)
        rig.client().infer(digest, x=X)
        assert told(rig)["model_requests"] == {}
        assert digest.hex()[:16].encode() not in report(rig)


def test_within_a_window_nothing_moves(owner: Owner, tmp_path: Path) -> None:
    with running() as rig:
        before = told(rig)
        digest = served(rig, owner, tmp_path)
        client = rig.client()
        for _ in range(5):
            client.infer(digest, x=X)
        assert told(rig) == before


def test_a_window_tells_what_it_saw_when_it_is_over() -> None:
    now = [0.0]
    metrics = Metrics(60.0, lambda: now[0])
    assert metrics.export(lambda: PRESENT)["refused"] == {}
    metrics.count_code("refused", EnclaveCode.TENSOR_SHAPE)
    metrics.observe("run_seconds", 0.003)
    now[0] = 59.9
    assert metrics.export(lambda: {**PRESENT, "sessions": 9})["refused"] == {}
    assert metrics.export(lambda: {**PRESENT, "sessions": 9})["sessions"] == 3
    now[0] = 60.0
    seen = metrics.export(lambda: {**PRESENT, "sessions": 9})
    assert (seen["refused"], seen["run_seconds"][1], seen["sessions"]) == ({"tensor-shape": 1}, 1, 9)
    metrics.observe("run_seconds", 0.003)
    assert metrics.export(lambda: PRESENT)["run_seconds"][1] == 1


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (64.0, len(SECONDS) - 1), (64.1, len(SECONDS)), (1e9, -1)],
)
def test_a_time_is_kept_as_its_bucket_alone(seconds: float, bucket: int) -> None:
    metrics = Metrics(0.0)
    metrics.observe("run_seconds", seconds)
    buckets = metrics.export(lambda: PRESENT)["run_seconds"]
    assert buckets[bucket] == sum(buckets) == 1


def test_what_is_not_on_the_list_cannot_be_counted() -> None:
    metrics = Metrics(0.0)
    with pytest.raises(KeyError):
        metrics.count_code("novelty", EnclaveCode.BUSY)
    with pytest.raises(KeyError):
        metrics.count_code("model_requests", EnclaveCode.BUSY)
    with pytest.raises(KeyError):
        metrics.observe("sessions", 1.0)


def test_labels_are_bounded_whatever_is_counted() -> None:
    metrics = Metrics(0.0)
    for number in range(1000):
        metrics.count_model("model_requests", number.to_bytes(64, "little"))
    told = metrics.export(lambda: PRESENT)
    assert len(told["model_requests"]) == 256
    assert len(canonical.encode(told)) < 32 * 1024


def test_every_code_of_ours_has_the_form_of_a_label() -> None:
    for table in (EnclaveCode, ManifestCode, WireCode):
        assert all(Label.CODE.admits(str(code)) for code in table)
        assert len(table) < 256


def test_the_page_lists_what_may_leave_and_nothing_else() -> None:
    page = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:5] for line in page.splitlines() if line.startswith("| `strongroom_enclave_")]
    listed = [tuple(cell.strip().strip("`") for cell in row) for row in rows]
    table = [(f"strongroom_enclave_{m.name}", str(m.kind), str(m.label or "-"), m.help) for m in METRICS]
    assert listed == table, json.dumps(table, indent=1)
