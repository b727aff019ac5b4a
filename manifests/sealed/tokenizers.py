"""Tokenizers among the parts of a model that is to be sealed: each is checked as the enclave will check it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from manifests.errors import ManifestCode, ManifestError
from manifests.files import read_bounded
from manifests.model import ModelManifest
from manifests.steps import part_names
from manifests.tokenizer import MAX_TOKENIZER, tokenizer_fault


def check_tokenizers(manifest: ModelManifest, parts: Mapping[str, Path | bytes]) -> None:
    """Check each part that a step or a language model names as its tokenizer; raises ManifestError `tokenizer-refused`.

    A part that is missing is refused where parts are gathered.
    """
    for name in sorted((part_names(manifest.pre) | manifest.serving.own_parts) & parts.keys()):
        content = parts[name]
        data = content if isinstance(content, bytes) else read_bounded(Path(content), MAX_TOKENIZER)
        fault = tokenizer_fault(data)
        if fault is not None:
            raise ManifestError(ManifestCode.TOKENIZER, f"part {name!r}, a tokenizer.json, {fault}")
