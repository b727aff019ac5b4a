"""Every way in which a control message is refused, and what each accepted one changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from attestation.types import Credential, Delegation, Heartbeat, PlatformClass, Right, document_digest
from attestation.wire.messages import Body, MessageType, encode_body
from enclave import owners as owners_module
from enclave import provision as provision_module
from enclave.errors import EnclaveCode, EnclaveError
from enclave.operations import Caller, Operations
from enclave.provision import ControlState
from manifests.gramine.settings import EnclaveSettings, Limits
from manifests.signing import Signer
from tests.enclave.conftest import Served
from tests.enclave.rig import Ended, Owner, Refused, Rig, linear, running

X = np.ones((1, 4), np.float32)


@pytest.fixture
def sealed(rig: Rig, owner: Owner, tmp_path: Path) -> bytes:
    data, manifest = linear(owner)
    return owner.seal(rig.host, tmp_path, data, manifest=manifest)


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(Refused) as refusal:
        yield
    assert refusal.value.code == code, refusal.value


# ------------------------------------------------------------------------------------------ grants


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"handshake_hash": bytes(64)}, "grant-other-session"),
        ({"platform": PlatformClass.HARDWARE}, "grant-other-class"),
        ({"delegation": bytes(64)}, "delegation-mismatch"),
        ({"owner": Signer.generate().public}, "delegation-mismatch"),
        ({"model": bytes(64)}, "fetch-failed"),
        ({"name": "another"}, "grant-other-model"),
        ({"epoch": 2}, "grant-other-model"),
    ],
)
def test_a_grant_that_does_not_fit_is_refused(
    rig: Rig, owner: Owner, sealed: bytes, changes: dict[str, object], code: str
) -> None:
    client = rig.client()
    grant = owner.grant(client, sealed, **changes).sign(owner.broker)
    with refused(code):
        owner.release(client, grant, owner.deks[sealed])
    assert client.request({"op": "models"}).header["models"] == []
    assert rig.client().claims.owners == ()


def test_a_grant_for_another_session_of_the_same_client_is_refused(rig: Rig, owner: Owner, sealed: bytes) -> None:
    first, second = rig.client(), rig.client()
    with refused("grant-other-session"):
        owner.release(second, owner.grant(first, sealed).sign(owner.broker), owner.deks[sealed])


def test_a_serial_is_good_once(rig: Rig, owner: Owner, sealed: bytes) -> None:
    client = rig.client()
    grant = owner.grant(client, sealed).sign(owner.broker)
    owner.release(client, grant, owner.deks[sealed])
    with refused("grant-replayed"):
        owner.release(client, grant, owner.deks[sealed])


def test_a_serial_is_spent_by_a_grant_that_failed_to_load(rig: Rig, owner: Owner, sealed: bytes) -> None:
    client = rig.client()
    grant = owner.grant(client, sealed).sign(owner.broker)
    with refused("sealed-commitment"):
        owner.release(client, grant, bytes(32))
    with refused("grant-replayed"):
        owner.release(client, grant, owner.deks[sealed])


def test_a_grant_signed_by_a_key_that_was_not_delegated_is_refused(rig: Rig, owner: Owner, sealed: bytes) -> None:
    client = rig.client()
    with refused("signature-invalid"):
        owner.release(client, owner.grant(client, sealed).sign(Signer.generate()), owner.deks[sealed])


def test_a_delegation_that_the_owner_did_not_sign_is_refused(rig: Rig, owner: Owner, sealed: bytes) -> None:
    client = rig.client()
    forged = Delegation(owner.public, owner.broker.public, tuple(Right), ("*",), 0).sign(Signer.generate())
    grant = owner.grant(client, sealed, delegation=document_digest(forged)).sign(owner.broker)
    header = {"op": "provision", "delegation": forged, "grant": grant, "dek": owner.deks[sealed]}
    with refused("signature-invalid"):
        client.request(header)


@pytest.mark.parametrize("delegation", [b"", b"\x90", bytes(range(64)), b"\x92\xc4\x01\x80\xc4\x01\x00"])
def test_a_delegation_that_is_no_document_is_refused(rig: Rig, delegation: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        rig.client().request({"op": "provision", "delegation": delegation, "grant": b"", "dek": bytes(32)})
    assert refusal.value.code in {"encoding-malformed", "field-invalid", "encoding-too-large"}


@pytest.mark.parametrize("dek", [b"", bytes(31), bytes(33), "text", None])
def test_a_data_key_has_32_bytes(rig: Rig, owner: Owner, sealed: bytes, dek: object) -> None:
    client = rig.client()
    header = {"op": "provision", "delegation": owner.delegation, "dek": dek}
    with refused("field-invalid"):
        client.request({**header, "grant": owner.grant(client, sealed).sign(owner.broker)})


def test_rights_are_needed_one_by_one(rig: Rig, owner: Owner, sealed: bytes) -> None:
    client = rig.client()
    owner.rights = (Right.PROVISION,)
    owner.provision(client, sealed)
    with refused("right-missing"):
        owner.heartbeat(client, owner.challenge(client), {})
    with refused("right-missing"):
        owner.revoke(client, epoch=2)
    owner.rights = (Right.HEARTBEAT,)
    with refused("right-missing"):
        owner.provision(client, sealed)


@pytest.mark.parametrize(("models", "floor"), [(("another",), 0), (("*",), 2)])
def test_a_delegation_covers_names_and_epochs(
    rig: Rig, owner: Owner, sealed: bytes, models: tuple[str, ...], floor: int
) -> None:
    owner.models, owner.epoch_floor = models, floor
    with refused("delegation-scope"):
        owner.provision(rig.client(), sealed)


def test_the_first_valid_grant_fixes_the_owner(rig: Rig, owner: Owner, sealed: bytes, tmp_path: Path) -> None:
    second = Owner()
    data, manifest = linear(second)
    other = second.seal(rig.host, tmp_path, data, manifest=manifest)
    with refused("sealed-commitment"):  # an invalid grant fixes nothing
        second.release(client := rig.client(), second.grant(client, other).sign(second.broker), bytes(32))
    owner.provision(rig.client(), sealed)
    with refused("owner-refused"):
        second.provision(rig.client(), other)
    with refused("owner-unknown"):
        second.challenge(rig.client())


def test_an_owner_whom_the_manifest_does_not_name_is_refused(owner: Owner, tmp_path: Path) -> None:
    stranger = Owner()
    with running(EnclaveSettings((owner.public,))) as rig:
        for each in (owner, stranger):
            data, manifest = linear(each)
            digest = each.seal(rig.host, tmp_path, data, manifest=manifest)
            if each is stranger:
                with refused("owner-refused"):
                    each.provision(rig.client(), digest)
            else:
                each.provision(rig.client(), digest)
        assert rig.client().claims.admitted == (owner.public,)


def test_another_owners_model_under_ones_own_grant_is_refused(rig: Rig, owner: Owner, sealed: bytes) -> None:
    thief = Owner()
    thief.deks = owner.deks
    with refused("sealed-owner"):
        thief.provision(rig.client(), sealed)


def test_epochs_never_go_down(served: Served) -> None:
    data, manifest = linear(served.owner, epoch=3)
    newer = served.owner.seal(served.rig.host, served.folder, data, manifest=manifest)
    served.owner.provision(served.broker, newer, epoch=3)
    with refused("epoch-old"):
        served.owner.provision(served.broker, served.digest)
    body = served.rig.client().request(
        {"op": "infer", "model": {"owner": served.owner.public, "name": "tiny", "epoch": 0}}, {"x": X}
    )
    assert body.header["model"] == newer


def test_a_new_epoch_drops_all_tickets(served: Served) -> None:
    ticket = served.rig.client().ticket()
    data, manifest = linear(served.owner, epoch=2)
    newer = served.owner.seal(served.rig.host, served.folder, data, manifest=manifest)
    served.owner.provision(served.broker, newer, epoch=2)
    with pytest.raises(Ended):
        served.rig.client(ticket=ticket)


def test_data_keys_are_wiped_from_the_arena_when_the_model_is_loaded(rig: Rig, owner: Owner, sealed: bytes) -> None:
    client = rig.client()
    before = rig.service.control._arena.free
    owner.provision(client, sealed)
    assert rig.service.control._arena.free == before
    assert owner.deks[sealed] not in bytes(rig.service.control._arena._view)


def test_the_number_of_models_and_their_memory_are_bounded(owner: Owner, tmp_path: Path) -> None:
    limits = Limits(max_models=1, model_memory=1 << 20)
    with running(EnclaveSettings("first", limits=limits)) as rig:
        digests = []
        for name in ("tiny", "second"):
            data, manifest = linear(owner, name=name)
            digests.append(owner.seal(rig.host, tmp_path, data, manifest=manifest))
        broker = rig.client()
        owner.provision(broker, digests[0])
        with refused("provision-limit"):
            owner.provision(broker, digests[1], name="second")
        large = owner.seal(rig.host, tmp_path, data, manifest=linear(owner)[1], extra_parts={"table": bytes(1 << 20)})
        owner.revoke(broker, models=(digests[0],))
        with refused("provision-limit"):
            owner.provision(broker, large)


def test_a_delegation_too_long_for_the_claims_is_refused(rig: Rig, owner: Owner, sealed: bytes) -> None:
    owner.models = ("tiny", *(f"m{i:04}" + "x" * 100 for i in range(200)))
    with refused("field-invalid"):
        owner.provision(rig.client(), sealed)


def test_documents_of_many_owners_fit_the_claims_or_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners_module, "_CLAIMS_ROOM", 5000)
    with running(EnclaveSettings("any")) as rig:
        first, second = Owner(), Owner()
        for owner in (first, second):
            data, manifest = linear(owner)
            digest = owner.seal(rig.host, tmp_path, data, manifest=manifest)
            if owner is first:
                owner.provision(rig.client(), digest)
            else:
                with refused("provision-limit"):
                    owner.provision(rig.client(), digest)


def test_two_grants_for_a_model_that_is_being_loaded_make_one_lease(rig: Rig, owner: Owner, sealed: bytes) -> None:
    first, second = rig.client(), rig.client()
    for client in (first, second):
        grant = owner.grant(client, sealed, lease=7).sign(owner.broker)
        header = {"op": "provision", "id": 1, "delegation": owner.delegation, "grant": grant}
        content = encode_body({**header, "dek": owner.deks[sealed]})
        client.put(client.wire.send(MessageType.REQUEST, content))
    assert [client.answer().header["lease"] for client in (first, second)] == [7, 7]
    rig.client().infer(sealed, x=X)
    assert rig.leases() == {sealed: 6}


def test_a_session_brings_a_bounded_number_of_grants(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision_module, "MAX_SERIALS", 2)
    served.owner.provision(served.broker, served.digest)
    with refused("grant-replayed"):
        served.owner.provision(served.broker, served.digest)
    served.owner.provision(served.rig.client(), served.digest)


def test_a_model_revoked_while_it_is_being_loaded_is_not_taken_in(served: Served) -> None:
    data, manifest = linear(served.owner, name="late")
    digest = served.owner.seal(served.rig.host, served.folder, data, manifest=manifest)
    asked, gate = threading.Event(), threading.Event()
    served.rig.host.tamper = lambda _offset, piece: (asked.set(), gate.wait(10), piece)[2]
    broker = served.rig.client()
    grant = served.owner.grant(broker, digest, "late").sign(served.owner.broker)
    header = {"op": "provision", "id": 1, "delegation": served.owner.delegation, "grant": grant}
    broker.put(broker.wire.send(MessageType.REQUEST, encode_body({**header, "dek": served.owner.deks[digest]})))
    assert asked.wait(10)
    served.owner.revoke(served.broker, models=(digest,))
    gate.set()
    with refused("model-revoked"):
        broker.answer()


def test_a_loaded_model_revoked_before_its_grant_is_confirmed_is_refused(served: Served) -> None:
    job = served.rig.service.control.provision(
        ControlState(served.broker.wire.handshake_hash),
        {
            "op": "provision",
            "id": 1,
            "delegation": served.owner.delegation,
            "grant": served.owner.grant(served.broker, served.digest).sign(served.owner.broker),
            "dek": served.owner.deks[served.digest],
        },
    )
    served.owner.revoke(served.broker, models=(served.digest,))
    with pytest.raises(EnclaveError) as refusal:
        job()
    assert refusal.value.code == "model-revoked"


# ------------------------------------------------------------------------------------------ sealed bytes


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_of_a_file_is_awaited_once_its_model_is_loaded_or_refused(
    rig: Rig, owner: Owner, tmp_path: Path, *, broken: bool
) -> None:
    """Blocks ahead of a part that is refused are under way: their replies must find nobody, and hold no memory."""
    data, manifest = linear(owner)
    digest = owner.seal(rig.host, tmp_path, data, manifest=manifest, extra_parts={"table": bytes(6 << 20)})
    if broken:
        rig.host.tamper = lambda offset, piece: bytes(len(piece)) if offset == 2 << 20 else piece
    with pytest.raises(Refused) if broken else nullcontext():
        owner.provision(rig.client(), digest)
    assert rig.service.control._channel._fetches == {}


def test_a_model_that_the_host_does_not_have_is_refused(rig: Rig, owner: Owner, sealed: bytes) -> None:
    rig.host.files.clear()
    with refused("fetch-failed"):
        owner.provision(rig.client(), sealed)


@pytest.mark.parametrize(
    ("tamper", "codes"),
    [
        (lambda _offset, data: data[:-1], {"fetch-failed"}),
        (lambda _offset, data: data + b"\0", {"fetch-failed"}),
        (lambda _offset, _data: b"", {"fetch-failed"}),
        (lambda _offset, data: bytes(len(data)), {"sealed-malformed", "sealed-version"}),
        (lambda _offset, data: data[:700] + bytes([data[700] ^ 1]) + data[701:], {"sealed-chunk", "sealed-decrypt"}),
    ],
)
def test_what_the_host_serves_is_checked(
    rig: Rig, owner: Owner, sealed: bytes, tamper: object, codes: set[str]
) -> None:
    rig.host.tamper = tamper  # type: ignore[assignment]
    with pytest.raises(Refused) as refusal:
        owner.provision(rig.client(), sealed)
    assert refusal.value.code in codes
    assert rig.is_alive()


def test_a_host_that_never_answers_a_fetch_is_given_up(
    rig: Rig, owner: Owner, sealed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enclave.channel.FETCH_TIMEOUT", 0.1)
    rig.host.tamper = lambda _offset, _data: None
    with refused("fetch-failed"):
        owner.provision(rig.client(), sealed)


def test_sessions_are_served_while_a_model_is_being_loaded(served: Served) -> None:
    data, manifest = linear(served.owner, name="slow")
    digest = served.owner.seal(served.rig.host, served.folder, data, manifest=manifest)
    held: list[int] = []
    served.rig.host.tamper = lambda offset, _data: held.append(offset)  # type: ignore[assignment, func-returns-value]
    grant = served.owner.grant(served.broker, digest, "slow").sign(served.owner.broker)
    header = {"op": "provision", "delegation": served.owner.delegation, "grant": grant, "id": 99}
    content = encode_body({**header, "dek": served.owner.deks[digest]})
    served.broker.put(served.broker.wire.send(MessageType.REQUEST, content))
    served.rig.wait_until(lambda: bool(held))
    assert served.rig.client().infer(served.digest, x=X)["y"].shape == (1, 3)


# ------------------------------------------------------------------------------------------ leases and heartbeats


def test_a_lease_is_spent_by_requests_and_by_nothing_else(rig: Rig, owner: Owner, sealed: bytes) -> None:
    broker = rig.client()
    owner.provision(broker, sealed, lease=2)
    client = rig.client()
    client.infer(sealed, x=X)
    with refused("tensor-dtype"):
        client.infer(sealed, x=X.astype(np.float64))
    client.infer(sealed, x=X)
    with refused("lease-exhausted"):
        client.infer(sealed, x=X)
    assert rig.leases() == {sealed: 0}


def test_a_heartbeat_sets_leases_anew_and_shows_in_claims_and_answers(rig: Rig, owner: Owner, sealed: bytes) -> None:
    broker = rig.client()
    owner.provision(broker, sealed, lease=1)
    client = rig.client()
    client.infer(sealed, x=X)
    owner.now += 60
    assert owner.heartbeat(broker, owner.challenge(broker), {sealed: 5}, epoch=4) == [[sealed, 5]]
    body = client.request({"op": "infer", "model": {"digest": sealed}}, {"x": X})
    assert body.header["beat"] == [owner.now, 4, owner.public]
    (state,) = rig.client().claims.owners
    heartbeat = Heartbeat.open(state.heartbeat, owner.broker.public)
    assert (heartbeat.time, state.epoch) == (owner.now, 4)
    assert heartbeat.delegation == document_digest(state.delegation)


def test_a_nonce_is_good_once(served: Served) -> None:
    challenge = served.owner.challenge(served.broker)
    served.owner.heartbeat(served.broker, challenge, {served.digest: 5})
    with refused("nonce-refused"):
        served.owner.heartbeat(served.broker, challenge, {served.digest: 5})


def test_a_nonce_is_good_in_its_own_session_alone(served: Served) -> None:
    challenge = served.owner.challenge(served.broker)
    with refused("nonce-refused"):
        served.owner.heartbeat(served.rig.client(), challenge, {served.digest: 5})


def test_a_newer_challenge_replaces_the_older(served: Served) -> None:
    older = served.owner.challenge(served.broker)
    served.owner.challenge(served.broker)
    with refused("nonce-refused"):
        served.owner.heartbeat(served.broker, older, {served.digest: 5})


def test_an_old_nonce_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    challenge = served.owner.challenge(served.broker)
    monkeypatch.setattr(provision_module, "NONCE_LIFETIME", -1.0)
    with refused("nonce-refused"):
        served.owner.heartbeat(served.broker, challenge, {served.digest: 5})


def test_a_session_holds_a_bounded_number_of_nonces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision_module, "MAX_NONCES", 1)
    with running(EnclaveSettings("any")) as rig:
        first, second = Owner(), Owner()
        broker = rig.client()
        for owner in (first, second):
            data, manifest = linear(owner)
            owner.provision(broker, owner.seal(rig.host, tmp_path, data, manifest=manifest))
        older, newer = first.challenge(broker), second.challenge(broker)
        with refused("nonce-refused"):
            first.heartbeat(broker, older, {})
        second.heartbeat(broker, newer, {})


def test_a_heartbeat_below_its_delegations_floor_is_refused(served: Served) -> None:
    served.owner.epoch_floor = 5
    for epoch, accepted in ((4, False), (5, True)):
        with nullcontext() if accepted else refused("epoch-old"):
            served.owner.heartbeat(served.broker, served.owner.challenge(served.broker), {}, epoch=epoch)


def test_a_heartbeat_whose_documents_outgrow_the_claims_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = served.owner.delegation
    monkeypatch.setattr(owners_module, "_CLAIMS_ROOM", owners_module.MAX_HEARTBEAT + 128 + len(known))
    served.owner.heartbeat(served.broker, served.owner.challenge(served.broker), {served.digest: 5})
    served.owner.models = ("another", "tiny")
    with refused("provision-limit"):
        served.owner.heartbeat(served.broker, served.owner.challenge(served.broker), {served.digest: 6})
    assert served.rig.leases() == {served.digest: 5}
    assert [state.delegation for state in served.rig.client().claims.owners] == [known]


def test_a_heartbeat_for_another_process_is_refused(served: Served) -> None:
    with refused("nonce-refused"):
        served.owner.heartbeat(served.broker, served.owner.challenge(served.broker), {}, boot_id=bytes(16))


def test_heartbeats_take_effect_in_the_order_of_their_challenges(served: Served) -> None:
    owner, broker, other = served.owner, served.broker, served.rig.client()
    first, second = owner.challenge(broker), owner.challenge(other)
    owner.heartbeat(other, second, {served.digest: 5})
    with refused("heartbeat-old"):
        owner.heartbeat(broker, first, {served.digest: 9})
    assert served.rig.leases() == {served.digest: 5}


def test_a_heartbeat_from_the_future_is_followed_by_one_of_the_present(served: Served) -> None:
    owner, broker = served.owner, served.broker
    owner.heartbeat(broker, owner.challenge(broker), {served.digest: 5}, time=owner.now + 10**9)
    owner.heartbeat(broker, owner.challenge(broker), {served.digest: 7}, time=owner.now + 60)
    body = served.rig.client().request({"op": "infer", "model": {"digest": served.digest}}, {"x": X})
    assert body.header["beat"][0] == owner.now + 60


def test_a_broker_of_other_names_says_nothing_for_this_model(served: Served) -> None:
    owner, broker = served.owner, served.broker
    owner.heartbeat(broker, owner.challenge(broker), {served.digest: 5}, epoch=3)
    narrow = Owner(key=owner.key, models=("other",), now=owner.now + 10**6)
    narrow.heartbeat(broker, narrow.challenge(broker), {}, epoch=10**6)
    assert narrow.revoke(broker, name="other", epoch=10**6) == []
    body = served.rig.client().request({"op": "infer", "model": {"digest": served.digest}}, {"x": X})
    assert body.header["beat"] == [owner.now, 3, owner.public]
    (state,) = served.rig.client().claims.owners
    assert (state.epoch, Heartbeat.open(state.heartbeat, owner.broker.public).epoch) == (3, 3)
    assert owner.heartbeat(broker, owner.challenge(broker), {served.digest: 9}) == [[served.digest, 9]]


def test_the_oldest_of_too_many_delegations_is_forgotten(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners_module, "MAX_DELEGATIONS", 1)
    other = Owner(key=served.owner.key)
    other.heartbeat(served.broker, other.challenge(served.broker), {served.digest: 5})
    assert served.owner.broker.public not in served.rig.service.owners.issuers()
    assert other.broker.public in served.rig.service.owners.issuers()


def test_two_epochs_of_a_name_are_served_and_older_ones_end(served: Served) -> None:
    digests = [served.digest]
    for epoch in (2, 3):
        data, manifest = linear(served.owner, epoch=epoch)
        digests.append(served.owner.seal(served.rig.host, served.folder, data, manifest=manifest))
        served.owner.provision(served.broker, digests[-1], epoch=epoch)
    client = served.rig.client()
    with refused("model-unknown"):
        client.infer(digests[0], x=X)
    for digest in digests[1:]:
        assert client.infer(digest, x=X)["y"].shape == (1, 3)


def test_heartbeats_that_a_host_kept_back_are_worth_one_lease_together(served: Served) -> None:
    """The broker was heard six times, each time cut off before its heartbeat arrived, and then fell silent."""
    owner, lease = served.owner, 5
    held = [(session := served.rig.client(), owner.challenge(session)) for _ in range(6)]
    client, answered = served.rig.client(), 0
    for session, challenge in held:
        owner.heartbeat(session, challenge, {served.digest: lease})
        with refused("lease-exhausted"):
            while True:
                client.infer(served.digest, x=X)
                answered += 1
    assert answered == lease


def test_a_challenge_tells_a_stranger_which_models_are_loaded_and_not_how_they_are_used(served: Served) -> None:
    before = served.owner.challenge(served.rig.client())
    served.rig.client().infer(served.digest, x=X)
    after = served.owner.challenge(served.rig.client())
    assert before["models"] == after["models"] == [served.digest]
    assert set(after) - {"id", "status"} == {"nonce", "boot_id", "models", "epoch"} - {"id", "status"}


def test_signed_epochs_never_go_back(served: Served) -> None:
    owner, broker = served.owner, served.broker
    owner.heartbeat(broker, owner.challenge(broker), {served.digest: 5}, epoch=3)
    with refused("epoch-old"):
        owner.heartbeat(broker, owner.challenge(broker), {served.digest: 9}, epoch=2)
    assert served.rig.leases() == {served.digest: 5}


def test_a_heartbeat_renews_nothing_if_one_of_its_models_is_not_here(served: Served) -> None:
    leases = {served.digest: 5, bytes(64): 5}
    with refused("model-unknown"):
        served.owner.heartbeat(served.broker, served.owner.challenge(served.broker), leases)
    assert served.rig.leases() == {served.digest: 1000}


def test_a_heartbeat_renews_only_what_its_delegation_covers(served: Served) -> None:
    challenge = served.owner.challenge(served.broker)
    served.owner.models = ("another",)
    with refused("delegation-scope"):
        served.owner.heartbeat(served.broker, challenge, {served.digest: 5})


# ------------------------------------------------------------------------------------------ revocations


def test_a_revocation_ends_running_sessions_at_their_next_record_and_drops_tickets(served: Served) -> None:
    client = served.rig.client()
    ticket = client.ticket()
    client.infer(served.digest, x=X)
    assert served.owner.revoke(served.broker, epoch=2) == [served.digest]
    with refused("session-revoked"):
        client.infer(served.digest, x=X)
    with pytest.raises(Ended):
        client.answer()
    with pytest.raises(Ended):
        served.rig.client(ticket=ticket)
    with refused("model-unknown"):
        served.rig.client().infer(served.digest, x=X)
    assert served.owner.challenge(served.broker)["models"] == []


def test_what_was_revoked_by_epoch_or_digest_is_not_provisioned_again(served: Served) -> None:
    served.owner.revoke(served.broker, models=(served.digest,))
    with refused("model-revoked"):
        served.owner.provision(served.broker, served.digest)
    served.owner.revoke(served.broker, name="tiny", epoch=2)
    with refused("epoch-old"):
        served.owner.provision(served.broker, served.digest)


def test_a_revocation_of_all_names_is_a_floor_for_each(served: Served) -> None:
    served.owner.revoke(served.broker, name="*", epoch=2)
    with refused("epoch-old"):
        served.owner.provision(served.broker, served.digest)


def test_a_ticket_is_not_given_to_a_session_that_a_revocation_ends_meanwhile(served: Served) -> None:
    """As where the revocation lands between the session's own question and the operation."""
    service = served.rig.service
    caller = Caller(began=service.present(), touched={served.owner.public})
    served.owner.revoke(served.broker, epoch=2)
    with pytest.raises(EnclaveError) as refusal:
        Operations(service).perform(caller, Body({"op": "ticket", "id": 1}))
    assert refusal.value.code is EnclaveCode.SESSION_REVOKED
    assert len(service.tickets) == 0


