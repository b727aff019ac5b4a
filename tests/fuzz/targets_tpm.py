"""Targets for the files of tpm2-tools, which `attest pack-tpm` reads: PCR values, signatures, keys and certificates."""

from __future__ import annotations

import functools
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.intel import pem
from attestation.tpm.abi import TpmEvidence, parse_evidence
from attestation.tpm.algorithms import Scheme
from attestation.tpm.certificates import check_certificates, read_certificates
from attestation.tpm.pack import Parts, pack, read_pcrs, read_signature
from tests.fuzz.target import Target
from tests.tpm import kit


@functools.lru_cache(maxsize=4)
def _quoted(scheme: Scheme = Scheme.ECDSA) -> TpmEvidence:
    return parse_evidence(kit.sim(scheme).evidence(kit.REPORT_DATA))


def _values() -> bytes:
    return b"".join(value for _, _, value in _quoted().quote.pcrs)


def _in_memory() -> bytes:
    """The values as tpm2_quote has them by default: a selection, a count, and lists of eight digests."""
    values = [value for _, _, value in _quoted().quote.pcrs]
    lists = [values[at : at + 8] for at in range(0, len(values), 8)]
    packed = [
        len(each).to_bytes(4, "little")
        + b"".join(len(value).to_bytes(2, "little") + value.ljust(64, b"\0") for value in each).ljust(8 * 66, b"\0")
        for each in lists
    ]
    return bytes(132) + len(lists).to_bytes(4, "little") + b"".join(packed)


def _signature(data: bytes) -> Any:
    """Read a signature for a key on a curve, and for an RSA key."""
    read_signature(data, _quoted(Scheme.RSASSA).key)
    return read_signature(data, _quoted().key)


def _pem_key(data: bytes) -> Any:
    """Pack a quote under a key in PEM: it never makes evidence, and says what is wrong."""
    opened = kit.opened()
    return pack(Parts(opened["message"], opened["signature"], _values(), b"-----BEGIN PUBLIC KEY-----\n" + data))


def _keys() -> list[bytes]:
    keys = [_quoted(scheme).key.key() for scheme in Scheme]
    texts = [key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    return [text.removeprefix(b"-----BEGIN PUBLIC KEY-----\n") for text in texts]


def _certificates(data: bytes) -> Any:
    """Read the certificates of a file as those of the key, and check them."""
    chain = read_certificates(data, "file")
    check_certificates(chain, ["file"] * len(chain), _quoted().key.key())
    return chain


TARGETS: Final = (
    Target("tpm-pcr-file", lambda data: read_pcrs(data, _quoted().quote.attest), lambda: [_values(), _in_memory()]),
    Target("tpm-signature-file", _signature,
           lambda: [_quoted(scheme).quote.signature.serialize() for scheme in Scheme]),
    Target("tpm-key-file", _pem_key, _keys),
    Target("tpm-certificate-file", _certificates,
           lambda: [pem.encode_chain(*kit.sim().chain), kit.sim().chain[0]]),
)  # fmt: skip

__all__ = ["TARGETS"]
