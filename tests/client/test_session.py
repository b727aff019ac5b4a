from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attestation.client import AsyncSession, EpochMemory, Prediction, RemoteError, Session, Timeouts
from attestation.client.errors import ClientCode, ClientError
from attestation.client.models import Axis
from attestation.client.terms import Options, make_terms
from attestation.collateral import FixedSource
from attestation.errors import EvidenceCode, EvidenceError, WireCode, WireError
from attestation.policy import load_policy
from attestation.types import ClientAuthentication, Delegation, Right
from attestation.wire.messages import MessageType, decode_body
from manifests import canonical
from manifests.errors import StrongroomError
from manifests.signing import Signer
from tests.client.conftest import DIGEST, MRENCLAVE, NOW

X = np.array([[1, 2, 3]], dtype=np.float32)
OTHER = Signer.from_seed(bytes([8]) * 32)

Ask = Callable[..., Prediction]


def ask_blocking(address: str, terms: dict[str, Any], model: str | bytes = "doubler") -> Prediction:
    with Session.connect(address, **terms) as session:
        return session.infer(model, {"x": X})


def ask_async(address: str, terms: dict[str, Any], model: str | bytes = "doubler") -> Prediction:
    async def go() -> Prediction:
        async with AsyncSession.connect(address, **terms) as session:
            return await session.infer(model, {"x": X})

    return asyncio.run(go())


@pytest.fixture(params=[ask_blocking, ask_async], ids=["blocking", "async"])
def ask(request) -> Ask:
    return request.param


def refused(ask: Ask, *arguments: Any) -> StrongroomError:
    with pytest.raises(StrongroomError) as refusal:
        ask(*arguments)
    return refusal.value


def nothing_was_sent(enclave) -> bool:
    """Whether the hello is all that the client ever sent (its length prefix says how long it is)."""
    received = enclave.settled().received
    return len(received) == 4 + int.from_bytes(received[:4], "big") and not enclave.peer.messages


# ------------------------------------------------------------------------------------------ the good case


def test_a_session_attests_then_answers_then_closes_in_order(world, serve, ask):
    enclave = serve()
    answer = ask(enclave.address, world.terms())
    np.testing.assert_array_equal(answer["x"], X * 2)
    assert (answer.model, answer.epoch, answer.beat.time) == (DIGEST, 5, NOW - 10)
    assert dict(answer).keys() == {"x"}
    peer = enclave.settled()
    assert peer.closed_in_order
    assert [kind for kind, _ in peer.messages] == [MessageType.REQUEST]


def test_requests_are_numbered_from_one_and_carry_the_least_epoch(world, serve):
    enclave = serve()
    seen = []
    script = enclave.script
    enclave.script = lambda peer, body: (seen.append(body.header), script(peer, body))
    with Session.connect(enclave.address, **world.terms(min_epoch=2)) as session:
        session.infer("doubler", {"x": X})
        session.infer(DIGEST, {"x": X})
        session.infer(DIGEST.hex(), {"x": X})
        session.infer(f"{world.owner.public.hex()}/doubler", {"x": X})
    assert [header["id"] for header in seen] == [1, 2, 3, 4]
    assert seen[0]["model"] == {"owner": world.owner.public, "name": "doubler", "epoch": 2}
    assert seen[1]["model"] == seen[2]["model"] == {"digest": DIGEST}
    assert seen[3]["model"]["epoch"] == 5, "the epoch that was seen is now the least that is accepted"


def test_models_are_listed_with_their_tensors(world, serve):
    with Session.connect(serve().address, **world.terms()) as session:
        (model,) = session.models()
    assert model.name == "doubler"
    assert model.inputs[0].shape == (Axis("batch", 1, 64), 3)
    assert str(model.inputs[0]) == "x: float32[batch=1..64, 3]"
    assert model.to_dict()["digest"] == DIGEST.hex()


