r"""Commitments to the tensors of a message: they hide what they bind, until a salt opens them.

    head    = canonical msgpack [name, dtype, shape, size], as the message's header announces the tensor
    salt i  = first 32 bytes of HMAC-SHA-512(salt, "strongroom receipt salt v1\0" || u32 i)
    leaf i  = HMAC-SHA-512(salt i, "strongroom receipt tensor v1\0" || u32 length of head || head || buffer)
    commitment = SHA-512("strongroom receipt input v1\0" || u32 count || leaf 0 || leaf 1 ...)       (or "output")

`salt` has 32 random bytes and is drawn for each direction of each request.  A salt i with its tensor opens that tensor
alone; the other leaves stay as they are.  docs/receipts.md has the same for whoever writes a verifier.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeAlias

import numpy.typing as npt

from attestation.wire.messages import Body, TensorSpec, flatten
from manifests import canonical
from manifests.signing import label

SALT_SIZE = 32

Tensor: TypeAlias = tuple[TensorSpec, bytes | memoryview]
"""A tensor as a message announces it, and its bytes as they travel."""

_SALT = label("receipt salt")
_TENSOR = label("receipt tensor")


class Direction(StrEnum):
    """Which way a message went."""

    INPUT = "input"
    OUTPUT = "output"


_COMMITMENTS = {direction: label(f"receipt {direction}") for direction in Direction}


def received(body: Body) -> list[Tensor]:
    """Return the tensors of a message that came."""
    return list(zip(body.specs, body.buffers, strict=True))


def sent(tensors: Mapping[str, npt.NDArray[Any]]) -> list[Tensor]:
    """Return the tensors of a message as they are sent; raises WireError `message-malformed`."""
    return [flatten(name, array) for name, array in tensors.items()]


def salts(salt: bytes, count: int) -> list[bytes]:
    """Return the salts of `count` tensors, 32 bytes each; `salt` has 32 bytes."""
    return [hmac.digest(salt, _SALT + struct.pack(">I", index), "sha512")[:SALT_SIZE] for index in range(count)]


def leaf(salt: bytes, tensor: Tensor) -> bytes:
    """Return the commitment to one tensor, 64 bytes, under its own salt (32 bytes)."""
    spec, buffer = tensor
    head = canonical.encode(spec.announced())
    mac = hmac.new(salt, _TENSOR + struct.pack(">I", len(head)) + head, "sha512")
    mac.update(buffer)
    return mac.digest()


def leaves(salt: bytes, tensors: Sequence[Tensor]) -> list[bytes]:
    """Return the leaves of all tensors of a message under its salt (32 bytes)."""
    return [leaf(own, tensor) for own, tensor in zip(salts(salt, len(tensors)), tensors, strict=True)]


def combine(direction: Direction, leaves: Iterable[bytes]) -> bytes:
    """Return the commitment, 64 bytes, to the tensors of one direction."""
    found = list(leaves)
    return hashlib.sha512(_COMMITMENTS[direction] + struct.pack(">I", len(found)) + b"".join(found)).digest()


def commit(direction: Direction, salt: bytes, tensors: Sequence[Tensor]) -> bytes:
    """Return the commitment, 64 bytes, to the tensors of a message under its salt (32 bytes)."""
    return combine(direction, leaves(salt, tensors))
