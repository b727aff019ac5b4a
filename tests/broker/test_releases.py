"""Releases: the row before the key, never more than the limits, and nothing secret in the database."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.broker.admin import forget_enclave, set_policy
from attestation.broker.audit import EventKind, verify_log
from attestation.broker.decide import OwnerClaim, Refusal, unmet
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.keystore import KeyContext
from attestation.broker.ledger import Ledger
from attestation.broker.policy import lineage_of
from attestation.broker.releases import Granted, _Attempt, refuse, release
from attestation.broker.renewals import Renewed, renew
from attestation.broker.revoking import revoke
from attestation.broker.terms import PolicyChangedError
from attestation.errors import FindingCode
from attestation.types import Grant, Heartbeat, PlatformClass, Revocation, Right, document_digest
from tests.broker.support import (
    NOW,
    OWNER,
    data_key,
    delegation,
    model_row,
    new_home,
    policy,
    record,
    session,
    sql,
    stocked,
)


def granted(result: Granted | Refusal) -> Granted:
    assert isinstance(result, Granted), result
    return result


def refused(result: Granted | Refusal) -> tuple[str, ...]:
    assert isinstance(result, Refusal), result
    return result.codes


def test_a_release_hands_out_the_key_with_a_grant_for_this_session(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    row = models["tumour"]
    with Ledger.open(home, keys) as ledger:
        result = granted(release(ledger, session(), row.digest, NOW))
        assert result.key == data_key("tumour")
        grant = Grant.open(result.grant, keys.signer.public)
        assert grant == Grant(
            owner=OWNER.public,
            delegation=document_digest(row.delegation),
            model=row.digest,
            name="tumour",
            epoch=1,
            handshake_hash=session().handshake_hash,
            serial=result.serial,
            lease=1000,
            platform=PlatformClass.SIMULATED,
            audit_head=ledger.head.digest,
            time=NOW,
        )


def test_the_audit_row_of_a_release_says_what_went_where(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    with Ledger.open(home, keys) as ledger:
        result = granted(release(ledger, session(), models["tumour"].digest, NOW))
        entry = list(verify_log(ledger.audit_rows(), keys.signer.public, expected=[ledger.head.digest]))[-1]
    assert entry.kind is EventKind.RELEASE
    assert entry.index == result.audit_index
    assert entry.event == {
        "boot_id": session().evidence.boot_id,
        "platform": "simulated",
        "measurement": b"\x11" * 32,
        "evidence": bytes(64),
        "handshake_hash": session().handshake_hash,
        "address": "unix:/host",
        "policy": 1,
        "model": models["tumour"].digest,
        "owner": OWNER.public,
        "name": "tumour",
        "epoch": 1,
        "serial": result.serial,
        "lease": 1000,
        "provisions": 1,
    }


def test_sessions_and_provisions_of_an_enclave_are_counted(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", "one", "two")
    with Ledger.open(home, keys) as ledger:
        for number in (1, 2, 3):
            for row in models.values():
                granted(release(ledger, session(number=number), row.digest, NOW))
        (enclave,) = ledger.look(lambda state: state.enclaves())
    assert (enclave.sessions, enclave.provisions) == (3, 6)


def test_a_second_release_in_one_session_is_refused(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    with Ledger.open(home, keys) as ledger:
        granted(release(ledger, session(), models["tumour"].digest, NOW))
        assert refused(release(ledger, session(), models["tumour"].digest, NOW)) == (BrokerCode.SESSION_USED,)


def test_a_refusal_is_a_row_and_hands_out_nothing(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    finding = unmet(FindingCode.DEBUG, "no debug", "debug")
    bad = session(accepted=False, failures=(finding,), platform=PlatformClass.HARDWARE)
    with Ledger.open(home, keys) as ledger:
        codes = refused(release(ledger, bad, models["tumour"].digest, NOW))
        entry = list(verify_log(ledger.audit_rows(), keys.signer.public))[-1]
        assert ledger.look(lambda state: state.enclaves()) == []
    assert codes == ("sgx-debug", BrokerCode.PLATFORM_MIXED)
    assert entry.kind is EventKind.REFUSAL
    assert entry.event["unmet"] == [
        ["sgx-debug", "no debug", "debug"],
        ["platform-mixed", "simulated", "hardware"],
    ]


def test_a_session_that_gets_nothing_is_refused_in_one_row(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", "one", "two", models=["two"])
    digests = [row.digest for row in models.values()]
    with Ledger.open(home, keys) as ledger:
        before = ledger.head.count
        refusal = refuse(ledger, session(platform=PlatformClass.HARDWARE), digests, NOW)
        assert refusal.codes == (BrokerCode.PLATFORM_MIXED, BrokerCode.MODEL_NOT_IN_POLICY)
        assert ledger.head.count == before + 1
        with pytest.raises(BrokerError, match="release-refused"):
            refuse(ledger, session(), digests, NOW)


def test_a_refusal_of_very_many_models_names_what_fits_and_counts_the_rest(tmp_path: Path) -> None:
    names = [f"model {number:03} {'n' * 100}" for number in range(300)]
    home, keys, models = stocked(tmp_path / "home", *names, models=["only this"])
    finding = unmet(FindingCode.DEBUG, "no debug", "\u00e9" * 300)
    with Ledger.open(home, keys) as ledger:
        bad = session(accepted=False, failures=(finding,))
        refusal = refuse(ledger, bad, [row.digest for row in models.values()], NOW)
        entry = list(verify_log(ledger.audit_rows(), keys.signer.public))[-1]
    assert len(refusal.unmet) == 301
    assert entry.event["unmet"][0][0] == "sgx-debug"
    assert 50 < len(entry.event["unmet"]) < 301
    assert entry.event["unmet_left_out"] == 301 - len(entry.event["unmet"])
    assert (len(entry.event["models"]), entry.event["models_left_out"]) == (64, 236)


def test_without_a_policy_nothing_is_released(tmp_path: Path) -> None:
    home, keys = new_home(tmp_path / "home")
    row = model_row(keys)
    with Ledger.open(home, keys) as ledger:
        record(ledger, row)
        with pytest.raises(BrokerError) as error:
            release(ledger, session(), row.digest, NOW)
    assert error.value.code is BrokerCode.POLICY_MISSING


def test_a_model_that_is_not_held_is_a_clear_error(tmp_path: Path) -> None:
    home, keys, _ = stocked(tmp_path / "home")
    with Ledger.open(home, keys) as ledger, pytest.raises(BrokerError) as error:
        release(ledger, session(), bytes(64), NOW)
    assert error.value.code is BrokerCode.MODEL_UNKNOWN


def test_a_key_wrapped_for_another_place_is_not_released_nor_recorded_as_released(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", "one", "two")
    one, two = models["one"], models["two"]
    with Ledger.open(home, keys) as ledger:
        # even a broker that seals the wrong row itself cannot release it
        record(ledger, replace(one, wrapped=two.wrapped))
        head = ledger.head
        with pytest.raises(BrokerError) as error:
            release(ledger, session(), one.digest, NOW)
        assert ledger.head == head
    assert error.value.code is BrokerCode.KEY_UNWRAP_FAILED


def test_a_key_of_another_policy_lineage_is_not_released(tmp_path: Path) -> None:
    home, keys, _ = stocked(tmp_path / "home")
    foreign = model_row(keys, "foreign", lineage=lineage_of(keys.signer.public, "another tenant"))
    with Ledger.open(home, keys) as ledger:
        record(ledger, foreign)
        with pytest.raises(BrokerError, match="key-unwrap-failed"):
            release(ledger, session(), foreign.digest, NOW)


def test_a_rolled_back_broker_is_told_by_the_enclave(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    ahead = session(owners=(OwnerClaim(OWNER.public, 2),))
    with Ledger.open(home, keys) as ledger:
        assert refused(release(ledger, ahead, models["tumour"].digest, NOW)) == (BrokerCode.EPOCH_BEHIND_ENCLAVE,)


# ------------------------------------------------------------------------------------------------ renewals


def renewed(home: Any, keys: Any, models: list[bytes], **changes: Any) -> tuple[Heartbeat, Renewed]:
    with Ledger.open(home, keys) as ledger:
        result = renew(ledger, session(**changes), models, b"n" * 32, NOW + 30)
        return Heartbeat.open(result.document, keys.signer.public), result


def test_a_heartbeat_answers_the_nonce_and_renews_the_leases(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", "one", "two")
    digests = sorted(row.digest for row in models.values())
    with Ledger.open(home, keys) as ledger:
        for digest in digests:
            granted(release(ledger, session(), digest, NOW))
    beat, result = renewed(home, keys, digests)
    assert result.refused == ()
    assert beat == Heartbeat(
        owner=OWNER.public,
        delegation=document_digest(models["one"].delegation),
        nonce=b"n" * 32,
        boot_id=session().evidence.boot_id,
        time=NOW + 30,
        epoch=1,
        leases=tuple((digest, 1000) for digest in digests),
    )


def test_a_revoked_model_gets_a_lease_of_nothing(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    digest = models["tumour"].digest
    with Ledger.open(home, keys) as ledger:
        granted(release(ledger, session(), digest, NOW))
        revoke(ledger, OWNER.public, "tumour", epoch=2, digests=[], now=NOW)
    beat, result = renewed(home, keys, [digest])
    assert beat.leases == ((digest, 0),)
    assert beat.epoch == 2
    assert result.refused[0][1].codes == (BrokerCode.EPOCH_REVOKED,)
    with Ledger.open(home, keys) as ledger:
        assert ledger.look(lambda state: state.holders(digest)) == 0
        assert refused(release(ledger, session(number=2), digest, NOW)) == (BrokerCode.EPOCH_REVOKED,)


def test_a_lease_that_was_never_granted_is_not_renewed(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    beat, result = renewed(home, keys, [models["tumour"].digest])
    assert beat.leases == ((models["tumour"].digest, 0),)
    assert result.refused[0][1].codes == (BrokerCode.LEASE_UNKNOWN,)


def test_a_heartbeat_is_bounded_and_of_one_owner(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    other = model_row(keys, "other", document=delegation(keys, rights=(Right.PROVISION,)))
    with Ledger.open(home, keys) as ledger:
        record(ledger, other)
        twice = [models["tumour"].digest] * 2
        for digests in ([], [bytes(64)] * 49, twice, [models["tumour"].digest, other.digest]):
            with pytest.raises(ValueError, match="heartbeat"):
                renew(ledger, session(), digests, bytes(32), NOW)


def test_the_largest_heartbeat_fits_an_enclaves_claims(tmp_path: Path) -> None:
    names = [f"model {number:03}" for number in range(48)]
    home, keys, models = stocked(tmp_path / "home", *names, lease=1 << 62)
    digests = [row.digest for row in models.values()]
    with Ledger.open(home, keys) as ledger:
        for digest in digests:
            granted(release(ledger, session(), digest, NOW))
        assert len(renew(ledger, session(), digests, bytes(32), 1 << 62).document) <= 4096


# ------------------------------------------------------------------------------------------------ limits


def test_concurrent_releases_never_exceed_the_limit(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", max_enclaves=3)
    digest = models["tumour"].digest
    results: list[Granted | Refusal] = []
    with Ledger.open(home, keys) as first, Ledger.open(home, keys) as second:
        barrier = threading.Barrier(16)

        def attempt(number: int) -> None:
            barrier.wait()
            results.append(release((first, second)[number % 2], session(boot=number + 1), digest, NOW))

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(isinstance(result, Granted) for result in results) == 3
    assert {code for result in results if isinstance(result, Refusal) for code in result.codes} == {
        BrokerCode.ENCLAVES_EXHAUSTED
    }
    with Ledger.open(home, keys) as ledger:
        assert ledger.look(lambda state: state.holders(digest)) == 3


def test_a_silent_enclave_keeps_its_place_until_it_is_forgotten(tmp_path: Path) -> None:
    """Its lease is a count of requests and does not run out with time."""
    home, keys, models = stocked(tmp_path / "home", max_enclaves=1, heartbeat_seconds=10)
    digest = models["tumour"].digest
    with Ledger.open(home, keys) as ledger:
        granted(release(ledger, session(boot=1), digest, NOW))
        assert refused(release(ledger, session(boot=2), digest, NOW + 10**5)) == (BrokerCode.ENCLAVES_EXHAUSTED,)
        row, leases = forget_enclave(ledger, session(boot=1).evidence.boot_id.hex(), NOW + 10**5)
        assert (row.boot_id, leases) == (session(boot=1).evidence.boot_id, 1)
        granted(release(ledger, session(boot=2), digest, NOW + 10**5))
        late = renew(ledger, session(boot=1), [digest], bytes(32), NOW + 10**5)
    assert late.leases == ((digest, 0),)


def test_forgetting_an_enclave_that_is_not_known_is_refused(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    with Ledger.open(home, keys) as ledger:
        granted(release(ledger, session(), models["tumour"].digest, NOW))
        for boot_id in ("", "00", "ff" * 16, "no digits at all"):
            with pytest.raises(BrokerError) as error:
                forget_enclave(ledger, boot_id, NOW)
            assert error.value.code is BrokerCode.ENCLAVE_UNKNOWN


def test_a_narrower_policy_holds_from_the_next_decision(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    digest = models["tumour"].digest
    with Ledger.open(home, keys) as running, Ledger.open(home, keys) as other:
        granted(release(running, session(), digest, NOW))
        set_policy(other, policy(models=["another"]), NOW)
        assert refused(release(running, session(2, policy=2), digest, NOW)) == (BrokerCode.MODEL_NOT_IN_POLICY,)


def test_an_epoch_below_one_that_is_held_is_released_only_where_the_policy_says_so(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    old, lineage = models["tumour"], lineage_of(keys.signer.public)
    with Ledger.open(home, keys) as ledger:
        granted(release(ledger, session(), old.digest, NOW))
        record(ledger, new := model_row(keys, "tumour", epoch=2, lineage=lineage))
        assert refused(release(ledger, session(2), old.digest, NOW)) == (BrokerCode.EPOCH_SUPERSEDED,)
        granted(release(ledger, session(2), new.digest, NOW))
        # the enclave that runs it goes on, until it is revoked
        assert renew(ledger, session(), [old.digest], bytes(32), NOW).leases == ((old.digest, 1000),)
        set_policy(ledger, policy(older_epochs=1), NOW)
        granted(release(ledger, session(2, policy=2), old.digest, NOW))


def test_a_session_that_an_older_policy_appraised_gets_no_key_and_no_lease(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    digest = models["tumour"].digest
    with Ledger.open(home, keys) as ledger:
        granted(release(ledger, session(), digest, NOW))
        set_policy(ledger, policy(lease=5), NOW)
        assert refused(release(ledger, session(number=2), digest, NOW)) == (BrokerCode.POLICY_CHANGED,)
        head = ledger.head
        with pytest.raises(PolicyChangedError, match="policy-changed"):
            renew(ledger, session(), [digest], bytes(32), NOW)
        assert ledger.head == head
        assert granted(release(ledger, session(number=3, policy=2), digest, NOW)).lease == 5


# ------------------------------------------------------------------------------------------------ secrecy


def test_no_data_key_shows_in_the_database_or_in_a_representation(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", "one", "two")
    with Ledger.open(home, keys) as ledger:
        results = [granted(release(ledger, session(), row.digest, NOW)) for row in models.values()]
        shown = repr(results) + repr(ledger.keys) + repr(models)
    for name in models:
        key = data_key(name)
        assert key.hex() not in shown
        assert repr(key)[2:-1] not in shown
        for path in home.folder.iterdir():
            assert key not in path.read_bytes(), path.name
    assert all(result.grant.find(bytes(result.key)) == -1 for result in results)


def test_a_release_that_cannot_be_recorded_wipes_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, keys, models = stocked(tmp_path / "home")
    seen: list[bytearray] = []
    unwrap = type(keys.store).unwrap

    def spy(store: Any, wrapped: bytes, context: KeyContext) -> bytearray:
        seen.append(unwrap(store, wrapped, context))
        return seen[-1]

    monkeypatch.setattr(type(keys.store), "unwrap", spy)
    with Ledger.open(home, keys) as ledger:
        sql(home, "CREATE TRIGGER stop BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(BrokerError):
            release(ledger, session(), models["tumour"].digest, NOW)
    assert seen == [bytearray(32)]


def test_a_release_that_cannot_be_anchored_hands_out_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, keys, models = stocked(tmp_path / "home")
    attempts: list[Any] = []
    planned = _Attempt.plan

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    def spy(attempt: _Attempt, state: Any) -> Any:
        attempts.append(attempt)
        return planned(attempt, state)

    monkeypatch.setattr(_Attempt, "plan", spy)
    monkeypatch.setattr("attestation.broker.anchor._overwrite", full)
    with Ledger.open(home, keys) as ledger:
        with pytest.raises(BrokerError) as error:
            release(ledger, session(), models["tumour"].digest, NOW)
        rows = list(verify_log(ledger.audit_rows(), keys.signer.public))
    assert error.value.code is BrokerCode.ANCHOR_BEHIND
    assert attempts[0].key == bytes(32)
    assert rows[-1].kind is EventKind.RELEASE


# ------------------------------------------------------------------------------------------------ revocation


def test_a_revocation_is_a_signed_document(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    row = models["tumour"]
    with Ledger.open(home, keys) as ledger:
        made = revoke(ledger, OWNER.public, "tumour", epoch=0, digests=[row.digest], now=NOW)
    document = Revocation.open(made.document, keys.signer.public)
    assert document == Revocation(OWNER.public, document_digest(row.delegation), "tumour", 0, (row.digest,), NOW)


@pytest.mark.parametrize(
    ("name", "epoch", "digests", "code"),
    [
        ("lung", 2, [], BrokerCode.MODEL_UNKNOWN),
        ("tumour", 0, [b"\0" * 64], BrokerCode.MODEL_UNKNOWN),
        ("tumour", 0, [], BrokerCode.REVOCATION_VACUOUS),
    ],
    ids=["no model of that name", "no model of that digest", "nothing named"],
)
def test_a_revocation_of_nothing_is_refused(
    tmp_path: Path, name: str, epoch: int, digests: list[bytes], code: BrokerCode
) -> None:
    home, keys, _ = stocked(tmp_path / "home")
    with Ledger.open(home, keys) as ledger, pytest.raises(BrokerError) as error:
        revoke(ledger, OWNER.public, name, epoch=epoch, digests=digests, now=NOW)
    assert error.value.code is code


def test_a_digest_of_another_name_is_not_revoked_under_this_one(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home", "one", "two")
    with Ledger.open(home, keys) as ledger, pytest.raises(BrokerError, match="model-not-held"):
        revoke(ledger, OWNER.public, "one", epoch=0, digests=[models["two"].digest], now=NOW)


def test_revoking_the_same_again_is_refused(tmp_path: Path) -> None:
    home, keys, models = stocked(tmp_path / "home")
    digests = [models["tumour"].digest]
    with Ledger.open(home, keys) as ledger:
        revoke(ledger, OWNER.public, "tumour", epoch=3, digests=digests, now=NOW)
        for epoch in (0, 2, 3):
            with pytest.raises(BrokerError, match="revocation-vacuous"):
                revoke(ledger, OWNER.public, "tumour", epoch=epoch, digests=digests, now=NOW)
        revoke(ledger, OWNER.public, "tumour", epoch=4, digests=[], now=NOW)


def test_a_revocation_holds_even_where_no_enclave_may_be_told(tmp_path: Path) -> None:
    home, keys = new_home(tmp_path / "home")
    document = delegation(keys, rights=(Right.HEARTBEAT, Right.PROVISION))
    row = model_row(keys, lineage=lineage_of(keys.signer.public), document=document)
    with Ledger.open(home, keys) as ledger:
        set_policy(ledger, policy(), NOW)
        record(ledger, row)
        made = revoke(ledger, OWNER.public, "*", epoch=9, digests=[], now=NOW)
        assert made.delegation == document
        assert refused(release(ledger, session(), row.digest, NOW)) == (BrokerCode.EPOCH_REVOKED,)
