"""The serving broker against enclaves on the wire: whose quotes are real, and who check what they are sent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attestation.broker.admin import set_policy
from attestation.broker.audit import Entry, EventKind, verify_log
from attestation.broker.call import ReleaseRefusedError, Surroundings, opener
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.events import Event, EventName
from attestation.broker.home import Home
from attestation.broker.keystore import BrokerKeys
from attestation.broker.ledger import Ledger
from attestation.broker.link import Backoff, Link
from attestation.broker.policy import lineage_of
from attestation.broker.quarantine import LAST_SECONDS, Quarantine
from attestation.broker.revoking import revoke
from attestation.broker.running import make_service
from attestation.broker.service import Service
from attestation.broker.visit import FIRST_RETRY, LAST_RETRY, Retries, Visit
from attestation.client.call import Timeouts
from attestation.client.errors import ClientError
from attestation.client.refusals import RemoteError
from attestation.collateral import FixedSource
from attestation.findings import AppraisalError
from attestation.policy import Policy, load_policy
from attestation.sim.platform import SimulatedPlatform
from attestation.types import Right
from attestation.wire.messages import Body, decode_body, encode_body
from enclave.errors import EnclaveCode, EnclaveError
from manifests.errors import StrongroomError
from tests.broker.fake_enclave import MRENCLAVE, FakeEnclave
from tests.broker.support import OWNER, PASSPHRASE, data_key, delegation, model_row, new_home, record, session, sql

QUICK = Timeouts(connect=2, handshake=5, request=5)
START = int(time.time())
WAIT = 20.0


class Deployment:
    """A broker's home with models, a platform, an enclave, and whatever the broker said."""

    def __init__(self, folder: Path, platform: SimulatedPlatform) -> None:
        self.folder = folder
        self.platform = platform
        self.home: Home
        self.keys: BrokerKeys
        self.home, self.keys = new_home(folder / "home")
        self.enclave = FakeEnclave(folder / "e.sock", platform)
        self.events: list[Event] = []
        self.models: dict[str, bytes] = {}
        self.collateral = platform.collateral(START)
        self.set_policy()

    def policy(self, *, measurement: bytes = MRENCLAVE, **release: Any) -> Policy:
        return load_policy(
            {
                "version": 1,
                "evidence": {
                    "tcb_status": ["UpToDate"],
                    "simulation": True,
                    "simulated_root": self.platform.root_fingerprint.hex(),
                },
                "sgx": {"mrenclave": [measurement.hex()]},
                "release": {"models": ["*"], "lease": 1000, "heartbeat_seconds": 1, **release},
            }
        )

    def set_policy(self, **changes: Any) -> None:
        with self.ledger() as ledger:
            set_policy(ledger, self.policy(**changes), START)

    def ledger(self) -> Ledger:
        """Open the ledger as another process would."""
        return Ledger.open(self.home, self.keys)

    def hold(self, *names: str, **terms: Any) -> None:
        """Have the broker hold models; each name's key is `data_key(name)`."""
        document = delegation(self.keys, **terms)
        with self.ledger() as ledger:
            for name in names:
                row = model_row(
                    self.keys, name, lineage=lineage_of(self.keys.signer.public), key=data_key(name), document=document
                )
                self.models[name] = row.digest
                record(ledger, row)

    def service(self, ledger: Ledger) -> Service:
        return Service(ledger, [self.enclave.address], self.opener(), self.events.append)

    def opener(self) -> Any:
        return opener(FixedSource(self.collateral), "default", QUICK)

    def once(self) -> None:
        with self.ledger() as ledger:
            self.service(ledger).once()

    @contextlib.contextmanager
    def serving(self) -> Iterator[Service]:
        """Serve for the body, which must not outlive the service's health."""
        errors: list[BaseException] = []
        with self.ledger() as ledger:
            service = self.service(ledger)

            def serve() -> None:
                try:
                    service.serve()
                except StrongroomError as error:
                    errors.append(error)

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield service
            finally:
                service.stop()
                thread.join(10)
            assert not thread.is_alive()
        if errors:
            raise errors[0]

    def said(self, name: EventName) -> list[Event]:
        return [event for event in self.events if event.name is name]

    def entries(self, kind: EventKind) -> list[Entry]:
        with self.ledger() as ledger:
            rows = list(verify_log(ledger.audit_rows(), self.keys.signer.public, expected=[ledger.head.digest]))
        return [entry for entry in rows if entry.kind is kind]


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform(b"\x05" * 32, START - 1000)