def test_a_revocation_reaches_only_what_it_names(served: Served) -> None:
    assert served.owner.revoke(served.broker, name="another", epoch=9) == []
    assert served.owner.revoke(served.broker, name="another", models=(served.digest,)) == []
    assert served.rig.client().infer(served.digest, x=X)["y"].shape == (1, 3)


def test_a_revocation_needs_a_delegation_over_what_it_names(served: Served) -> None:
    served.owner.models = ("tiny",)
    with refused("delegation-scope"):
        served.owner.revoke(served.broker, name="*", epoch=2)
    assert served.owner.revoke(served.broker, name="tiny", epoch=2) == [served.digest]


def test_one_owners_revocation_leaves_another_owners_sessions_alone(tmp_path: Path) -> None:
    with running(EnclaveSettings("any")) as rig:
        first, second = Owner(), Owner()
        digests = {}
        for owner in (first, second):
            data, manifest = linear(owner)
            digests[owner.public] = owner.seal(rig.host, tmp_path, data, manifest=manifest)
            owner.provision(rig.client(), digests[owner.public])
        one, two = rig.client(), rig.client()
        one.infer(digests[first.public], x=X)
        two.infer(digests[second.public], x=X)
        first.revoke(rig.client(), epoch=2)
        assert two.infer(digests[second.public], x=X)["y"].shape == (1, 3)
        with refused("session-revoked"):
            one.infer(digests[second.public], x=X)


