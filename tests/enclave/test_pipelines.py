"""Pipelines of several sealed models inside an enclave: what is read, what is refused, and what is spent then."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attestation.types import BudgetTerms, Credential
from attestation.types.receipt import SignedReceipt
from enclave import boxes as boxes_module
from enclave import pipeline as pipeline_module
from enclave.errors import EnclaveCode, EnclaveError
from enclave.gate import Gate
from enclave.operations import Operations
from manifests.abuse.policy import AbusePolicy, Action, Rung
from manifests.gramine.settings import EnclaveSettings
from manifests.model import ModelManifest
from manifests.signing import Signer
from tests.abuse import kit
from tests.abuse.test_guard import manifest as watched
from tests.enclave import pipes
from tests.enclave.decoding import LOADED
from tests.enclave.pipes import INSIDE, NAN, edges, page, stage
from tests.enclave.rig import Client, Owner, Refused, Rig, running
from tests.testkit.files import saved


class Served:
    """An enclave that serves what a test has put there."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder, self.owner = rig, folder, Owner()
        self._brokers: dict[bytes, Client] = {}

    def add(
        self,
        name: str,
        table: dict[str, Any],
        graph: bytes,
        *,
        epoch: int = 1,
        owner: Owner | None = None,
        parts: dict[str, bytes] | None = None,
        **grant: Any,
    ) -> bytes:
        whose = owner or self.owner
        head = {"name": name, "version": "1", "epoch": epoch, "owner": whose.public}
        manifest = ModelManifest.from_map(head | table)
        digest = whose.seal(self.rig.host, self.folder, graph, manifest=manifest, extra_parts=parts)
        whose.provision(self.broker(whose), digest, name=name, epoch=epoch, **grant)
        return digest

    def broker(self, owner: Owner) -> Client:
        return self._brokers.setdefault(owner.public, self.rig.client())

    def finder(self, *stages: dict[str, Any], name: str = "finder", **changes: Any) -> bytes:
        return self.add(name, pipes.finder_table(*stages), pipes.finder(), **changes)

    def echo(self, name: str = "echo", table: dict[str, Any] | None = None, **changes: Any) -> bytes:
        return self.add(name, table or pipes.echo_table(), pipes.echo(), **changes)

    def ask(self, finder: bytes, picture: bytes, client: Client | None = None) -> dict[str, Any]:
        return (client or self.rig.client()).infer(finder, photo=np.frombuffer(picture, np.uint8))

    def code(self, finder: bytes, picture: bytes, client: Client | None = None) -> str:
        with pytest.raises(Refused) as refused:
            self.ask(finder, picture, client)
        return refused.value.code

    def runs(self) -> int:
        """How often any graph has run."""
        return sum(self.rig.service.metrics._buckets["run_seconds"])

    def costs_nothing(self, finder: bytes, code: str, client: Client | None = None) -> None:
        """Hold that a request is refused, that nothing ran, and that no lease is spent."""
        before = self.rig.leases(), self.runs()
        assert self.code(finder, page(INSIDE), client) == code
        assert (self.rig.leases(), self.runs()) == before


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with running(EnclaveSettings("any", components=("image",))) as rig:
        yield Served(rig, tmp_path)


# ------------------------------------------------------------------------------------------ what is read


def pieces(picture: bytes, boxes: np.ndarray, mode: str = "L") -> np.ndarray:
    """What somebody with Pillow and numpy alone would cut out: boxes are fractions of the picture."""
    image = Image.open(io.BytesIO(picture)).convert(mode)
    sizes = np.array([image.width, image.height] * 2)
    size, method = (pipes.SIDE, pipes.SIDE), Image.Resampling.BILINEAR
    cut = [np.asarray(image.resize(size, method, tuple(box * sizes))) for box in boxes.astype(np.float64)]
    return np.array(cut).astype(np.float32) / np.float32(255)


