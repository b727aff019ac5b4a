"""Language models, recurrent models and joined requests through the real client, session, host and enclave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import socket
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

from attestation.client import AsyncSession, Generation, RemoteError, Session
from attestation.client.errors import ClientCode, ClientError
from attestation.policy import load_policy
from attestation.receipts.bundle import Opening, ReceiptBundle
from attestation.receipts.checks import Held
from attestation.receipts.verify import examine
from attestation.wire.commitments import Direction
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from evaluation.examples import language, recurrent
from evaluation.examples.export import export, review
from evaluation.examples.language import SHAPE as LANGUAGE
from evaluation.examples.language import trained
from evaluation.examples.transformer import Shape, initial
from tests.deployment.small import linear
from tests.enclave.poet import stepped
from tests.receipts.independent_verifier import RefusedError
from tests.receipts.independent_verifier import verify as verify_independently
from tests.testkit.files import trained_bytes
from tests.wire.independent_client import Client

pytestmark = pytest.mark.xdist_group("deployment")

SHAPE = Shape(width=32, heads=2, layers=1, inner=64, context=64)
PROMPT = "Return the "
WATCH = {"tokens": 40, "ladder": [{"action": "log"}, {"action": "refuse", "after": 0, "detectors": 1}]}
BATCHED = {"batching": {"max_rows": 4, "max_wait_us": 20_000}}


TOKENIZER = trained_bytes(["Return the sea. Ça va, naïve cœur? Ελλάδα 東京"] * 4)
SPOKEN_SHAPE = Shape(vocabulary=320, width=16, heads=2, layers=1, inner=16, context=64)
SPOKEN = review(SPOKEN_SHAPE, vocabulary="tokenizer", tokenizer="tokenizer.json")


def spoken() -> bytes:
    """A model that nobody trained, whose tokens are those of a tokenizer."""
    return export(initial(SPOKEN_SHAPE, np.random.default_rng(5)), SPOKEN_SHAPE)


@dataclass
class Library:
    """A deployment that serves a byte model, a sensor's model, and a linear one that joins requests."""

    running: Deployment
    poet: bytes
    sensor: bytes
    loss: float
    frequencies: float


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    weights, loss, frequencies = trained(SHAPE, 150)
    poet = export(weights, SHAPE)
    sensor = recurrent.export(recurrent.train(150))
    models = [
        ModelToSeal("poet", poet, review=review(SHAPE)),
        ModelToSeal("noted", poet, review={**review(SHAPE), "receipts": "always"}),
        ModelToSeal("watched", poet, review={**review(SHAPE), "watch": WATCH}),
        ModelToSeal("spoken", spoken(), review=SPOKEN, parts={"tokenizer.json": TOKENIZER}),
        ModelToSeal("sensor", sensor.onnx, review=sensor.review),
        ModelToSeal("joined", linear(), review=BATCHED),
    ]
    with temporary_home() as home, Deployment(home, models, components=("text",)) as running:
        yield Library(running, poet, sensor.onnx, loss, frequencies)


def test_the_byte_model_has_learnt_more_than_byte_frequencies(library: Library) -> None:
    assert library.loss < library.frequencies - 0.2


def test_text_streams_as_plain_onnxruntime_steps_it(library: Library) -> None:
    expected = bytes(stepped(library.poet, list(PROMPT.encode()), 50))
    with library.running.session() as session, session.generate("poet", PROMPT, max_new_tokens=50) as answer:
        pieces = list(answer)
    assert b"".join(piece.data for piece in pieces) == answer.data == expected
    assert len(pieces) == 50
    assert (answer.reason, answer.finished, answer.seed) == ("length", True, None)


def test_a_seed_gives_the_same_answer_again(library: Library) -> None:
    asked = {"max_new_tokens": 30, "temperature": 0.8, "top_k": 20, "top_p": 0.95}
    with library.running.session() as session:
        first = session.generate("poet", PROMPT, **asked)
        text = first.read()
        assert first.seed is not None
        assert session.generate("poet", PROMPT.encode(), **asked, seed=first.seed).read() == text
        assert session.generate("poet", list(PROMPT.encode()), **asked, seed=first.seed).read() == text


