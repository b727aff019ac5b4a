"""Vocabularies of language models: prompts into tokens, and tokens into text that never has a part of a character."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from enclave.components import text
from enclave.components.spelling import MAX_HELD, TokenizerWords
from enclave.errors import EnclaveError
from evaluation.examples.export import export, review
from evaluation.examples.transformer import Shape, initial
from manifests.draft import draft_manifest, load_graph
from manifests.gramine.settings import EnclaveSettings
from manifests.model import ModelManifest
from tests.enclave.poet import stepped
from tests.enclave.rig import Client, Owner, Refused, Rig, running
from tests.enclave.test_generation import parts
from tests.testkit.files import trained_bytes, trained_tokenizer

TEXTS = ["The sea is calm tonight. Ça va, naïve cœur? Ελλάδα 東京 👩‍👩‍👧‍👦 the sea, the sea"] * 4
DATA = trained_bytes(TEXTS)
LIBRARY = Tokenizer.from_str(DATA.decode())
SIZE = LIBRARY.get_vocab_size()


def words(data: bytes = DATA, size: int = SIZE) -> TokenizerWords:
    found = text.words("t.json", {"t.json": bytearray(data)}, size)
    assert isinstance(found, TokenizerWords)
    return found


def spelt(tokens: list[int], vocabulary: TokenizerWords | None = None) -> list[bytes]:
    speller = (vocabulary or words()).speller()
    return [*(speller.add(token) for token in tokens), speller.end()]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(max_size=60))
def test_a_text_comes_back_whole_and_no_part_has_a_piece_of_a_character(prompt: str) -> None:
    prompt = prompt.encode("utf-8", "replace").decode()
    tokens = words().encode(prompt.encode())
    assert tokens == LIBRARY.encode(prompt).ids
    pieces = spelt(tokens)
    assert "".join(piece.decode() for piece in pieces) == prompt, "each piece is UTF-8 by itself"


def test_a_character_of_many_tokens_waits_for_its_last_byte() -> None:
    tokens = LIBRARY.encode("🜁").ids
    assert len(tokens) > 2
    assert spelt(tokens) == [*[b""] * (len(tokens) - 1), "🜁".encode(), b""]


def test_an_answer_that_breaks_off_within_a_character_shows_that() -> None:
    assert b"".join(spelt(LIBRARY.encode("a🜁").ids[:-1])).decode() == "a\ufffd"


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.integers(0, SIZE + 20), max_size=80))
def test_whatever_a_model_makes_is_spelt(tokens: list[int]) -> None:
    """Numbers that the tokenizer does not know stand for no text; what is no UTF-8 is held back for so long only."""
    pieces = spelt(tokens)
    for piece in pieces:
        piece.decode()
    speller = words().speller()
    for token in tokens:
        speller.add(token)
        assert len(speller._tokens) <= 2 * MAX_HELD  # type: ignore[attr-defined]


def test_bytes_that_become_no_character_are_not_held_for_ever() -> None:
    (half,) = LIBRARY.encode("\u0301").ids[:1]
    pieces = spelt([half] * 100)
    assert max(at for at, piece in enumerate(pieces) if piece) >= 100 - MAX_HELD
    assert "\ufffd" in b"".join(pieces).decode()


def test_a_space_hangs_on_the_word_before_as_the_library_has_it() -> None:
    data = trained_tokenizer(["one two three", "two three", "three"], 60)
    library = Tokenizer.from_str(data.decode())
    tokens = library.encode("three two one").ids
    vocabulary = words(data, 60)
    assert vocabulary.encode(b"three two one") == tokens, "special tokens among them"
    assert b"".join(spelt(tokens, vocabulary)).decode() == library.decode(tokens)


@pytest.mark.parametrize(("data", "size"), [(b"{}", 9), (b"", 9), (DATA, SIZE - 1)])
def test_a_tokenizer_that_is_none_or_has_more_tokens_than_scores_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(EnclaveError) as refusal:
        words(data, size)
    assert refusal.value.code == "model-unusable"


# -------------------------------------------------------------------------------------------------- in an enclave

SHAPE = Shape(vocabulary=SIZE, width=16, heads=2, layers=1, inner=16, context=48)
MODEL = export(initial(SHAPE, np.random.default_rng(3)), SHAPE)


def described(owner: Owner, **changes: Any) -> ModelManifest:
    table = {"vocabulary": "tokenizer", "tokenizer": "tokenizer.json", **changes}
    table = {name: value for name, value in table.items() if value is not None}
    draft = draft_manifest(load_graph(MODEL), owner=owner.public, name="poet").to_map()
    return ModelManifest.from_map({**draft, **review(SHAPE, **table)})


def served(rig: Rig, folder: Path) -> bytes:
    owner = Owner()
    digest = owner.seal(rig.host, folder, MODEL, manifest=described(owner), extra_parts={"tokenizer.json": DATA})
    owner.provision(rig.client(), digest, name="poet")
    return digest


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running(EnclaveSettings("first", components=("text",))) as found:
        yield found


def ask(client: Client, digest: bytes, **changes: Any) -> list[dict[str, Any]]:
    asked = {"op": "generate", "model": {"digest": digest}, "max_new_tokens": 20, "window": 64, **changes}
    return list(parts(client, client.send(asked)))


def test_a_text_goes_in_and_text_comes_out(rig: Rig, tmp_path: Path) -> None:
    digest = served(rig, tmp_path)
    found = ask(rig.client(), digest, prompt="The sea ✓")
    tokens = [token for part in found for token in part["tokens"]]
    assert tokens == stepped(MODEL, LIBRARY.encode("The sea ✓").ids, 20)
    whole = b"".join(part["text"] for part in found).decode()
    assert whole == LIBRARY.decode(tokens)
    for part in found:
        part["text"].decode()


def test_a_stop_string_is_found_across_tokens(rig: Rig, tmp_path: Path) -> None:
    digest = served(rig, tmp_path)
    client = rig.client()
    whole = b"".join(part["text"] for part in ask(client, digest, prompt="The sea")).decode()
    stop = whole[4:7]
    found = ask(client, digest, prompt="The sea", stop=[stop])
    assert b"".join(part["text"] for part in found).decode() == whole[: whole.index(stop)]
    assert found[-1]["reason"] == "stop"


def test_an_enclave_without_the_component_refuses_the_model(tmp_path: Path) -> None:
    with running() as plain, pytest.raises(Refused) as refusal:
        served(plain, tmp_path)
    assert refusal.value.code == "component-missing"


@pytest.mark.parametrize("changes", [{"tokenizer": None}, {"vocabulary": "bytes"}])
def test_a_tokenizer_and_its_vocabulary_go_together(changes: dict[str, Any]) -> None:
    from manifests.errors import ManifestError

    with pytest.raises(ManifestError, match="names the sealed part"):
        described(Owner(), **changes)
