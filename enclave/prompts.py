"""Requests to generate: read from their header, and held against the model's manifest."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attestation.wire.messages import Body
from enclave.errors import EnclaveCode, EnclaveError
from enclave.sampling import MAX_SEED, Sampler
from enclave.spelling import Words
from enclave.streams import MAX_WINDOW
from manifests import fields
from manifests.generation import Sampling
from manifests.model import ModelManifest

MAX_STOPS = 8
MAX_STOP = 256
"""UTF-8 bytes of one stop string: so much of an answer is held back at most."""
MAX_PROMPT = 128 * 1024
"""UTF-8 bytes of a prompt as text: half a header.  Longer ones come as tokens."""
MAX_TEMPERATURE = 100.0
TOKENS = "tokens"
"""Name of the tensor that a prompt in tokens comes as."""

_REQUIRED = ("op", "id", "model", "max_new_tokens", "window")
_OPTIONAL = ("prompt", "stop", "temperature", "top_k", "top_p", "seed", "receipt")


@dataclass(frozen=True)
class Ask:
    """A request that the model admits.  stops: byte strings that end the answer before them."""

    tokens: tuple[int, ...]
    max_new_tokens: int
    sampler: Sampler
    stops: tuple[bytes, ...]
    window: int


def read_ask(body: Body, manifest: ModelManifest, words: Words) -> Ask:
    """Read a request; raises ManifestError `field-invalid` or EnclaveError `prompt-refused`, `sampling-refused`."""
    header = fields.closed_map(body.header, "request", _REQUIRED, _OPTIONAL)
    fields.of_type(header.get("receipt", False), "receipt", bool)
    generation = manifest.serving.generation
    if generation is None:
        raise EnclaveError(EnclaveCode.OPERATION_UNFIT, "the model answers requests, and generates nothing")
    tokens = _tokens(body, header, manifest, words)
    room = generation.context - len(tokens)
    if not tokens or room < 1:
        raise _refuse(_field(body), f"must have between 1 and {generation.context - 1} tokens")
    return Ask(
        tokens=tokens,
        max_new_tokens=fields.number(header["max_new_tokens"], "max_new_tokens", 1, generation.max_new_tokens),
        sampler=_sampler(header, generation.sampling),
        stops=tuple(_stop(item) for item in fields.list_of(header.get("stop", []), "stop", MAX_STOPS)),
        window=fields.number(header["window"], "window", 1, MAX_WINDOW),
    )


def _tokens(body: Body, header: Mapping[str, Any], manifest: ModelManifest, words: Words) -> tuple[int, ...]:
    if ("prompt" in header) == bool(body.specs):
        raise EnclaveError(EnclaveCode.REQUEST_MALFORMED, "a prompt is either text or tokens", field="prompt")
    if body.specs:
        return _given(body, manifest, words.size)
    text = _utf8(header["prompt"], "prompt")
    if len(text) > min(MAX_PROMPT, manifest.limits.max_request_bytes):
        raise EnclaveError(EnclaveCode.REQUEST_TOO_LARGE, "the prompt is longer than the model admits", field="prompt")
    return tuple(words.encode(text))


def _given(body: Body, manifest: ModelManifest, size: int) -> tuple[int, ...]:
    """Return a prompt that came as tokens: one tensor, int64, of one axis."""
    spec = body.specs[0]
    if [(spec.name, spec.dtype, len(spec.shape)) for spec in body.specs] != [(TOKENS, "int64", 1)]:
        raise _refuse(TOKENS, "must be the one tensor, int64, with one axis")
    if spec.size > manifest.limits.max_request_bytes:
        raise EnclaveError(EnclaveCode.REQUEST_TOO_LARGE, "the prompt is longer than the model admits", field=TOKENS)
    array = body.arrays()[TOKENS]
    if array.size and not (array.min() >= 0 and array.max() < size):
        raise _refuse(TOKENS, f"must hold numbers from 0 to {size - 1}")
    return tuple(array.tolist())


def _sampler(header: Mapping[str, Any], admitted: frozenset[Sampling]) -> Sampler:
    """Return how tokens are drawn; without a seed one is drawn, and told at the end of the answer."""
    for name in Sampling:
        if str(name) in header and name not in admitted:
            raise EnclaveError(EnclaveCode.SAMPLING_REFUSED, f"the model does not admit {name}", field=str(name))
    temperature = _real(header, "temperature", MAX_TEMPERATURE)
    if temperature is None:
        if header.keys() & {"top_k", "top_p", "seed"}:
            raise EnclaveError(
                EnclaveCode.SAMPLING_REFUSED, "without a temperature nothing is drawn", field="temperature"
            )
        return Sampler()
    return Sampler(
        temperature,
        top_k=fields.number(header["top_k"], "top_k", 1) if "top_k" in header else None,
        top_p=_real(header, "top_p", 1.0),
        seed=fields.number(header["seed"], "seed", 0, MAX_SEED) if "seed" in header else _fresh_seed(),
    )


def _real(header: Mapping[str, Any], name: str, most: float) -> float | None:
    if name not in header:
        return None
    value = fields.of_type(header[name], name, float)
    if not math.isfinite(value) or not 0 < value <= most:
        raise EnclaveError(EnclaveCode.SAMPLING_REFUSED, f"must be above 0 and at most {most:g}", field=name)
    return value


def _fresh_seed() -> int:
    return int.from_bytes(os.urandom(8), "big") >> 1


def _stop(value: object) -> bytes:
    text = _utf8(value, "stop")
    if not 0 < len(text) <= MAX_STOP:
        raise _refuse("stop", f"must have 1 to {MAX_STOP} bytes each")
    return text


def _utf8(value: object, name: str) -> bytes:
    return fields.of_type(value, name, str).encode()


def _field(body: Body) -> str:
    return TOKENS if body.specs else "prompt"


def _refuse(field: str, rule: str) -> EnclaveError:
    return EnclaveError(EnclaveCode.PROMPT_REFUSED, rule, field=field)