def test_boxes_are_cut_out_as_pillow_does_and_read_as_one_batch(served: Served) -> None:
    served.echo()
    finder = served.finder()
    picture = page(INSIDE, (0.0, 0.1, 0.4, 1.0), (0.7, 0.0, 1.0, 0.3))
    before = served.runs()
    answer = served.ask(finder, picture)
    assert served.runs() == before + 2
    assert list(answer) == ["boxes", "scores", "echo.same", "echo.shade"]
    expected = np.array([edges(*INSIDE), edges(0.0, 0.1, 0.4, 1.0), edges(0.7, 0.0, 1.0, 0.3)])
    np.testing.assert_array_equal(answer["boxes"], np.clip(expected, 0, 1))
    np.testing.assert_array_equal(answer["scores"], np.ones(3, np.float32))
    np.testing.assert_array_equal(answer["echo.same"], pieces(picture, expected.clip(0, 1)).reshape(3, -1))
    light = answer["echo.same"].mean(axis=1) > 0.5
    assert list(answer["echo.shade"]) == [("light" if each else "dark") for each in light]


@pytest.mark.parametrize("units", ["fractions", "pixels"])
def test_boxes_are_fractions_or_pixels_of_what_the_graph_gets_and_are_answered_as_fractions(
    served: Served, units: str
) -> None:
    served.echo()
    answer = served.ask(served.finder(stage(units=units)), page((0.0, 0.2, 1.0, 1.4)))
    expected = edges(0.0, 0.2, 1.0, 1.4).astype(np.float64)
    if units == "pixels":
        expected = expected / np.array([5, pipes.ROWS, 5, pipes.ROWS])
    np.testing.assert_array_equal(answer["boxes"][0], np.clip(expected, 0, 1).astype(np.float32))


def test_what_stands_out_of_the_picture_is_cut_off(served: Served) -> None:
    served.echo()
    picture = page((-0.4, -0.5, 0.5, 1.5))
    answer = served.ask(served.finder(), picture)
    placed = np.clip(edges(-0.4, -0.5, 0.5, 1.5), 0, 1)
    np.testing.assert_array_equal(answer["boxes"], [placed])
    np.testing.assert_array_equal(answer["echo.same"], pieces(picture, placed[None]).reshape(1, -1))


def test_a_picture_without_boxes_is_answered_without_rows_and_the_reader_does_not_run(served: Served) -> None:
    served.echo()
    finder = served.finder()
    before = served.runs()
    answer = served.ask(finder, page())
    assert {name: (value.shape, value.dtype.kind) for name, value in answer.items()} == {
        "boxes": ((0, 4), "f"),
        "scores": ((0,), "f"),
        "echo.same": ((0, 16), "f"),
        "echo.shade": ((0,), "O"),
    }
    assert served.runs() == before + 1


def test_of_more_boxes_than_the_limit_the_best_are_read_in_their_own_order(served: Served) -> None:
    served.echo()
    boxes = [(x, 0.0, x + 0.2, 0.5) for x in (0.0, 0.1, 0.2, 0.3, 0.4)]
    picture = page(*boxes, scores=(0.6, 0.9, 0.2, 0.9, 0.4))
    answer = served.ask(served.finder(stage(limit=2)), picture)
    np.testing.assert_array_equal(answer["boxes"], np.clip([edges(*boxes[1]), edges(*boxes[3])], 0, 1))
    assert len(answer["scores"]) == len(answer["echo.same"]) == 2


def test_of_equal_scores_the_first_are_read_and_low_ones_never(served: Served) -> None:
    served.echo()
    boxes = [(x, 0.0, x + 0.2, 0.5) for x in (0.0, 0.1, 0.2, 0.3)]
    finder = served.finder(stage(limit=2, least_score=0.5))
    answer = served.ask(finder, page(*boxes, scores=(0.4, 0.8, 0.8, 0.8)))
    np.testing.assert_array_equal(answer["boxes"], np.clip([edges(*boxes[1]), edges(*boxes[2])], 0, 1))
    assert len(served.ask(finder, page(*boxes, scores=(0.4, 0.4, 0.8, 0.4)))["boxes"]) == 1
    assert len(served.ask(finder, page((NAN, 0.0, 1.0, 1.0), INSIDE, scores=(0.3, 0.8)))["boxes"]) == 1


