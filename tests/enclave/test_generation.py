"""Language models: tokens as plain onnxruntime steps them, refusals, and what a stream costs and holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attestation.types import Credential
from attestation.types.receipt import SignedReceipt
from attestation.wire.commitments import Direction, commit
from attestation.wire.generated import answered, asked
from attestation.wire.messages import decode_body, encode_body
from enclave.errors import EnclaveCode, EnclaveError
from enclave.generation import Answer, GenerationPlan, Stepper
from enclave.sampling import Sampler
from manifests.errors import ManifestCode, StrongroomError
from manifests.gramine.settings import EnclaveSettings
from manifests.signing import Signer
from tests.enclave.poet import ASK, SHAPE, poet_bytes, poet_manifest, stepped
from tests.enclave.rig import Client, Ended, Owner, Refused, Rig, linear, running


class Poet:
    """An enclave that serves the poet."""

    def __init__(self, rig: Rig, folder: Path, changes: dict[str, Any] | None = None, **generation: Any) -> None:
        self.rig = rig
        self.owner = Owner()
        manifest = poet_manifest(self.owner.public, changes, **generation)
        self.digest = self.owner.seal(rig.host, folder, poet_bytes(), manifest=manifest)
        self.broker: Client = rig.client()
        self.owner.provision(self.broker, self.digest, name="poet")
        self.model = {"digest": self.digest}

    @property
    def slots(self) -> int:
        [model] = self.rig.service.owners.models()
        assert model.generation is not None
        return model.generation.slots.free

    def ask(self, client: Client, tensors: Any = None, **changes: Any) -> int:
        """Send a request to generate, and return its number; None takes a field away."""
        header = {name: value for name, value in {**ASK, "model": self.model, **changes}.items() if value is not None}
        return client.send(header, tensors)


def parts(client: Client, number: int) -> Iterator[dict[str, Any]]:
    """The headers of an answer's parts, to its last; raises what ends it earlier."""
    final, count = False, 0
    while not final:
        header = client.answer(number).header
        assert header["part"] == count
        final, count = header["final"], count + 1
        yield header


def tokens_of(client: Client, number: int) -> list[int]:
    return [token for part in parts(client, number) for token in part["tokens"]]


@pytest.fixture
def poet(rig: Rig, tmp_path: Path) -> Poet:
    return Poet(rig, tmp_path)


def test_greedy_tokens_equal_those_of_plain_onnxruntime_stepped_outside(poet: Poet) -> None:
    client = poet.rig.client()
    found = list(parts(client, poet.ask(client, max_new_tokens=40)))
    expected = stepped(poet_bytes(), list(b"The sea"), 40)
    assert [token for part in found for token in part["tokens"]] == expected
    assert b"".join(part["text"] for part in found) == bytes(expected)
    assert len(found) == 40, "each token leaves when it is made"
    assert found[-1]["reason"] == "length"
    assert all(part["model"] == poet.digest and len(part["beat"]) == 3 for part in found)


def test_an_answer_ends_where_the_context_is_full(poet: Poet) -> None:
    client = poet.rig.client()
    *_, last = parts(client, poet.ask(client, prompt="x" * 40, max_new_tokens=40))
    assert (last["part"], last["reason"]) == (SHAPE.context - 40 - 1, "context")


def test_a_prompt_may_come_as_tokens(poet: Poet) -> None:
    client = poet.rig.client()
    tokens = {"tokens": np.frombuffer(b"The sea", np.uint8).astype(np.int64)}
    by_text, by_tokens = poet.ask(client), None
    expected = tokens_of(client, by_text)
    by_tokens = poet.ask(client, tokens, prompt=None)
    assert tokens_of(client, by_tokens) == expected