def test_two_sessions_interleave_and_each_reads_its_own(library: Library) -> None:
    prompts = ["Return the ", "This module "]
    with library.running.session() as one, library.running.session() as other:
        answers = [s.generate("poet", p, max_new_tokens=50) for s, p in zip((one, other), prompts, strict=True)]
        for _ in range(50):
            for answer in answers:
                next(answer)
    found = [list(answer.tokens) for answer in answers]
    assert found == [stepped(library.poet, list(prompt.encode()), 50) for prompt in prompts]


def test_an_answer_is_given_up_and_its_cache_is_free_for_the_next(library: Library) -> None:
    with library.running.session() as session:
        for _ in range(9):
            with session.generate("poet", "x", max_new_tokens=60) as answer:
                next(answer)
        assert not answer.finished
        with pytest.raises(ClientError) as truncated:
            answer.read()
        assert truncated.value.code is ClientCode.ANSWER_TRUNCATED
        assert len(session.generate("poet", PROMPT, max_new_tokens=3).read()) > 0


def test_who_takes_more_than_the_owner_admits_is_refused_and_reconnecting_does_not_help(library: Library) -> None:
    with library.running.session() as session:
        before = session.generate("watched", PROMPT, max_new_tokens=50)
        assert len(before.read().encode()) == 50, "what has begun is finished"
    for _ in range(2):
        with library.running.session() as session, pytest.raises(RemoteError) as refusal:
            session.generate("watched", PROMPT, max_new_tokens=1).read()
        assert refusal.value.remote_code == "abuse-refused"


def begun(session: Session, prompt: str) -> Generation:
    """An answer whose first part has come; the host tells the enclave of sessions that have ended a little later."""
    for _ in range(400):
        answer = session.generate("poet", prompt, max_new_tokens=60)
        try:
            next(answer)
        except RemoteError as refusal:
            assert refusal.remote_code == "model-full"  # noqa: PT017 - either outcome is right for a while
            time.sleep(0.05)
        else:
            return answer
    raise AssertionError("the caches never became free")


def test_a_session_that_ends_with_open_answers_frees_their_caches(library: Library) -> None:
    for _ in range(9):
        with library.running.session() as session:
            assert not begun(session, "x").finished
            assert not begun(session, "y").finished


def test_refusals_come_with_the_first_part_and_the_session_goes_on(library: Library) -> None:
    with library.running.session() as session:
        for model, asked, code in (
            ("poet", {"max_new_tokens": 64}, "field-invalid"),
            ("poet", {"max_new_tokens": 4, "temperature": 1000.0}, "sampling-refused"),
            ("sensor", {"max_new_tokens": 4}, "operation-unfit"),
        ):
            with pytest.raises(RemoteError) as refusal:
                session.generate(model, PROMPT, **asked).read()
            assert refusal.value.remote_code == code
        with pytest.raises(RemoteError) as refusal:
            session.generate("poet", "", max_new_tokens=4).read()
        assert (refusal.value.remote_code, refusal.value.field) == ("prompt-refused", "prompt")
        assert session.generate("poet", PROMPT, max_new_tokens=2).read()


def test_the_asynchronous_client_reads_several_answers_of_one_session_at_once(library: Library) -> None:
    async def read() -> list[str]:
        terms = {"policy": library.running.policy_path, "collateral": library.running.collateral_dir}
        async with AsyncSession.connect(library.running.address, **terms) as session:
            answers = [await session.generate("poet", p, max_new_tokens=40) for p in ("Return ", "If ")]
            assert (await session.infer("joined", {"x": np.ones((1, 4), np.float32)}))["y"].shape == (1, 3)
            return list(await asyncio.gather(*(answer.read() for answer in answers)))

    expected = [bytes(stepped(library.poet, list(p), 40)).decode() for p in (b"Return ", b"If ")]
    assert asyncio.run(read()) == expected


