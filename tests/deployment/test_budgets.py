"""Budgets through real processes: two enclaves, their hosts, a broker that is killed, and clients of the library."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attestation.broker.admin import issue_credential
from attestation.broker.audit import EventKind, verify_log
from attestation.broker.budgets_report import Meant, chosen, report, reset
from attestation.broker.call import Surroundings, opener
from attestation.broker.home import Home
from attestation.broker.ledger import Ledger
from attestation.broker.link import Link
from attestation.client import RemoteError, Retries, Timeouts
from attestation.client.call import PATIENT
from attestation.client.errors import ClientError
from attestation.collateral import open_source
from attestation.sim import landlock
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from host.admin import ask
from host.errors import HostError
from host.home import Home as HostHome
from manifests.signing import Signer
from tests.deployment.small import ROWS, linear
from tests.testkit.attacks import Starve
from tests.testkit.relay import HostileRelay

BUDGET, ANONYMOUS, SLICE, NEWCOMERS = 60, 50, 10, 32
FIRST = NEWCOMERS // 4
"""What one client is answered before its slice has come."""
PATIENCE = 60.0
QUICK = Timeouts(connect=5, handshake=10, request=10)
RELEASE = {
    "release": {
        "client_budget": BUDGET,
        "anonymous_budget": ANONYMOUS,
        "slice": SLICE,
        "newcomers": NEWCOMERS,
        "heartbeat_seconds": 30,
    }
}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class Client:
    """Who asks: a key with the broker's credential for it, or nobody in particular."""

    key: Signer | None = None
    credential: bytes = b""

    def terms(self) -> dict[str, Any]:
        return {} if self.key is None else {"key": self.key, "credential": self.credential}


NOBODY = Client()


class Replicas:
    """A deployment with a second host, whose enclave is another process of the same measurement."""

    def __init__(self, deployment: Deployment) -> None:
        self.first = deployment
        self.home = Home(deployment.layout.broker)
        self.keys = self.home.unlock(deployment.layout.passphrase.read_text().strip().encode())
        self.waits: list[float] = []
        """What clients were told to wait when their budget was used up."""
        self.commands = deployment.commands
        folder = deployment.layout.home / "host2"
        self.second = HostHome(folder)
        self.addresses = [deployment.address, f"unix:{deployment.layout.home / 'host2.sock'}"]
        layout = deployment.layout
        words: list[str | Path] = [
            "host",
            "up",
            "--home",
            folder,
            "--listen",
            self.addresses[1],
            "--manifest",
            layout.manifest,
        ]
        words += ["--models", layout.models, "--platform-home", layout.platform]
        words += [] if landlock.version() else ["--dangerously-unconfined"]
        self._host = self.commands.start("host", layout.log("host2"), *words)
        until(self._is_ready, "the second enclave")
        self.start_broker()

    def _is_ready(self) -> bool:
        try:
            return bool(ask(self.second.admin_socket, "status")["deployments"][0]["state"] == "ready")
        except HostError:
            return False

    def start_broker(self) -> None:
        layout = self.first.layout
        hosts = [word for address in self.addresses for word in ("--host", address)]
        words: list[str | Path] = ["broker", "serve", "--home", layout.broker, *hosts]
        words += ["--collateral", self.first.collateral_dir]
        self._broker = self.commands.start("broker", layout.log("brokers"), *words, "--json")
        for number in (0, 1):
            until(lambda: self.serves(number), "the models")  # noqa: B023 - called at once

    def serves(self, number: int) -> bool:
        try:
            with self.first.session(self.addresses[number], timeouts=QUICK) as session:
                return bool(session.models())
        except Exception:
            return False

    def hears(self, now: Callable[[], int]) -> bool:
        """Tell whether the first enclave shows a sign of life of a broker whose clock this is."""
        try:
            with self.first.session(timeouts=QUICK, now=now) as session:
                return bool(session.models())
        except ClientError:
            return False

    def kill_broker(self) -> None:
        self._broker.kill()

    def stop(self) -> None:
        self._broker.stop()
        self._host.stop()

    def restart_first(self) -> None:
        """Kill -9 of the first enclave; its host starts another, which the broker provisions."""
        before = self.first.enclave_pid
        self.first.kill("enclave")
        until(lambda: self.first.enclave_is_ready() and self.first.enclave_pid != before, "a new enclave")
        until(lambda: self.serves(0), "the models")

    def ledger(self) -> Ledger:
        """Open the ledger as another process would, beside the broker that serves."""
        return Ledger.open(self.home, self.keys)

    def client(self, name: str) -> Client:
        """Make a client's key and have the broker name it, as an owner would."""
        key = Signer.generate()
        with self.ledger() as ledger:
            return Client(key, issue_credential(ledger, key.public, name, int(time.time())))

    def ask(self, client: Client, number: int, most: int = 1000, **terms: Any) -> tuple[int, str]:
        """Ask an enclave until the budget is used up, waiting as it says; how often it answered, and how it ended."""
        count = 0
        with self.first.session(self.addresses[number], timeouts=QUICK, **client.terms(), **terms) as session:
            deadline = time.monotonic() + PATIENCE
            while count < most:
                assert time.monotonic() < deadline
                try:
                    session.infer("linear", {"x": ROWS})
                except RemoteError as refused:
                    if refused.remote_code != "budget-pending":
                        self.waits.append(refused.retry_after or 0.0)
                        return count, refused.remote_code
                    time.sleep(0.2)
                else:
                    count += 1
        return count, ""

    def granted(self, client: str) -> int:
        with self.ledger() as ledger:
            meant = Meant(chosen(ledger, client), None)
            (row,) = report(ledger, meant, int(time.time()))["clients"]
        assert row["until"] > time.time()
        return int(row["granted"])


