"""The simulated platform: one inherited stream socket, the simulator's /dev/attestation and nothing more.

request = 64 bytes of report data        reply = u32 length (big-endian) || quote
"""

from __future__ import annotations

import socket
import struct

from attestation.types import PlatformClass
from enclave.attesters.base import MAX_QUOTE, Attester
from enclave.errors import EnclaveCode, EnclaveError

DESCRIPTOR = 4
"""The descriptor under which the simulator hands the socket down."""

TIMEOUT = 30.0
"""Seconds; the simulator answers within milliseconds, or never."""


class SimulatorAttester(Attester):
    """Asks the simulator over a socket that the process inherited."""

    platform = PlatformClass.SIMULATED
    hint = "sgx"

    def __init__(self, stream: socket.socket) -> None:
        """Use an open stream socket, which the attester then owns."""
        stream.settimeout(TIMEOUT)
        self._stream = stream

    @classmethod
    def inherited(cls) -> SimulatorAttester:
        """Use descriptor 4; raises EnclaveError `enclave-start-failed` if it is no socket."""
        try:
            return cls(socket.socket(fileno=DESCRIPTOR))
        except OSError:
            raise EnclaveError(
                EnclaveCode.START_FAILED, f"descriptor {DESCRIPTOR} is not the simulator's socket"
            ) from None

    def _quote(self, report_data: bytes) -> bytes:
        try:
            return self._exchange(report_data)
        except (OSError, EnclaveError):
            self.lost = True
            self._stream.close()  # the place in the stream is lost: a late answer would be taken for the next one
            raise

    def _exchange(self, report_data: bytes) -> bytes:
        self._stream.sendall(report_data)
        length = int(struct.unpack(">I", self._receive(4))[0])
        if length > MAX_QUOTE:
            raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the platform's quote is too long", found=length)
        return self._receive(length)

    def _receive(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = self._stream.recv(length - len(data))
            if not piece:
                raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the platform has closed its socket")
            data += piece
        return bytes(data)