def test_a_revocation_that_says_nothing_new_ends_nothing(served: Served) -> None:
    served.owner.revoke(served.broker, name="another", epoch=9)
    client, replayer = served.rig.client(), served.rig.client()
    ticket = client.ticket()
    assert served.owner.revoke(replayer, name="another", epoch=9) == []
    assert client.infer(served.digest, x=X)["y"].shape == (1, 3)
    served.rig.client(ticket=ticket).request({"op": "models"})
    served.owner.revoke(served.broker, name="another", epoch=10)
    with refused("session-revoked"):
        replayer.request({"op": "models"})


def test_a_revocation_ends_the_sessions_of_clients_that_its_owner_named(tmp_path: Path) -> None:
    with running(EnclaveSettings("any")) as rig:
        first, second = Owner(), Owner()
        for owner in (first, second):
            data, manifest = linear(owner)
            owner.provision(rig.client(), owner.seal(rig.host, tmp_path, data, manifest=manifest))
        key = Signer.generate()
        named, nobody = rig.client(), rig.client()
        named.authenticate(key, Credential(first.public, key.public, "alice").sign(first.key))
        ticket = named.ticket()
        resumed = rig.client(ticket=ticket)
        resumed.request({"op": "models"})
        first.revoke(rig.client(), epoch=2)
        for client in (named, resumed):
            with refused("session-revoked"):
                client.request({"op": "ticket"})
        nobody.request({"op": "models"})


