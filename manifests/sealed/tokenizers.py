"""What sealing asks of a tokenizer: that it is one, as far as its form tells without the library that reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from manifests.errors import ManifestCode, ManifestError
from manifests.files import read_bounded
from manifests.model import ModelManifest
from manifests.steps import part_names

MAX_TOKENIZER = 64 << 20
"""Bytes of a tokenizer.json, as many as the enclave reads."""


def check_tokenizers(manifest: ModelManifest, parts: Mapping[str, Path | bytes]) -> None:
    """Check each part that a step or a language model names as its tokenizer; raises ManifestError `sealed-part`.

    A part that is missing is refused where parts are gathered.
    """
    for name in sorted((part_names(manifest.pre) | manifest.serving.own_parts) & parts.keys()):
        content = parts[name]
        data = content if isinstance(content, bytes) else read_bounded(Path(content), MAX_TOKENIZER)
        check_tokenizer(data, name if isinstance(content, bytes) else str(content))


def check_tokenizer(data: bytes, name: str) -> None:
    """Refuse what is not an object with a table `model`, in JSON; raises ManifestError `sealed-part`."""
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        raise _invalid(name, "no JSON") from None
    if not isinstance(table, dict) or not isinstance(table.get("model"), dict):
        raise _invalid(name, "JSON without a table `model`")


def _invalid(name: str, found: str) -> ManifestError:
    return ManifestError(
        ManifestCode.SEALED_PART,
        f"{name} is no tokenizer",
        expected="a tokenizer.json of Hugging Face's `tokenizers`",
        found=found,
        remedy="name the tokenizer.json that Tokenizer.save wrote with --part NAME=FILE",
    )