def test_a_large_request_and_answer_travel_in_many_records(world, serve):
    large = np.arange(3_000_000, dtype=np.float32)
    with Session.connect(serve().address, **world.terms()) as session:
        np.testing.assert_array_equal(session.infer("doubler", {"x": large})["x"], large * 2)


def test_a_client_with_a_key_authenticates_before_its_first_request(world, serve, ask):
    enclave = serve()
    client = Signer.generate()
    ask(enclave.address, {**world.terms(), "key": client, "credential": b"signed"})
    kinds = [kind for kind, _ in enclave.settled().messages]
    assert kinds == [MessageType.AUTHENTICATE, MessageType.REQUEST]
    record = ClientAuthentication.decode(enclave.peer.messages[0][1])
    record.verify(enclave.peer.session.handshake_hash, world.claims().encode())
    assert (record.client, record.credential) == (client.public, b"signed")


def test_what_a_session_shows_says_simulated_and_holds_no_secret(world, serve):
    client = Signer.generate()
    with Session.connect(serve().address, **world.terms(), key=client) as session:
        shown = repr(session) + session._repr_html_()
        saved = session.ticket()
    assert "SIMULATED" in repr(session)
    assert MRENCLAVE.hex() in shown
    for secret in (client.seed(), saved.ticket.psk):
        assert secret.hex() not in shown + repr(saved) + repr(saved.ticket) + repr(session._terms)
        assert repr(secret) not in shown + repr(saved) + repr(saved.ticket) + repr(session._terms)


def test_a_session_that_was_entered_is_closed_in_order_whatever_happens_in_it(world, serve):
    enclave = serve()

    async def go() -> None:
        async with AsyncSession.connect(enclave.address, **world.terms()):
            raise RuntimeError("the body fails")

    with pytest.raises(RuntimeError):
        asyncio.run(go())
    assert enclave.settled().closed_in_order


@pytest.mark.parametrize("name", ["connect", "handshake", "request"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_out_that_is_no_time_is_refused(name, seconds):
    with pytest.raises(ClientError) as error:
        Timeouts(**{name: seconds})
    assert (error.value.code, error.value.exit_code) == (ClientCode.TIMEOUT_INVALID, 2)


def test_many_tasks_may_share_an_asynchronous_session(world, serve):
    async def go() -> list[Prediction]:
        async with await AsyncSession.connect(serve().address, **world.terms()) as session:
            return await asyncio.gather(*(session.infer("doubler", {"x": X * number}) for number in range(5)))

    for number, answer in enumerate(asyncio.run(go())):
        np.testing.assert_array_equal(answer["x"], X * number * 2)


# ------------------------------------------------------------------- nothing leaves before the appraisal


def test_an_enclave_that_the_policy_does_not_name_gets_nothing(world, serve, ask):
    world.measured = bytes(32)
    enclave = serve()
    error = refused(ask, enclave.address, world.terms())
    assert error.code is EvidenceCode.APPRAISAL_REFUSED
    assert nothing_was_sent(enclave)


def test_evidence_of_another_session_gets_nothing(world, serve, ask):
    enclave = serve()
    enclave._evidence = lambda _: world.evidence(bytes(64))
    error = refused(ask, enclave.address, world.terms())
    assert error.code is EvidenceCode.APPRAISAL_REFUSED
    assert "report-data" in str(error)
    assert nothing_was_sent(enclave)


def test_a_broken_quote_gets_nothing(world, serve, ask):
    def flipped(handshake_hash: bytes):
        record = world.evidence(handshake_hash)
        quote = bytearray(record.quote)
        quote[500] ^= 1
        return type(record)(record.claims, bytes(quote), record.proof, record.hint)

    enclave = serve()
    enclave._evidence = flipped
    assert isinstance(refused(ask, enclave.address, world.terms()), EvidenceError)
    assert nothing_was_sent(enclave)


def test_collateral_past_its_date_gets_nothing(world, serve, ask):
    enclave = serve()
    later = {**world.terms(), "now": lambda: NOW + 400 * 86400}
    assert isinstance(refused(ask, enclave.address, later), EvidenceError)
    assert nothing_was_sent(enclave)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"admitted": "any"}, ClientCode.ADMITS_ANY_OWNER),
        ({"served": False}, ClientCode.OWNER_NOT_SERVED),
        ({"served": False, "admitted": (OTHER.public,)}, ClientCode.OWNER_NOT_ACCEPTED),
        ({"owner": OTHER}, ClientCode.OWNER_NOT_ACCEPTED),
        ({"beat_time": NOW - 3601}, ClientCode.BEAT_STALE),
        ({"beat_time": NOW + 301}, ClientCode.BEAT_STALE),
        ({"boot_id": bytes(16)}, ClientCode.BEAT_INVALID),
        ({"rights": (Right.PROVISION,)}, ClientCode.BEAT_INVALID),
        ({"delegation_key": OTHER}, ClientCode.BEAT_INVALID),
        ({"beat_owner": OTHER}, ClientCode.BEAT_INVALID),
        ({"beat_delegation": bytes(64)}, ClientCode.BEAT_INVALID),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_enclave_without_an_accepted_living_owner_gets_no_request(world, serve, ask, change, code):
    terms = world.terms()
    for name, value in change.items():
        setattr(world, name, value)
    enclave = serve()
    assert refused(ask, enclave.address, terms).code is code
    assert not enclave.settled().messages


