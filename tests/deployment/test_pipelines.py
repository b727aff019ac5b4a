"""Pipelines of sealed models through the real client, session, host, broker and enclave."""

from __future__ import annotations

import asyncio
import io
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attestation.client import AsyncSession, EpochMemory, Found, RemoteError, Session
from attestation.client.errors import ClientCode, ClientError
from attestation.policy import load_policy
from attestation.receipts.checks import Expected, Held
from attestation.receipts.verify import examine
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from evaluation.examples import pages, reading
from tests.demo.test_tutorial import folder, follow  # noqa: F401 - a fixture
from tests.enclave import pipes
from tests.enclave.pipes import INSIDE, NAN, page, stage

pytestmark = pytest.mark.xdist_group("pipelines")

DOCUMENT = Path(__file__).parents[2] / "docs" / "pipelines.md"


def finder(name: str, *stages: dict[str, Any]) -> ModelToSeal:
    return ModelToSeal(name, pipes.finder(), review=pipes.finder_table(*stages))


def echo(name: str = "echo", epoch: int = 1) -> ModelToSeal:
    return ModelToSeal(name, pipes.echo(), epoch=epoch, review=pipes.echo_table())


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """The trained example, and finders whose picture says which boxes they find."""
    models = [
        *reading.models(),
        echo(),
        echo("doomed"),
        finder("finder", stage()),
        finder("strict", stage(scores=None, limit=2)),
        finder("orphan", stage(model="nobody")),
        finder("late", stage(least_epoch=9)),
        finder("deep", stage(model="finder")),
        finder("doomed-finder", stage(model="doomed")),
        finder("unfit", stage(to="another")),
    ]
    with temporary_home() as home, Deployment(home, models, components=["image"]) as running:
        yield running


@pytest.fixture
def session(deployment: Deployment) -> Iterator[Session]:
    with deployment.session() as opened:
        yield opened


# ------------------------------------------------------------------------------------------ the good way


def test_the_digits_of_pages_are_found_and_read(session: Session) -> None:
    rng, digits, found, right = np.random.default_rng(11), 0, 0, 0
    for _ in range(10):
        written = pages.compose(rng, 12)
        each = reading.read(session, written)
        digits, found, right = digits + 12, found + each[0], right + each[1]
    assert found > 0.9 * digits, "nineteen of twenty are found"
    assert right > 0.8 * digits, "and nine of ten of these read right"


def test_a_page_without_digits_is_answered_by_none(session: Session) -> None:
    assert session.ask("pages", reading.photograph(pages.compose(np.random.default_rng(1), 0))) == ()


def test_what_is_read_is_what_anybody_with_pillow_and_onnxruntime_would_read(session: Session) -> None:
    """The finder's boxes, cut out of the same file, give the same labels when the reader is asked alone."""
    photo = reading.photograph(pages.compose(np.random.default_rng(2), 9))
    answer = session.infer("pages", {"photo": np.frombuffer(photo, np.uint8)})
    image = Image.open(io.BytesIO(photo)).convert("L")
    edges = answer["boxes"].astype(np.float64) * pages.PAGE
    cut = [np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR, tuple(box))).ravel() for box in edges]
    alone = session.infer("digits", {"X": np.array(cut, np.float32) / np.float32(255)})
    for name, value in alone.items():
        np.testing.assert_array_equal(answer[f"digits.{name}"], value)
    found = session.ask("pages", photo)
    assert [each.name for each in found] == list(alone["probabilities_indices"][:, 0])
    assert [each.score for each in found] == list(alone["probabilities_values"][:, 0])
    assert [each.box for each in found if isinstance(each, Found)] == [
        tuple(map(float, box)) for box in answer["boxes"]
    ]


