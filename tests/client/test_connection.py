"""The lower level, which the broker and `attest show` use, and what ends an asynchronous request."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from attestation.appraise import SessionAppraisal
from attestation.client import AsyncSession, Session
from attestation.client.connection import Connection, collect_evidence, open_session
from attestation.client.errors import ClientCode, ClientError
from attestation.collateral import FixedSource
from attestation.errors import EvidenceCode, WireCode, WireError
from attestation.policy import roots_for
from attestation.types import Claims
from manifests.errors import ErrorCode, Fault, StrongroomError
from tests.client.conftest import BOOT_ID, NOW, QUICK

X = np.array([[1, 2, 3]], dtype=np.float32)


class Unlike(ErrorCode):
    UNLIKE = "unlike", Fault.REFUSED, "the caller does not like it"


def connect(world, address: str, **options) -> Connection:
    policy = world.policy()
    return open_session(
        address,
        route="default",
        policy=policy,
        source=FixedSource(world.platform.collateral(NOW)),
        roots=roots_for(policy),
        now=NOW,
        timeouts=QUICK,
        **options,
    )


def test_a_relying_party_makes_requests_of_its_own(world, serve):
    enclave = serve()
    with connect(world, enclave.address) as connection:
        assert connection.attested.claims.boot_id == BOOT_ID
        assert len(connection.handshake_hash) == 64
        body = connection.request({"op": "models"})
        assert "id" not in body.header
        assert body.header["class"] == "simulated"
    assert connection.over
    assert enclave.settled().closed_in_order


def test_an_unprovisioned_enclave_is_open_to_a_broker(world, serve):
    world.served = False
    with connect(world, serve().address) as connection:
        assert connection.attested.claims.owners == ()


def test_the_callers_decision_sees_the_appraisal_and_can_refuse(world, serve):
    seen: list[SessionAppraisal] = []

    def decide(attested: SessionAppraisal) -> None:
        seen.append(attested)
        raise StrongroomError(Unlike.UNLIKE, "no")

    enclave = serve()
    with pytest.raises(StrongroomError) as refusal:
        connect(world, enclave.address, decide=decide)
    assert refusal.value.code is Unlike.UNLIKE
    assert seen[0].appraisal.accepted
    assert not enclave.settled().messages


def test_the_decision_may_look_at_findings_of_an_enclave_that_the_policy_refuses(world, serve):
    world.measured = bytes(32)
    seen: list[SessionAppraisal] = []

    def decide(attested: SessionAppraisal) -> None:
        seen.append(attested)
        attested.require()

    with pytest.raises(StrongroomError) as refusal:
        connect(world, serve().address, decide=decide)
    assert refusal.value.code is EvidenceCode.APPRAISAL_REFUSED
    assert [str(finding.code) for finding in seen[0].appraisal.failed] == ["sgx-mrenclave"]


def test_evidence_can_be_collected_without_sending_anything_else(world, serve):
    enclave = serve()
    record, handshake_hash = collect_evidence(enclave.address, timeouts=QUICK)
    assert Claims.decode(record.claims).boot_id == BOOT_ID
    assert handshake_hash == enclave.settled().session.handshake_hash
    assert not enclave.peer.messages


def test_a_resumed_connection_has_no_evidence_of_its_own(world, serve):
    enclave = serve()
    with Session.connect(enclave.address, **world.terms()) as session:
        saved = session.ticket()
    with Connection.open(saved.call()) as connection, pytest.raises(WireError) as refusal:
        _ = connection.attested
    assert refusal.value.code is WireCode.SESSION_STATE


def test_tcp_carries_a_session_like_a_unix_socket(world, serve):
    enclave = serve(tcp=True)

    async def go() -> None:
        async with await AsyncSession.connect(enclave.address, **world.terms()) as session:
            await session.infer("doubler", {"x": X})

    assert enclave.address.startswith("tcp:127.0.0.1:")
    asyncio.run(go())
    with Session.connect(enclave.address, **world.terms()) as session:
        np.testing.assert_array_equal(session.infer("doubler", {"x": X})["x"], X * 2)


def test_a_cancelled_request_ends_the_asynchronous_session(world, serve):
    """Half an answer may be on its way: a session that went on could take it for the next one's."""
    enclave = serve(lambda *_: None)

    async def go() -> ClientCode:
        async with await AsyncSession.connect(enclave.address, **world.terms()) as session:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.infer("doubler", {"x": X}), 0.1)
            with pytest.raises(ClientError) as refusal:
                await session.infer("doubler", {"x": X})
            return refusal.value.code

    assert asyncio.run(go()) is ClientCode.CLIENT_CLOSED