def test_an_enclave_that_admits_any_owner_is_used_where_the_policy_says_so(world, serve, ask):
    world.admitted = "any"
    assert ask(serve().address, world.terms(allow_any_owner=True)).model == DIGEST


def test_a_broker_that_has_not_beaten_yet_is_judged_by_its_grant(world, serve, ask):
    world.beats = False
    enclave = serve()
    assert ask(enclave.address, world.terms()).beat.time == NOW - 10
    assert operations(enclave) == ["models", "infer"], "the grant's time is looked at before inputs leave"


def operations(enclave) -> list[str]:
    """Return what the newest connection was asked for."""
    messages = enclave.settled().messages
    return [decode_body(content).header["op"] for kind, content in messages if kind is MessageType.REQUEST]


@pytest.mark.parametrize(
    ("beats", "code"),
    [
        ([[NOW - 3601, 5, None]], ClientCode.BEAT_STALE),
        ([[NOW + 301, 5, None]], ClientCode.BEAT_STALE),
        ([[NOW, 4, None]], ClientCode.EPOCH_ROLLBACK),
        ([], ClientCode.RESPONSE_UNEXPECTED),
        ([[NOW, 5, OTHER.public]], ClientCode.RESPONSE_UNEXPECTED),
        ([[NOW, 5]], ClientCode.RESPONSE_UNEXPECTED),
        (None, ClientCode.RESPONSE_UNEXPECTED),
        ([[NOW, 5, None]] * 17, ClientCode.RESPONSE_UNEXPECTED),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("model", ["doubler", DIGEST], ids=["name", "digest"])
def test_a_broker_that_has_not_beaten_and_whose_grant_is_old_gets_no_inputs(world, serve, ask, *, beats, code, model):
    listed = beats and [[world.owner.public if item is None else item for item in beat] for beat in beats]
    world.beats, world.listed_beats = False, lambda: listed
    enclave = serve()
    assert refused(ask, enclave.address, world.terms(), model).code is code
    assert operations(enclave) == ["models"]


@pytest.mark.parametrize(("seen", "least"), [(6, 0), (0, 6)], ids=["seen", "policy"])
@pytest.mark.parametrize("beats", [True, False], ids=["beating", "silent"])
def test_an_owner_of_an_older_epoch_gets_no_request(world, serve, ask, *, beats, seen, least):
    memory, world.beats = EpochMemory(), beats
    memory.observe(world.owner.public, "", seen)
    enclave = serve()
    error = refused(ask, enclave.address, {**world.terms(min_epoch=least), "memory": memory})
    assert error.code is ClientCode.EPOCH_ROLLBACK
    assert not enclave.settled().messages


def test_a_sign_of_life_that_has_grown_old_is_renewed_before_inputs_leave(world, serve):
    clock = [NOW]
    enclave = serve()
    with Session.connect(enclave.address, **{**world.terms(), "now": lambda: clock[0]}) as session:
        session.infer("doubler", {"x": X})
        clock[0] = NOW + 3600
        with pytest.raises(ClientError) as refusal:
            session.infer("doubler", {"x": X})
        assert refusal.value.code is ClientCode.BEAT_STALE
        world.beat_time = clock[0]
        session.infer("doubler", {"x": X})
        session.infer("doubler", {"x": X})
    assert operations(enclave) == ["infer", "models", "models", "infer", "infer"]


def test_a_resumed_session_looks_for_a_sign_of_life_where_the_saved_one_is_old(world, serve):
    clock = [NOW]
    enclave = serve()
    with Session.connect(enclave.address, **{**world.terms(max_broker_age=60), "now": lambda: clock[0]}) as session:
        saved = session.ticket()
    clock[0] = NOW + 100
    with Session.resume(saved) as session, pytest.raises(ClientError) as refusal:
        session.infer("doubler", {"x": X})
    assert refusal.value.code is ClientCode.BEAT_STALE
    assert operations(enclave) == ["models"]


# ----------------------------------------------------------------------------------- answers that lie


def answering(world, **changes: Any):
    def script(peer, body):
        header = {
            "id": body.header["id"],
            "model": DIGEST,
            "epoch": world.epoch,
            "beat": [world.beat_time, world.epoch, world.owner.public],
        }
        peer.respond({**header, **changes}, {"x": X})

    return script


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"beat": [NOW - 3601, 5, None]}, ClientCode.BEAT_STALE),
        ({"beat": [NOW, 4, None]}, ClientCode.EPOCH_ROLLBACK),
        ({"beat": [NOW, 5, OTHER.public]}, ClientCode.OWNER_NOT_ACCEPTED),
        ({"beat": [NOW, 5]}, ClientCode.RESPONSE_UNEXPECTED),
        ({"beat": [NOW, "5", None]}, ClientCode.RESPONSE_UNEXPECTED),
        ({"epoch": 1}, ClientCode.EPOCH_ROLLBACK),
        ({"model": b"short"}, ClientCode.RESPONSE_UNEXPECTED),
        ({"id": 99}, ClientCode.RESPONSE_UNEXPECTED),
        ({"id": None}, ClientCode.RESPONSE_UNEXPECTED),
        ({"extra": 1}, ClientCode.RESPONSE_UNEXPECTED),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_answer_that_is_stale_rolled_back_or_malformed_is_refused(world, serve, ask, changes, code):
    if "beat" in changes:
        changes = {"beat": [world.owner.public if item is None else item for item in changes["beat"]]}
    enclave = serve(answering(world, **changes))
    assert refused(ask, enclave.address, world.terms(min_epoch=2)).code is code