@pytest.fixture(scope="module")
def replicas() -> Iterator[Replicas]:
    with (
        temporary_home() as home,
        Deployment(home, [ModelToSeal("linear", linear(), epoch=3)], release=RELEASE) as running,
    ):
        running.stop_part("broker")
        made = Replicas(running)
        try:
            yield made
        finally:
            made.stop()


def test_a_new_client_is_answered_without_an_error(replicas: Replicas) -> None:
    """Its first requests come before its slice has, and its slices are filled before they are used up."""
    client = replicas.client("gentle")
    with replicas.first.session(**client.terms()) as session:
        for _ in range(6):
            session.infer("linear", {"x": ROWS})
            time.sleep(0.7)


def test_two_enclaves_share_one_budget(replicas: Replicas) -> None:
    """Asked in turns, both are used up after one budget together; another client is not concerned."""
    alice, bob = replicas.client("alice"), replicas.client("bob")
    counts = [replicas.ask(alice, number, FIRST + 1) for number in (0, 1)]
    assert counts == [(FIRST + 1, "")] * 2
    rest = [replicas.ask(alice, number) for number in (0, 1)]
    assert {code for _, code in rest} == {"budget-exhausted"}
    assert 2 * (FIRST + 1) + sum(count for count, _ in rest) == BUDGET == replicas.granted("alice")
    assert all(0 < wait <= 86400 for wait in replicas.waits)
    assert replicas.ask(bob, 0, 5) == (5, "")


def test_neither_reconnecting_nor_a_restart_gives_a_budget_anew(replicas: Replicas) -> None:
    client = replicas.client("carol")
    assert sum(replicas.ask(client, 0)[0] for _ in range(2)) == BUDGET
    replicas.kill_broker()
    replicas.start_broker()
    assert replicas.ask(client, 0) == (0, "budget-exhausted")
    replicas.restart_first()
    count, code = replicas.ask(client, 0)
    assert code == "budget-exhausted"
    assert count <= FIRST, "what a fresh enclave answers before the broker has told it"
    assert replicas.granted("carol") == BUDGET


def test_all_anonymous_sessions_share_one_budget_on_both_enclaves(replicas: Replicas) -> None:
    counts = [replicas.ask(NOBODY, number, FIRST + 1) for number in (0, 1)]
    rest = [replicas.ask(NOBODY, number) for number in (1, 0)]
    assert {code for _, code in rest} == {"budget-exhausted"}
    assert sum(count for count, _ in counts + rest) == ANONYMOUS == replicas.granted("anonymous")
    assert replicas.ask(NOBODY, 1) == (0, "budget-exhausted")


