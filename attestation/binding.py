r"""What a quote is bound to: leaves, their Merkle tree, and the report data.

    leaf        = SHA-512(0x00 || "strongroom leaf session v1\0" || h || SHA-512(claims))
    node        = SHA-512(0x01 || left || right)                       (RFC 9162 section 2.1, with SHA-512)
    report_data = SHA-512("strongroom report v1\0" || u64 size || root)          (64 bytes, big-endian size)

    device_report_data = SHA-512("strongroom report devices v1\0" || boot id || receipt key || HPKE key)     (64 bytes)
    device digest      = SHA-512("strongroom device evidence v1\0" || evidence)                            (64 bytes)

Devices of an enclave (GPUs) are asked once after its start, with the SHA-256 of device_report_data as their nonce.  The
claims carry the digest of what they answered, so that the quote, through the leaf, covers it.  The nonce cannot come
from the quote's own report data, which depend on that digest; it comes from keys that this very start has drawn.

One quote can serve every handshake that waited while the quoter was busy: each gets an inclusion proof of its own.
A handshake alone is a tree of one.  The verifier always computes the expected report data itself.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from manifests.errors import ManifestCode, ManifestError
from manifests.signing import label

HASH_SIZE = 64
MAX_PATH = 16
"""A batch is at most 2**16 handshakes, more than any enclave keeps half open."""

_LEAF = b"\x00" + label("leaf session")
_REPORT = label("report")
_DEVICES = label("report devices")
_DEVICE_EVIDENCE = label("device evidence")


@dataclass(frozen=True)
class InclusionProof:
    """The audit path of one leaf: RFC 9162 section 2.1.3; `path` holds at most 16 hashes of 64 bytes."""

    index: int
    size: int
    path: tuple[bytes, ...]


def session_leaf(handshake_hash: bytes, claims: bytes) -> bytes:
    """Return the leaf of one session: `handshake_hash` is h (64 bytes), `claims` the bytes as transmitted."""
    if len(handshake_hash) != HASH_SIZE:
        raise ValueError("a handshake hash has 64 bytes")
    return hashlib.sha512(_LEAF + handshake_hash + hashlib.sha512(claims).digest()).digest()


def report_data(size: int, root: bytes) -> bytes:
    """Return the 64 bytes that the platform quotes for a tree of `size` leaves."""
    return hashlib.sha512(_REPORT + struct.pack(">Q", size) + root).digest()


def device_report_data(boot_id: bytes, receipt_key: bytes, hpke_key: bytes) -> bytes:
    """Return the 64 bytes that the devices of an enclave are bound to; the three have the sizes that claims give them.

    Devices answer to a nonce of 32 bytes: the SHA-256 of these.
    """
    return hashlib.sha512(_DEVICES + boot_id + receipt_key + hpke_key).digest()


def device_digest(evidence: bytes) -> bytes:
    """Return what the claims carry of the devices' evidence: 64 bytes."""
    return hashlib.sha512(_DEVICE_EVIDENCE + evidence).digest()


def batch(leaves: Sequence[bytes]) -> tuple[bytes, list[InclusionProof]]:
    """Return the report data of a tree over `leaves` (1 to 2**16), and a proof for each."""
    if not 0 < len(leaves) <= 1 << MAX_PATH:
        raise ValueError("a batch has 1 to 65536 leaves")
    size = len(leaves)
    proofs = [InclusionProof(index, size, tuple(_path(index, leaves))) for index in range(size)]
    return report_data(size, _root(leaves)), proofs


def expected_report_data(leaf: bytes, proof: InclusionProof) -> bytes:
    """Return the report data that a quote must carry for this leaf and proof.

    Follows RFC 9162 section 2.1.3.2.  Raises ManifestError `field-invalid` if the proof cannot be one.
    """
    if not 0 <= proof.index < proof.size <= 1 << MAX_PATH or len(proof.path) > MAX_PATH:
        raise ManifestError(ManifestCode.FIELD_INVALID, "the inclusion proof is out of bounds")
    first, last, node = proof.index, proof.size - 1, leaf
    for sibling in proof.path:
        if last == 0 or len(sibling) != HASH_SIZE:
            raise ManifestError(ManifestCode.FIELD_INVALID, "the inclusion proof is too long")
        if first & 1 or first == last:
            node = _node(sibling, node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            node = _node(node, sibling)
        first, last = first >> 1, last >> 1
    if last != 0:
        raise ManifestError(ManifestCode.FIELD_INVALID, "the inclusion proof is too short")
    return report_data(proof.size, node)


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha512(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _root(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    middle = _split(len(leaves))
    return _node(_root(leaves[:middle]), _root(leaves[middle:]))


def _path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*_path(index, leaves[:middle]), _root(leaves[middle:])]
    return [*_path(index - middle, leaves[middle:]), _root(leaves[:middle])]
