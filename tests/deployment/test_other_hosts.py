"""Steering, old models, starved leases, a broker's database in a stranger's hands, a stranger's own deployment."""

from __future__ import annotations

import shutil
import sqlite3
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from attestation.client import RemoteError, Session, Timeouts
from attestation.client.connection import Connection, open_session
from attestation.client.errors import ClientError
from attestation.collateral import open_source
from attestation.findings import AppraisalError
from attestation.policy import load_policy, roots_for
from attestation.types import Delegation, Grant, PlatformClass, Right, document_digest
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.errors import DemoError
from evaluation.demo.preparation import ModelToSeal
from manifests.errors import StrongroomError
from manifests.sealed import RecipientKey, recover_dek, seal
from manifests.signing import Signer
from tests.deployment.small import ROWS, WEIGHTS, linear
from tests.testkit.attacks import Starve
from tests.testkit.relay import HostileRelay

LEASE = 12
QUICK = Timeouts(connect=5, handshake=10, request=10)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Deployment]:
    """Another owner's genuine deployment of the same program, with a model of the same name and a short lease."""
    release = {"release": {"lease": LEASE, "heartbeat_seconds": 3600}}
    models = [ModelToSeal("linear", linear(-WEIGHTS), epoch=3), ModelToSeal("other", linear(WEIGHTS * 2))]
    with temporary_home() as home, Deployment(home, models, release=release) as running:
        yield running


def failed_checks(error: AppraisalError) -> set[str]:
    return {str(finding.code) for finding in error.failed}


def test_steering_to_another_platform_is_refused(deployment: Deployment, stranger: Deployment) -> None:
    """A genuine enclave of the stranger's: its chain ends in a root that the policy does not pin."""
    with pytest.raises(StrongroomError) as caught, deployment.session(stranger.address):
        pass
    assert str(caught.value.code) == "chain-root"


def test_steering_to_another_measurement_on_the_same_platform_is_refused_by_policy(
    deployment: Deployment, stranger: Deployment
) -> None:
    """Even where platform and roots are trusted: the stranger's manifest admits another owner."""
    platform = deployment.layout.platform
    stranger.stop_part("broker")
    stranger.stop_part("host")
    stranger.start_host(platform=platform)
    try:
        with pytest.raises(AppraisalError) as caught, deployment.session(stranger.address):
            pass
        assert failed_checks(caught.value) == {"sgx-mrenclave"}
    finally:
        stranger.stop_part("host")
        stranger.start_host()
        stranger.start_broker()
        stranger.wait_until_serving()


def test_a_strangers_broker_cannot_provision_the_owners_enclave(deployment: Deployment, tmp_path: Path) -> None:
    """Its documents are well signed, its grant is for this very session: the enclave's manifest names its owners."""
    owner, broker, recipient = Signer.generate(), Signer.generate(), RecipientKey.generate()
    sealed = seal(linear(-WEIGHTS), tmp_path / "m", name="linear", owner_key=owner, recipients=[recipient.public])
    delegation = Delegation(owner.public, broker.public, (Right.PROVISION,), ("*",), 0).sign(owner)
    with own_session(deployment) as session:
        grant = Grant(
            owner=owner.public,
            delegation=document_digest(delegation),
            model=sealed.digest,
            name="linear",
            epoch=sealed.core.epoch,
            handshake_hash=session.handshake_hash,
            serial=bytes(16),
            lease=1000,
            platform=PlatformClass.SIMULATED,
            audit_head=bytes(64),
            time=int(time.time()),
        ).sign(broker)
        dek = bytes(recover_dek(tmp_path / "m", recipient))
        with pytest.raises(RemoteError) as caught:
            session.request({"op": "provision", "delegation": delegation, "grant": grant, "dek": dek})
        assert caught.value.remote_code == "owner-refused"
    with deployment.session() as client:
        assert owner.public not in {model.owner for model in client.models()}
        np.testing.assert_array_equal(client.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS)


def own_session(deployment: Deployment) -> Connection:
    """A session as a broker has it: evidence appraised, control messages possible."""
    policy = load_policy(deployment.policy_path)
    return open_session(
        deployment.address,
        route="default",
        policy=policy,
        source=open_source(deployment.collateral_dir),
        roots=roots_for(policy),
        now=int(time.time()),
    )