def test_a_drawn_answer_follows_the_stated_algorithm_and_its_seed(poet: Poet) -> None:
    client = poet.rig.client()
    ask = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "seed": 12}
    *_, last = found = list(parts(client, poet.ask(client, **ask)))
    sampler = Sampler(1.5, 40, 0.9, 12)
    drawn = stepped(poet_bytes(), list(b"The sea"), 12, sampler.pick)
    assert [token for part in found for token in part["tokens"]] == drawn
    assert last["seed"] == 12
    assert drawn != stepped(poet_bytes(), list(b"The sea"), 12)


def test_without_a_seed_one_is_drawn_and_told(poet: Poet) -> None:
    client = poet.rig.client()
    *_, last = first = list(parts(client, poet.ask(client, temperature=1.0)))
    again = parts(client, poet.ask(client, temperature=1.0, seed=last["seed"]))
    assert [part["tokens"] for part in first] == [part["tokens"] for part in again]


def test_an_answer_ends_before_a_stop_string_and_shows_nothing_of_it(poet: Poet) -> None:
    client = poet.rig.client()
    whole = bytes(stepped(poet_bytes(), list(b"The sea"), 12))
    at = next(n for n in range(3, 10) if max(whole[n : n + 2]) < 128 and whole.find(whole[n : n + 2]) == n)
    stop = whole[at : at + 2].decode()
    found = list(parts(client, poet.ask(client, stop=["never to be seen", stop])))
    assert b"".join(part["text"] for part in found) == whole[:at]
    assert [token for part in found for token in part["tokens"]] == list(whole[:at])
    assert found[-1]["reason"] == "stop"


@given(
    st.lists(st.text("ab€", max_size=3).map(str.encode), max_size=12),
    st.lists(st.text("ab€", min_size=1, max_size=4).map(str.encode), max_size=3),
)
def test_whatever_the_tokens_an_answer_is_cut_before_the_first_stop_string(
    pieces: list[bytes], stops: list[bytes]
) -> None:
    whole, cut, answer, given_text, given_tokens = b"", None, Answer(stops, 1 << 20), b"", list[int]()
    for token, piece in enumerate(pieces):
        whole += piece
        found = [place for stop in stops if (place := whole.find(stop)) >= 0]
        assert answer.add(token, piece) is bool(found)
        cut = min(found) if found else None
        taken = answer.take(final=bool(found) or token == len(pieces) - 1)
        given_text += bytes(taken["text"])  # type: ignore[arg-type]
        given_tokens += taken["tokens"]  # type: ignore[operator, arg-type]
        if found:
            break
    assert given_text == whole[:cut]
    assert given_tokens == list(range(len(given_tokens)))
    assert b"".join(pieces[: len(given_tokens)]) == given_text[: sum(map(len, pieces[: len(given_tokens)]))]


def test_an_answer_ends_at_a_stop_token(rig: Rig, tmp_path: Path) -> None:
    greedy = stepped(poet_bytes(), list(b"The sea"), 12)
    stop = next(token for n, token in enumerate(greedy) if n > 2 and token not in greedy[:n])
    poet = Poet(rig, tmp_path, stop_tokens=[stop])
    client = rig.client()
    found = list(parts(client, poet.ask(client)))
    assert [token for part in found for token in part["tokens"]] == greedy[: greedy.index(stop)]
    assert found[-1]["reason"] == "stop-token"


def test_labels_are_a_vocabulary_too(rig: Rig, tmp_path: Path) -> None:
    labels = ["The", " ", "sea", *(f"<{n}>" for n in range(3, 256))]
    poet = Poet(rig, tmp_path, {"labels": labels}, vocabulary="labels")
    client = rig.client()
    found = list(parts(client, poet.ask(client)))
    expected = stepped(poet_bytes(), [0, 1, 2], 12)
    assert b"".join(part["text"] for part in found) == "".join(labels[n] for n in expected).encode()
    with pytest.raises(Refused, match="no tokens for") as refusal:
        list(parts(client, poet.ask(client, prompt="The lake")))
    assert refusal.value.code == EnclaveCode.PROMPT_REFUSED


