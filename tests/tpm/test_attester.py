"""The enclave's attester asks a real software TPM, and the verifier takes what it gives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.roots import Roots
from attestation.tpm.abi import parse_evidence
from attestation.tpm.public import Public, fingerprint
from attestation.tpm.verify import verify_evidence
from enclave.attesters.tpm import TpmAttester
from manifests.gramine.settings import TpmSettings
from tests.attestation.kit import NOW, REPORT_DATA
from tests.tpm.swtpm import SoftwareTpm

EK, AK, OWNER = 0x81010001, 0x81010002, 0x40000001


class SocketTpm:
    """swtpm's data channel: commands and answers as the device has them."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def exchange(self, command: bytes) -> bytes:
        self._socket.sendall(command)
        return self._socket.recv(4096)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def persistent(tpm: SoftwareTpm) -> SoftwareTpm:
    """A TPM that was set up as a machine is: endorsement key and attestation key at persistent handles."""
    key = tpm.key("ecc", "ecdsa")
    for context, handle in (("ek.ctx", EK), (key.context, AK)):
        tpm.run("tpm2_evictcontrol", "-C", "o", "-c", context, f"0x{handle:08x}")
        tpm.free()
    return tpm


@pytest.fixture
def channel(persistent: SoftwareTpm) -> Iterator[SocketTpm]:
    opened = SocketTpm(persistent.folder / "tpm")
    yield opened
    opened.close()


@pytest.mark.parametrize("pcrs", [(0, 7, 23), tuple(range(24))])
@pytest.mark.parametrize("bank", ["sha256", "sha384"])
def test_a_session_s_report_data_is_quoted_and_verifies(channel: SocketTpm, bank: str, pcrs: tuple[int, ...]) -> None:
    attester = TpmAttester(TpmSettings(AK, EK, pcrs, bank), channel)
    evidence = parse_evidence(attester.quote(REPORT_DATA))
    roots = Roots.vendor().with_tpm([fingerprint(Public.parse(evidence.key.serialize()).key())])
    verified = verify_evidence(evidence, None, roots, NOW)
    assert verified.report_data == verified.bound(REPORT_DATA)
    assert [index for _, index, _ in verified.quote.pcrs] == list(pcrs)


def test_a_key_that_is_not_there_is_refused_at_the_start(channel: SocketTpm) -> None:
    from enclave.errors import EnclaveError

    with pytest.raises(EnclaveError, match="enclave-start-failed"):
        TpmAttester(TpmSettings(0x81010009, OWNER, (0,)), channel)
