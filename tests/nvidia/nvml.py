"""A stand-in for NVIDIA's management library, called as the real one is: by C functions, over memory.

Structures and sizes are nvml.h's, written down here anew, so that a slip in the attester's own shows.  Reports and
chains come from simulated devices, and answer to the nonce that was asked with.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable
from typing import Any

from attestation.intel.pem import encode_chain
from attestation.sim.nvidia import Device, SimulatedNvidia

SUCCESS, NOT_SUPPORTED, INVALID_ARGUMENT = 0, 3, 2
REPORT_AT, REPORT_SIZE, NONCE_AT = 3 * 4 + 32, 0x2000, 3 * 4
CHAIN_AT, CHAIN_SIZE = 2 * 4 + 0x1000, 0x1400
_FIRST_HANDLE = 0x7000


@dataclasses.dataclass
class FakeNvml:
    """The library: what `ctypes.CDLL` would give.  fails: a function's status by its name; absent: what it lacks."""

    platform: SimulatedNvidia
    devices: tuple[Device, ...] = (Device(),)
    fails: dict[str, int] = dataclasses.field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    sizes: tuple[int | None, int | None] = (None, None)
    """What it says of the lengths of report and chain, where that is a lie."""
    chain: bytes | None = None
    nonces: list[bytes] = dataclasses.field(default_factory=list)

    def load(self, name: str) -> FakeNvml:
        assert name == "libnvidia-ml.so.1"
        return self

    def __getattr__(self, name: str) -> Any:
        pointer = ctypes.c_void_p
        functions: dict[str, tuple[Callable[..., int], tuple[type, ...]]] = {
            "nvmlInit_v2": (lambda: SUCCESS, ()),
            "nvmlDeviceGetCount_v2": (self._count, (pointer,)),
            "nvmlDeviceGetHandleByIndex_v2": (self._handle, (ctypes.c_uint, pointer)),
            "nvmlDeviceGetConfComputeGpuAttestationReport": (self._report, (pointer, pointer)),
            "nvmlDeviceGetConfComputeGpuCertificate": (self._certificate, (pointer, pointer)),
        }
        if name not in functions or name in self.absent:
            raise AttributeError(name)
        function, kinds = functions[name]
        status = self.fails.get(name)
        called = function if status is None else lambda *_: status
        return ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(called)

    def _count(self, count: int) -> int:
        ctypes.c_uint.from_address(count).value = len(self.devices)
        return SUCCESS

    def _handle(self, index: int, handle: int) -> int:
        if index >= len(self.devices):
            return INVALID_ARGUMENT
        ctypes.c_void_p.from_address(handle).value = _FIRST_HANDLE + index
        return SUCCESS

    def _report(self, handle: int, report: int) -> int:
        nonce = ctypes.string_at(report + NONCE_AT, 32)
        self.nonces.append(nonce)
        data = self.platform.report(self.devices[handle - _FIRST_HANDLE], nonce)
        assert len(data) <= REPORT_SIZE
        ctypes.memmove(report + REPORT_AT, data, len(data))
        ctypes.c_uint.from_address(report + 4).value = len(data) if self.sizes[0] is None else self.sizes[0]
        return SUCCESS

    def _certificate(self, handle: int, certificate: int) -> int:
        ders = [each.der for each in reversed(self.platform.chain(self.devices[handle - _FIRST_HANDLE]))]
        data = encode_chain(*ders) if self.chain is None else self.chain
        assert len(data) <= CHAIN_SIZE
        ctypes.memmove(certificate + CHAIN_AT, data, len(data))
        ctypes.c_uint.from_address(certificate + 4).value = len(data) if self.sizes[1] is None else self.sizes[1]
        return SUCCESS