def test_two_stages_read_the_same_boxes(served: Served) -> None:
    served.echo()
    served.echo("other", pipes.echo_table(post=[{"kind": "label_only", "output": "shade"}]))
    finder = served.finder(stage(), stage(model="other"))
    answer = served.ask(finder, page(INSIDE))
    assert list(answer) == ["boxes", "scores", "echo.same", "echo.shade", "other.label"]
    assert answer["other.label"] == answer["echo.shade"]


def test_the_answer_and_the_listing_name_every_model(served: Served) -> None:
    served.echo(epoch=2)
    finder = served.finder(stage(least_epoch=2))
    newest = served.echo(epoch=3)
    client = served.rig.client()
    header = client.request(
        {"op": "infer", "model": {"digest": finder}, "receipt": True},
        {"photo": np.frombuffer(page(INSIDE), np.uint8)},
    ).header
    assert header["stages"] == [["echo", 3, newest]]
    receipt = SignedReceipt.parse(header["receipt"]["signed"]).receipt
    assert (receipt.model, receipt.stages, receipt.verdict.output) == (finder, (newest,), "scores")
    listed = {model["digest"]: model for model in client.request({"op": "models"}).header["models"]}
    assert listed[finder]["stages"] == [["echo", 2, "boxes"]]
    assert "stages" not in listed[newest]


def test_a_reader_whose_receipts_come_always_has_the_pipelines_come_always(served: Served) -> None:
    served.echo(table=pipes.echo_table(receipts="always"))
    finder = served.finder()
    picture = np.frombuffer(page(INSIDE), np.uint8)
    header = served.rig.client().request({"op": "infer", "model": {"digest": finder}}, {"photo": picture}).header
    assert "receipt" in header


def test_a_reader_that_joins_requests_does_not_wait_for_others_here(served: Served) -> None:
    served.echo(table=pipes.echo_table(batching={"max_rows": 4, "max_wait_us": 100_000}, post=[]))
    finder = served.finder()
    assert len(served.ask(finder, page(INSIDE))["echo.same"]) == 1
    (model,) = (each for each in served.rig.service.owners.models() if each.batcher is not None)
    assert model.batcher is not None
    assert model.batcher.batches == 0


def test_a_picture_with_colours_is_cut_in_colours(served: Served) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    picture, box = saved(Image.fromarray(colours)), np.array([[0.25, 0.25, 0.75, 0.75]])
    module = served.rig.service.loader._components["image"]
    step = pipeline_module.compile_crop(pipes_crop(layout="nhwc", mode="rgb"), {"image": module})
    found = step({"\0whole": colours, "\0boxes": box})["\0pieces"]
    np.testing.assert_array_equal(found, pieces(picture, box, "RGB"))


def pipes_crop(**changes: Any) -> Any:
    table = pipes.finder_table(stage(crop={"width": pipes.SIDE, "height": pipes.SIDE, **changes}))
    table["pre"][0]["mode"] = "rgb"
    head = {"name": "m", "version": "1", "epoch": 1, "owner": Owner().public}
    return ModelManifest.from_map(head | table).stages[0].crop


# ----------------------------------------------------------------------------------- refused before anything runs


def test_a_reader_that_was_never_here_is_missing(served: Served) -> None:
    served.costs_nothing(served.finder(), "stage-missing")


def test_a_reader_of_another_owner_is_none(served: Served) -> None:
    served.echo(owner=Owner())
    served.costs_nothing(served.finder(), "stage-other-owner")