@pytest.fixture
def made(tmp_path: Path, platform: SimulatedPlatform) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path, platform)
    yield deployment
    deployment.enclave.close()


# ------------------------------------------------------------------------------------------------ provisioning


def test_an_enclave_that_meets_the_policy_gets_every_key(made: Deployment) -> None:
    made.hold("one", "two")
    made.once()
    assert made.enclave.keys == {digest: data_key(name) for name, digest in made.models.items()}
    assert made.enclave.operations == ["provision", "provision", "challenge", "heartbeat"]
    assert [event.details["model"] for event in made.said(EventName.RELEASED)] == ["one", "two"]


def test_the_audit_row_is_durable_before_the_key_arrives(made: Deployment) -> None:
    made.hold("one")
    heads: list[bytes] = []

    def look(_grant: object) -> None:
        with made.ledger() as ledger:
            heads.append(ledger.head.digest)

    made.enclave.before_loading = look
    made.once()
    assert [grant.audit_head for grant in made.enclave.grants] == heads
    assert [entry.head for entry in made.entries(EventKind.RELEASE)] == heads


def test_newest_epochs_go_first(made: Deployment) -> None:
    with made.ledger() as ledger:
        for epoch in (1, 3, 2):
            record(ledger, model_row(made.keys, f"m{epoch}", epoch=epoch, lineage=lineage_of(made.keys.signer.public)))
    made.once()
    assert [grant.epoch for grant in made.enclave.grants] == [3, 2, 1]


def test_an_enclave_goes_on_with_a_superseded_model_and_a_new_session_does_not_fail_for_it(made: Deployment) -> None:
    made.hold("one")
    made.once()
    newer = model_row(made.keys, "one", epoch=2, lineage=lineage_of(made.keys.signer.public))
    with made.ledger() as ledger:
        record(ledger, newer)
    made.events.clear()
    made.once()
    assert set(made.enclave.leases()) == {made.models["one"], newer.digest}
    assert [event.details["codes"] for event in made.said(EventName.REFUSED)] == [["epoch-superseded"]]
    assert made.said(EventName.RENEWED)[0].details["leases"] == 2


def test_every_line_of_a_simulated_platform_says_so(made: Deployment) -> None:
    made.hold("one")
    made.once()
    assert len(made.events) == 3
    for event in made.events:
        assert event.details["platform"] == "SIMULATED"
        assert "platform=SIMULATED" in event.to_text()


def test_a_key_is_sent_from_the_one_buffer_that_is_overwritten(made: Deployment, tmp_path: Path) -> None:
    made.hold("one")
    row = made.models["one"]
    sent: list[Any] = []

    class Channel:
        def request(self, header: Any) -> Body:
            sent.append((header["dek"], bytes(header["dek"])))
            return decode_body(encode_body({"model": row, "lease": 1, "boot_id": attested.evidence.boot_id}))

    attested = session(policy=1)
    with made.ledger() as ledger:
        Visit(ledger, Channel(), attested, made.events.append, lambda: START).provision()
    ((buffer, content),) = sent
    assert content == data_key("one")
    assert buffer == bytearray(32)


