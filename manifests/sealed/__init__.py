"""Sealed models: written by their owner, carried by anybody, opened where the owner's key broker allows it."""

from __future__ import annotations

from manifests.sealed.core import Core, PartInfo
from manifests.sealed.header import SealedInfo, read_header
from manifests.sealed.inspection import inspect_sealed, recover_dek, rewrap
from manifests.sealed.reader import SealedReader
from manifests.sealed.recipients import RecipientKey
from manifests.sealed.sealing import seal
from manifests.sealed.source import ByteSource, BytesSource, FileSource

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