def test_a_reader_of_a_lower_epoch_is_refused(served: Served) -> None:
    served.echo(epoch=2)
    finder = served.finder(stage(least_epoch=3))
    served.costs_nothing(finder, "stage-epoch-old")
    served.echo(epoch=3)
    assert len(served.ask(finder, page(INSIDE))["boxes"]) == 1


@pytest.mark.parametrize("how", ["by digest", "by epoch"])
def test_a_revoked_reader_is_refused_until_a_newer_one_comes(served: Served, how: str) -> None:
    echo, finder = served.echo(), served.finder()
    broker = served.broker(served.owner)
    if how == "by digest":
        served.owner.revoke(broker, "echo", models=(echo,))
    else:
        served.owner.revoke(broker, "echo", epoch=2)
    served.costs_nothing(finder, "stage-revoked")
    served.echo(epoch=2)
    assert len(served.ask(finder, page(INSIDE))["boxes"]) == 1


def test_a_reader_with_stages_of_its_own_is_refused(served: Served) -> None:
    served.echo()
    served.finder(name="middle")
    served.costs_nothing(served.finder(stage(model="middle")), "stage-depth")


UNFIT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another input": ({}, {"to": "Y"}),
    "pieces of another size": ({}, {"crop": {"width": 3, "height": 4, "mode": "gray", "layout": "flat"}}),
    "pieces of another layout": ({}, {"crop": {"width": 4, "height": 4, "mode": "gray"}}),
    "pieces of another type": (
        {},
        {"crop": {"width": 4, "height": 4, "mode": "gray", "layout": "flat", "dtype": "uint8"}},
    ),
    "more pieces than it takes": ({"axes": {"n": {"minimum": 1, "maximum": 3}}}, {}),
    "no single piece": ({"axes": {"n": {"minimum": 2, "maximum": 9}}}, {}),
}


@pytest.mark.parametrize(("table", "changes"), UNFIT.values(), ids=UNFIT)
def test_a_reader_that_cannot_be_fed_is_refused(served: Served, table: dict[str, Any], changes: dict[str, Any]) -> None:
    served.echo(table=pipes.echo_table(**table))
    served.costs_nothing(served.finder(stage(**changes)), "stage-unfit")


def test_a_reader_whose_answers_are_not_one_for_each_box_is_refused(served: Served) -> None:
    table = pipes.echo_table()
    table["axes"]["m"] = {"minimum": 1, "maximum": 6}
    table["outputs"][1]["shape"] = ["m"]
    served.echo(table=table)
    served.costs_nothing(served.finder(), "stage-unfit")


@pytest.mark.parametrize("spent", ["finder", "echo"])
def test_a_lease_that_is_used_up_costs_the_other_nothing(served: Served, spent: str) -> None:
    served.echo(lease=1 if spent == "echo" else 9)
    finder = served.finder(lease=1 if spent == "finder" else 9)
    served.ask(finder, page())
    served.costs_nothing(finder, "lease-exhausted")


@pytest.mark.parametrize("names", [("finder", "echo"), ("alpha", "echo")], ids=["behind", "before"])
def test_a_readers_budget_that_is_used_up_costs_the_finder_nothing(served: Served, names: tuple[str, str]) -> None:
    """Whichever name comes first, and so is held first."""
    finder_name, _ = names
    terms = BudgetTerms(until=2_000_000_000, pool=8, slice=4, client=None, anonymous=0, rate=0, burst=0)
    served.echo(budget=terms)
    finder = served.finder(name=finder_name)
    served.costs_nothing(finder, "budget-exhausted")
    with pytest.raises(Refused) as refused:
        served.ask(finder, page(INSIDE))
    assert "stage 'echo'" in refused.value.message


def test_a_finders_budget_that_is_used_up_costs_the_reader_nothing(served: Served) -> None:
    terms = BudgetTerms(until=2_000_000_000, pool=8, slice=4, client=None, anonymous=0, rate=0, burst=0)
    served.echo()
    served.costs_nothing(served.finder(budget=terms), "budget-exhausted")