def test_no_line_of_the_log_holds_a_key(made: Deployment) -> None:
    made.hold("one", "two")
    made.once()
    lines = [event.to_text() + json.dumps(event.to_dict()) for event in made.events]
    for name in made.models:
        assert data_key(name).hex() not in "".join(lines)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"measurement": b"\x08" * 32}, "sgx-mrenclave"),
        ({"tcb_status": "OutOfDate"}, "tcb-status"),
        ({"debug": True}, "sgx-debug"),
    ],
    ids=["another measurement", "an old platform", "a debug enclave"],
)
def test_an_enclave_that_the_policy_refuses_gets_nothing(made: Deployment, change: dict[str, Any], code: str) -> None:
    made.hold("one", "two")
    made.enclave.measurement = change.pop("measurement", MRENCLAVE)
    if change:
        from dataclasses import replace

        made.enclave.platform = SimulatedPlatform(b"\x05" * 32, START - 1000, replace(made.platform.state, **change))
        made.collateral = made.enclave.platform.collateral(START)
    with pytest.raises(AppraisalError) as error:
        made.once()
    assert code in [finding.code for finding in error.value.failed]
    assert error.value.exit_code == 10
    assert (made.enclave.operations, made.enclave.keys) == ([], {})
    (entry,) = made.entries(EventKind.REFUSAL)
    assert [code] == [item[0] for item in entry.event["unmet"]]
    assert sorted(entry.event["models"]) == sorted(made.models.values())
    assert made.entries(EventKind.RELEASE) == []


def test_evidence_that_does_not_verify_is_refused_and_recorded(made: Deployment) -> None:
    made.hold("one")
    made.enclave.quoted = lambda quote: quote[:200] + bytes([quote[200] ^ 1]) + quote[201:]
    with pytest.raises(StrongroomError) as error:
        made.once()
    assert error.value.code == "quote-signature"
    (entry,) = made.entries(EventKind.REFUSAL)
    assert entry.event["unmet"][0][0] == "quote-signature"
    assert made.enclave.keys == {}


def test_stale_collateral_is_refused(made: Deployment) -> None:
    made.hold("one")
    made.collateral = made.platform.collateral(START - 10**8)
    with pytest.raises(StrongroomError) as error:
        made.once()
    assert error.value.exit_code == 10
    assert made.enclave.keys == {}
    assert len(made.entries(EventKind.REFUSAL)) == 1


def test_a_model_outside_the_policy_is_refused_by_name_and_the_rest_is_released(made: Deployment) -> None:
    made.hold("one", "two")
    made.set_policy(models=["two"])
    with pytest.raises(ReleaseRefusedError) as error:
        made.once()
    assert error.value.code is BrokerCode.RELEASE_REFUSED
    assert error.value.to_dict()["unmet"][0]["code"] == BrokerCode.MODEL_NOT_IN_POLICY
    assert error.value.remedy == BrokerCode.MODEL_NOT_IN_POLICY.remedy
    assert made.said(EventName.REFUSED)[-1].details["next"] == error.value.remedy
    assert set(made.enclave.keys) == {made.models["two"]}


def test_an_enclave_that_cannot_take_a_model_holds_no_lease_of_it(made: Deployment) -> None:
    made.hold("one", "two")

    def missing(grant: Any) -> None:
        if grant.name == "one":
            raise EnclaveError(EnclaveCode.MODEL_UNKNOWN, "the host has no such file")

    made.enclave.before_loading = missing
    with pytest.raises(RemoteError):
        made.once()
    assert "infer --list" in made.said(EventName.FAILED)[0].details["next"]
    (entry,) = made.entries(EventKind.FAILURE)
    assert entry.event["model"] == made.models["one"]
    assert entry.event["code"] == EnclaveCode.MODEL_UNKNOWN
    with made.ledger() as ledger:
        assert ledger.look(lambda state: state.holders(made.models["one"])) == 0
        assert ledger.look(lambda state: state.holders(made.models["two"])) == 1


def test_without_a_policy_the_broker_says_so(tmp_path: Path, made: Deployment) -> None:
    made.home, made.keys = new_home(tmp_path / "empty")
    with pytest.raises(BrokerError) as error:
        made.once()
    assert error.value.code is BrokerCode.POLICY_MISSING
    assert made.enclave.sessions == 0