def test_another_model_than_the_asked_digest_is_refused(world, serve, ask):
    enclave = serve(answering(world, model=bytes(64)))
    assert refused(ask, enclave.address, world.terms(), DIGEST).code is ClientCode.RESPONSE_UNEXPECTED


def test_an_epoch_seen_in_an_earlier_session_is_remembered(world, serve, ask, tmp_path: Path):
    memory = tmp_path / "epochs.json"
    enclave = serve()
    ask(enclave.address, {**world.terms(), "memory": EpochMemory(memory)})
    world.epoch = 4
    error = refused(ask, enclave.address, {**world.terms(), "memory": EpochMemory(memory)})
    assert error.code is ClientCode.EPOCH_ROLLBACK
    assert len(enclave.settled().messages) == 0


def test_what_a_broker_of_some_names_has_revoked_binds_none_of_the_owners_others(world, serve, ask):
    """Its heartbeat knows of a higher epoch than the enclave holds of the owner: that of a name which it ended."""
    world.names, world.beat_epoch = ("another", "doubler"), 6
    memory = EpochMemory()
    enclave = serve()
    ask(enclave.address, {**world.terms(), "memory": memory})
    assert ask(enclave.address, {**world.terms(), "memory": memory}).epoch == 5
    assert memory.highest(world.owner.public, "") == 5