def test_a_stranger_who_renders_an_enclave_for_itself_gets_no_client(
    deployment: Deployment, stranger: Deployment
) -> None:
    """Platform and root are the client's own, name and epoch of the model are the same; the measurement is not."""
    policy = tomllib.loads(stranger.policy_path.read_text())
    policy["service"] = tomllib.loads(deployment.policy_path.read_text())["service"]
    with pytest.raises(ClientError) as caught, stranger.session(policy=load_policy(policy)) as session:
        session.infer("linear", {"x": ROWS})
    assert caught.value.code == "owner-not-accepted", "where the measurement is admitted, its owner is not"


def test_a_host_that_drops_every_heartbeat_gains_one_lease(stranger: Deployment) -> None:
    """The broker lives, its keys arrive, its heartbeats do not: one lease is served, and not one request more."""
    stranger.stop_part("broker")
    before = stranger.enclave_pid
    stranger.kill("enclave")
    wait_for(lambda: stranger.enclave_is_ready() and stranger.enclave_pid != before, "a fresh enclave")
    attack = Starve(requests=len(stranger.preparation.models))
    with HostileRelay(stranger.address, attack) as host:
        stranger.start_broker(host.address)
        stranger.wait_until_serving()
        with stranger.session() as session:
            for _ in range(LEASE):
                np.testing.assert_array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ -WEIGHTS)
            with pytest.raises(RemoteError) as caught:
                session.infer("linear", {"x": ROWS})
            assert caught.value.remote_code == "lease-exhausted"
        with stranger.session() as session, pytest.raises(RemoteError) as again:
            session.infer("linear", {"x": ROWS})
        assert again.value.remote_code == "lease-exhausted"
        stranger.stop_part("broker")
    assert attack.dropped > 0


def test_swapped_rows_of_the_brokers_database_release_nothing(stranger: Deployment) -> None:
    """Two wrapped keys change places: found before anything leaves, and nothing is served."""
    stranger.stop_part("broker")
    broken = stranger.layout.home / "swapped"
    shutil.copytree(stranger.layout.broker, broken)
    swap_wrapped_keys(broken / "broker.db")
    words = ("broker", "serve", "--once", "--home", broken, "--host", stranger.address)
    with pytest.raises(DemoError) as caught:
        stranger.commands.run(*words, "--collateral", stranger.collateral_dir)
    assert "store-altered" in str(caught.value.found)


def swap_wrapped_keys(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT rowid, wrapped FROM models").fetchall()
        assert len(rows) == 2
        for (rowid, _), (_, wrapped) in zip(rows, reversed(rows), strict=True):
            connection.execute("UPDATE models SET wrapped = ? WHERE rowid = ?", (wrapped, rowid))


def test_an_old_model_is_refused_after_its_epoch_was_revoked(deployment: Deployment) -> None:
    """A newer epoch is sealed and served; then the old one is revoked, and its digest answers no more."""
    layout = deployment.layout
    with deployment.session() as session:
        old = next(model for model in session.models() if model.name == "linear")
    newer = deployment.preparation.seal(ModelToSeal("linear", linear(WEIGHTS + 1), epoch=old.epoch + 1), "linear-new")
    deployment.preparation.add_to_broker(newer)
    deployment.stop_part("broker")
    deployment.start_broker()
    deployment.wait_until_serving()
    wait_for_epoch(deployment, old.epoch + 1)
    with deployment.session() as session:
        np.testing.assert_array_equal(session.infer(old.digest, {"x": ROWS})["y"], ROWS @ WEIGHTS)
        np.testing.assert_array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ (WEIGHTS + 1))
        words = ("broker", "revoke", "--home", layout.broker, "--name", "linear", "--below", str(old.epoch + 1))
        deployment.commands.run(*words)
        code = until_refused(session, old.digest)
    assert code == "session-revoked"
    with deployment.session() as session, pytest.raises(RemoteError) as caught:
        session.infer(old.digest, {"x": ROWS})
    assert caught.value.remote_code == "model-unknown"


def wait_for_epoch(deployment: Deployment, epoch: int) -> None:
    def is_there() -> bool:
        with deployment.session() as session:
            return any(model.epoch == epoch for model in session.models())

    wait_for(is_there, "the newer epoch")


def until_refused(session: Session, digest: bytes) -> str:
    found: list[str] = []

    def is_refused() -> bool:
        try:
            session.infer(digest, {"x": ROWS})
        except RemoteError as error:
            found.append(error.remote_code)
        return bool(found)

    wait_for(is_refused, "the running session to end")
    return found[0]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)
