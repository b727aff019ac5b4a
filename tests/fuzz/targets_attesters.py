"""Targets for what the enclave's attesters read of their kernel interfaces: whatever the host lets a driver answer."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from enclave.attesters.base import MAX_QUOTE
from enclave.attesters.gramine import GramineAttester
from enclave.attesters.nitro import MAX_RESPONSE, NitroAttester
from enclave.attesters.simulator import SimulatorAttester
from enclave.attesters.tpm import TRY_AGAIN, TpmAttester
from enclave.attesters.tsm import MAX_OUTBLOB, PROVIDERS, TsmAttester
from enclave.errors import EnclaveError
from manifests.gramine.settings import TpmSettings
from tests.enclave.fakes import PUBLIC, QUOTE, FakeGramine, FakeNsm, FakeTsm, pcrs, tdx_quote
from tests.fuzz import seeds
from tests.fuzz.target import Target

REPORT_DATA: Final = bytes(range(64))
_SETTINGS: Final = TpmSettings(key=0x81010002, parent=0x81010001, pcrs=(0, 7))
_HEAD: Final = 10


class Answers:
    """A TPM that gives out the bytes of one input as its answers, each as long as its head says.

    One that asks for patience, which takes time and no parser, refuses instead.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def exchange(self, _command: bytes) -> bytes:
        size = max(int.from_bytes(self._data[2:6], "big"), _HEAD)
        answer, self._data = self._data[:size], self._data[size:]
        if int.from_bytes(answer[6:10], "big") in TRY_AGAIN:
            return answer[:6] + b"\0\0\x01\x01" + answer[10:]
        return answer


def _tpm(data: bytes) -> bytes:
    return TpmAttester(_SETTINGS, Answers(data)).quote(REPORT_DATA)


def _nitro(data: bytes) -> bytes:
    nsm = FakeNsm(lambda _request: data[:MAX_RESPONSE])
    attester = NitroAttester(Path("/dev/null"), nsm)
    try:
        return attester.quote(REPORT_DATA)
    finally:
        os.close(attester._descriptor)


def _tsm(data: bytes, tee: str) -> bytes:
    return TsmAttester(tee, FakeTsm(PROVIDERS[tee], lambda _data: data[:MAX_OUTBLOB])).quote(REPORT_DATA)


def _gramine(data: bytes) -> bytes:
    return GramineAttester(FakeGramine(kind=data)).quote(REPORT_DATA)


def _simulator(data: bytes) -> bytes:
    """Answer with bytes that the socket takes at once, and close it."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(data[: 2 * MAX_QUOTE])
        far.shutdown(socket.SHUT_WR)
        return SimulatorAttester(near).quote(REPORT_DATA)


def _attested(name: str) -> list[bytes]:
    return [quote + bytes(padding) for quote in seeds.evidence(name)[:4] for padding in (0, 70)]


def _framed() -> list[bytes]:
    return [len(quote).to_bytes(4, "big") + quote for quote in (b"a quote", *seeds.evidence("sgx")[:2])]


_ERRORS: Final = (EnclaveError,)

TARGETS: Final[tuple[Target, ...]] = (
    Target("attester-tpm", _tpm, lambda: [PUBLIC + PUBLIC + pcrs(1) + QUOTE + pcrs(1)], _ERRORS),
    Target("attester-nitro", _nitro, lambda: [FakeNsm.attest(_REQUEST), b"\xa1\x65Error\x6cInputTooLarge"], _ERRORS),
    Target("attester-tdx", lambda data: _tsm(data, "tdx"),
           lambda: [*_attested("tdx"), tdx_quote(4), tdx_quote(5) + bytes(70), b""], _ERRORS),
    Target("attester-snp", lambda data: _tsm(data, "snp"), lambda: [*_attested("snp"), b""], _ERRORS),
    Target("attester-gramine", _gramine, lambda: [b"dcap", b"dcap\n", b"none"], _ERRORS),
    Target("attester-simulator", _simulator, _framed, _ERRORS),
)  # fmt: skip
_REQUEST: Final = b"\x69user_data\x58\x40" + REPORT_DATA

__all__ = ["TARGETS"]