def test_an_older_model_than_one_seen_is_refused_though_its_owner_lives(world, serve):
    enclave = serve()
    with Session.connect(enclave.address, **world.terms()) as session:
        session.infer("doubler", {"x": X})
        enclave.script = answering(world, epoch=4)
        with pytest.raises(ClientError) as refusal:
            session.infer("doubler", {"x": X})
    assert refusal.value.code is ClientCode.EPOCH_ROLLBACK


# -------------------------------------------------------------------------------------- naming models


def test_a_policy_that_pins_digests_is_held_before_inputs_leave(world, serve, ask):
    enclave = serve()
    assert ask(enclave.address, world.terms(models=[DIGEST.hex()])).model == DIGEST
    for model in ("doubler", DIGEST):
        error = refused(ask, enclave.address, world.terms(models=[bytes(64).hex()]), model)
        assert error.code is ClientCode.MODEL_NOT_ALLOWED
        assert b"infer" not in b"".join(content for _, content in enclave.settled().messages)


def test_a_pinned_digest_under_an_owner_that_is_not_accepted_gets_no_inputs(world, serve, ask):
    """An owner may seal any bytes under any name: a digest in the policy does not accept whoever lists it."""
    listed = world.listed()
    world.listed, world.others = (lambda: listed | {"owner": OTHER.public}), (OTHER.public,)
    enclave = serve()
    error = refused(ask, enclave.address, world.terms(models=[DIGEST.hex()]))
    assert error.code is ClientCode.MODEL_NOT_ALLOWED
    assert operations(enclave) == ["models"]


def test_a_pinned_name_that_is_rolled_back_gets_no_inputs(world, serve, ask):
    memory = EpochMemory()
    memory.observe(world.owner.public, "doubler", 6)
    enclave = serve()
    error = refused(ask, enclave.address, {**world.terms(models=[DIGEST.hex()]), "memory": memory})
    assert error.code is ClientCode.EPOCH_ROLLBACK
    assert operations(enclave) == ["models"]


def test_an_answer_to_a_pinned_name_is_remembered_and_a_lower_one_refused(world, serve, ask):
    terms = {**world.terms(models=[DIGEST.hex()]), "memory": EpochMemory()}
    ask(serve().address, terms)
    assert terms["memory"].highest(world.owner.public, "doubler") == 5
    answer = answering(world, epoch=4)
    enclave = serve(lambda peer, body: (world.doubling if body.header["op"] == "models" else answer)(peer, body))
    assert refused(ask, enclave.address, terms).code is ClientCode.EPOCH_ROLLBACK


def test_a_newer_model_than_the_one_listed_first_is_looked_for(world, serve):
    memory = EpochMemory()
    enclave = serve()
    with Session.connect(enclave.address, **world.terms(models=[DIGEST.hex()]), memory=memory) as session:
        session.infer("doubler", {"x": X})
        memory.observe(world.owner.public, "doubler", 6)
        world.epoch = 6
        assert session.infer("doubler", {"x": X}).epoch == 6
    assert operations(enclave) == ["models", "infer", "models", "infer"]


@pytest.mark.parametrize("model", ["", "a\nb", "x" * 300, b"short", 5, None])
def test_a_model_that_is_named_in_no_known_way_is_refused_here(world, serve, model):
    with Session.connect(serve().address, **world.terms()) as session, pytest.raises(ClientError) as refusal:
        session.infer(model, {"x": X})
    assert refusal.value.code is ClientCode.MODEL_NAME_INVALID