@contextlib.contextmanager
def stranger(library: Library) -> Iterator[Client]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(library.running.address.removeprefix("unix:"))
        client = Client()
        client.connect(sock)
        yield client
        client.close()


def test_the_client_that_was_written_from_the_page_alone_reads_a_stream(library: Library) -> None:
    with stranger(library) as client:
        listed, _ = client.request({"op": "models"})
        digest = next(model["digest"] for model in listed["models"] if model["name"] == "poet")
        asked = {"op": "generate", "model": {"digest": digest}, "prompt": PROMPT, "max_new_tokens": 20}
        parts = list(client.generate(asked))
    assert [token for part in parts for token in part["tokens"]] == stepped(library.poet, list(PROMPT.encode()), 20)
    assert parts[-1]["reason"] == "length"


# ---------------------------------------------------------------------------------------------------------- text


def test_a_model_with_a_tokenizer_takes_text_and_gives_whole_characters(library: Library) -> None:
    tokenizer = Tokenizer.from_str(TOKENIZER.decode())
    expected = stepped(spoken(), tokenizer.encode("Ça va 東").ids, 40)
    with library.running.session() as session, session.generate("spoken", "Ça va 東", max_new_tokens=40) as answer:
        for piece in answer:
            assert piece.data.decode() == piece.text, "no part ends within a character"
    assert list(answer.tokens) == expected
    assert answer.text == tokenizer.decode(expected)


def command(library: Library, model: str, *words: object) -> tuple[object, ...]:
    running = library.running
    terms = ("--policy", running.policy_path, "--collateral", running.collateral_dir)
    return ("generate", running.address, model, *words, *terms)


def test_the_command_streams_text_and_tells_programs_all_of_it(library: Library, tmp_path: Path) -> None:
    words = ("--prompt", PROMPT, "--max-tokens", 20, "--state", tmp_path / "epochs.json")
    drawn = ("--temperature", "0.8", "--top-k", 20, "--top-p", "0.9", "--stop", "\n\n", "--receipt", tmp_path / "r")
    run = library.running.commands
    told = json.loads(run.run(*command(library, "poet", *words, *drawn, "--json")))
    assert told["enclave"]["platform"] == "SIMULATED"
    assert told["receipt"] == str(tmp_path / "r")
    assert examined(library, ReceiptBundle.load(tmp_path / "r")) == set()
    again = run.run(*command(library, "poet", *words, *drawn[:-2], "--seed", told["seed"]))
    assert told["text"] + "\n" in again
    plain = run.run(*command(library, "poet", *words))
    assert bytes(stepped(library.poet, list(PROMPT.encode()), 20)).decode() + "\n" in plain


def test_the_command_ends_with_the_exit_status_of_a_refusal(library: Library) -> None:
    run = library.running.commands
    run.run(*command(library, "poet", "--prompt", PROMPT, "--max-tokens", 1000), expect=(10,))
    run.run(*command(library, "sensor", "--prompt", PROMPT), expect=(20,))
    run.run(*command(library, "poet", "--prompt", PROMPT, "--max-tokens", 9, "--temperature", "1000"), expect=(10,))
    run.run(*command(library, "poet", "--prompt", PROMPT, "--credential", "x"), expect=(2,))


# ------------------------------------------------------------------------------------------------------ receipts


DRAWN: dict[str, Any] = {"max_new_tokens": 30, "temperature": 0.8, "stop": ["\n\n"]}


def examined(library: Library, bundle: ReceiptBundle) -> set[str]:
    """The codes that offline verification refuses a bundle with."""
    found = examine(Held.of(bundle), load_policy(library.running.policy_path), int(time.time()))
    return {str(finding.code) for finding in found.refused}