def test_each_answer_spends_one_of_every_model(served: Served) -> None:
    echo, finder = served.echo(lease=5), served.finder(lease=7)
    served.ask(finder, page(INSIDE, INSIDE))
    served.ask(finder, page())
    assert served.rig.leases() == {echo: 3, finder: 5}


ONE: dict[str, Any] = {"limits": {"max_concurrent": 1, "max_concurrent_per_client": 1}}


def test_a_readers_turn_is_waited_for_behind_whoever_has_it_and_before_who_comes_later(served: Served) -> None:
    """However many ask the reader alone: a pipeline's client has its share of the reader's turns."""
    served.echo(table=pipes.echo_table(**ONE))
    finder = served.finder()
    [gate] = [model.gate for model in served.rig.service.owners.models() if model.gate is not None]
    first, crowd = gate.turn(b"crowd"), [gate.turn(b"crowd") for _ in range(5)]
    assert first.take()
    for turn in crowd:
        turn.wait(lambda: None)
    before = served.rig.leases(), served.runs()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, finder, page(INSIDE), known(served))
        served.rig.wait_until(lambda: len(gate._queue) == 6)
        assert (served.rig.leases(), served.runs()) == before, "nothing is spent, and nothing runs, while it waits"
        first.end()
        for turn in [turn for turn in crowd if turn.began]:
            turn.end()
        assert len(answer.result(30)["boxes"]) == 1
    assert sum(turn.began > 0 for turn in crowd) <= 2, "those of the crowd that had waited longer wait on"


def test_where_too_many_wait_for_a_reader_a_pipeline_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.echo(table=pipes.echo_table(**ONE))
    finder = served.add("finder", pipes.finder_table(**ONE), pipes.finder())
    finders, readers = (gate_of(served, name) for name in ("finder", "echo"))
    turn = readers.turn(b"somebody")
    assert turn.take()
    monkeypatch.setattr("enclave.gate.MAX_WAITING", 0)
    served.costs_nothing(finder, "enclave-busy")
    turn.end()
    served.rig.wait_until(lambda: finders._running == readers._running == 0)
    assert len(served.ask(finder, page(INSIDE))["boxes"]) == 1


def test_a_session_that_goes_while_its_pipeline_waits_gives_all_turns_back(served: Served) -> None:
    served.echo(table=pipes.echo_table(**ONE))
    finder = served.add("finder", pipes.finder_table(**ONE), pipes.finder())
    gates = [gate_of(served, name) for name in ("finder", "echo")]
    for gate in gates:
        turn, client = gate.turn(b"somebody"), served.rig.client()
        assert turn.take()
        photo = np.frombuffer(page(INSIDE), np.uint8)
        client.send({"op": "infer", "model": {"digest": finder}}, {"photo": photo})
        served.rig.wait_until(lambda gate=gate: len(gate._queue) == 1)
        client.close()
        turn.end()
        served.rig.wait_until(lambda: all(len(each._queue) == each._running == 0 for each in gates))
    assert len(served.ask(finder, page(INSIDE))["boxes"]) == 1


def test_pipelines_and_clients_that_want_the_same_turns_are_all_answered(served: Served) -> None:
    """Two finders, two readers in both orders, each with one turn: who waits for one may hold another."""
    readers = [served.echo(name, table=pipes.echo_table(**ONE)) for name in ("left", "right")]
    orders = [("left", "right"), ("right", "left")]
    finders = [
        served.add(f"finder-{first}", pipes.finder_table(*(stage(model=each) for each in order), **ONE), pipes.finder())
        for order in orders
        for first in order[:1]
    ]
    row = np.full((1, 16), 0.5, np.float32)

    def ask_often(digest: bytes) -> int:
        client = known(served)
        if digest in finders:
            return sum(len(served.ask(digest, page(INSIDE), client)["boxes"]) for _ in range(10))
        return sum(len(client.infer(digest, X=row)["same"]) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask_often, (finders + readers) * 2, timeout=120)) == [10] * 8
    served.rig.wait_until(lambda: all(model.gate._running == 0 for model in served.rig.service.owners.models()))  # type: ignore[union-attr]