def test_an_owner_outside_the_policy_cannot_be_named(world, serve, ask):
    model = f"{OTHER.public.hex()}/doubler"
    assert refused(ask, serve().address, world.terms(), model).code is ClientCode.OWNER_NOT_ACCEPTED


def test_inputs_that_cannot_travel_are_refused_before_they_are_sent(world, serve):
    enclave = serve()
    with Session.connect(enclave.address, **world.terms()) as session:
        for value in (np.array([1j]), np.array([object()], dtype=object), np.array(["2020"], dtype="datetime64[Y]")):
            with pytest.raises(ClientError) as refusal:
                session.infer("doubler", {"x": value})
            assert refusal.value.code is ClientCode.TENSOR_INVALID
    assert not enclave.settled().messages


@pytest.mark.parametrize("inputs", [X, [X], None, {1: X}, {b"x": X}, {"x": [[1, 2], [3]]}])
def test_inputs_that_are_no_arrays_by_name_are_refused_before_they_are_sent(world, serve, inputs):
    enclave = serve()
    with Session.connect(enclave.address, **world.terms()) as session, pytest.raises(ClientError) as refusal:
        session.infer("doubler", inputs)
    assert refusal.value.code is ClientCode.TENSOR_INVALID
    assert not enclave.settled().messages


def test_a_bare_name_is_ambiguous_where_several_accepted_owners_are_served(world, serve):
    first = world.claims().owners[0]
    second = replace(
        first,
        owner=OTHER.public,
        heartbeat=b"",
        delegation=Delegation(OTHER.public, world.broker.public, (Right.HEARTBEAT,), ("*",), 0).sign(OTHER),
    )
    claims = replace(world.claims(), owners=tuple(sorted((first, second), key=lambda state: state.owner)))
    world.claims = lambda: claims
    world.others = (OTHER.public,)
    owners = [world.owner.public.hex(), OTHER.public.hex()]
    with Session.connect(serve().address, **world.terms(owners=owners)) as session:
        with pytest.raises(ClientError) as refusal:
            session.infer("doubler", {"x": X})
        assert refusal.value.code is ClientCode.MODEL_NAME_INVALID
        assert sorted(owners) == sorted(refusal.value.found)
        assert session.infer(f"{owners[0]}/doubler", {"x": X}).model == DIGEST
        with pytest.raises(ClientError) as refusal:
            session.infer(f"{owners[1]}/doubler", {"x": X})
        assert refusal.value.code is ClientCode.OWNER_NOT_ACCEPTED, "the first owner answered for the second"


@pytest.mark.parametrize(
    "change",
    [
        {"digest": b""},
        {"inputs": [["x", "float32"]]},
        {"inputs": [["x", "float32", [["a", 1]]]]},
        {"more": 1},
        {"epoch": -1},
    ],
    ids=str,
)
def test_a_malformed_listing_is_refused(world, serve, change):
    listed = {**world.listed(), **change}
    world.listed = lambda: listed
    with Session.connect(serve().address, **world.terms()) as session, pytest.raises(ClientError) as refusal:
        session.models()
    assert refusal.value.code is ClientCode.RESPONSE_UNEXPECTED


# ------------------------------------------------------------------------------- refusals and failures


def test_a_typed_refusal_names_the_enclaves_code_and_the_session_goes_on(world, serve):
    enclave = serve(lambda peer, body: peer.refuse(body.header["id"], "input-range", "x", 2.5))
    with Session.connect(enclave.address, **world.terms()) as session:
        with pytest.raises(RemoteError) as refusal:
            session.infer("doubler", {"x": X})
        error = refusal.value
        assert (error.code, error.remote_code) == (ClientCode.REMOTE_REFUSED, "input-range")
        assert (error.field, error.retry_after) == ("x", 2.5)
        assert error.to_dict()["remote_code"] == "input-range"
        enclave.script = world.doubling
        np.testing.assert_array_equal(session.infer("doubler", {"x": X})["x"], X * 2)


