"""Targets for what the enclave's components decode: pictures, sound, texts, and an owner's tokenizer.

The library behind each is part of what is fuzzed: whatever it raises has to come out as a code of ours.
"""

from __future__ import annotations

import functools
import json
import warnings
from typing import Any, Final

import numpy as np

from enclave.components import audio, image, text
from enclave.components.wav import WavError, read_header, read_mono
from enclave.errors import EnclaveCode, EnclaveError
from manifests.steps import Audio, ComponentStep, Image, Tokenize
from tests.fuzz.target import Target
from tests.testkit.files import PNG, chunk, picture, saved, tone, trained_tokenizer, wav

_ERRORS: Final = (EnclaveError,)
_COMPONENTS: Final = {"text": text, "image": image, "audio": audio}
_IMAGE: Final = Image("file", "x", 8, 8, max_pixels=1 << 16, alpha="white", fit="cover")
_AUDIO: Final = Audio("file", "x", 16_000, 1.0)
_TEXT: Final = Tokenize("text", "part", 64, mask="mask", types="types")


def _applied(step: ComponentStep, value: Any, parts: dict[str, bytearray] | None = None) -> Any:
    component = _COMPONENTS[step.component]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the component has it, where no test runner overrules it
        return component.compile(step, parts or {})({step.input: value})


def _image(data: bytes) -> Any:
    return _applied(_IMAGE, np.frombuffer(data, np.uint8))


def _chunks(data: bytes) -> Any:
    """Read a PNG whose checksums are made to fit: what is fuzzed is what the chunks say."""
    made, at = PNG, 0
    while at + 8 <= len(data) and len(made) < 1 << 18:
        size = int.from_bytes(data[at : at + 4], "big") % (1 << 16)
        made += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + size])
        at += 8 + size
    return _image(made)


def _without_checksums(data: bytes) -> bytes:
    bare, at = b"", len(PNG)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        bare += data[at : at + 8 + size]
        at += 12 + size
    return bare


def _wav(data: bytes) -> Any:
    """Read the file alone, whose reader is ours."""
    try:
        return read_mono(data, read_header(data))
    except WavError:
        raise EnclaveError(EnclaveCode.AUDIO_MALFORMED, "no WAV file") from None


def _audio(data: bytes) -> Any:
    return _applied(_AUDIO, np.frombuffer(data, np.uint8))


def _text(data: bytes) -> Any:
    texts = np.array([data.decode("utf-8", "replace")], dtype=object)
    return _applied(_TEXT, texts, {"part": bytearray(_tokenizer())})


def _tokenizer_json(data: bytes) -> Any:
    return _applied(_TEXT, np.array(["Simple is better than complex.", "é"], dtype=object), {"part": bytearray(data)})


@functools.cache
def _tokenizer() -> bytes:
    return trained_tokenizer(["simple is better than complex", "explicit is better than implicit"], 80)


def _tokenizers() -> list[bytes]:
    """One of word pieces, one of byte pairs, and one of words, as their makers write them."""
    first = json.loads(_tokenizer())
    pairs = {"type": "BPE", "vocab": {"s": 0, "i": 1, "si": 2}, "merges": ["s i"], "unk_token": "s"}
    words = {"type": "WordLevel", "vocab": {"simple": 0, "[UNK]": 1}, "unk_token": "[UNK]"}
    levels = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    tables = [
        {**first, "model": {**first["model"], **pairs}, "pre_tokenizer": levels, "post_processor": None},
        {**first, "model": words, "post_processor": None},
    ]
    return [_tokenizer(), *(json.dumps(table).encode() for table in tables)]


def _pngs() -> list[bytes]:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    small = [saved(picture(9, 7, mode), exif=exif) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    moving = saved(picture(9, 7), save_all=True, append_images=[picture(10, 7).resize((9, 7))])
    return [*small, moving, saved(picture(9, 7, "P"), transparency=1)]


def _jpegs() -> list[bytes]:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    options: list[dict[str, Any]] = [{}, {"progressive": True}, {"exif": exif}, {"icc_profile": bytes(200)}]
    return [saved(picture(20, 18, mode), "JPEG", **each) for mode in ("L", "RGB", "CMYK") for each in options]


def _wavs() -> list[bytes]:
    short = tone(0.01)
    return [*(wav(short, bits=bits) for bits in (8, 16, 24, 32)), wav(short, bits=64, floats=True)]


TARGETS: Final[tuple[Target, ...]] = (
    Target("content-png", _image, _pngs, _ERRORS),
    Target("content-png-chunks", _chunks, lambda: [_without_checksums(data) for data in _pngs()], _ERRORS),
    Target("content-jpeg", _image, _jpegs, _ERRORS),
    Target("content-wav", _wav, _wavs, _ERRORS),
    Target("content-audio", _audio, _wavs, _ERRORS),
    Target("content-text", _text, lambda: [b"Simple is better", "שלום \u202e é".encode(), b"a " * 70], _ERRORS),
    Target("content-tokenizer", _tokenizer_json, _tokenizers, _ERRORS),
)

__all__ = ["TARGETS"]
