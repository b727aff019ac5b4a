from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from attestation.client import AsyncSession, SavedSession, Session
from attestation.client.call import Call
from attestation.client.errors import ClientCode, ClientError
from attestation.client.resumption import MAX_AGE
from attestation.errors import EvidenceError
from attestation.wire.messages import MessageType
from manifests.signing import Signer
from tests.client.conftest import DIGEST, NOW

X = np.array([[1, 2, 3]], dtype=np.float32)


def save(address: str, terms: dict) -> SavedSession:
    with Session.connect(address, **terms) as session:
        return session.ticket()


def at(saved: SavedSession, now: float) -> SavedSession:
    """Return the saved session as if it were used at that time."""
    terms = saved.terms
    party = replace(terms.call.party, now=lambda: now)
    return replace(
        saved,
        terms=replace(
            terms, call=replace(terms.call, party=party), freshness=replace(terms.freshness, now=lambda: now)
        ),
    )


def attested(enclave) -> bool:
    """Whether the newest connection made a full handshake (its second byte after the length is the mode)."""
    return enclave.peer.received[5] == 0


def test_a_ticket_comes_back_without_evidence_and_still_answers(world, serve):
    enclave = serve()
    saved = save(enclave.address, world.terms())
    with Session.resume(saved) as session:
        assert session.infer("doubler", {"x": X}).model == DIGEST
        assert session.attested is saved.attested
    assert not attested(enclave)


def test_an_asynchronous_session_resumes_likewise(world, serve):
    enclave = serve()

    async def go() -> bytes:
        async with await AsyncSession.connect(enclave.address, **world.terms()) as session:
            saved = await session.ticket()
        async with await AsyncSession.resume(saved) as session:
            assert (await session.models())[0].name == "doubler"
            return (await session.infer("doubler", {"x": X})).model

    assert asyncio.run(go()) == DIGEST
    assert not attested(enclave)


def test_a_resumed_session_does_not_authenticate_again(world, serve):
    enclave = serve()
    saved = save(enclave.address, {**world.terms(), "key": Signer.generate()})
    with Session.resume(saved) as session:
        session.infer("doubler", {"x": X})
    assert [kind for kind, _ in enclave.settled().messages] == [MessageType.REQUEST]


def test_a_ticket_is_good_once_and_then_the_client_attests_anew(world, serve):
    enclave = serve()
    saved = save(enclave.address, world.terms())
    for full in (False, True):
        with Session.resume(saved) as session:
            session.infer("doubler", {"x": X})
        assert attested(enclave) is full


def test_an_enclave_that_forgot_its_tickets_is_attested_anew(world, serve):
    enclave = serve()
    saved = save(enclave.address, world.terms())
    enclave.tickets.clear()
    with Session.resume(saved) as session:
        assert session.infer("doubler", {"x": X}).model == DIGEST
    assert attested(enclave)


def test_attesting_anew_after_a_lost_ticket_is_no_way_around_the_policy(world, serve):
    enclave = serve()
    saved = save(enclave.address, world.terms())
    enclave.tickets.clear()
    world.measured = bytes(32)
    with pytest.raises(EvidenceError):
        Session.resume(saved)
    assert not enclave.settled().messages


@pytest.mark.parametrize(("age", "resumes"), [(0, True), (MAX_AGE - 1, True), (MAX_AGE, False), (-1, False)])
def test_the_client_enforces_the_hour(world, serve, age, resumes):
    world.beat_time = NOW
    enclave = serve()
    saved = at(save(enclave.address, world.terms()), NOW + age)
    assert saved.usable(NOW + age) is resumes
    Session.resume(saved).close()
    enclave.settled()
    assert attested(enclave) is not resumes


def test_another_policy_ends_a_ticket(world, serve):
    enclave = serve()
    saved = save(enclave.address, world.terms())
    call = saved.terms.call
    other = replace(call.party, policy=world.policy(min_epoch=1))
    changed = replace(saved, terms=replace(saved.terms, call=replace(call, party=other)))
    assert not changed.usable(NOW)


def test_collateral_that_has_expired_ends_a_ticket(world, serve):
    saved = save(serve().address, world.terms())
    expired = replace(saved, attested=replace(saved.attested, expires=NOW + 10))
    assert expired.usable(NOW + 9)
    assert not expired.usable(NOW + 10)


def test_a_resumed_session_still_refuses_a_stale_broker(world, serve):
    enclave = serve()
    saved = save(enclave.address, world.terms(max_broker_age=60))
    world.beat_time = NOW - 61
    with Session.resume(saved) as session, pytest.raises(ClientError) as refusal:
        session.infer("doubler", {"x": X})
    assert refusal.value.code is ClientCode.BEAT_STALE


def test_a_malformed_ticket_is_refused(world, serve):
    def script(peer, body):
        peer.respond({"id": body.header["id"], "ticket": b"short", "psk": bytes(32)})

    with Session.connect(serve(script).address, **world.terms()) as session, pytest.raises(ClientError) as refusal:
        session.ticket()
    assert refusal.value.code is ClientCode.RESPONSE_UNEXPECTED


def test_a_hosts_error_does_not_make_a_resuming_client_fall_back(world, serve, monkeypatch):
    enclave = serve()
    saved = save(enclave.address, world.terms())
    calls: list[Call] = []

    def refuse(call: Call):
        calls.append(call)
        raise ClientError(ClientCode.HOST_REFUSED, "the host refused")

    monkeypatch.setattr("attestation.client.session.Connection.open", refuse)
    with pytest.raises(ClientError) as refusal:
        Session.resume(saved)
    assert refusal.value.code is ClientCode.HOST_REFUSED
    assert len(calls) == 1
