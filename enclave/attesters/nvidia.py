"""NVIDIA GPUs: what NVIDIA's management library (NVML) has them sign.

Source: NVIDIA, NVML API Reference, "Confidential Computing": nvmlDeviceGetConfComputeGpuAttestationReport and
nvmlDeviceGetConfComputeGpuCertificate, with their structures of nvml.h; a chain comes as PEM, the leaf first.  Evidence
is the container that docs/attestation-nvidia.md describes.  NVML knows nothing of NVSwitches, so neither does this.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from enclave.attesters.base import DeviceAttester, missing
from enclave.attesters.files import KernelFiles
from enclave.errors import EnclaveError
from manifests import canonical
from manifests.gramine.settings import DeviceSettings

LIBRARY: Final = "libnvidia-ml.so.1"
FORMAT: Final = "strongroom nvidia evidence"
VERSION: Final = 1
MAX_DEVICES: Final = 32
"""As many as the container takes; the largest machine has 8."""
MAX_MANIFEST: Final = 128 * 1024
"""NVIDIA's have 20 to 26 KiB."""

_NONCE_SIZE = 32
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")

Load = Callable[[str], Any]
"""Opens a shared library by its name, as ctypes.CDLL does; raises OSError."""


class _Report(ctypes.Structure):
    """nvmlConfComputeGpuAttestationReport_t."""

    _fields_ = (
        ("cec_present", ctypes.c_uint),
        ("size", ctypes.c_uint),
        ("cec_size", ctypes.c_uint),
        ("nonce", ctypes.c_ubyte * _NONCE_SIZE),
        ("report", ctypes.c_ubyte * 0x2000),
        ("cec_report", ctypes.c_ubyte * 0x1000),
    )


class _Certificates(ctypes.Structure):
    """nvmlConfComputeGpuCertificate_t."""

    _fields_ = (
        ("size", ctypes.c_uint),
        ("attestation_size", ctypes.c_uint),
        ("chain", ctypes.c_ubyte * 0x1000),
        ("attestation_chain", ctypes.c_ubyte * 0x1400),
    )


class NvidiaDevices(DeviceAttester):
    """Asks every GPU that NVML shows, all with one nonce, and adds the manifests that the settings name."""

    def __init__(self, settings: DeviceSettings, load: Load = ctypes.CDLL, files: KernelFiles | None = None) -> None:
        """Open NVML and read the manifests; raises EnclaveError `enclave-start-failed`."""
        try:
            self._library = load(LIBRARY)
        except OSError:
            raise _missing(f"there is no {LIBRARY}", "install NVIDIA's driver with its management library") from None
        self._call("nvmlInit_v2")
        self._manifests = [_read(files or KernelFiles(), Path(path)) for path in settings.manifests]

    def _evidence(self, report_data: bytes) -> bytes:
        nonce = hashlib.sha256(report_data).digest()
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        if not 0 < count.value <= MAX_DEVICES:
            raise _missing(f"NVML shows {count.value} GPUs", f"use a machine with 1 to {MAX_DEVICES} of them")
        reports = [self._device(index, nonce) for index in range(count.value)]
        return canonical.encode({"format": FORMAT, "version": VERSION, "reports": reports, "rims": self._manifests})

    def _device(self, index: int, nonce: bytes) -> dict[str, canonical.Value]:
        """Return one GPU's entry in the container."""
        handle, report, certificates = ctypes.c_void_p(), _Report(), _Certificates()
        report.nonce[:] = nonce
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        self._call("nvmlDeviceGetConfComputeGpuAttestationReport", handle, ctypes.byref(report))
        self._call("nvmlDeviceGetConfComputeGpuCertificate", handle, ctypes.byref(certificates))
        chain = _ders(_filled(certificates.attestation_chain, certificates.attestation_size))
        return {"report": _filled(report.report, report.size), "chain": chain}

    def _call(self, name: str, *arguments: Any) -> None:
        """Call a function of NVML; raises EnclaveError where it gives another status than NVML_SUCCESS."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise _missing(f"{LIBRARY} has no {name}", "install a driver that knows confidential computing") from None
        status = function(*arguments)
        if status:
            raise _missing(
                f"{name} gives status {status}",
                "switch the GPUs to confidential computing (nvidia-smi conf-compute), and let the process use them",
            )


def _filled(buffer: Any, size: int) -> bytes:
    """Return the part of a buffer that NVML says it has filled."""
    if not 0 < size <= len(buffer):
        raise _malformed()
    return bytes(buffer[:size])


def _ders(chain: bytes) -> list[bytes]:
    """Return the DER certificates of a PEM chain; what they say is for those to check who rely on it."""
    try:
        ders = [base64.b64decode(b"".join(body.split()), validate=True) for body in _PEM.findall(chain)]
    except binascii.Error:
        raise _malformed() from None
    if not ders or not all(ders):  # a block without a body decodes, to nothing
        raise _malformed()
    return ders


def _read(files: KernelFiles, path: Path) -> bytes:
    try:
        return files.read(path, MAX_MANIFEST)
    except OSError as error:
        raise _missing(
            f"the manifest {path} cannot be read: {error.strerror}",
            "put NVIDIA's manifest there, or correct [devices] in the settings",
        ) from None


def _malformed() -> EnclaveError:
    return _missing("NVML's answer is not of its form", "install a driver that knows confidential computing")


def _missing(found: str, remedy: str) -> EnclaveError:
    return missing("nvidia", found, remedy)