REFUSED = {
    "an empty prompt": ({"prompt": ""}, EnclaveCode.PROMPT_REFUSED, "prompt"),
    "a prompt that leaves no room in the context": ({"prompt": "x" * 48}, EnclaveCode.PROMPT_REFUSED, "prompt"),
    "a prompt of another type": ({"prompt": 7}, ManifestCode.FIELD_INVALID, None),
    "no prompt at all": ({"prompt": None}, EnclaveCode.REQUEST_MALFORMED, "prompt"),
    "more tokens than the model admits": ({"max_new_tokens": 48}, ManifestCode.FIELD_INVALID, None),
    "no window": ({"window": None}, ManifestCode.FIELD_INVALID, None),
    "a window that is too wide": ({"window": 1025}, ManifestCode.FIELD_INVALID, None),
    "an empty stop string": ({"stop": [""]}, EnclaveCode.PROMPT_REFUSED, "stop"),
    "a long stop string": ({"stop": ["x" * 257]}, EnclaveCode.PROMPT_REFUSED, "stop"),
    "too many stop strings": ({"stop": ["x"] * 9}, ManifestCode.FIELD_INVALID, None),
    "a temperature of zero": ({"temperature": 0.0}, EnclaveCode.SAMPLING_REFUSED, "temperature"),
    "a temperature that is no number": ({"temperature": float("nan")}, EnclaveCode.SAMPLING_REFUSED, "temperature"),
    "a share above one": ({"temperature": 1.0, "top_p": 1.5}, EnclaveCode.SAMPLING_REFUSED, "top_p"),
    "no tokens to draw from": ({"temperature": 1.0, "top_k": 0}, ManifestCode.FIELD_INVALID, None),
    "a seed without a temperature": ({"seed": 1}, EnclaveCode.SAMPLING_REFUSED, "temperature"),
    "a field that nobody knows": ({"beam": 4}, ManifestCode.FIELD_INVALID, None),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_is_refused_before_anything_is_spent(poet: Poet, case: str) -> None:
    changes, code, field = REFUSED[case]
    client = poet.rig.client()
    before = poet.rig.leases()
    with pytest.raises(Refused) as refusal:
        list(parts(client, poet.ask(client, **changes)))
    assert (refusal.value.code, refusal.value.field) == (code, field)
    assert poet.rig.leases() == before
    assert len(tokens_of(client, poet.ask(client))) == 12, "the session goes on"


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=60)
    | st.binary(max_size=8)
    | st.lists(st.text(max_size=4) | st.integers(-9, 9), max_size=10)
)
FIELDS = ("prompt", "max_new_tokens", "window", "stop", "temperature", "top_k", "top_p", "seed")
PLAN = GenerationPlan.compile(poet_manifest(Owner().public))


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, VALUES)),
    st.none() | arrays.arrays(np.int64, st.integers(0, 60), elements=st.integers(-3, 300)),
    st.booleans(),
)
def test_any_request_is_read_or_refused_by_name(header: dict[str, Any], tokens: Any, on_good: bool) -> None:
    assert PLAN is not None
    good = {"prompt": "x", "max_new_tokens": 1, "window": 1} if on_good else {}
    content = {"op": "generate", "id": 1, "model": {}, **good, **header}
    try:
        body = decode_body(encode_body(content, None if tokens is None else {"tokens": tokens}))
        ask = PLAN.read(body)
    except StrongroomError as error:
        assert str(error.code) in {"field-invalid", "request-malformed", "prompt-refused", "sampling-refused"}  # noqa: PT017
    else:
        assert 1 <= len(ask.tokens) < SHAPE.context
        assert all(0 <= token < 256 for token in ask.tokens)