STRANGE: dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]] = {
    "another process took the key": lambda op, answer: (
        {**answer, "boot_id": bytes(16)} if op == "provision" else answer
    ),
    "another model was taken": lambda op, answer: {**answer, "model": bytes(64)} if op == "provision" else answer,
    "fields are missing": lambda op, answer: {} if op == "provision" else answer,
    "the challenge comes from another process": lambda op, answer: (
        {**answer, "boot_id": bytes(16)} if op == "challenge" else answer
    ),
    "the nonce is short": lambda op, answer: {**answer, "nonce": b""} if op == "challenge" else answer,
    "a model is no digest": lambda op, answer: {**answer, "models": [b"x"]} if op == "challenge" else answer,
    "a model is named twice": lambda op, answer: (
        {**answer, "models": answer["models"] * 2} if op == "challenge" else answer
    ),
    "the models are out of order": lambda op, answer: (
        {**answer, "models": [b"\xff" * 64, *answer["models"]]} if op == "challenge" else answer
    ),
    "the models are no list": lambda op, answer: {**answer, "models": 7} if op == "challenge" else answer,
    "the heartbeat is answered oddly": lambda op, answer: {"thanks": 1} if op == "heartbeat" else answer,
}


@pytest.mark.parametrize("misbehave", STRANGE.values(), ids=STRANGE.keys())
def test_answers_that_make_no_sense_end_the_session(
    made: Deployment, misbehave: Callable[[str, dict[str, Any]], dict[str, Any]]
) -> None:
    made.hold("one")
    made.enclave.misbehave = misbehave
    with pytest.raises(BrokerError) as error:
        made.once()
    assert error.value.code is BrokerCode.ENCLAVE_UNEXPECTED
    made.ledger().close()  # and the database is what its log says


def test_an_unreachable_host_is_an_error_that_scripts_can_use(made: Deployment) -> None:
    made.hold("one")
    made.enclave.close()
    with pytest.raises(ClientError) as error:
        made.once()
    assert error.value.exit_code == 40
    assert [event.name for event in made.events] == [EventName.UNREACHABLE]


# ------------------------------------------------------------------------------------------------ serving


def test_leases_are_renewed_as_long_as_the_broker_serves(made: Deployment) -> None:
    made.hold("one")
    digest = made.models["one"]
    with made.serving():
        until(lambda: made.enclave.leases().get(digest) == 1000, "the first lease")
        made.enclave.owners.by_digest(digest).lease.spend()
        until(lambda: made.enclave.leases()[digest] == 1000, "the renewed lease")
        until(lambda: len(made.said(EventName.RENEWED)) >= 2, "the second heartbeat")
    assert len(made.entries(EventKind.RENEWAL)) >= 2
    assert made.said(EventName.STOPPED)


def test_a_revocation_beside_the_running_broker_reaches_the_enclave(made: Deployment) -> None:
    made.hold("one", "two")
    with made.serving():
        until(lambda: len(made.enclave.leases()) == 2, "both models")
        with made.ledger() as other:
            revoke(other, OWNER.public, "one", epoch=2, digests=[], now=START)
        until(lambda: set(made.enclave.leases()) == {made.models["two"]}, "the end of the revoked model")
        until(lambda: made.said(EventName.REVOKED), "the message")
    assert made.enclave.operations.count("revoke") == 1
    assert made.enclave.operations.count("provision") == 2