def test_a_refusal_of_a_request_that_was_not_made_ends_the_session(world, serve, ask):
    enclave = serve(lambda peer, _: peer.refuse(77, "no"))
    assert refused(ask, enclave.address, world.terms()).code is ClientCode.RESPONSE_UNEXPECTED


def test_a_malformed_refusal_ends_the_session(world, serve, ask):
    enclave = serve(lambda peer, _: peer.refuse(1, ""))
    assert refused(ask, enclave.address, world.terms()).code is ClientCode.RESPONSE_UNEXPECTED


def test_the_hosts_words_are_passed_on_as_hearsay(world, serve, ask):
    enclave = serve()
    body = canonical.encode({"code": "route-unknown", "message": "no such route"})
    enclave.on_evidence = lambda peer, _: peer.host_error(body)
    error = refused(ask, enclave.address, world.terms())
    assert error.code is ClientCode.HOST_REFUSED
    assert "route-unknown" in str(error.found)


def test_a_host_that_babbles_is_refused_too(world, serve, ask):
    enclave = serve()
    enclave.on_evidence = lambda peer, _: peer.host_error(b"\xff")
    assert refused(ask, enclave.address, world.terms()).code is WireCode.FRAME_MALFORMED


@pytest.mark.parametrize("change", [{"sid": 2}, {"route": "other"}])
def test_frames_of_another_session_are_refused(world, serve, ask, change):
    def divert(peer, handshake_hash):
        for name, value in change.items():
            setattr(peer, name, value)
        enclave.send_evidence(peer, handshake_hash)

    enclave = serve()
    enclave.on_evidence = divert
    assert refused(ask, enclave.address, world.terms()).code is ClientCode.FRAME_UNEXPECTED


def test_a_stream_that_ends_without_a_close_record_is_truncation(world, serve, ask):
    enclave = serve(lambda peer, _: peer.end())
    assert refused(ask, enclave.address, world.terms()).code is WireCode.SESSION_TRUNCATED
    enclave = serve(lambda peer, _: peer.hang_up())
    assert refused(ask, enclave.address, world.terms()).code is WireCode.SESSION_TRUNCATED


def test_a_session_that_the_enclave_closes_says_so(world, serve, ask):
    enclave = serve(lambda peer, _: peer.send(peer.session.close()))
    assert refused(ask, enclave.address, world.terms()).code is ClientCode.CLIENT_CLOSED


def test_an_altered_record_is_refused_and_the_session_is_over(world, serve):
    def garble(peer, body):
        peer.send(peer.session.send(MessageType.RESPONSE, b"x")[:-1] + b"\0")

    with Session.connect(serve(garble).address, **world.terms()) as session:
        with pytest.raises(WireError) as refusal:
            session.infer("doubler", {"x": X})
        assert refusal.value.code is WireCode.RECORD_REFUSED
        with pytest.raises(ClientError) as refusal:
            session.infer("doubler", {"x": X})
        assert refusal.value.code is ClientCode.CLIENT_CLOSED


def test_a_closed_session_refuses_requests_and_closes_twice(world, serve):
    session = Session.connect(serve().address, **world.terms())
    session.close()
    session.close()
    with pytest.raises(ClientError) as refusal:
        session.models()
    assert refusal.value.code is ClientCode.CLIENT_CLOSED


# ------------------------------------------------------------------------------- addresses and time-outs


def hasty(world, **seconds: float) -> dict[str, Any]:
    return {**world.terms(), "timeouts": Timeouts(**{"connect": 2, "handshake": 2, "request": 2, **seconds})}


