"""A real session with an enclave on a machine with a real software TPM, whose evidence carries a long event log."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.appraise import SessionAppraisal
from attestation.client.connection import open_session
from attestation.collateral import FixedSource
from attestation.eventlog.log import EventType
from attestation.policy import Policy, load_policy, roots_for
from attestation.sim.eventlog import make_log
from attestation.tpm.algorithms import Hash
from attestation.tpm.public import Public, fingerprint
from attestation.tpm.verified import TpmVerified
from attestation.types.claims import MAX_EVENT_LOG
from enclave.attesters.tpm import TpmAttester
from enclave.errors import EnclaveCode, EnclaveError
from manifests.gramine.settings import TpmSettings
from tests.attestation import kit as sgx
from tests.attestation.kit import NOW
from tests.testkit.direct import serving
from tests.tpm.swtpm import Key, SoftwareTpm
from tests.tpm.test_attester import AK, EK, SocketTpm

PCR = 7
SETTINGS = TpmSettings(AK, EK, (PCR,), event_log=True)
EVENTS = tuple(bytes([number]) * 5000 for number in range(48))
"""As long as the data of a large firmware's log: 240,000 bytes."""
LOG = make_log([(PCR, EventType.EV_EVENT_TAG, data) for data in EVENTS])


@pytest.fixture(scope="module")
def ak(tpm: SoftwareTpm) -> Key:
    """Set the TPM up as a machine's is, and measure what the log says."""
    key = tpm.key("ecc", "ecdsa")
    for context, handle in (("ek.ctx", EK), (key.context, AK)):
        tpm.run("tpm2_evictcontrol", "-C", "o", "-c", context, f"0x{handle:08x}")
        tpm.free()
    for data in EVENTS:
        tpm.extend(PCR, "sha256", Hash.SHA256.digest(data))
    return key


@pytest.fixture
def channel(ak: Key, tpm: SoftwareTpm) -> Iterator[SocketTpm]:
    opened = SocketTpm(tpm.folder / "tpm")
    yield opened
    opened.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "binary_bios_measurements").write_bytes(LOG)
    return tmp_path / "binary_bios_measurements"


def policy(key: Key, value: bytes) -> Policy:
    return load_policy(
        {
            "version": 1,
            "evidence": {"tcb_status": ["UpToDate"]},
            "tpm": {
                "pcrs": {"sha256": {f"pcr{PCR}": [value.hex()]}},
                "ak": [fingerprint(Public.parse(key.public).key()).hex()],
            },
        }
    )


def replayed() -> bytes:
    value = bytes(32)
    for data in EVENTS:
        value = Hash.SHA256.digest(value + Hash.SHA256.digest(data))
    return value


def test_a_client_gets_the_log_with_the_quote_and_replays_it(
    channel: SocketTpm, ak: Key, log: Path, tmp_path: Path
) -> None:
    chosen = policy(ak, replayed())
    attester = TpmAttester(SETTINGS, channel, event_log=log)
    terms = {
        "policy": chosen,
        "source": FixedSource(sgx.platform().collateral(NOW)),
        "roots": roots_for(chosen),
        "now": NOW,
    }
    with (
        serving(tmp_path / "enclave", attester) as address,
        open_session(address, route="default", decide=SessionAppraisal.require, **terms) as connection,
    ):
        assert connection.request({"op": "models"}).header["class"] == "hardware"
        verified = connection.attested.verified
    assert isinstance(verified, TpmVerified)
    assert verified.replay is not None
    assert (verified.replay.matching, verified.replay.differing) == ((("sha256", PCR),), ())
    assert verified.evidence.log is not None
    assert verified.evidence.log.serialize() == LOG
    assert len(LOG) > 240_000


def test_without_the_setting_evidence_has_no_log_and_is_as_short_as_ever(channel: SocketTpm, log: Path) -> None:
    plain = TpmAttester(dataclasses.replace(SETTINGS, event_log=False), channel, event_log=log)
    assert len(plain.quote(sgx.REPORT_DATA)) < 2048
    assert len(TpmAttester(SETTINGS, channel, event_log=log).quote(sgx.REPORT_DATA)) > len(LOG)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"", "is empty"), (bytes(MAX_EVENT_LOG + 1), "too large")]
)
def test_a_log_that_is_absent_empty_or_too_long_is_named_at_the_start(
    channel: SocketTpm, log: Path, content: bytes | None, reason: str
) -> None:
    log.unlink()
    if content is not None:
        log.write_bytes(content)
    with pytest.raises(EnclaveError, match=reason) as refusal:
        TpmAttester(SETTINGS, channel, event_log=log)
    assert refusal.value.code is EnclaveCode.START_FAILED
    assert "event_log" in str(refusal.value.remedy)


def test_the_longest_log_fits(channel: SocketTpm, log: Path) -> None:
    log.write_bytes(LOG.ljust(MAX_EVENT_LOG, b"\0"))
    assert len(TpmAttester(SETTINGS, channel, event_log=log).quote(sgx.REPORT_DATA)) > MAX_EVENT_LOG