def opened(bundle: ReceiptBundle) -> dict[str, bytes]:
    both = (*bundle.openings[Direction.INPUT], *bundle.openings[Direction.OUTPUT])
    return {each.spec.name: each.data for each in both if each.spec is not None and each.data is not None}


def test_a_streams_receipt_covers_the_whole_answer_and_what_was_asked(library: Library, tmp_path: Path) -> None:
    with library.running.session() as session:
        with session.generate("poet", PROMPT, **DRAWN, receipt=tmp_path / "a.receipt") as answer:
            for _ in answer:
                assert (answer.receipt is None) == (not answer.finished)
        bundle = answer.receipt
        assert bundle is not None
        assert session.generate("poet", PROMPT, max_new_tokens=2).read()
    assert examined(library, bundle) == examined(library, ReceiptBundle.load(tmp_path / "a.receipt")) == set()
    assert verify_independently(bundle.encode())["verdict"] == {
        "abuse": 0,
        "checks": ["lease", "schema", "values"],
        "output": "text",
    }
    content = opened(bundle)
    assert content["tokens"] == np.array(answer.tokens, "<i8").tobytes()
    assert content["text"] == answer.data
    assert msgpack.unpackb(content["prompt"]) == [PROMPT]
    assert msgpack.unpackb(content["reason"]) == [answer.reason]
    assert content["seed"] == np.array([answer.seed], "<i8").tobytes()
    assert msgpack.unpackb(content["settings"]) == DRAWN


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, Direction.OUTPUT) for name in ("tokens", "text", "reason")),
        *((name, Direction.INPUT) for name in ("prompt", "settings")),
    ],
)
def test_whatever_is_changed_of_a_generated_answer_fails_with_its_code(
    library: Library, name: str, way: Direction
) -> None:
    with library.running.session() as session:
        answer = session.generate("poet", PROMPT, max_new_tokens=5, receipt=True)
        answer.read()
    assert answer.receipt is not None
    assert examined(library, answer.receipt) == set()
    changed = [changing(each, name) for each in answer.receipt.openings[way]]
    assert changed != list(answer.receipt.openings[way])
    bundle = replace(answer.receipt, openings={**answer.receipt.openings, way: tuple(changed)})
    assert examined(library, bundle) == {f"receipt-{way}"}
    with pytest.raises(RefusedError):
        verify_independently(bundle.encode())


def changing(opening: Opening, name: str) -> Opening:
    """The opening with one bit of the last byte changed, if it is of that tensor."""
    if opening.spec is None or opening.data is None or opening.spec.name != name:
        return opening
    return replace(opening, data=opening.data[:-1] + bytes([opening.data[-1] ^ 1]))


def test_a_stream_that_is_given_up_has_no_receipt_and_takes_no_serial(library: Library, tmp_path: Path) -> None:
    with library.running.session() as session:
        first = session.generate("poet", PROMPT, max_new_tokens=3, receipt=True)
        first.read()
        with session.generate("poet", PROMPT, max_new_tokens=50, receipt=tmp_path / "b.receipt") as given_up:
            next(given_up)
        last = session.generate("poet", PROMPT, max_new_tokens=3, receipt=True)
        last.read()
    assert given_up.receipt is None
    assert not (tmp_path / "b.receipt").exists()
    assert first.receipt is not None
    assert last.receipt is not None
    assert last.receipt.signed().receipt.serial == first.receipt.signed().receipt.serial + 1


def test_an_owner_may_have_every_generated_answer_receipted(library: Library) -> None:
    with library.running.session() as session:
        answer = session.generate("noted", list(PROMPT.encode()), max_new_tokens=4)
        answer.read()
        plain = session.generate("poet", PROMPT, max_new_tokens=4)
        plain.read()
    assert plain.receipt is None
    assert answer.receipt is not None
    assert examined(library, answer.receipt) == set()
    given = answer.receipt.openings[Direction.INPUT]
    assert [each.spec.name for each in given if each.spec is not None] == ["tokens", "settings"]