def gate_of(served: Served, name: str) -> Gate:
    [gate] = [model.gate for model in served.rig.service.owners.models() if model.name == name]
    assert gate is not None
    return gate


# ----------------------------------------------------------------------------------- refused after the finder ran

BAD: dict[str, tuple[bytes, str]] = {
    "an edge that is no number": (page(INSIDE, (0.1, NAN, 0.5, 0.5)), "boxes-invalid"),
    "all edges no numbers": (page((NAN, NAN, NAN, NAN)), "boxes-invalid"),
    "right of its right edge": (page((0.6, 0.1, 0.2, 0.5)), "boxes-invalid"),
    "below its lower edge": (page((0.1, 0.6, 0.5, 0.2)), "boxes-invalid"),
    "no width": (page((0.2, 0.1, 0.2, 0.5)), "boxes-invalid"),
    "left of the picture": (page((-0.5, 0.1, -0.1, 0.5)), "boxes-invalid"),
    "below the picture": (page(INSIDE, (0.1, 1.1, 0.5, 1.4)), "boxes-invalid"),
    "less than a pixel of it": (page((-0.5, 0.1, 0.005, 0.5)), "boxes-invalid"),
}


@pytest.mark.parametrize(("picture", "code"), BAD.values(), ids=BAD)
def test_what_is_no_box_refuses_the_whole_request(served: Served, picture: bytes, code: str) -> None:
    served.echo()
    finder = served.finder()
    before, client = served.runs(), served.rig.client()
    assert served.code(finder, picture, client) == code
    assert served.runs() == before + 1, "the reader did not run"
    assert len(served.ask(finder, page(INSIDE), client)["boxes"]) == 1, "the session goes on"


def test_without_scores_more_boxes_than_the_limit_are_refused(served: Served) -> None:
    served.echo()
    finder = served.finder(stage(scores=None, limit=2))
    assert served.code(finder, page(INSIDE, INSIDE, INSIDE)) == "boxes-too-many"
    assert len(served.ask(finder, page(INSIDE, INSIDE))["boxes"]) == 2


def test_boxes_that_cover_the_picture_too_often_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes_module, "MAX_CUT", 2 * pipes.WIDTH * pipes.HEIGHT)
    served.echo()
    finder, whole = served.finder(), (-0.5, -0.5, 1.5, 1.5)
    assert len(served.ask(finder, page(whole, whole))["boxes"]) == 2
    assert served.code(finder, page(whole, whole, INSIDE)) == "boxes-too-many"


def test_a_score_that_is_no_number_is_refused() -> None:
    head = {"name": "m", "version": "1", "epoch": 1, "owner": Owner().public}
    selection = boxes_module.Selection.compile(ModelManifest.from_map(head | pipes.finder_table()))
    outputs = {"boxes": np.array([[0, 0, 1, 1]], np.float32), "scores": np.array([np.nan], np.float32)}
    with pytest.raises(EnclaveError) as refused:
        selection.choose(outputs, (10, 10))
    assert refused.value.code is EnclaveCode.BOXES_INVALID
    with pytest.raises(EnclaveError) as refused:
        selection.choose({**outputs, "scores": np.ones(2, np.float32)}, (10, 10))
    assert refused.value.code is EnclaveCode.INFERENCE_FAILED


def test_the_readers_own_promises_hold_for_pieces_as_for_clients(served: Served) -> None:
    served.echo(table=pipes.echo_table(inputs=[{**pipes.echo_table()["inputs"][0], "maximum": 0.2}]))
    finder = served.finder()
    with pytest.raises(Refused) as refused:
        served.ask(finder, page((0.0, 0.0, 1.0, 1.0)))
    assert (refused.value.code, refused.value.field) == ("tensor-value", "X")
    assert refused.value.message.startswith("stage 'echo': ")