def test_an_enclave_that_never_attests_times_out(world, serve, ask):
    enclave = serve()
    enclave.on_evidence = lambda *_: None
    began = time.monotonic()
    assert refused(ask, enclave.address, hasty(world, handshake=0.2)).code is ClientCode.TIMED_OUT
    assert time.monotonic() - began < 2


def test_an_enclave_that_never_answers_times_out_and_the_session_is_over(world, serve):
    with Session.connect(serve(lambda *_: None).address, **hasty(world, request=0.2)) as session:
        with pytest.raises(ClientError) as refusal:
            session.infer("doubler", {"x": X})
        assert refusal.value.code is ClientCode.TIMED_OUT
        with pytest.raises(ClientError) as refusal:
            session.infer("doubler", {"x": X})
        assert refusal.value.code is ClientCode.CLIENT_CLOSED


def test_an_enclave_that_drips_bytes_cannot_stretch_the_deadline(world, serve, ask):
    def drip(peer, handshake_hash):
        record = peer.session.send_evidence(world.evidence(handshake_hash))
        for byte in record[:40]:
            peer.send(bytes([byte]))
            time.sleep(0.05)

    enclave = serve()
    enclave.on_evidence = drip
    began = time.monotonic()
    assert refused(ask, enclave.address, hasty(world, handshake=0.3)).code is ClientCode.TIMED_OUT
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("address", ["unix:{folder}/nobody", "tcp:127.0.0.1:{port}"])
def test_an_address_where_nobody_listens_is_unreachable(world, ask, address, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(folder=tmp_path, port=free.getsockname()[1])
        error = refused(ask, address, world.terms())
    assert error.code is ClientCode.ADDRESS_UNREACHABLE
    assert str(error).endswith(("No such file or directory", "Connection refused"))
    assert error.remedy


def test_a_text_that_is_no_address_is_refused(world, ask):
    assert refused(ask, "http://example", world.terms()).code is WireCode.ADDRESS_INVALID


# ------------------------------------------------------------------------------------------------ terms


def test_a_policy_without_service_table_and_missing_collateral_are_refused_before_connecting(world, ask):
    policy = load_policy({key: value for key, value in world.policy().to_dict().items() if key != "service"})
    assert refused(ask, "unix:/nobody", {**world.terms(), "policy": policy}).code is ClientCode.POLICY_UNSUITABLE
    missing = {**world.terms(), "policy": None}
    assert refused(ask, "unix:/nobody", missing).code is ClientCode.POLICY_UNSUITABLE
    nothing = {**world.terms(), "collateral": None}
    assert refused(ask, "unix:/nobody", nothing).code is ClientCode.COLLATERAL_UNNAMED


def test_every_option_of_a_session_is_one_that_its_terms_take():
    """Both kinds of session pass on what `Options` has; a name in one alone would be a promise or a secret."""
    taken = [item for item in inspect.signature(make_terms).parameters.values() if item.kind is item.KEYWORD_ONLY]
    assert {item.name: item.annotation for item in taken} == {
        name: kind.__forward_arg__ for name, kind in Options.__annotations__.items()
    }


def test_policy_and_collateral_may_be_given_as_paths(world, serve, ask, tmp_path: Path):
    import tomli_w

    (tmp_path / "client.toml").write_text(tomli_w.dumps(world.policy().to_dict()))
    collateral = tmp_path / "collateral"
    collateral.mkdir()
    (collateral / f"{world.platform.collateral_key}.json").write_text(world.platform.collateral(NOW).to_json())
    terms = {**world.terms(), "policy": tmp_path / "client.toml", "collateral": str(collateral)}
    assert ask(serve().address, terms).model == DIGEST


def test_collateral_of_another_platform_is_refused(world, serve, ask):
    other = type(world.platform)(bytes([6]) * 32, NOW - 1000)
    terms = {**world.terms(), "collateral": FixedSource(other.collateral(NOW))}
    enclave = serve()
    assert isinstance(refused(ask, enclave.address, terms), EvidenceError)
    assert nothing_was_sent(enclave)
