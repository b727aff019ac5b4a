"""Sealed models: written by their owner, carried by anybody, opened where the owner's key broker allows it.

What only owners and brokers do is imported on first use: the enclave imports this package too, and every module
that it loads is part of what it is measured by.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from manifests.sealed.core import Core, PartInfo
from manifests.sealed.header import SealedInfo, read_header
from manifests.sealed.reader import SealedReader
from manifests.sealed.recipients import RecipientKey
from manifests.sealed.source import ByteSource, BytesSource, FileSource

if TYPE_CHECKING:
    from manifests.sealed.inspection import inspect_sealed, recover_dek, rewrap
    from manifests.sealed.sealing import seal

__all__ = [
    "ByteSource",
    "BytesSource",
    "Core",
    "FileSource",
    "PartInfo",
    "RecipientKey",
    "SealedInfo",
    "SealedReader",
    "inspect_sealed",
    "read_header",
    "recover_dek",
    "rewrap",
    "seal",
]

_ON_FIRST_USE = {
    "inspect_sealed": "manifests.sealed.inspection",
    "recover_dek": "manifests.sealed.inspection",
    "rewrap": "manifests.sealed.inspection",
    "seal": "manifests.sealed.sealing",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
