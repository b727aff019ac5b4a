"""Everything that a host can do to a session: each attack ends in a stable code, and nothing is released."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import pytest

from attestation.client import RemoteError, Timeouts
from attestation.findings import AppraisalError
from evaluation.demo.deployment import Deployment
from manifests.errors import StrongroomError
from tests.deployment.small import ROWS, WEIGHTS
from tests.testkit.attacks import (
    ANSWER,
    EVIDENCE,
    FIRST_REQUEST,
    FIRST_RESPONSE,
    HELLO,
    Delay,
    Drop,
    EndEarly,
    Flip,
    Lengthen,
    ManInTheMiddle,
    Reflect,
    Reorder,
    Repeat,
    ReplaySession,
    Splice,
    Truncate,
)
from tests.testkit.relay import Attack, HostileRelay

QUICK = Timeouts(connect=5, handshake=4, request=2)


def ask_twice(deployment: Deployment, attack: Attack) -> None:
    """Connect through the hostile host and make two requests; every answer that arrives must be right."""
    with HostileRelay(deployment.address, attack) as host, deployment.session(host.address, timeouts=QUICK) as session:
        for _ in range(2):
            np.testing.assert_array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS)


def reason(error: StrongroomError) -> str:
    """Return an error's code; of a refused appraisal the one finding, of a refusal by the enclave its own code."""
    if isinstance(error, AppraisalError):
        return f"{error.code}: {', '.join(str(finding.code) for finding in error.failed)}"
    if isinstance(error, RemoteError):
        return f"{error.code}: {error.remote_code}"
    return str(error.code)


def code_of(deployment: Deployment, attack: Attack) -> str:
    with pytest.raises(StrongroomError) as caught:
        ask_twice(deployment, attack)
    return reason(caught.value)


def lives_on(deployment: Deployment) -> None:
    ask_twice(deployment, Attack())


def test_an_honest_relay_changes_nothing(deployment: Deployment) -> None:
    attack = Attack()
    ask_twice(deployment, attack)
    assert len(attack.sent) >= 3
    assert not any(ROWS.tobytes() in item for item in attack.sent)
    assert not any((ROWS @ WEIGHTS).tobytes() in item for item in attack.received)


def test_a_delay_is_only_a_delay(deployment: Deployment) -> None:
    ask_twice(deployment, Delay(FIRST_RESPONSE, towards="client"))


ATTACKS: dict[str, tuple[Callable[[], Attack], str]] = {
    "drops the hello": (lambda: Drop(HELLO, towards="enclave"), "timed-out"),
    "drops the answer": (lambda: Drop(ANSWER, towards="client"), "handshake-failed"),
    "drops the evidence": (lambda: Drop(EVIDENCE, towards="client"), "timed-out"),
    "drops a request": (lambda: Drop(FIRST_REQUEST, towards="enclave"), "timed-out"),
    "drops a response": (lambda: Drop(FIRST_RESPONSE, towards="client"), "timed-out"),
    "repeats the hello": (lambda: Repeat(HELLO, towards="enclave"), "session-truncated"),
    "repeats the answer": (lambda: Repeat(ANSWER, towards="client"), "record-refused"),
    "repeats the evidence": (lambda: Repeat(EVIDENCE, towards="client"), "record-refused"),
    "repeats a request": (lambda: Repeat(FIRST_REQUEST, towards="enclave"), "session-truncated"),
    "repeats a response": (lambda: Repeat(FIRST_RESPONSE, towards="client"), "record-refused"),
    "reorders answer and evidence": (lambda: Reorder(ANSWER, towards="client"), "handshake-failed"),
    "flips a bit of the hello": (lambda: Flip(HELLO, towards="enclave"), "handshake-failed"),
    "flips a bit of the answer": (lambda: Flip(ANSWER, towards="client"), "handshake-failed"),
    "flips a bit of the evidence": (lambda: Flip(EVIDENCE, towards="client"), "record-refused"),
    "flips a bit of a request": (lambda: Flip(FIRST_REQUEST, towards="enclave"), "session-truncated"),
    "flips a bit of a response": (lambda: Flip(FIRST_RESPONSE, towards="client"), "record-refused"),
    "truncates a response": (lambda: Truncate(FIRST_RESPONSE, towards="client"), "session-truncated"),
    "truncates a request": (lambda: Truncate(FIRST_REQUEST, towards="enclave"), "session-truncated"),
    "ends the stream before the evidence": (lambda: EndEarly(EVIDENCE, towards="client"), "session-truncated"),
    "ends the stream before a response": (lambda: EndEarly(FIRST_RESPONSE, towards="client"), "session-truncated"),
    "claims four gigabytes for a response": (lambda: Lengthen(FIRST_RESPONSE, towards="client"), "record-refused"),
    "claims four gigabytes for a request": (lambda: Lengthen(FIRST_REQUEST, towards="enclave"), "session-truncated"),
    "reflects a request": (Reflect, "record-refused"),
    "sits in the middle with genuine evidence": (ManInTheMiddle, "appraisal-refused: report-data"),
}


