"""The tables [generation], [state] and [batching]: what they say, and what they are refused for."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import pytest

from manifests.batching import MAX_WAIT_US
from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.signing import Signer

OWNER = Signer.from_seed(bytes([1]) * 32).public

POET = """
name = "poet"
version = "1"
epoch = 1
axes.n = { minimum = 1, maximum = 16 }
axes.past = { minimum = 0, maximum = 16 }
axes.total = { minimum = 1, maximum = 16 }
inputs = [
    { name = "tokens", dtype = "int64", shape = [1, "n"] },
    { name = "places", dtype = "int64", shape = [1, "n"] },
    { name = "ones", dtype = "int64", shape = [1, "total"] },
    { name = "past", dtype = "float32", shape = [1, 2, "past", 4] },
]
outputs = [
    { name = "scores", dtype = "float32", shape = [1, "n", 256] },
    { name = "present", dtype = "float32", shape = [1, 2, "total", 4] },
]
[generation]
tokens = "tokens"
positions = "places"
mask = "ones"
logits = "scores"
cache = [["past", "present"]]
context = 16
max_new_tokens = 15
vocabulary = "bytes"
stop_tokens = [0, 10]
sampling = ["temperature", "top_k"]
streams = 2
"""
SENSOR = """
name = "sensor"
version = "1"
epoch = 1
inputs = [{ name = "x", dtype = "float32", shape = [1, 1] }, { name = "h", dtype = "float32", shape = [1, 8] }]
outputs = [{ name = "y", dtype = "float32", shape = [1, 1] }, { name = "k", dtype = "float32", shape = [1, 8] }]
[state]
pairs = [["h", "k"]]
shown = ["k"]
sessions = 8
"""
ROWS = """
name = "rows"
version = "1"
epoch = 1
axes = { n = { minimum = 1, maximum = 16 }, m = { minimum = 1, maximum = 16 } }
inputs = [{ name = "x", dtype = "float32", shape = ["n", 1] }, { name = "t", dtype = "string", shape = ["n"] }]
outputs = [{ name = "y", dtype = "float32", shape = ["n", 1] }]
[batching]
max_rows = 8
max_wait_us = 500
"""


@pytest.mark.parametrize("text", [POET, SENSOR, ROWS])
def test_a_manifest_reads_back_from_both_forms(text: str) -> None:
    manifest = ModelManifest.from_toml(text, owner=OWNER)
    assert ModelManifest.decode(manifest.encode()) == manifest
    assert ModelManifest.from_toml(manifest.to_toml()) == manifest


def test_a_manifest_without_tables_is_encoded_as_before() -> None:
    table = ModelManifest.from_toml(ROWS.partition("[batching]")[0], owner=OWNER).to_map()
    assert not table.keys() & {"state", "generation", "batching"}


def test_what_clients_send_and_get() -> None:
    poet, sensor = (ModelManifest.from_toml(text, owner=OWNER) for text in (POET, SENSOR))
    assert (poet.client_inputs(), poet.served_outputs()) == ((), ())
    assert [tensor.name for tensor in sensor.client_inputs()] == ["x"]
    assert [tensor.name for tensor in sensor.served_outputs()] == ["y", "k"]
    assert [tensor.name for tensor in sensor.graph_inputs()] == ["x", "h"]


def test_what_may_be_held_is_counted() -> None:
    poet, sensor = (ModelManifest.from_toml(text, owner=OWNER) for text in (POET, SENSOR))
    assert poet.serving.reserved(poet.inputs) == 2 * 2 * (2 * 16 * 4 * 4), "two streams, each with old and new cache"
    assert sensor.serving.reserved(sensor.inputs) == 8 * (8 * 4)


def changed(text: str, path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    table = copy.deepcopy(tomllib.loads(text)) | {"owner": OWNER}
    at: Any = table
    for step in path[:-1]:
        at = at[step]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return table


G, S, B = ("generation",), ("state",), ("batching",)
BIG = [1, 1 << 15, "past", 1 << 14]
REFUSED: dict[str, tuple[str, tuple[Any, ...], Any, str]] = {
    "a token input that is not there": (POET, (*G, "tokens"), "x", "none of the manifest's"),
    "tokens that are no integers": (POET, ("inputs", 0, "dtype"), "float32", "cannot have dtype"),
    "tokens without an axis": (POET, ("inputs", 0, "shape"), [1], "must admit the shape"),
    "tokens whose axis is too short": (POET, ("axes", "n", "maximum"), 14, "must admit the shape"),
    "a mask that is too short": (POET, ("axes", "total", "maximum"), 14, "must admit the shape"),
    "positions that are no integers": (POET, ("inputs", 1, "dtype"), "float32", "cannot have dtype"),
    "logits that are not there": (POET, (*G, "logits"), "x", "none of the manifest's"),
    "logits that are no floats": (POET, ("outputs", 0, "dtype"), "int64", "cannot have dtype"),
    "logits without a fixed last axis": (POET, ("outputs", 0, "shape"), [1, "n", "n"], "logits have the shape"),
    "logits of one axis": (POET, ("outputs", 0, "shape"), [256], "logits have the shape"),
    "fewer logits than bytes": (POET, ("outputs", 0, "shape"), [1, "n", 255], "as long as the vocabulary"),
    "another number of labels than logits": (POET, (*G, "vocabulary"), "labels", "as long as the vocabulary"),
    "a vocabulary that nobody knows": (POET, (*G, "vocabulary"), "words", "is not one of"),
    "a cache that is no pair": (POET, (*G, "cache"), [["past"]], "not a list of pairs"),
    "no cache": (POET, (*G, "cache"), [], "not a list of pairs"),
    "a cache that is named twice": (POET, (*G, "cache"), [["past", "present"], ["past", "scores"]], "twice"),
    "a cache that does not grow": (POET, ("inputs", 3, "shape"), [1, 2, 3, 4], "one axis that grows"),
    "a cache that grows elsewhere": (POET, ("outputs", 1, "shape"), [1, 2, 4, "total"], "in the same place"),
    "a cache of another width": (POET, ("outputs", 1, "shape"), [1, 2, "total", 5], "differ in dtype or shape"),
    "a cache of another type": (POET, ("outputs", 1, "dtype"), "float16", "differ in dtype or shape"),
    "a cache that cannot be empty": (POET, ("axes", "past", "minimum"), 1, "must admit lengths from 0"),
    "a cache that is shorter than the context": (POET, ("axes", "past", "maximum"), 14, "must admit lengths from 0"),
    "a cache beyond all bounds": (
        POET,
        ("outputs", 1),
        {"name": "present", "dtype": "float32", "shape": BIG},
        "differ",
    ),
    "an input that nothing feeds": (POET, (*G, "mask"), None, "no others"),
    "a stop token beyond the vocabulary": (POET, (*G, "stop_tokens"), [256], "not in the vocabulary"),
    "stop tokens out of order": (POET, (*G, "stop_tokens"), [10, 0], "ascending"),
    "ways of drawing out of order": (POET, (*G, "sampling"), ["top_k", "temperature"], "ascending"),
    "a way of drawing that nobody knows": (POET, (*G, "sampling"), ["beam"], "is not one of"),
    "more new tokens than the context": (POET, (*G, "max_new_tokens"), 16, "between 1 and 15"),
    "a context of one": (POET, (*G, "context"), 1, "between 2"),
    "no streams": (POET, (*G, "streams"), 0, "between 1"),
    "a field that nobody knows": (POET, (*G, "beams"), 4, "unknown field"),
    "steps around a model that generates": (
        POET,
        ("post",),
        [{"kind": "softmax", "output": "scores", "axis": -1}],
        "no steps before or after",
    ),
    "a watch that bounds nothing": (POET, ("watch",), {"hold": 3}, "bounds nothing"),
    "a watch of a model that generates nothing": (SENSOR, ("watch",), {"tokens": 5}, "the tokens of a model that"),
    "text with fewer digits": (
        POET,
        ("watch",),
        {"tokens": 5, "ladder": [{"action": "fewer_digits"}]},
        "neither rounded",
    ),
    "text that is a label for all": (POET, ("watch",), {"tokens": 5, "pool": "label_only"}, "neither rounded"),
    "two bounds where there is one": (
        POET,
        ("watch",),
        {"tokens": 5, "ladder": [{"action": "log", "detectors": 2}]},
        "more bounds than there are",
    ),
    "more contexts than can be counted": (POET, ("watch",), {"coverage": (1 << 18) + 1}, "more than can be counted"),
    "a detector's field in a watch": (POET, ("watch",), {"tokens": 5, "digits": 2}, "unknown field"),
    "no tokens at all": (POET, ("watch",), {"tokens": 0}, "between 1"),
    "two tables": (POET, ("state",), {"pairs": [["past", "present"]]}, "one of"),
    "a state that is not there": (SENSOR, (*S, "pairs"), [["z", "k"]], "none of the manifest's"),
    "a state of text": (SENSOR, ("inputs", 1, "dtype"), "string", "cannot have dtype"),
    "a state of another shape": (SENSOR, ("outputs", 1, "shape"), [1, 9], "differ in dtype or shape"),
    "a state that nobody bounds": (SENSOR, (*S, "sessions"), 4097, "between 1 and 4096"),
    "more states of one client than of all": (SENSOR, (*S, "sessions_per_client"), 9, "between 1 and 8"),
    "no state of any client": (SENSOR, (*S, "sessions_per_client"), 0, "between 1 and"),
    "an input that receipts have a word for": (SENSOR, ("inputs", 0, "name"), "reset", "name those otherwise"),
    "an output that receipts have a word for": (SENSOR, ("outputs", 0, "name"), "steps", "name those otherwise"),
    "a shown output that is no state": (SENSOR, (*S, "shown"), ["y"], "no part of the state"),
    "nothing but a state": (SENSOR, (*S, "pairs"), [["h", "k"], ["x", "y"]], "an input that clients send"),
    "a state beyond all bounds": (SENSOR, ("inputs", 1, "shape"), [1, 1 << 25], "differ in dtype or shape"),
    "a step on a state": (SENSOR, ("pre",), [{"kind": "scale", "input": "h", "mean": 0.0, "std": 1.0}], "names 'h'"),
    "a batch of one": (ROWS, (*B, "max_rows"), 1, "between 2"),
    "a wait without end": (ROWS, (*B, "max_wait_us"), MAX_WAIT_US + 1, f"and {MAX_WAIT_US}"),
    "more rows than the axis admits": (ROWS, (*B, "max_rows"), 17, "more rows than axis"),
    "inputs without a common axis": (ROWS, ("inputs", 1, "shape"), ["m"], "one dynamic axis"),
    "an output without the axis": (ROWS, ("outputs", 0, "shape"), [1, 1], "one dynamic axis"),
    "an output without any axis": (ROWS, ("outputs", 0, "shape"), [], "one dynamic axis"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_work_is_refused(case: str) -> None:
    text, path, value, words = REFUSED[case]
    with pytest.raises(ManifestError, match=words) as refusal:
        ModelManifest.from_map(changed(text, path, value))
    assert refusal.value.code in {ManifestCode.MANIFEST_INVALID, ManifestCode.FIELD_INVALID}


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (POET, {"abuse": {"profile": "profile"}}, "detectors see nothing in tokens"),
        (ROWS, {"limits": {"max_concurrent": 2}}, "do not wait for turns"),
        (ROWS, {"limits": {"max_concurrent_per_client": 2}}, "do not wait for turns"),
    ],
)
def test_tables_that_would_not_hold_beside_each_other_are_refused(text: str, more: dict[str, Any], words: str) -> None:
    table = ModelManifest.from_toml(text, owner=OWNER).to_map()
    for name, value in more.items():
        table[name] = {**table.get(name, {}), **value} if isinstance(value, dict) else value
    with pytest.raises(ManifestError, match=words) as refusal:
        ModelManifest.from_map(table)
    assert refusal.value.code is ManifestCode.MANIFEST_INVALID


def test_state_and_cache_have_bounds_in_bytes() -> None:
    wide = changed(SENSOR, ("inputs", 1, "shape"), [1, 1 << 25])
    wide["outputs"][1]["shape"] = [1, 1 << 25]
    long = changed(POET, ("inputs", 3, "shape"), BIG)
    long["outputs"][1]["shape"] = [1, 1 << 15, "total", 1 << 14]
    for table in (wide, long):
        with pytest.raises(ManifestError, match="too large") as refusal:
            ModelManifest.from_map(table)
        assert refusal.value.code is ManifestCode.MANIFEST_INVALID


def test_a_dynamic_first_axis_is_a_batch_of_one() -> None:
    table = changed(POET, ("axes", "batch"), {"minimum": 1, "maximum": 4})
    for tensor in (*table["inputs"], *table["outputs"]):
        tensor["shape"][0] = "batch"
    manifest = ModelManifest.from_map(table)
    assert manifest.serving.generation is not None
    assert manifest.serving.reserved(manifest.inputs) == 2 * 2 * (2 * 16 * 4 * 4)


@pytest.mark.parametrize(
    "table",
    [
        {"tokens": 5},
        {"rate": 60, "hold": 0, "identities": 3},
        {"coverage": 1 << 16, "tokens": 9, "pool": "log", "pool_factor": 16, "pause_ms": 5},
        {"tokens": 9, "rate": 1, "ladder": [{"action": "revoke", "detectors": 2, "after": 0}]},
    ],
)
def test_a_watch_is_written_as_it_was_read(table: dict[str, Any]) -> None:
    manifest = ModelManifest.from_map(changed(POET, ("watch",), table))
    assert manifest.to_map()["watch"] == table
    assert ModelManifest.decode(manifest.encode()) == manifest
    assert ModelManifest.from_toml(manifest.to_toml(), owner=OWNER) == manifest
    assert manifest.serving.reserved(manifest.inputs) > 3 * (1 << 15)