TENSORS = {
    "tokens beyond the vocabulary": ({"tokens": np.array([256])}, EnclaveCode.PROMPT_REFUSED),
    "negative tokens": ({"tokens": np.array([-1])}, EnclaveCode.PROMPT_REFUSED),
    "tokens in rows": ({"tokens": np.array([[1]])}, EnclaveCode.PROMPT_REFUSED),
    "tokens of another type": ({"tokens": np.array([1.0])}, EnclaveCode.PROMPT_REFUSED),
    "a cache that the client brings": ({"past_key0": np.zeros((1, 2, 0, 8), np.float32)}, EnclaveCode.PROMPT_REFUSED),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_no_prompt_are_refused(poet: Poet, case: str) -> None:
    tensors, code = TENSORS[case]
    client = poet.rig.client()
    with pytest.raises(Refused) as refusal:
        list(parts(client, poet.ask(client, tensors, prompt=None)))
    assert (refusal.value.code, refusal.value.field) == (code, "tokens")


def test_a_prompt_beyond_the_request_limit_is_refused(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path, {"limits": {"max_request_bytes": 16}})
    client = rig.client()
    for tensors, changes in ((None, {"prompt": "x" * 17}), ({"tokens": np.arange(3)}, {"prompt": None})):
        with pytest.raises(Refused) as refusal:
            list(parts(client, poet.ask(client, tensors, **changes)))
        assert refusal.value.code == EnclaveCode.REQUEST_TOO_LARGE


def test_ways_of_drawing_that_the_owner_does_not_admit_are_refused(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path, sampling=["temperature"])
    client = rig.client()
    with pytest.raises(Refused, match="does not admit top_k") as refusal:
        list(parts(client, poet.ask(client, temperature=1.0, top_k=3)))
    assert refusal.value.code == EnclaveCode.SAMPLING_REFUSED


def test_each_operation_is_for_its_own_kind_of_model(poet: Poet, tmp_path: Path) -> None:
    data, manifest = linear(poet.owner)
    other = poet.owner.seal(poet.rig.host, tmp_path, data, manifest=manifest)
    poet.owner.provision(poet.broker, other)
    client = poet.rig.client()
    for header in ({"op": "infer", "model": poet.model}, {**ASK, "model": {"digest": other}}):
        with pytest.raises(Refused) as refusal:
            client.request(header)
        assert refusal.value.code == EnclaveCode.OPERATION_UNFIT


def test_the_listing_names_none_of_the_graphs_tensors(poet: Poet) -> None:
    [listed] = poet.rig.client().request({"op": "models"}).header["models"]
    assert (listed["inputs"], listed["outputs"]) == ([], [])


def test_each_token_spends_of_the_lease_and_the_last_of_it_ends_the_answer(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path)
    client = rig.client()
    tokens_of(client, poet.ask(client, max_new_tokens=5))
    assert rig.leases() == {poet.digest: 995}
    challenge = poet.owner.challenge(poet.broker)
    poet.owner.heartbeat(poet.broker, challenge, {poet.digest: 3})
    found = []
    with pytest.raises(Refused) as refusal:
        found += parts(client, poet.ask(client, max_new_tokens=5))
    assert refusal.value.code == EnclaveCode.LEASE_EXHAUSTED
    assert poet.slots == 4, "the cache is gone"


def test_an_answer_beyond_the_response_limit_ends_with_an_error(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path, {"limits": {"max_response_bytes": 30}})
    client = rig.client()
    number = poet.ask(client)
    assert [client.answer(number).header["part"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Refused) as refusal:
        client.answer(number)
    assert refusal.value.code == EnclaveCode.RESPONSE_TOO_LARGE


def test_all_steps_together_have_the_time_of_one_request(poet: Poet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is far below it, and so nothing else stops them."""
    [model] = poet.rig.service.owners.models()
    assert model.generation is not None
    clock = iter(range(1000))
    stepper = Stepper(model.generation, lambda names, feeds, _: model.session.run(names, feeds))
    seconds = model.manifest.limits.timeout_ms // 1000
    assert seconds > 2
    with monkeypatch.context() as patch:
        patch.setattr("enclave.generation.time.monotonic", lambda: next(clock))
        for _ in range(seconds):
            stepper.step((0,))
        with pytest.raises(EnclaveError) as refusal:
            stepper.step((0,))
    assert refusal.value.code is EnclaveCode.INFERENCE_TIMEOUT


def test_a_model_holds_no_more_caches_than_its_manifest_admits(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path, streams=1)
    first, second = rig.client(), rig.client()
    number = poet.ask(first, window=2)
    assert first.answer(number).header["part"] == 0
    assert poet.slots == 0
    with pytest.raises(Refused) as refusal:
        list(parts(second, poet.ask(second)))
    assert (refusal.value.code, refusal.value.retry_after) == (EnclaveCode.MODEL_FULL, 5.0)
    first.close()
    rig.wait_until(lambda: poet.slots == 1)
    assert len(tokens_of(second, poet.ask(second))) == 12


@pytest.mark.parametrize(("limits", "most"), [({"max_concurrent": 1}, 1), ({"max_concurrent": 9}, 4)])
def test_no_more_answers_are_under_way_than_the_limits_and_the_caches_admit(
    rig: Rig, tmp_path: Path, limits: dict[str, int], most: int
) -> None:
    poet, clients = Poet(rig, tmp_path, {"limits": limits}), [rig.client() for _ in range(most + 1)]
    for client in clients[:most]:
        assert client.answer(poet.ask(client, window=1)).header["part"] == 0
    left = rig.leases()
    with pytest.raises(Refused) as refusal:
        clients[most].answer(poet.ask(clients[most]))
    assert (refusal.value.code, refusal.value.retry_after) == (EnclaveCode.MODEL_FULL, 5.0)
    assert rig.leases() == left, "it spends nothing"
    clients[0].close()
    rig.wait_until(lambda: poet.slots == 1)
    assert len(tokens_of(clients[most], poet.ask(clients[most]))) == 12


def test_one_client_has_no_more_answers_under_way_than_its_limit_admits(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path, {"limits": {"max_concurrent_per_client": 1}})
    crowd, other, key = [rig.client() for _ in range(2)], rig.client(), Signer.generate()
    other.authenticate(key, Credential(poet.owner.public, key.public, "ward 7").sign(poet.owner.key))
    assert crowd[0].answer(poet.ask(crowd[0], window=1)).header["part"] == 0
    with pytest.raises(Refused, match="for this client") as refusal:
        crowd[1].answer(poet.ask(crowd[1]))
    assert refusal.value.code == EnclaveCode.MODEL_FULL
    assert len(tokens_of(other, poet.ask(other))) == 12
    crowd[0].close()
    rig.wait_until(lambda: poet.slots == 4)
    assert len(tokens_of(crowd[1], poet.ask(crowd[1]))) == 12


def test_two_sessions_interleave_and_see_nothing_of_each_other(poet: Poet) -> None:
    asks = [("The sea", poet.rig.client()), ("An elf", poet.rig.client())]
    numbers = [poet.ask(client, prompt=prompt, window=1, max_new_tokens=20) for prompt, client in asks]
    found: list[list[int]] = [[], []]
    for _ in range(20):
        for (_, client), number, tokens in zip(asks, numbers, found, strict=True):
            tokens.extend(client.answer(number).header["tokens"])
            client.send({"op": "continue", "stream": number, "parts": 1})
    assert found == [stepped(poet_bytes(), list(prompt.encode()), 20) for prompt, _ in asks]
    assert poet.slots == 4


def test_streams_of_one_session_take_turns_with_each_other_and_with_other_requests(poet: Poet) -> None:
    client = poet.rig.client()
    first = poet.ask(client, window=1, max_new_tokens=3)
    second = poet.ask(client, prompt="An elf", max_new_tokens=2)
    came = [client.answer().header for _ in range(3)]
    assert sorted(header["id"] for header in came) == [first, second, second]
    assert client.request({"op": "models"}).header["class"] == "simulated"
    client.send({"op": "continue", "stream": first, "parts": 2})
    assert [client.answer(first).header["final"] for _ in range(2)] == [False, True]


def test_the_caches_of_a_model_count_against_the_enclaves_memory(tmp_path: Path) -> None:
    settings = EnclaveSettings("first")
    small = replace(settings, limits=replace(settings.limits, model_memory=1 << 24))
    with running(small) as rig, pytest.raises(Refused) as refusal:
        Poet(rig, tmp_path, streams=1024)
    assert refusal.value.code == EnclaveCode.PROVISION_LIMIT


def test_a_graph_that_does_not_step_as_its_manifest_says_is_refused(rig: Rig, tmp_path: Path) -> None:
    """One of the caches forgets what came before."""
    model = onnx.load_model_from_string(poet_bytes())
    [join] = [node for node in model.graph.node if node.output[0] == "key1"]
    join.op_type, _ = "Identity", join.attribute.pop()
    del join.input[0]
    owner, client = Owner(), rig.client()
    digest = owner.seal(rig.host, tmp_path, model.SerializeToString(), manifest=poet_manifest(owner.public))
    with pytest.raises(Refused, match="does not step") as refusal:
        owner.provision(client, digest, name="poet")
    assert refusal.value.code == EnclaveCode.MODEL_UNUSABLE


def test_a_revocation_ends_an_answer(poet: Poet) -> None:
    client = poet.rig.client()
    number = poet.ask(client, window=1)
    client.answer(number)
    poet.owner.revoke(poet.broker, models=(poet.digest,))
    client.send({"op": "continue", "stream": number, "parts": 8})
    with pytest.raises(Refused) as refusal:
        client.answer(number)
    assert refusal.value.code == EnclaveCode.SESSION_REVOKED
    with pytest.raises(Ended):
        client.answer()


# ------------------------------------------------------------------------------------------------------ receipts


def test_a_receipt_comes_with_the_last_part_alone(poet: Poet) -> None:
    client = poet.rig.client()
    *before, last = list(parts(client, poet.ask(client, receipt=True, temperature=1.0)))
    assert all("receipt" not in part for part in before)
    issued = last["receipt"]
    said = SignedReceipt.parse(issued["signed"])
    assert said.verify(client.claims.receipt_key)
    tokens = [token for part in (*before, last) for token in part["tokens"]]
    text = b"".join(part["text"] for part in (*before, last))
    given = {**ASK, "temperature": 1.0}
    assert said.receipt.request == last["id"]
    assert said.receipt.input == commit(Direction.INPUT, issued["input"], asked(given, []))
    assert said.receipt.output == commit(
        Direction.OUTPUT, issued["output"], answered(tokens, text, last["reason"], last["seed"])
    )
    longer = answered([*tokens, 0], text, last["reason"], last["seed"])
    assert said.receipt.output != commit(Direction.OUTPUT, issued["output"], longer)


def test_an_answer_that_ends_with_an_error_has_no_receipt(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path, {"limits": {"max_response_bytes": 40}})
    client = rig.client()
    with pytest.raises(Refused) as refusal:
        for part in parts(client, poet.ask(client, receipt=True)):
            assert "receipt" not in part
    assert refusal.value.code == "response-too-large"


def test_the_word_for_a_receipt_is_true_or_false(poet: Poet) -> None:
    client = poet.rig.client()
    with pytest.raises(Refused) as refusal:
        client.answer(poet.ask(client, receipt="yes"))
    assert refusal.value.code == "field-invalid"


def test_an_answered_stream_is_counted_once_and_one_that_is_cut_off_never(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path)
    client = rig.client()
    metrics = rig.service.metrics
    before = sum(metrics._buckets["request_seconds"])
    assert len(tokens_of(client, poet.ask(client, max_new_tokens=5))) == 5
    assert sum(metrics._buckets["request_seconds"]) == before + 1
    number = poet.ask(client, window=1)
    client.answer(number)
    client.send({"op": "cancel", "stream": number})
    with pytest.raises(Refused, match="stream-cancelled"):
        client.answer(number)
    assert sum(metrics._buckets["request_seconds"]) == before + 1