# What the enclave says in its own log of the sessions that it ended; the client only sees that its stream was cut.
SEEN_BY_THE_ENCLAVE = {
    "repeats a request": "record-refused",
    "flips a bit of the hello": "session-truncated",
    "flips a bit of a request": "record-refused",
    "truncates a request": "session-truncated",
    "claims four gigabytes for a request": "record-refused",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_host_that(deployment: Deployment, name: str) -> None:
    make, code = ATTACKS[name]
    before = len(deployment.sessions_ended())
    assert code_of(deployment, make()) == code
    if name in SEEN_BY_THE_ENCLAVE:
        wait_for_the_enclave_to_say(deployment, SEEN_BY_THE_ENCLAVE[name], before)
    lives_on(deployment)


def test_a_repeated_hello_is_refused_as_the_record_that_it_is_not(deployment: Deployment) -> None:
    """Before its evidence has left the enclave takes no record at all; afterwards this one does not authenticate."""
    before = len(deployment.sessions_ended())
    code_of(deployment, Repeat(HELLO, towards="enclave"))
    deadline = time.monotonic() + 15
    while not {"record-malformed", "record-refused"} & set(deployment.sessions_ended()[before:]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_the_enclave_to_say(deployment: Deployment, code: str, before: int) -> None:
    """Wait until a session has ended with this code; those of other tests may still be ending."""
    deadline = time.monotonic() + 15
    while code not in (ended := deployment.sessions_ended()[before:]):
        assert time.monotonic() < deadline, ended
        time.sleep(0.05)


def recorded(deployment: Deployment) -> Attack:
    attack = Attack()
    ask_twice(deployment, attack)
    return attack


@pytest.mark.parametrize(
    ("index", "towards", "code"),
    [
        (ANSWER, "client", "handshake-failed"),
        (EVIDENCE, "client", "record-refused"),
        (FIRST_RESPONSE, "client", "record-refused"),
        (FIRST_REQUEST, "enclave", "session-truncated"),
    ],
)
def test_a_host_that_splices_from_another_session(deployment: Deployment, index: int, towards: str, code: str) -> None:
    earlier = recorded(deployment)
    item = (earlier.received if towards == "client" else earlier.sent)[index]
    assert code_of(deployment, Splice(index, towards=towards, other=item)) == code
    lives_on(deployment)


def test_a_host_that_replays_a_whole_session(deployment: Deployment) -> None:
    earlier = recorded(deployment)
    assert code_of(deployment, ReplaySession(earlier.received)) == "handshake-failed"


def test_a_host_that_replays_a_clients_session_gets_no_answer(deployment: Deployment) -> None:
    """The recorded hello and requests meet a fresh handshake: the enclave drops them at the first record."""
    earlier = recorded(deployment)
    attack = Splice(HELLO, towards="enclave", other=earlier.sent[HELLO])
    assert code_of(deployment, attack) == "handshake-failed"


def test_the_man_in_the_middle_reads_nothing(deployment: Deployment) -> None:
    attack = ManInTheMiddle()
    assert code_of(deployment, attack) == "appraisal-refused: report-data"
    assert attack.read == []


def test_a_client_judges_the_brokers_age_by_its_own_clock(deployment: Deployment) -> None:
    """Whatever the machine's clock says: to a client two days ahead, the newest heartbeat is two days old."""
    ahead = 2 * 24 * 3600
    with (
        pytest.raises(StrongroomError) as caught,
        deployment.session(now=lambda: time.time() + ahead) as session,
    ):
        session.infer("linear", {"x": ROWS})
    assert str(caught.value.code) == "beat-stale"


def test_a_client_that_has_seen_a_newer_epoch_refuses_an_older_one(deployment: Deployment) -> None:
    from attestation.policy import load_policy

    policy = load_policy(deployment.policy_path)
    assert policy.service is not None
    newer = dataclasses.replace(policy, service=dataclasses.replace(policy.service, min_epoch=4))
    with pytest.raises(StrongroomError) as caught, deployment.session(policy=newer) as session:
        session.infer("linear", {"x": ROWS})
    assert reason(caught.value) == "epoch-rollback"
