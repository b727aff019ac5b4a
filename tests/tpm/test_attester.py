"""The enclave's attester asks a real software TPM, and the verifier takes what it gives."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.roots import Roots
from attestation.tpm.abi import parse_evidence
from attestation.tpm.public import Public, fingerprint
from attestation.tpm.verify import verify_evidence
from enclave.attesters.tpm import DEVICE, DeviceTpm, TpmAttester
from enclave.errors import EnclaveCode, EnclaveError
from manifests.gramine.settings import TpmSettings
from tests.attestation.kit import NOW, REPORT_DATA
from tests.tpm.device import device
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
    with pytest.raises(EnclaveError, match="enclave-start-failed"):
        TpmAttester(TpmSettings(0x81010009, OWNER, (0,)), channel)


# ------------------------------------------------------------------------------------------ the kernel's device


@contextlib.contextmanager
def opening(path: Path) -> Iterator[DeviceTpm]:
    """Open a device for a test; a process keeps it open for its life."""
    tpm = DeviceTpm(path)
    try:
        yield tpm
    finally:
        os.close(tpm._descriptor)


@pytest.fixture
def opened(persistent: SoftwareTpm) -> Iterator[DeviceTpm]:
    """A device that swtpm is behind, opened as /dev/tpmrm0 is."""
    with device(persistent.folder / "tpm") as path:
        assert stat.S_ISCHR(path.stat().st_mode)
        with opening(path) as tpm:
            yield tpm


def test_the_device_is_the_kernels_resource_manager() -> None:
    assert Path("/dev/tpmrm0") == DEVICE == DeviceTpm.__init__.__defaults__[0]  # type: ignore[index]


@pytest.mark.parametrize("pcrs", [(0, 7, 23), tuple(range(24))])
def test_a_tpm_behind_a_character_device_quotes_and_verifies(opened: DeviceTpm, pcrs: tuple[int, ...]) -> None:
    attester = TpmAttester(TpmSettings(AK, EK, pcrs, "sha256"), opened)
    for report_data in (REPORT_DATA, bytes(64)):
        evidence = parse_evidence(attester.quote(report_data))
        roots = Roots.vendor().with_tpm([fingerprint(Public.parse(evidence.key.serialize()).key())])
        verified = verify_evidence(evidence, None, roots, NOW)
        assert verified.report_data == verified.bound(report_data)


def test_a_device_without_the_key_is_refused_at_the_start(opened: DeviceTpm) -> None:
    with pytest.raises(EnclaveError, match="no key 0x81010009"):
        TpmAttester(TpmSettings(0x81010009, OWNER, (0,)), opened)


def test_an_answer_longer_than_its_head_says_is_refused(persistent: SoftwareTpm) -> None:
    """What is left in the device would be taken for the next answer, so that nothing that follows is believed."""
    channel = persistent.folder / "tpm"
    with device(channel, alter=lambda answer: answer + bytes(3)) as path, opening(path) as tpm:
        with pytest.raises(EnclaveError) as refusal:
            TpmAttester(TpmSettings(AK, EK, (0,)), tpm)
        assert refusal.value.code is EnclaveCode.START_FAILED


def test_an_answer_beyond_all_bounds_is_cut_and_refused(persistent: SoftwareTpm) -> None:
    def endless(answer: bytes) -> bytes:
        return answer[:2] + (1 << 20).to_bytes(4, "big") + answer[6:10] + bytes(8192)

    with device(persistent.folder / "tpm", alter=endless) as path, opening(path) as tpm:
        with pytest.raises(EnclaveError) as refusal:
            TpmAttester(TpmSettings(AK, EK, (0,)), tpm)
        assert refusal.value.code is EnclaveCode.START_FAILED


def test_a_device_that_takes_nothing_says_so() -> None:
    with opening(Path("/dev/full")) as tpm, pytest.raises(OSError, match="No space") as refusal:
        tpm.exchange(bytes(10))
    assert refusal.value.errno == errno.ENOSPC


def test_an_end_of_file_in_an_answer_is_no_answer(tmp_path: Path) -> None:
    """A file gives what stands in it once, and then nothing more."""
    path = tmp_path / "device"
    path.write_bytes(bytes(10) + b"\x80\x01" + (40).to_bytes(4, "big") + bytes(6))
    with opening(path) as tpm:
        assert len(tpm.exchange(bytes(10))) == 12
        assert tpm.exchange(bytes(1)) == b""


_PARTLY = """
import resource, signal, sys
from pathlib import Path
from enclave.attesters.tpm import DeviceTpm
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tpm = DeviceTpm(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))
try:
    tpm.exchange(bytes(10))
except OSError as error:
    sys.exit(f"{error.errno} {error.strerror}")
"""


def test_a_command_of_which_a_part_was_taken_is_an_error(tmp_path: Path) -> None:
    """The kernel takes eight bytes of ten where that is all that a file may grow to."""
    path = tmp_path / "device"
    path.touch()
    done = subprocess.run([sys.executable, "-c", _PARTLY, path], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == f"{errno.EIO} a part of the command was written"
    assert path.stat().st_size == 8