def test_a_reset_is_recorded_and_gives_the_budget_anew(replicas: Replicas) -> None:
    client = replicas.client("dora")
    assert replicas.ask(client, 1)[1] == "budget-exhausted"
    with replicas.ledger() as ledger:
        assert reset(ledger, Meant(chosen(ledger, "dora"), "linear"), int(time.time())) == 1
    assert replicas.granted("dora") == 0
    assert replicas.ask(client, 0, SLICE) == (SLICE, "")
    with replicas.ledger() as ledger:
        entries = list(verify_log(ledger.audit_rows(), replicas.keys.signer.public, expected=[ledger.head.digest]))
    (entry,) = [entry for entry in entries if entry.kind is EventKind.BUDGETS_RESET]
    assert [item[3] for item in entry.event["budgets"]] == [BUDGET]


def test_a_host_that_drops_heartbeats_gains_what_is_outstanding(replicas: Replicas) -> None:
    """The broker provisions the enclave and is then never heard again: a pool's worth is served, to all together."""
    clients = [replicas.client(name) for name in ("eve", "fay", "gil", "hal", "ida")]
    replicas.kill_broker()
    before = replicas.first.enclave_pid
    replicas.first.kill("enclave")
    until(lambda: replicas.first.enclave_is_ready() and replicas.first.enclave_pid != before, "a fresh enclave")
    with HostileRelay(replicas.first.address, Starve(requests=1)) as host:
        replicas.first.start_broker(host.address)
        until(lambda: replicas.serves(0), "the model")
        counts = []
        for client in clients:
            with replicas.first.session(**client.terms()) as session, pytest.raises(RemoteError) as refused:
                counts.append(0)
                while True:
                    session.infer("linear", {"x": ROWS})
                    counts[-1] += 1
            assert refused.value.remote_code == "budget-pending"
        assert counts == [FIRST] * 4 + [0]
        replicas.first.stop_part("broker")
    replicas.start_broker()
    assert replicas.ask(clients[-1], 0, 5) == (5, "")


def test_a_client_that_may_wait_never_hears_of_slices(replicas: Replicas) -> None:
    """It asks for more than the newcomers' share and a slice together, and faster than slices come."""
    client = replicas.client("patient")
    retries = Retries(attempts=20, longest=5.0, total=60.0)
    with replicas.first.session(**client.terms(), retries=retries) as session:
        for _ in range(BUDGET):
            session.infer("linear", {"x": ROWS})
        with pytest.raises(RemoteError) as refused:
            session.infer("linear", {"x": ROWS})
    assert refused.value.remote_code == "budget-exhausted"


def test_the_next_period_begins_with_the_brokers_clock(replicas: Replicas) -> None:
    """A broker whose clock stands a day later: all is granted anew.  Back at today's, nothing more is."""
    client = replicas.client("jan")
    assert replicas.ask(client, 0)[1] == "budget-exhausted"
    replicas.kill_broker()
    with serving(replicas, tomorrow):
        until(lambda: replicas.hears(tomorrow), "the broker")
        assert replicas.ask(client, 0, now=tomorrow) == (BUDGET, "budget-exhausted")
    replicas.start_broker()
    assert replicas.ask(client, 0) == (0, "budget-exhausted")


def tomorrow() -> int:
    return int(time.time()) + 86400


class serving:  # noqa: N801 - reads as a statement
    """A broker of this process, on the deployment's home, whose clock goes ahead."""

    def __init__(self, replicas: Replicas, now: Callable[[], int]) -> None:
        self._ledger = replicas.ledger()
        self._stop = threading.Event()
        around = Surroundings(
            self._ledger,
            opener(open_source(replicas.first.collateral_dir), "default", PATIENT),
            lambda _event: None,
            self._stop,
            lambda _error: self._stop.set(),
            now,
        )
        self._link = Link(replicas.addresses[0], around)
        self._thread = threading.Thread(target=self._link.run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._link.wake()
        self._thread.join(10)
        self._ledger.close()
