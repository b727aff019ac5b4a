"""AWS Nitro Enclaves: the Nitro Security Module behind /dev/nsm.

Source: Linux, include/uapi/linux/nsm.h (NSM_IOCTL_RAW), and AWS's NSM library: a request is the CBOR map
{"Attestation": {"user_data": bytes, "nonce": null, "public_key": null}}, and the response {"Attestation":
{"document": bytes}} or {"Error": text}.  The report data travel as user data.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from attestation.types import PlatformClass
from enclave.attesters.base import Attester, missing
from enclave.errors import EnclaveCode, EnclaveError

DEVICE = Path("/dev/nsm")
NSM_IOCTL_RAW = 0xC0200A00
"""_IOWR(0x0A, 0, struct nsm_raw), whose size is 32."""
MAX_RESPONSE = 0x3000
"""NSM_RESPONSE_MAX_SIZE."""

_ATTESTATION = b"\xa1\x6bAttestation"
_DOCUMENT = _ATTESTATION + b"\xa1\x68document"
_ERROR = b"\xa1\x65Error"
_NULLS = b"\x65nonce\xf6\x6apublic_key\xf6"

Ioctl = Callable[[int, int, ctypes.Structure], int]


class _Vector(ctypes.Structure):
    """struct nsm_iovec: address and length of a buffer."""

    _fields_ = (("address", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Raw(ctypes.Structure):
    """struct nsm_raw."""

    _fields_ = (("request", _Vector), ("response", _Vector))


class NitroAttester(Attester):
    """Asks the security module."""

    platform = PlatformClass.HARDWARE
    hint = "nitro"

    def __init__(self, device: Path = DEVICE, ioctl: Ioctl = fcntl.ioctl) -> None:
        """Open the device; raises EnclaveError `enclave-start-failed`."""
        self._ioctl = ioctl
        try:
            self._descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise missing(
                "nitro",
                f"{device} cannot be opened: {error.strerror}",
                "run inside a Nitro enclave, whose kernel has the nsm driver",
            ) from None

    def _quote(self, report_data: bytes) -> bytes:
        user_data = b"\x69user_data" + _head(0x40, len(report_data)) + report_data
        return _document(self._exchange(_ATTESTATION + b"\xa3" + user_data + _NULLS))

    def _exchange(self, request: bytes) -> bytes:
        """Hand a request to the module; raises OSError."""
        sent = ctypes.create_string_buffer(request, len(request))
        received = ctypes.create_string_buffer(MAX_RESPONSE)
        message = _Raw(_Vector(ctypes.addressof(sent), len(request)), _Vector(ctypes.addressof(received), MAX_RESPONSE))
        self._ioctl(self._descriptor, NSM_IOCTL_RAW, message)
        return received.raw[: min(message.response.length, MAX_RESPONSE)]


def _head(major: int, size: int) -> bytes:
    """Return the head of a CBOR string (RFC 8949, section 3) of up to 65,535 bytes."""
    if size < 24:
        return bytes([major | size])
    return bytes([major | 24, size]) if size < 256 else bytes([major | 25]) + size.to_bytes(2, "big")


def _document(response: bytes) -> bytes:
    """Return the document of a response; raises EnclaveError `quote-unavailable` for any other."""
    if response.startswith(_ERROR):
        word = response[len(_ERROR) + 1 :].decode("ascii", "replace")
        raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the security module refused the request", found=word[:64])
    body = response.removeprefix(_DOCUMENT)
    size = int.from_bytes(body[1:3], "big")
    if len(body) == len(response) or body[:3] != _head(0x40, size) or len(body) != 3 + size:
        raise EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the security module's answer is not of its form")
    return body[3:]