def test_a_picture_that_is_none_is_refused_as_by_any_model(served: Served) -> None:
    served.echo()
    finder = served.finder()
    assert served.code(finder, b"GIF89a") == "image-format"
    assert served.code(finder, page(INSIDE)[:-20]) == "image-malformed"


@pytest.mark.parametrize(("whose", "limit"), [("finder", 100), ("echo", 100)])
def test_an_answer_keeps_to_the_bounds_of_both(served: Served, whose: str, limit: int) -> None:
    bound = {"limits": {"max_response_bytes": limit}}
    served.echo(table=pipes.echo_table(**(bound if whose == "echo" else {})))
    finder = served.add("finder", pipes.finder_table(**(bound if whose == "finder" else {})), pipes.finder())
    assert len(served.ask(finder, page(INSIDE))["boxes"]) == 1
    assert served.code(finder, page(INSIDE, INSIDE, INSIDE)) == "response-too-large"


@pytest.mark.parametrize("steps", [[], [{"kind": "scale", "input": "X", "mean": 0.0, "std": 1.0}]])
def test_a_readers_bound_on_one_requests_memory_holds_for_pieces_as_for_clients(
    served: Served, steps: list[dict[str, Any]]
) -> None:
    digest = served.echo(table=pipes.echo_table(limits={"max_request_memory": 600}, pre=steps))
    finder, client = served.finder(), served.rig.client()
    assert len(served.ask(finder, page(INSIDE))["boxes"]) == 1
    assert served.code(finder, page(*[INSIDE] * 4)) == "request-memory"
    assert client.infer(digest, X=np.full((1, 16), 0.5, np.float32))["same"].shape == (1, 16)
    with pytest.raises(Refused, match="request-memory"):
        client.infer(digest, X=np.full((4, 16), 0.5, np.float32))


FLOATS = st.floats(width=32) | st.sampled_from([0.0, 1.0, 0.5, -0.0, 1e-45, 3e38])
SELECTION = boxes_module.Selection.compile(
    ModelManifest.from_map(
        {"name": "m", "version": "1", "epoch": 1, "owner": Signer.from_seed(bytes(32)).public} | pipes.finder_table()
    )
)
CUT = pipeline_module.compile_crop(SELECTION.stage.crop, LOADED)
GRAY = np.arange(7 * 9, dtype=np.uint8).reshape(7, 9)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS, FLOATS), max_size=8))
def test_whatever_a_graph_gives_is_cut_out_or_refused_as_no_boxes(rows: list[tuple[float, ...]]) -> None:
    given_rows = np.array(rows, np.float32).reshape(-1, 5)
    outputs = {"boxes": given_rows[:, :4], "scores": given_rows[:, 4]}
    try:
        boxes, chosen = SELECTION.choose(outputs, GRAY.shape)
    except EnclaveError as error:
        assert error.code is EnclaveCode.BOXES_INVALID  # noqa: PT017 - a value is as good
        return
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert len(chosen["boxes"]) == len(chosen["scores"]) == len(boxes) <= SELECTION.stage.limit
    if len(boxes):
        pieces_cut = CUT({"\0whole": GRAY, "\0boxes": boxes})["\0pieces"]
        assert pieces_cut.shape == (len(boxes), 16)
        assert ((pieces_cut >= 0) & (pieces_cut <= 1)).all()


def test_pipelines_that_meet_from_both_sides_neither_lock_up_nor_lose_a_count(served: Served) -> None:
    """One finder's name comes before its reader's and one's behind, and both spend the same reader."""
    echo = served.echo()
    finders = [served.finder(name="alpha"), served.finder(name="omega")]
    before = served.rig.leases()

    def ask_often(finder: bytes) -> int:
        client = served.rig.client()
        return sum(len(served.ask(finder, page(INSIDE), client)["boxes"]) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask_often, finders * 2)) == [20] * 4
    after = served.rig.leases()
    assert {digest: before[digest] - after[digest] for digest in before} == {echo: 80, finders[0]: 40, finders[1]: 40}


