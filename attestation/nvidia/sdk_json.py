"""Device evidence in the JSON of NVIDIA's attestation SDK, turned into our container.

    [{"arch": text, "nonce": hex, "evidence": base64 of a report, "certificate": base64 of a PEM chain, ...}, ...]

Source: NVIDIA attestation SDK, `gpu/evidence.cpp` (to_json).  Nonce, architecture and versions are what the collector
says; they are not used, because the report says them, too, and is signed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import strict_json
from attestation.errors import EvidenceError
from attestation.nvidia.container import MAX_CERTIFICATE, MAX_CHAIN, MAX_DEVICES, MAX_EVIDENCE, pack
from attestation.nvidia.errors import NvidiaCode
from attestation.roots import X509_ERRORS

MAX_PEM: Final = MAX_CHAIN * 2 * MAX_CERTIFICATE

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----")


def from_sdk_json(text: str, rims: Sequence[bytes] = ()) -> bytes:
    """Return a container with the SDK's evidence and these manifests.

    Raises EvidenceError `json-malformed` or `nvidia-container`.
    """
    devices = strict_json.loads(text, max_size=MAX_EVIDENCE)
    if not isinstance(devices, list) or not 0 < len(devices) <= MAX_DEVICES:
        raise _malformed(f"it is no list of 1 to {MAX_DEVICES} devices")
    return pack([(_base64(device, "evidence"), pem_chain(_base64(device, "certificate"))) for device in devices], rims)


def pem_chain(data: bytes) -> tuple[bytes, ...]:
    """Return the DER certificates of a PEM chain, in its order; raises EvidenceError `nvidia-container`."""
    blocks = _BLOCK.findall(data) if len(data) <= MAX_PEM else []
    if not 0 < len(blocks) <= MAX_CHAIN:
        raise _malformed(f"it has no chain of 1 to {MAX_CHAIN} certificates")
    try:
        return tuple(x509.load_pem_x509_certificate(block).public_bytes(Encoding.DER) for block in blocks)
    except X509_ERRORS:
        raise _malformed("a certificate cannot be read") from None


def _base64(device: Any, name: str) -> bytes:
    value = device.get(name) if isinstance(device, dict) else None
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise _malformed(f"a device has no {name} in base64")


def _malformed(why: str) -> EvidenceError:
    return EvidenceError(NvidiaCode.CONTAINER, f"the SDK's evidence is not usable: {why}")