def test_the_asynchronous_client_gets_receipts_of_streams_too(library: Library) -> None:
    async def read() -> ReceiptBundle | None:
        terms = {"policy": library.running.policy_path, "collateral": library.running.collateral_dir}
        async with AsyncSession.connect(library.running.address, **terms) as session:
            answer = await session.generate("poet", PROMPT, max_new_tokens=4, receipt=True)
            await answer.read()
            return answer.receipt

    bundle = asyncio.run(read())
    assert bundle is not None
    assert examined(library, bundle) == set()


# --------------------------------------------------------------------------------------------- recurrent models


def plain_sensor(data: bytes, values: np.ndarray) -> list[float]:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    state, told = np.zeros((1, recurrent.WIDTH), np.float32), []
    for value in values:
        y, state = session.run(["y", "h_next"], {"x": np.array([[value]], np.float32), "h": state})
        told.append(float(y[0, 0]))
    return told


def test_a_sensors_series_is_told_one_value_at_a_time(library: Library) -> None:
    series = recurrent.sensor_series(1, 60, seed=99)[0]
    with library.running.session() as session:
        answers = [session.infer("sensor", {"x": [[np.float32(value)]]}) for value in series]
        told = [float(answer["y"][0, 0]) for answer in answers]
        assert told == plain_sensor(library.sensor, series)
        assert [answer.steps for answer in answers] == list(range(1, 61))
        again = session.infer("sensor", {"x": [[series[0]]]}, reset=True)
        assert (again.steps, float(again["y"][0, 0])) == (1, told[0])
    errors = np.array(told[20:-1]) - series[21:]
    assert np.mean(errors**2) < 0.25 * np.var(series), "it has learnt the series, not its mean"


# ------------------------------------------------------------------------------------------------ joined requests


def test_requests_of_several_sessions_each_get_their_own_rows(library: Library) -> None:
    """Small whole numbers: products and sums are exact, so every composition of a batch gives the same bits."""
    plain = ort.InferenceSession(linear(), providers=["CPUExecutionProvider"])
    found: dict[int, bool] = {}

    def ask(client: int) -> None:
        with library.running.session() as session:
            for step in range(15):
                x = np.full((1 + step % 3, 4), client * 20 + step, np.float32)
                found[client * 20 + step] = np.array_equal(
                    session.infer("joined", {"x": x})["y"], plain.run(None, {"x": x})[0]
                )

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 60
    assert all(found.values())


# ---------------------------------------------------------------------------------------------------- the page


PAGE = (Path(__file__).parents[2] / "docs" / "generation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_what_the_page_shows_runs(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 3
    for block in BLOCKS:
        with library.running.session() as session:
            exec(compile(block, "docs/generation.md", "exec"), {"session": session, "np": np})  # noqa: S102 - it is ours


def test_the_commands_of_the_page_run_as_they_stand_there(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = next(text for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "strongroom generate" in text)
    for word, name in {
        "ADDRESS": library.running.address,
        "policy.toml": str(library.running.policy_path),
        "collateral/": str(library.running.collateral_dir),
    }.items():
        block = block.replace(word, name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    lines = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert [words[:2] for words in lines] == [["strongroom", "generate"]] * 2
    plain, drawn = [library.running.commands.run(*words[1:]) for words in lines]
    assert bytes(stepped(library.poet, list(PROMPT.encode()), 40)).decode() in plain
    assert json.loads(drawn)["seed"] == 7


def test_the_pages_tables_are_those_of_the_example() -> None:
    table = tomllib.loads(
        next(block for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if "[generation]" in block)
    )
    assert table["generation"] == review(LANGUAGE)["generation"] | {"stop_tokens": [], "streams": 4}
    assert table["axes"] == review(LANGUAGE)["axes"]


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    language.main(20)
    shown = capsys.readouterr().out
    assert "nats a byte" in shown
    assert "SIMULATED" in shown
    assert "[80 tokens, length]" in shown
