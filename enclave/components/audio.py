"""Sound into samples: WAV files, resampled by libsoxr."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from enclave.components import Parts, Step
from enclave.components.wav import WavError, WavHeader, read_header, read_mono
from enclave.errors import EnclaveCode, EnclaveError
from enclave.validate import Tensors
from enclave.values import Array
from manifests.steps import Audio, ComponentStep
from manifests.steps.decode import MAX_RATE, QUALITIES

MIN_RATE = 1000
"""Frames a second of a file: below, one second of a file would become hundreds of times as much."""


def compile(step: ComponentStep, parts: Parts) -> Step:  # noqa: A001, ARG001 - one signature for all components
    """Return the function that replaces a request's file by its samples."""
    assert isinstance(step, Audio)  # noqa: S101 - tells the type checker what the registry of steps holds
    decoder = _Decoder(step)

    def run(tensors: Tensors) -> Tensors:
        others = {name: value for name, value in tensors.items() if name != step.input}
        return {**others, step.output: decoder.decode(tensors[step.input].tobytes())}

    return run


def rehearse() -> None:
    """Resample once in each quality."""
    for quality in QUALITIES:
        soxr.resample(np.zeros(64, np.float32), 8000, 16000, quality=quality)


@dataclass(frozen=True)
class _Decoder:
    """One step, ready to be applied to files."""

    step: Audio

    def decode(self, data: bytes) -> Array:
        """Return the samples; raises EnclaveError `audio-...` and nothing else."""
        try:
            header = read_header(data)
            self._check(header)
            mono = read_mono(data, header)
            samples = soxr.resample(mono, header.rate, self.step.rate, quality=self.step.quality)
        except WavError:
            raise self._refuse(EnclaveCode.AUDIO_MALFORMED, "must hold a whole WAV file of PCM") from None
        except (EnclaveError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - the library's exceptions have no common root
            raise self._refuse(EnclaveCode.AUDIO_MALFORMED, "must hold sound that can be resampled") from None
        return self._fitted(np.asarray(samples, np.float32))

    def _check(self, header: WavHeader) -> None:
        """Hold the header against the bounds, before anything is converted."""
        if not MIN_RATE <= header.rate <= MAX_RATE:
            raise self._refuse(EnclaveCode.AUDIO_RATE, f"must have between {MIN_RATE} and {MAX_RATE} samples a second")
        if header.frames > self.step.max_seconds * header.rate:
            raise self._refuse(EnclaveCode.AUDIO_TOO_LONG, f"must last at most {self.step.max_seconds:g} seconds")
        if not header.frames:
            raise self._refuse(EnclaveCode.AUDIO_MALFORMED, "must hold at least one sample")

    def _fitted(self, samples: Array) -> Array:
        """Return one row, filled up or cut to the number of samples that the graph takes, where it takes one."""
        wanted = self.step.samples or min(max(len(samples), 1), self.step.longest)
        if self.step.samples and len(samples) > wanted and not self.step.truncate:
            raise self._refuse(EnclaveCode.AUDIO_TOO_LONG, f"must have at most {wanted} samples once resampled")
        row = np.zeros((1, wanted), np.float32)
        kept = samples[:wanted]
        row[0, : len(kept)] = kept
        return row

    def _refuse(self, code: EnclaveCode, bound: str) -> EnclaveError:
        return EnclaveError(code, f"input {self.step.input!r} {bound}", field=self.step.input)
