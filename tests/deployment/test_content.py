"""Texts, pictures and sound through a real deployment: labels out, and nothing that one sends ends the enclave."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image
from tokenizers import Tokenizer

from attestation.client import AsyncSession, EpochMemory, RemoteError, Session
from attestation.wire import messages
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from manifests.gramine.settings import COMPONENTS
from tests.deployment import content
from tests.fuzz.mutate import mutated
from tests.testkit.files import bomb, picture, png, saved, tone, wav

pytestmark = pytest.mark.xdist_group("content")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """A deployment whose enclave has every component."""
    graph, tokenizer = content.topics()
    models = [
        ModelToSeal("topics", graph, review=content.topics_review(), parts={"tokenizer.json": tokenizer}),
        ModelToSeal("digits", content.digits(), review=content.digits_review()),
        ModelToSeal("private", content.digits(), review=content.private_review()),
        ModelToSeal("pitches", content.pitches(), review=content.pitches_review()),
    ]
    with temporary_home() as home, Deployment(home, models, components=COMPONENTS) as running:
        yield running


@pytest.fixture
def session(deployment: Deployment) -> Iterator[Session]:
    with deployment.session() as opened:
        yield opened


def plain(model: bytes, **inputs: Any) -> np.ndarray:
    (answer, *_) = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)
    return np.asarray(answer)


def test_a_text_goes_in_and_topics_come_out(session: Session) -> None:
    graph, data = content.topics()
    tokenizer = Tokenizer.from_str(data.decode())
    right = 0
    for text, topic in content.sentences()[::25]:
        encoding = tokenizer.encode(text)
        ids, mask = (np.array([each]) for each in (encoding.ids, encoding.attention_mask))
        logits = plain(graph, input_ids=ids, attention_mask=mask)[0]
        scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        best, other = session.ask("topics", text)
        names = list(content.TOPICS)
        assert [best.name, other.name] == [names[at] for at in np.argsort(-scores)]
        np.testing.assert_array_equal(np.float32([best.score, other.score]), np.sort(scores)[::-1])
        right += best.name == topic
    assert right > 0.8 * len(content.sentences()[::25]), "it was trained on them"


def test_a_picture_goes_in_and_digits_come_out(session: Session, tmp_path: Path) -> None:
    right = 0
    for number in range(40):
        shades, shown = content.digit(number)
        small = Image.fromarray(shades)
        file = saved(small)
        (tmp_path / "digit.png").write_bytes(file)
        answers = session.ask("digits", file)
        assert answers == session.ask("digits", tmp_path / "digit.png") == session.ask("digits", small)
        pixels = (shades.reshape(1, 64).astype(np.float32)) / np.float32(255 / 16)
        labels, probabilities = ort.InferenceSession(content.digits()).run(None, {"X": pixels})
        names = content.digits_review()["labels"]
        assert answers[0].name == names[labels[0]]
        assert answers[0].score == np.float32(np.round(probabilities.max().astype(np.float64), 3))
        assert len(answers) == 3
        right += names.index(answers[0].name) == shown
    assert right > 32, "it has never seen them, and is right four times in five"


def test_a_large_photograph_as_jpeg_is_as_good(session: Session) -> None:
    shades, _ = content.digit(3)
    large = Image.fromarray(shades).resize((800, 800), Image.Resampling.NEAREST)
    assert session.ask("digits", saved(large, "JPEG", quality=90))[0].name == session.ask("digits", large)[0].name


@pytest.mark.parametrize(("name", "hertz"), content.PITCHES.items())
@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_recording_goes_in_and_a_pitch_comes_out(session: Session, name: str, hertz: float, rate: int) -> None:
    sound = np.stack([tone(0.7, rate, hertz)] * 2, axis=1)
    ((label, score),) = session.ask("pitches", wav(sound, rate, bits=24, channels=2))
    assert (label, score) == (name, None)


def test_coroutines_ask_too(deployment: Deployment) -> None:
    async def ask() -> str:
        terms = {"policy": deployment.policy_path, "collateral": deployment.collateral_dir, "memory": EpochMemory()}
        async with AsyncSession.connect(deployment.address, **terms) as opened:
            return (await opened.ask("topics", "Return the mean of the sample of numbers."))[0].name

    assert asyncio.run(ask()) == "numbers"


def test_the_command_asks_and_prints_labels(deployment: Deployment, tmp_path: Path) -> None:
    shades, _ = content.digit(0)
    (tmp_path / "digit.png").write_bytes(saved(Image.fromarray(shades)))
    (tmp_path / "low.wav").write_bytes(wav(tone(0.7, 8000, 250.0)))
    terms = ("--policy", deployment.policy_path, "--collateral", deployment.collateral_dir)
    for model, words in {
        "topics": ("--text", "Remove the directory and all files below it."),
        "digits": ("--image", tmp_path / "digit.png"),
        "pitches": ("--audio", tmp_path / "low.wav"),
    }.items():
        told = deployment.commands.json("infer", deployment.address, model, *words, *terms)
        with deployment.session() as opened:
            value = words[1] if isinstance(words[1], Path) else str(words[1])
            assert [tuple(each.values()) for each in told["labels"]] == [tuple(x) for x in opened.ask(model, value)]
    listed = deployment.commands.json("infer", deployment.address, "--list", *terms)["models"]
    assert {model["name"]: model["takes"] for model in listed} == {
        "topics": {"text": "text"},
        "digits": {"photo": "image"},
        "pitches": {"recording": "audio"},
        "private": {"photo": "image"},
    }


def test_scores_with_noise_end_with_a_clients_budget(deployment: Deployment) -> None:
    """Five answers to all who are anonymous, over however many sessions."""
    shades, _ = content.digit(2)
    for _ in range(5):
        with deployment.session() as opened:
            ((label, score),) = opened.ask("private", Image.fromarray(shades))
            assert label in content.digits_review()["labels"]
            assert score is None
    with deployment.session() as opened, pytest.raises(RemoteError) as refusal:
        opened.ask("private", Image.fromarray(shades))
    assert refusal.value.remote_code == "privacy-exhausted"


def test_the_example_of_the_documents_runs(
    deployment: Deployment, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    shades, _ = content.digit(0)
    monkeypatch.chdir(tmp_path)
    Path("seven.png").write_bytes(saved(Image.fromarray(shades)))
    scope = {
        "Session": Session,
        "address": deployment.address,
        "policy": deployment.policy_path,
        "collateral": deployment.collateral_dir,
    }
    for block in content.blocks("python"):
        exec(compile(block, str(content.DOCUMENT), "exec"), scope)  # noqa: S102 - the document's own example
    name, score = capsys.readouterr().out.split()
    assert name in content.digits_review()["labels"]
    assert 0 < float(score) <= 1


# ------------------------------------------------------------------------------------------------------ refusals

WHOLE = saved(picture())
PICTURES = {
    "a decompression bomb": (bomb(), "image-too-large"),
    "2^62 pixels": (png((1 << 31) - 1, (1 << 31) - 1, b""), "image-too-large"),
    "cut short": (WHOLE[:-50], "image-malformed"),
    "a GIF": (saved(picture(), "GIF"), "image-format"),
    "a TIFF": (saved(picture(), "TIFF"), "image-format"),
    "an animation": (saved(picture(), save_all=True, append_images=[picture(mode="L").convert("RGB")]), "image-frames"),
    "a file of a byte too many": (bytes(1048577), "tensor-shape"),
    "nothing": (b"", "tensor-shape"),
}


@pytest.mark.parametrize("case", PICTURES)
def test_a_bad_picture_is_refused_and_the_session_goes_on(session: Session, case: str) -> None:
    data, code = PICTURES[case]
    with pytest.raises(RemoteError) as refusal:
        session.ask("digits", data)
    assert (refusal.value.remote_code, refusal.value.field) == (code, "photo")
    assert refusal.value.remedy
    assert len(session.ask("digits", WHOLE)) == 3


RECORDINGS = {
    "no recording": (b"ID3\x04 an MP3", "audio-malformed"),
    "cut short": (wav(tone())[:-10], "audio-malformed"),
    "a second too long": (wav(tone(2.0)), "audio-too-long"),
    "at a rate of one": (wav(tone(), 1), "audio-rate"),
}


@pytest.mark.parametrize("case", RECORDINGS)
def test_a_bad_recording_is_refused_and_the_session_goes_on(session: Session, case: str) -> None:
    data, code = RECORDINGS[case]
    with pytest.raises(RemoteError) as refusal:
        session.ask("pitches", data)
    assert (refusal.value.remote_code, refusal.value.field) == (code, "recording")
    assert session.ask("pitches", wav(tone()))[0].score is None


def test_texts_that_are_too_long_are_refused_and_strange_ones_answered(session: Session) -> None:
    for text, code in (("x" * 2001, "tensor-value"), ("word " * 100, "text-too-long")):
        with pytest.raises(RemoteError) as refusal:
            session.ask("topics", text)
        assert (refusal.value.remote_code, refusal.value.field) == (code, "text")
    for text in ("", " ", "\0", "\u202eabc", "e" + "\u0301" * 100, "👩‍👩‍👧‍👦", "\uffff"):
        assert len(session.ask("topics", text)) == 2


def test_an_unpaired_surrogate_never_leaves_the_client(session: Session) -> None:
    with pytest.raises(RemoteError, match="UTF-8") as refusal:
        session.ask("topics", "\ud800")
    assert refusal.value.remote_code == "tensor-text"


def test_bytes_that_are_no_utf8_are_refused_as_text(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of somebody's own making: the message is whole, and its one text has a byte that no text has."""
    monkeypatch.setattr(messages, "_flatten", lambda _name, _array: ("string", b"\x91\xa4\xff\xfe\xc0\x80"))
    with pytest.raises(RemoteError) as refusal:
        session.ask("topics", "Mark")
    assert refusal.value.remote_code == "message-malformed"
    monkeypatch.undo()
    assert len(session.ask("topics", "Mark")) == 2


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