def test_a_revocation_that_lands_during_a_heartbeat_is_told_at_the_next(
    made: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the question what is revoked, before the renewal: the renewal is refused, and the enclave still told."""
    made.hold("one", "two")
    with made.ledger() as other:
        tell = Visit._tell_revocations
        struck: list[bool] = []

        def strike(visit: Visit, *arguments: Any) -> bool:
            told = tell(visit, *arguments)
            if not struck:
                struck.append(True)
                for name in ("one", "two"):
                    revoke(other, OWNER.public, name, epoch=0, digests=[made.models[name]], now=START)
            return told

        monkeypatch.setattr(Visit, "_tell_revocations", strike)
        with made.serving():
            until(lambda: bool(struck) and not made.enclave.leases(), "the end of the revoked models")
    assert made.enclave.operations.count("revoke") >= 1


def test_a_revocation_by_digest_reaches_the_enclave(made: Deployment) -> None:
    made.hold("one")
    with made.serving():
        until(made.enclave.leases, "the model")
        with made.ledger() as other:
            revoke(other, OWNER.public, "one", epoch=0, digests=[made.models["one"]], now=START)
        until(lambda: not made.enclave.leases(), "the end of the revoked model")


def test_a_revocation_that_enclaves_may_not_be_told_ends_their_leases(made: Deployment) -> None:
    made.hold("one", rights=(Right.HEARTBEAT, Right.PROVISION))
    with made.serving():
        until(made.enclave.leases, "the model")
        with made.ledger() as other:
            revoke(other, OWNER.public, "one", epoch=2, digests=[], now=START)
        until(lambda: made.enclave.leases() == {made.models["one"]: 0}, "the end of the lease")
    assert "revoke" not in made.enclave.operations


def test_a_revocation_made_while_nobody_served_is_told_at_the_next_visit(made: Deployment) -> None:
    made.hold("one", "two")
    made.once()
    with made.ledger() as other:
        revoke(other, OWNER.public, "one", epoch=2, digests=[], now=START)
    with pytest.raises(ReleaseRefusedError):
        made.once()
    assert set(made.enclave.leases()) == {made.models["two"]}


def test_a_broker_without_the_right_to_heartbeats_sends_none(made: Deployment) -> None:
    made.hold("one", rights=(Right.PROVISION,))
    made.once()
    assert made.enclave.operations == ["provision", "challenge"]


def test_a_broken_connection_is_opened_anew_and_counted(made: Deployment) -> None:
    made.hold("one")
    with made.serving():
        until(made.enclave.leases, "the model")
        made.enclave.hang_up()
        until(lambda: len(made.enclave.grants) + len(made.said(EventName.RELEASED)) >= 3, "the second release")
    with made.ledger() as ledger:
        (row,) = ledger.look(lambda state: state.enclaves())
    assert (row.sessions, row.provisions) == (2, 2)


def test_an_enclave_that_restarted_is_provisioned_anew_when_its_place_is_free(made: Deployment) -> None:
    made.hold("one")
    made.set_policy(max_enclaves=2)
    with made.serving():
        until(made.enclave.leases, "the model")
        made.enclave.restart()
        made.enclave.hang_up()
        until(made.enclave.leases, "the model in the new process")
    with made.ledger() as ledger:
        assert [row.provisions for row in ledger.look(lambda state: state.enclaves())] == [1, 1]


def test_an_enclave_in_which_a_run_is_stuck_gives_its_places_back_and_the_model_is_kept_back(made: Deployment) -> None:
    """Each stuck process would else keep a place for ever, and the model that did it would end the next one, too."""
    made.hold("giant", "other")
    made.set_policy(max_enclaves=1)
    with made.serving():
        until(lambda: len(made.enclave.leases()) == 2, "the models")
        made.enclave.condemned.condemn(OWNER.public, made.models["giant"])
        made.enclave.hang_up()
        until(lambda: made.said(EventName.STUCK), "the word that a run is stuck")
        ended = made.enclave.boot_id
        made.enclave.restart()
        made.enclave.hang_up()
        until(made.enclave.leases, "a model in the new process")
        assert set(made.enclave.leases()) == {made.models["other"]}
    (said,) = made.said(EventName.STUCK)
    assert (said.details["model"], said.details["leases"], said.details["seconds"]) == ("giant", 1, 300)
    with made.ledger() as ledger:
        assert {lease.requests for lease in ledger.look(lambda state: state.leases_of(ended))} == {0}


def test_an_ending_enclave_is_asked_once_by_a_session_and_gets_no_second_key(made: Deployment) -> None:
    made.hold("one", "two")
    made.once()
    made.enclave.condemned.condemn(OWNER.public, made.models["two"])
    made.enclave.operations.clear()
    with made.serving():
        until(lambda: made.said(EventName.STUCK), "the word that a run is stuck")
        time.sleep(1.5)  # a heartbeat's time
    assert made.enclave.operations == ["provision", "challenge"]


def test_a_model_is_kept_back_twice_as_long_each_time() -> None:
    now = [0.0]
    quarantine = Quarantine(lambda: now[0])
    assert not quarantine.holds(b"m")
    assert [quarantine.add(b"m") for _ in range(9)][:3] == [300.0, 600.0, 1200.0]
    assert quarantine.add(b"m") == LAST_SECONDS
    assert not quarantine.holds(b"other")
    now[0] = LAST_SECONDS - 1
    assert quarantine.holds(b"m")
    now[0] = LAST_SECONDS
    assert not quarantine.holds(b"m")


@pytest.mark.parametrize("ending", [7, [b"short"], [b"\x02" * 64, b"\x01" * 64]], ids=["a number", "short", "unsorted"])
def test_an_ending_that_makes_no_sense_ends_the_session(made: Deployment, ending: Any) -> None:
    made.hold("one")
    made.enclave.misbehave = lambda name, value: {**value, "ending": ending} if name == "challenge" else value
    with pytest.raises(BrokerError) as error:
        made.once()
    assert error.value.code is BrokerCode.ENCLAVE_UNEXPECTED


def test_each_process_of_a_deployment_is_served_by_a_route_of_its_own(made: Deployment, tmp_path: Path) -> None:
    asked: list[str] = []
    with made.ledger() as ledger:
        service = make_service(ledger, [made.enclave.address], tmp_path, "gpu", made.events.append, processes=2)
        for link in service._links:
            asked.append(link.address)
    assert asked == [f"{made.enclave.address}#gpu.1", f"{made.enclave.address}#gpu.2"]


def test_a_model_that_is_added_meanwhile_is_released_too(made: Deployment) -> None:
    made.hold("one")
    with made.serving():
        until(made.enclave.leases, "the first model")
        made.hold("two")
        until(lambda: made.models["two"] in made.enclave.leases(), "the added model")
    assert made.enclave.sessions == 1


def test_a_new_policy_is_applied_to_enclaves_that_run(made: Deployment) -> None:
    made.hold("one")
    with made.serving():
        until(made.enclave.leases, "the model")
        made.set_policy(measurement=b"\x09" * 32)
        until(lambda: made.said(EventName.REFUSED), "the refusal under the new policy")
    assert [event.details["reason"] for event in made.said(EventName.RECONNECTING)] == ["the policy has changed"]
    assert "sgx-mrenclave" in made.said(EventName.REFUSED)[0].details["codes"]


@pytest.mark.parametrize("serve", [False, True], ids=["once", "serving"])
def test_a_policy_that_changes_between_two_keys_appraises_the_enclave_anew(made: Deployment, serve: bool) -> None:
    """Evidence that the older policy accepted releases nothing under the newer one."""
    made.hold("one", "two")

    def narrow(grant: Any) -> None:
        made.enclave.before_loading = lambda _grant: None
        made.set_policy(measurement=b"\x09" * 32)

    made.enclave.before_loading = narrow
    if serve:
        with made.serving():
            until(lambda: made.said(EventName.REFUSED), "the refusal under the new policy")
    else:
        with pytest.raises(AppraisalError):
            made.once()
    assert set(made.enclave.keys) == {made.models["one"]}
    assert [event.details["reason"] for event in made.said(EventName.RECONNECTING)] == ["the policy has changed"]
    assert "sgx-mrenclave" in made.said(EventName.REFUSED)[0].details["codes"]


def test_a_host_that_is_away_is_mentioned_once_and_served_when_it_comes(made: Deployment) -> None:
    made.hold("one")
    made.enclave.close()
    with made.serving():
        until(lambda: made.said(EventName.UNREACHABLE), "the message")
        time.sleep(0.4)
        assert len(made.said(EventName.UNREACHABLE)) == 1
        made.enclave.listen()
        until(made.enclave.leases, "the model")


def test_a_database_that_is_changed_under_a_running_broker_ends_it(made: Deployment) -> None:
    made.hold("one")
    with pytest.raises(BrokerError) as error, made.serving() as service:
        until(made.enclave.leases, "the model")
        sql(made.home, 'DELETE FROM audit WHERE "index" > 1')
        until(service._stop.is_set, "the end of the service")
    assert error.value.code is BrokerCode.STORE_ROLLED_BACK


def test_an_event_that_no_row_holds_leaves_the_other_hosts_served(made: Deployment) -> None:
    made.hold("one")
    real = made.opener()

    def opener_of_both(address: str, *rest: Any) -> Any:
        if address == "unix:/hostile":
            with made.ledger() as other:
                record(other, kind=EventKind.REFUSAL, found="x" * 10**5)
        return real(address, *rest)

    with made.ledger() as ledger:
        addresses = ["unix:/hostile", made.enclave.address]
        service = Service(ledger, addresses, opener_of_both, made.events.append)
        thread = threading.Thread(target=service.serve)
        thread.start()
        until(made.enclave.leases, "the model")
        until(lambda: made.said(EventName.REFUSED), "the trouble with the other host")
        assert not service._stop.is_set()
        service.stop()
        thread.join(10)
    assert made.said(EventName.REFUSED)[0].details["code"] == BrokerCode.AUDIT_TOO_LARGE


def test_a_defect_ends_the_broker_rather_than_leave_a_host_unserved(made: Deployment) -> None:
    made.hold("one")

    def defect(*_: object) -> Any:
        raise ZeroDivisionError

    with made.ledger() as ledger:
        service = Service(ledger, [made.enclave.address], defect, made.events.append)
        with pytest.raises(ZeroDivisionError):
            service.serve()


# ------------------------------------------------------------------------------------------------ time


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.mark.parametrize(
    ("later", "reason"), [(3600, "the evidence is an hour old"), (10**8, "the evidence has expired")]
)
def test_evidence_that_has_aged_is_asked_for_anew(made: Deployment, later: int, reason: str) -> None:
    made.hold("one")
    clock, stop = Clock(), threading.Event()
    with made.ledger() as ledger:
        around = Surroundings(ledger, made.opener(), made.events.append, stop, lambda _error: stop.set(), clock)
        link = Link(made.enclave.address, around)
        thread = threading.Thread(target=link.run)
        thread.start()
        until(made.enclave.leases, "the model")
        clock.now += later
        link.wake()
        until(lambda: made.said(EventName.RECONNECTING), "the new session")
        stop.set()
        link.wake()
        thread.join(10)
    assert made.said(EventName.RECONNECTING)[0].details["reason"] == reason


def test_back_off_doubles_to_its_bound_and_starts_anew() -> None:
    backoff = Backoff(draw=lambda low, high: high)
    assert [backoff.next() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.next() == 0.5


def test_back_off_has_jitter() -> None:
    assert all(0.25 <= Backoff().next() <= 0.5 for _ in range(20))
    assert len({Backoff().next() for _ in range(20)}) > 1


def test_what_was_refused_is_tried_again_ever_more_rarely() -> None:
    clock = [0.0]
    retries = Retries(lambda: clock[0])
    waits = []
    for _ in range(12):
        retries.postpone(b"m")
        start = clock[0]
        while not retries.due(b"m"):
            clock[0] += FIRST_RETRY / 2
        waits.append(clock[0] - start)
    assert waits[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert waits[-1] == LAST_RETRY
    retries.postpone(b"m")
    retries.forgive()
    assert retries.due(b"m")


# ------------------------------------------------------------------------------------------------ the process


def test_the_command_serves_until_it_is_told_to_stop(made: Deployment) -> None:
    made.hold("one")
    folder = made.folder / "collateral"
    folder.mkdir()
    (folder / f"{made.platform.collateral_key}.json").write_text(made.collateral.to_json())
    command = [sys.executable, "-c", "import strongroom; strongroom.main()", "broker", "serve", "--json"]
    process = subprocess.Popen(
        [*command, "--home", made.home.folder, "--host", made.enclave.address, "--collateral", folder],
        env={**os.environ, "STRONGROOM_PASSPHRASE": PASSPHRASE.decode()},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until(made.enclave.leases, "the model")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert events[:3] == ["serving", "attested", "released"]
    assert events[-1] == "stopped"
