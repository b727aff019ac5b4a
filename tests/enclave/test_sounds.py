"""Sound: the samples are those of soxr called directly; files that lie about themselves are refused."""

from __future__ import annotations

import struct
import time
import tracemalloc
import wave
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import soxr

from tests.enclave.decoding import decoded, refused
from tests.testkit.files import form, riff, tone, wav

STEP: dict[str, Any] = {"kind": "audio", "input": "file", "output": "x", "rate": 16_000, "max_seconds": 2.0}


def step(**changes: Any) -> dict[str, Any]:
    return {**STEP, **changes}


def by_the_standard_library(data: bytes) -> np.ndarray:
    """The samples as Python's own `wave` gives them, made floats and mixed."""
    with wave.open(BytesIO(data)) as file:
        width, channels = file.getsampwidth(), file.getnchannels()
        frames = np.frombuffer(file.readframes(file.getnframes()), np.uint8).reshape(-1, width)
    if width == 1:
        whole = (frames.astype(np.int64) - 128).reshape(-1)
    else:
        whole = np.array([int.from_bytes(row.tobytes(), "little", signed=True) for row in frames])
    samples = (whole / (1 << 8 * width - 1)).astype(np.float32)
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_samples_are_those_of_the_libraries_called_directly(bits: int, channels: int, rate: int) -> None:
    sound = np.stack([tone(0.1, rate, 300 + 50 * each) for each in range(channels)], axis=1)
    data = wav(sound, rate, bits=bits, channels=channels)
    expected = soxr.resample(by_the_standard_library(data), rate, 16_000, quality="HQ")
    np.testing.assert_array_equal(decoded(STEP, data)[0], expected)


@pytest.mark.parametrize("bits", [32, 64])
def test_floats_are_taken_as_they_are(bits: int) -> None:
    data = wav(tone(), 16_000, bits=bits, floats=True)
    np.testing.assert_array_equal(decoded(STEP, data)[0], tone().astype(np.float32))


@pytest.mark.parametrize("quality", ["qq", "lq", "mq", "hq", "vhq"])
def test_every_quality_is_the_librarys(quality: str) -> None:
    data = wav(tone())
    expected = soxr.resample(by_the_standard_library(data), 8000, 16_000, quality=quality)
    np.testing.assert_array_equal(decoded(step(quality=quality), data)[0], expected)


def test_an_extended_format_says_the_same() -> None:
    plain = form(1, 1, 16_000, 16)
    extended = struct.pack("<H", 0xFFFE) + plain[2:] + struct.pack("<HHI", 22, 16, 4)
    extended += bytes.fromhex("0100000000001000800000aa00389b71")
    data = (tone() * 32768).astype("<i2").tobytes()
    np.testing.assert_array_equal(decoded(STEP, riff(extended, data)), decoded(STEP, riff(plain, data)))


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF])
def test_a_stream_that_did_not_know_its_length_is_read_to_its_end(size: int) -> None:
    fmt, data = form(1, 1, 16_000, 16), (tone() * 32768).astype("<i2").tobytes()
    np.testing.assert_array_equal(decoded(STEP, riff(fmt, data, size)), decoded(STEP, riff(fmt, data)))


def test_a_fixed_number_of_samples_is_filled_up_with_silence_or_cut() -> None:
    data = wav(tone(0.5, 16_000), 16_000)
    filled = decoded(step(samples=10_000), data)
    assert filled.shape == (1, 10_000)
    assert not filled[0, 8000:].any()
    assert refused(step(samples=7999), data) == "audio-too-long"
    np.testing.assert_array_equal(decoded(step(samples=7999, truncate=True), data), filled[:, :7999])


SOUND = wav(tone())
FORM = form(1, 1, 8000, 16)
REFUSALS: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "audio-malformed"),
    "an MP3": (b"ID3\x04\0\0\0\0\0\0", "audio-malformed"),
    "RIFF of something else": (b"RIFF\x04\0\0\0AVI ", "audio-malformed"),
    "big-endian RIFX": (b"RIFX" + SOUND[4:], "audio-malformed"),
    "cut in its header": (SOUND[:30], "audio-malformed"),
    "cut in its samples": (SOUND[:-100], "audio-malformed"),
    "samples before their format": (
        b"RIFF\0\0\0\0WAVEdata\x04\0\0\0" + bytes(4) + b"fmt \x10\0\0\0" + FORM,
        "audio-malformed",
    ),
    "no samples at all": (riff(FORM, b""), "audio-malformed"),
    "samples that announce 4 GB": (riff(FORM, bytes(10), 0xFFFF_FFFE), "audio-malformed"),
    "a chunk that announces 4 GB": (
        riff(FORM, bytes(10), None, b"LIST" + struct.pack("<I", 0xFFFF_FFF0)),
        "audio-malformed",
    ),
    "a thousand chunks before the samples": (
        riff(FORM, bytes(10), None, *[b"JUNK" + bytes(4)] * 1000),
        "audio-malformed",
    ),
    "half a sample at the end": (riff(FORM, bytes(11)), "audio-malformed"),
    "no channels": (riff(form(1, 0, 8000, 16), bytes(10)), "audio-malformed"),
    "65,535 channels": (riff(struct.pack("<HHIIHH", 1, 65_535, 8000, 0, 0, 16), bytes(10)), "audio-malformed"),
    "no bits": (riff(form(1, 1, 8000, 0), bytes(10)), "audio-malformed"),
    "12 bits": (riff(form(1, 1, 8000, 12), bytes(12)), "audio-malformed"),
    "A-law": (riff(form(6, 1, 8000, 8), bytes(10)), "audio-malformed"),
    "an extension that is cut": (riff(struct.pack("<H", 0xFFFE) + FORM[2:], bytes(10)), "audio-malformed"),
    "a format that contradicts itself": (riff(FORM[:8] + bytes(4) + FORM[12:], bytes(10)), "audio-malformed"),
    "a rate of zero": (riff(form(1, 1, 0, 16), bytes(10)), "audio-malformed"),
    "NaN among floats": (wav(np.array([0.1, np.nan]), bits=32, floats=True), "audio-malformed"),
    "an infinity among floats": (wav(np.array([0.1, np.inf]), bits=64, floats=True), "audio-malformed"),
    "floats beyond any loudness": (wav(np.array([0.1, -1e30]), bits=64, floats=True), "audio-malformed"),
    "one sample a second": (riff(form(1, 1, 1, 16), bytes(10)), "audio-rate"),
    "four billion samples a second": (riff(form(1, 1, (1 << 31) - 1, 16), bytes(10)), "audio-rate"),
    "a recording that is a sample too long": (riff(FORM, bytes(2 * 16_001)), "audio-too-long"),
    "an hour": (riff(form(1, 1, 1000, 8), bytes(3_600_000)), "audio-too-long"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_file_that_is_no_good_recording_is_refused_cheaply(case: str) -> None:
    data, code = REFUSALS[case]
    refused(STEP, b"")  # what is allocated once is not counted
    tracemalloc.start()
    began = time.process_time()
    try:
        assert refused(STEP, data) == code
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (1 << 20) + 3 * len(data)
    assert time.process_time() - began < 1


def test_the_longest_recording_of_the_lowest_rate_stays_within_what_is_announced() -> None:
    data = riff(form(1, 1, 1000, 8), bytes([128]) * 2000)
    assert decoded(step(rate=384_000), data).shape == (1, 768_000)