def test_every_kind_of_picture_finds_what_it_needs_loaded(deployment: Deployment, session: Session) -> None:
    """Whatever Pillow loads late was loaded at the start: no import is refused, in a process kept to its own files."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in MODES:
        image = picture(mode=mode) if mode != "I;16" else Image.fromarray(np.zeros((30, 40), np.uint16))
        assert len(session.ask("digits", saved(image, exif=exif.tobytes()))) == 3
    for mode in ("L", "RGB", "CMYK"):
        for options in ({"progressive": True}, {"exif": exif.tobytes()}, {"icc_profile": b"none"}):
            assert len(session.ask("digits", saved(picture(mode=mode), "JPEG", **options))) == 3
    log = deployment.layout.log("host").read_text(errors="replace")
    assert "import-refused" not in log
    assert "defect" not in log


def test_nothing_of_a_request_reaches_the_log(deployment: Deployment, session: Session) -> None:
    secret = "Xylophonquartz"
    session.ask("topics", secret)
    for data in (saved(picture(), "JPEG", comment=secret.encode())[:-300], secret.encode()):
        with pytest.raises(RemoteError) as refusal:
            session.ask("digits", data)
        assert secret not in json.dumps(refusal.value.to_dict())
    assert secret not in deployment.layout.log("host").read_text(errors="replace")


FILES = {
    "digits": [saved(picture(60, 40, mode), form) for mode in ("L", "RGB") for form in ("PNG", "JPEG")],
    "pitches": [wav(tone(0.1)), wav(tone(0.1), bits=24), wav(tone(0.1), bits=32, floats=True)],
}


def test_hundreds_of_damaged_files_leave_the_enclave_alive_with_flat_memory(deployment: Deployment) -> None:
    random, codes = Random(7), set()
    began = deployment.enclave_pid
    with deployment.session() as opened:
        for count in range(500):
            model = random.choice(list(FILES))
            try:
                opened.ask(model, mutated(random, FILES[model]) or b"\0")
            except RemoteError as error:
                codes.add(error.remote_code)
            if count == 150:
                before = resident(began)
    assert deployment.enclave_pid == began
    assert resident(began) - before < 48 << 20
    assert codes <= {
        *("image-malformed", "image-format", "image-too-large", "image-frames", "image-transparent"),
        *("audio-malformed", "audio-rate", "audio-too-long"),
    }
    assert len(codes) >= 3


def resident(pid: int) -> int:
    """Bytes of a process in memory (proc(5))."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_the_enclave_has_lived_through_all_of_it(deployment: Deployment) -> None:
    assert deployment.enclave_is_ready()
    assert deployment.sessions_ended() == []