# ------------------------------------------------------------------------------------------ abuse


def test_the_readers_detectors_watch_each_piece_under_the_clients_identity(served: Served) -> None:
    """A reader that is asked through a picture is asked: what its detectors have seen there counts everywhere."""
    ladder = (Rung(Action.LOG), Rung(Action.REFUSE, after=1))
    table = watched(owner=served.owner.public, abuse=AbusePolicy(ladder=ladder)).to_map()
    table["axes"]["n"]["maximum"] = 64
    reader = served.add("small", table, kit.onnx_bytes(), parts={"profile": kit.profile().encode()})
    crop = {"width": 4, "height": 3, "mode": "gray", "layout": "flat"}
    finder = served.finder(stage(model="small", to="x", crop=crop, limit=pipes.ROWS))
    mallory, alice = known(served), known(served)
    random, codes = np.random.default_rng(1), []
    while not codes and served.rig.leases()[reader] > 800:
        left, top = random.uniform(-0.4, 0.6, (2, pipes.ROWS))
        boxes = [(x, y, x + 0.5, y + 0.5) for x, y in zip(left, top, strict=True)]
        codes = refusal_of(served, finder, page(*boxes), mallory)
    assert codes == ["abuse-refused"]
    row = kit.benign("iid", 1, 1)
    with pytest.raises(Refused) as refused:
        mallory.infer(reader, x=row)
    assert refused.value.code == "abuse-refused"
    assert alice.infer(reader, x=row)["y"].shape == (1, 3)
    assert len(served.ask(finder, page(INSIDE), alice)["small.y"]) == 1
    assert served.code(finder, page(INSIDE), mallory) == "abuse-refused"


def refusal_of(served: Served, finder: bytes, picture: bytes, client: Client) -> list[str]:
    try:
        served.ask(finder, picture, client)
    except Refused as error:
        return [error.code]
    return []


def known(served: Served) -> Client:
    key, client = Signer.generate(), served.rig.client()
    client.authenticate(key, Credential(served.owner.broker.public, key.public, "x").sign(served.owner.broker))
    return client


# ------------------------------------------------------------------------------------------ several models at once


def test_models_are_held_in_one_order_whatever_the_pipeline(served: Served) -> None:
    """Or else two pipelines over the same models could each wait for what the other holds."""
    held: list[str] = []

    @contextmanager
    def spending(name: str) -> Iterator[bool]:
        held.append(name)
        yield False

    models = [SimpleNamespace(name=name, spending=partial(lambda name, _: spending(name), name)) for name in "bca"]
    for order in (models, models[::-1]):
        pipeline_module._spend(order, order[0], b"")  # type: ignore[arg-type]
    assert held == list("abcabc")


def test_a_readers_refusal_says_when_to_ask_again(served: Served) -> None:
    served.echo(lease=1)
    finder = served.finder()
    served.ask(finder, page(INSIDE))
    with pytest.raises(Refused) as refused:
        served.ask(finder, page(INSIDE))
    assert refused.value.code == "lease-exhausted"
    assert refused.value.retry_after == 30.0


@pytest.mark.parametrize("oldest", [0, 1])
def test_an_answer_shows_the_sign_of_life_that_is_the_oldest_of_its_models(oldest: int) -> None:
    times = [(100, 5), (90, 5)] if oldest else [(90, 5), (100, 5)]
    beats = dict(zip(("finder", "reader"), times, strict=True))
    finder, reader = (SimpleNamespace(name=name, epoch=1, digest=b"", owner=b"o") for name in beats)
    owners = SimpleNamespace(beat=lambda model: beats[model.name])
    operations = SimpleNamespace(_service=SimpleNamespace(owners=owners))
    header = Operations._named(operations, finder, reader)  # type: ignore[arg-type]
    assert header["beat"] == [90, 5, b"o"]