def test_a_revocation_counts_before_tickets_are_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    service = served.rig.service
    seen: list[int] = []
    monkeypatch.setattr(service.tickets, "clear", lambda: seen.append(service.generation))
    served.owner.revoke(served.broker, epoch=2)
    assert seen == [1]


def test_the_list_of_revoked_digests_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners_module, "MAX_REVOKED", 2)
    with refused("provision-limit"):
        served.owner.revoke(served.broker, models=tuple(bytes([i]) * 64 for i in range(3)))


def test_the_list_of_names_with_floors_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners_module, "MAX_NAMES", 1)
    with refused("provision-limit"):
        served.owner.revoke(served.broker, name="another", epoch=2)


def test_a_revocation_ends_the_older_epoch_that_was_served_beside_the_newer(served: Served) -> None:
    """Provisioning the newer epoch has raised the floor already; only the revocation ends what runs."""
    data, manifest = linear(served.owner, epoch=2)
    newer = served.owner.seal(served.rig.host, served.folder, data, manifest=manifest)
    served.owner.provision(served.broker, newer, epoch=2)
    client = served.rig.client()
    client.infer(served.digest, x=X)
    assert served.owner.revoke(served.broker, name="another", epoch=9) == []
    client.close()
    served.rig.client().infer(served.digest, x=X)
    assert served.owner.revoke(served.broker, name="tiny", epoch=2) == [served.digest]
    fresh = served.rig.client()
    with refused("model-unknown"):
        fresh.infer(served.digest, x=X)
    fresh.infer(newer, x=X)
