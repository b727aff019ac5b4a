"""WAV files, read strictly: the chunks of RIFF, and integers or floats of PCM (Microsoft, Multimedia Registration Kit).

Nothing is allocated for what a header announces; only bytes that are there are looked at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_CHUNKS = 256
"""Chunks that are passed over on the way to the samples; tools write a handful."""
MAX_CHANNELS = 16
MAX_VALUE = 65_536.0
"""Of a sample that is a float: 1 is full, some programs scale to integers of 16 bits, and no sum of these overflows."""

_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format's number in the sub-format of WAVEFORMATEXTENSIBLE."""
_INTEGERS = {8: "u1", 16: "<i2", 32: "<i4"}
_FLOATS = {32: "<f4", 64: "<f8"}


class WavError(ValueError):
    """The bytes are no WAV file of a kind that is read here."""


@dataclass(frozen=True)
class WavHeader:
    """rate: frames a second.  bits: of one sample.  start, frames: where in the file the frames are, and how many."""

    rate: int
    channels: int
    bits: int
    is_float: bool
    start: int
    frames: int


def read_header(data: bytes) -> WavHeader:
    """Find format and samples; raises WavError.

    A data chunk that announces more bytes than follow is an error, but for 0 and 0xFFFFFFFF, which programs write
    that cannot go back: these mean all that follows.
    """
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise WavError("no RIFF file of WAVE")
    form: tuple[int, int, int, bool] | None = None
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if name == b"data":
            return _header(form, at, len(data) - at, size)
        if name == b"fmt ":
            form = _format(data[at : at + min(size, 40)])
        at += size + size % 2
    raise WavError("no samples")


def _header(form: tuple[int, int, int, bool] | None, start: int, left: int, size: int) -> WavHeader:
    if form is None:
        raise WavError("samples without a format")
    if size in {0, 0xFFFF_FFFF}:
        size = left
    rate, channels, bits, is_float = form
    frame = channels * bits // 8
    if size > left or size % frame:
        raise WavError("the samples are not whole")
    return WavHeader(rate, channels, bits, is_float, start, size // frame)


def _format(chunk: bytes) -> tuple[int, int, int, bool]:
    """Return (rate, channels, bits, whether they are floats) of a format chunk."""
    if len(chunk) < 16:
        raise WavError("the format is too short")
    kind, channels, rate, per_second, align, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == _EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _GUID_TAIL:
            raise WavError("the extended format is none that is known")
        kind = int.from_bytes(chunk[24:26], "little")
    known = (8, 16, 24, 32) if kind == _PCM else tuple(_FLOATS) if kind == _FLOAT else ()
    if bits not in known or not 1 <= channels <= MAX_CHANNELS or not rate:
        raise WavError("neither integers nor floats that are read here")
    if align != channels * bits // 8 or per_second != rate * align:
        raise WavError("the format contradicts itself")
    return rate, channels, bits, kind == _FLOAT


def read_mono(data: bytes, header: WavHeader) -> npt.NDArray[np.float32]:
    """Return the mean of all channels, from -1 to 1; floats as they are.

    Raises WavError for NaN, and for floats beyond MAX_VALUE.
    """
    count = header.frames * header.channels
    raw = memoryview(data)[header.start : header.start + count * header.bits // 8]
    if header.is_float:
        floats = np.frombuffer(raw, _FLOATS[header.bits])
        if not (np.abs(floats) <= MAX_VALUE).all():  # which NaN is not
            raise WavError("a sample is no number, or far beyond what is loud")
        samples = floats.astype(np.float32)
    elif header.bits == 24:
        wide = np.zeros((count, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(count, 3)
        samples = (wide.view("<i4").reshape(count) / np.float64(1 << 31)).astype(np.float32)
    elif header.bits == 8:  # the one kind without a sign
        samples = ((np.frombuffer(raw, np.uint8) - np.float64(128)) / 128).astype(np.float32)
    else:
        samples = (np.frombuffer(raw, _INTEGERS[header.bits]) / np.float64(1 << header.bits - 1)).astype(np.float32)
    mixed: npt.NDArray[np.float32] = samples.reshape(header.frames, header.channels).mean(axis=1, dtype=np.float32)
    return mixed