def test_coroutines_and_the_command_ask_too(deployment: Deployment, tmp_path: Path) -> None:
    photo = tmp_path / "page.jpg"
    photo.write_bytes(reading.photograph(pages.compose(np.random.default_rng(4), 5)))

    async def ask() -> Any:
        terms = {"policy": deployment.policy_path, "collateral": deployment.collateral_dir, "memory": EpochMemory()}
        async with AsyncSession.connect(deployment.address, **terms) as opened:
            return await opened.ask("pages", photo)

    told = asyncio.run(ask())
    terms = ("--policy", deployment.policy_path, "--collateral", deployment.collateral_dir)
    printed = deployment.commands.json("infer", deployment.address, "pages", "--image", photo, *terms)["labels"]
    assert [(each["name"], each["score"], tuple(each["box"])) for each in printed] == [tuple(each) for each in told]
    listed = deployment.commands.json("infer", deployment.address, "--list", *terms)["models"]
    stages = {model["name"]: model["stages"] for model in listed if "stages" in model}
    assert stages["pages"] == [{"model": "digits", "least_epoch": 1, "boxes": "boxes"}]
    assert "digits" not in stages


def test_the_receipt_names_every_model_and_shows_a_swapped_reader(deployment: Deployment, session: Session) -> None:
    listed = {model.name: model.digest for model in session.models()}
    photo = np.frombuffer(page(INSIDE), np.uint8)
    answer = session.infer("finder", {"photo": photo}, receipt=True)
    assert answer.receipt is not None
    held, policy, at = Held.of(answer.receipt), load_policy(deployment.policy_path), int(time.time())
    expected = Expected(model=listed["finder"], stages=(listed["echo"],))
    report = examine(held, policy, at, expected=expected)
    assert report.accepted, report.refused
    assert answer.stages == (("echo", 1, listed["echo"]),)
    swapped = examine(held, policy, at, expected=Expected(stages=(listed["doomed"],)))
    assert [str(finding.code) for finding in swapped.refused] == ["receipt-stages"]
    plain = session.infer("echo", {"X": np.zeros((1, 16), np.float32)}, receipt=True).receipt
    assert plain is not None
    assert plain.signed().receipt.stages == ()


def test_a_client_that_pins_models_takes_no_answer_of_a_reader_it_has_not_pinned(
    deployment: Deployment, session: Session, tmp_path: Path
) -> None:
    listed = {model.name: model.digest.hex() for model in session.models()}
    table = tomllib.loads(deployment.policy_path.read_text())
    for pinned, refused in ((["finder"], True), (["finder", "echo"], False)):
        table["service"]["models"] = [listed[name] for name in pinned]
        table["evidence"]["simulated_root"] = str(
            (deployment.policy_path.parent / table["evidence"]["simulated_root"]).resolve()
        )
        with deployment.session(policy=load_policy(table)) as opened:
            photo = {"photo": np.frombuffer(page(INSIDE), np.uint8)}
            if not refused:
                assert len(opened.infer("finder", photo)["boxes"]) == 1
                continue
            with pytest.raises(ClientError) as caught:
                opened.infer("finder", photo)
            assert caught.value.code is ClientCode.MODEL_NOT_ALLOWED
            assert listed["echo"] in str(caught.value.found)


# ------------------------------------------------------------------------------------------ refusals


def code(session: Session, model: str, picture: bytes) -> str:
    with pytest.raises(RemoteError) as refused:
        session.infer(model, {"photo": np.frombuffer(picture, np.uint8)})
    assert refused.value.remedy
    return refused.value.remote_code


READERS = {
    "a reader that nobody has provisioned": ("orphan", "stage-missing"),
    "a reader of too low an epoch": ("late", "stage-epoch-old"),
    "a reader with stages itself": ("deep", "stage-depth"),
    "a reader that takes something else": ("unfit", "stage-unfit"),
}


@pytest.mark.parametrize(("model", "expected"), READERS.values(), ids=READERS)
def test_a_pipeline_is_refused_for(session: Session, model: str, expected: str) -> None:
    assert code(session, model, page(INSIDE)) == expected
    assert len(session.infer("finder", {"photo": np.frombuffer(page(INSIDE), np.uint8)})["boxes"]) == 1


PICTURES = {
    "more boxes than the limit, without scores": ("strict", page(INSIDE, INSIDE, INSIDE), "boxes-too-many"),
    "a box beside the picture": ("finder", page((1.1, 0.1, 1.4, 0.5)), "boxes-invalid"),
    "a box with an edge that is no number": ("finder", page(INSIDE, (0.1, NAN, 0.6, 0.6)), "boxes-invalid"),
    "a box that ends before it begins": ("finder", page((0.9, 0.1, 0.2, 0.6)), "boxes-invalid"),
    "a file that is no picture": ("finder", b"a page", "image-format"),
}


