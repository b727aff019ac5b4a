"""Steering, old models, starved leases, a broker's database in a stranger's hands, a stranger's own deployment."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attestation.client import RemoteError, Session, Timeouts
from attestation.findings import AppraisalError
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.errors import DemoError
from evaluation.demo.preparation import ModelToSeal
from manifests.errors import StrongroomError
from tests.deployment.small import ROWS, WEIGHTS, linear

pytestmark = pytest.mark.xdist_group("deployment")

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
    assert str(caught.value.code) in {"chain-root", "collateral-missing", "crl-signature"}


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


def test_a_strangers_broker_cannot_provision_the_owners_enclave(deployment: Deployment, stranger: Deployment) -> None:
    """It may trust platform and measurement as much as it likes: the enclave's manifest names its owners."""
    layout = stranger.layout
    stolen = layout.home / "takeover"
    shutil.copytree(layout.broker, stolen)
    policy = (deployment.layout.release_policy).read_text()
    (layout.home / "takeover.toml").write_text(policy)
    stranger.commands.run("broker", "policy", "set", "--home", stolen, layout.home / "takeover.toml")
    words = ("broker", "serve", "--once", "--home", stolen, "--host", deployment.address)
    with pytest.raises(DemoError) as caught:
        stranger.commands.run(*words, "--collateral", deployment.collateral_dir)
    assert "owner-not-admitted" in str(caught.value.found)
    with deployment.session() as session:
        assert [model.owner for model in session.models()] == [session.models()[0].owner]
        np.testing.assert_array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS)


def test_a_host_that_drops_every_heartbeat_gains_one_lease(stranger: Deployment) -> None:
    """The broker is cut off; the enclave serves what is left of the lease, and not one request more."""
    stranger.kill("broker")
    served = 0
    with stranger.session() as session:
        with pytest.raises(RemoteError) as caught:
            for _ in range(LEASE + 1):
                session.infer("linear", {"x": ROWS})
                served += 1
        assert caught.value.remote_code == "lease-exhausted"
        assert served <= LEASE
    with stranger.session() as session, pytest.raises(RemoteError) as again:
        session.infer("linear", {"x": ROWS})
    assert again.value.remote_code == "lease-exhausted"
    stranger.stop_part("broker")


def test_swapped_rows_of_the_brokers_database_release_nothing(stranger: Deployment) -> None:
    """Two wrapped keys change places: found before anything leaves, and nothing is served."""
    stranger.stop_part("broker")
    broken = stranger.layout.home / "swapped"
    shutil.copytree(stranger.layout.broker, broken)
    swap_wrapped_keys(broken / "broker.db")
    words = ("broker", "serve", "--once", "--home", broken, "--host", stranger.address)
    with pytest.raises(DemoError) as caught:
        stranger.commands.run(*words, "--collateral", stranger.collateral_dir)
    assert any(code in str(caught.value.found) for code in ("store-altered", "key-unwrap-failed"))


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
    assert code in {"session-revoked", "session-truncated"}
    with deployment.session() as session, pytest.raises(RemoteError) as caught:
        session.infer(old.digest, {"x": ROWS})
    assert caught.value.remote_code == "model-unknown"


def wait_for_epoch(deployment: Deployment, epoch: int) -> None:
    for _ in range(150):
        with deployment.session() as session:
            if any(model.epoch == epoch for model in session.models()):
                return
        time.sleep(0.2)
    pytest.fail("the newer epoch was never provisioned")


def until_refused(session: Session, digest: bytes) -> str:
    for _ in range(300):
        try:
            session.infer(digest, {"x": ROWS})
        except RemoteError as error:
            return error.remote_code
        except StrongroomError as error:
            return str(error.code)
        time.sleep(0.05)
    pytest.fail("the running session went on after the revocation")