@pytest.mark.parametrize(("model", "picture", "expected"), PICTURES.values(), ids=PICTURES)
def test_a_picture_is_refused_for(session: Session, model: str, picture: bytes, expected: str) -> None:
    assert code(session, model, picture) == expected
    assert len(session.infer("finder", {"photo": np.frombuffer(page(), np.uint8)})["boxes"]) == 0


def test_with_scores_the_best_boxes_are_read(session: Session) -> None:
    scores = (0.3, 0.9, 0.8, 0.7, 0.6, 0.5)
    answer = session.infer("finder", {"photo": np.frombuffer(page(*[INSIDE] * 6, scores=scores), np.uint8)})
    assert len(answer["echo.same"]) == 4
    np.testing.assert_allclose(answer["scores"], scores[1:5], atol=1 / 255)


def test_a_revoked_reader_ends_its_pipeline(deployment: Deployment) -> None:
    with deployment.session() as opened:
        assert len(opened.infer("doomed-finder", {"photo": np.frombuffer(page(INSIDE), np.uint8)})["boxes"]) == 1
    layout = deployment.layout
    deployment.commands.run("broker", "revoke", "--home", layout.broker, "--name", "doomed", "--below", "2")
    deadline = time.monotonic() + 30
    while "doomed" in served(deployment):
        assert time.monotonic() < deadline, "the enclave never heard of it"
        time.sleep(0.2)
    with deployment.session() as opened:
        assert code(opened, "doomed-finder", page(INSIDE)) == "stage-revoked"
        assert len(opened.infer("finder", {"photo": np.frombuffer(page(INSIDE), np.uint8)})["boxes"]) == 1


def served(deployment: Deployment) -> set[str]:
    with deployment.session() as opened:
        return {model.name for model in opened.models()}


def test_a_readers_budget_that_is_used_up_ends_the_pipeline_and_costs_the_finder_nothing() -> None:
    release = {"release": {"anonymous_budget": 6, "slice": 2, "newcomers": 4, "heartbeat_seconds": 1}}
    models = [echo(), finder("finder", stage())]
    with (
        temporary_home() as home,
        Deployment(home, models, components=["image"], release=release) as running,
        running.session() as opened,
    ):
        assert spend_all(opened, "echo") <= 6
        assert code(opened, "finder", page(INSIDE)) == "budget-exhausted"
        time.sleep(2.5)  # two heartbeats, in which the enclave would have asked for more
        told = running.commands.json("broker", "budgets", "show", "--home", running.layout.broker)
        assert {row["model"] for row in told["clients"]} == {"echo"}, told


def spend_all(session: Session, model: str) -> int:
    """Ask until the budget is used up; return how many answers there were."""
    answers, deadline = 0, time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            session.infer(model, {"X": np.zeros((1, 16), np.float32)})
            answers += 1
        except RemoteError as error:
            if error.remote_code == "budget-exhausted":
                return answers
            if error.remote_code != "budget-pending":
                raise
            time.sleep(0.2)
    raise AssertionError("the budget is never used up")


# ------------------------------------------------------------------------------------------ the page


def test_the_pages_manifests_are_those_of_the_example() -> None:
    texts = re.findall(r"^cat > owner/(\w+)\.toml <<'EOF'\n(.*?)^EOF$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    tables = {name: tomllib.loads(text) for name, text in texts}
    for name, review in (("digits", pages.reader_review()), ("pages", pages.finder_review())):
        assert {entry: tables[name][entry] for entry in review} == review


def test_the_pages_commands_run_as_they_stand_there(folder: Path) -> None:  # noqa: F811 - the fixture
    outputs, everything = follow(folder, DOCUMENT)
    assert everything.count("refused with exit status 10") == 2, everything
    assert "receipt-stages" in everything
    assert "[stage-revoked]" in everything
    told = re.findall(r"^(\w+)  [\d.]+  from \d+, \d+ to \d+, \d+ %$", everything, re.MULTILINE)
    written = re.search(r"on the page: (.*)", outputs[0])
    assert written is not None
    assert len(set(told) & set(written[1].split())) >= 5
    assert abs(len(told) - 12) <= 3
    assert len(re.findall(r"^\w+ at 0\.\d\d, 0\.\d\d$", everything, re.MULTILINE)) == len(told)
