"""Steps before the graph that make tensors of texts, pictures and sound.

Each needs an optional component of the enclave: a library that is in its measured manifest only where one was asked
for.  Every bound that a step names is checked before the library does the work that it bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from manifests.steps.base import Fields, add, invalid, one_of, take, within
from manifests.steps.numbers import check_moments
from manifests.tensors import Axis, TensorField

MAX_TOKENS = 65_536
"""Tokens of one text: beyond the longest context that a model of this kind takes."""
MAX_ELEMENTS = 1 << 26
"""Elements of what one step makes: 256 MiB as float32, as much as a request may wait with by default."""
MAX_PIXELS = 1 << 26
"""Pixels of a picture before it is scaled: 64 million, beyond what cameras of phones give."""
MAX_SIDE = 16_384
"""Pixels of a side of what the graph gets."""
MAX_RATIO = 1032
"""Decoded bytes for each byte of a file: deflate cannot give more, so that nothing true is beyond it."""
MAX_RATE = 384_000
"""Samples a second."""
MAX_SECONDS = 3600.0

FORMATS = ("jpeg", "png")
MODES = {"rgb": 3, "gray": 1}
"""What a picture is made to be, with its number of channels."""
FITS = ("stretch", "cover", "contain")
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
LAYOUTS = ("nchw", "nhwc", "flat")
ALPHAS = ("refuse", "drop", "white", "black")
QUALITIES = ("qq", "lq", "mq", "hq", "vhq")
_IDS = ("int32", "int64")
_BYTES = frozenset({"uint8"})


@dataclass(frozen=True)
class Tokenize:
    """Replace texts, one for each row, by the numbers of their tokens: [batch] of text becomes [batch, tokens].

    tokenizer: name of the sealed part that holds a `tokenizer.json`.  max_length: most tokens of a text, special
    ones among them.  ids, mask, types: the graph's inputs for the tokens, for which of them are padding (0) and
    which are not (1), and for their segments; none where the name is empty.  dtype: int32 or int64, of all three.
    padding: "longest" of the request, or always "max_length".  pad_id: the token that fills up.  truncate: whether
    longer texts lose their end; they are refused otherwise.  special: whether the tokenizer adds special tokens.
    """

    kind: ClassVar[str] = "tokenize"
    component: ClassVar[str] = "text"
    input: str
    tokenizer: str
    max_length: int
    ids: str = "input_ids"
    mask: str = ""
    types: str = ""
    dtype: str = "int64"
    padding: str = "longest"
    pad_id: int = 0
    truncate: bool = False
    special: bool = True

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Replace the texts by one to three tensors of numbers."""
        tensor = take(tensors, self.input, frozenset({"string"}))
        within(self.max_length, "tokenize: max_length", 1, MAX_TOKENS)
        within(self.pad_id, "tokenize: pad_id", 0, (1 << 31) - 1)
        one_of(self.padding, "tokenize: padding", ("longest", "max_length"))
        one_of(self.dtype, "tokenize: dtype", _IDS)
        if len(tensor.shape) != 1:
            raise invalid(f"tokenize: {self.input!r} must have one axis, with a text for each row")
        rows = tensor.shape[0].maximum if isinstance(tensor.shape[0], Axis) else tensor.shape[0]
        if rows * self.max_length > MAX_ELEMENTS:
            raise invalid(f"tokenize would make more than {MAX_ELEMENTS} tokens of one request")
        length = self.max_length if self.padding == "max_length" else Axis(f"{self.ids}.tokens", 1, self.max_length)
        del tensors[self.input]
        for name in filter(None, (self.ids, self.mask, self.types)):
            add(tensors, TensorField(name, self.dtype, (tensor.shape[0], length)))


@dataclass(frozen=True)
class Image:
    """Replace the bytes of a picture's file by its pixels: [bytes] of uint8 becomes one row of numbers.

    The axis' maximum bounds the file.  width, height: pixels that the graph gets.  mode: "rgb", or "gray".  formats:
    which files are taken.  max_pixels: of the picture as sent.  max_ratio: decoded bytes for each byte of the file.
    alpha: what happens to a picture that one can see through.  orient: whether the camera's orientation (EXIF) is
    followed.  fit: "stretch" to the size, "cover" it and lose what stands out, or "contain" the whole on black.
    layout: [1, c, h, w], [1, h, w, c], or "flat".  Numbers are x * white / 255, then (x - mean) / std by channel, in
    float32; or the pixels themselves where dtype is "uint8".
    """

    kind: ClassVar[str] = "image"
    component: ClassVar[str] = "image"
    input: str
    output: str
    width: int
    height: int
    mode: str = "rgb"
    formats: tuple[str, ...] = FORMATS
    max_pixels: int = 1 << 24
    max_ratio: int = MAX_RATIO
    alpha: str = "refuse"
    orient: bool = True
    fit: str = "stretch"
    filter: str = "bilinear"
    layout: str = "nchw"
    dtype: str = "float32"
    white: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Replace the file's bytes by pixels."""
        _take_file("image", tensors, self.input)
        self._check()
        channels = MODES[self.mode]
        shapes: dict[str, tuple[int, ...]] = {
            "nchw": (1, channels, self.height, self.width),
            "nhwc": (1, self.height, self.width, channels),
            "flat": (1, self.height * self.width * channels),
        }
        add(tensors, TensorField(self.output, self.dtype, shapes[self.layout]))

    def _check(self) -> None:
        within(self.width, "image: width", 1, MAX_SIDE)
        within(self.height, "image: height", 1, MAX_SIDE)
        within(self.width * self.height, "image: width times height", 1, MAX_ELEMENTS // 3)
        within(self.max_pixels, "image: max_pixels", 1, MAX_PIXELS)
        within(self.max_ratio, "image: max_ratio", 1, MAX_RATIO)
        for what, value, words in (
            ("mode", self.mode, tuple(MODES)),
            ("alpha", self.alpha, ALPHAS),
            ("fit", self.fit, FITS),
            ("filter", self.filter, FILTERS),
            ("layout", self.layout, LAYOUTS),
            ("dtype", self.dtype, ("float32", "uint8")),
        ):
            one_of(value, f"image: {what}", words)
        if not self.formats or len(set(self.formats)) != len(self.formats) or not set(self.formats) <= set(FORMATS):
            raise invalid(f"image: formats must be different ones of {', '.join(FORMATS)}")
        check_moments("image", self.mean, self.std)
        if len(self.mean) not in {0, 1, MODES[self.mode]}:
            raise invalid(f"image: a picture in {self.mode} has {MODES[self.mode]} channels, and so many means")
        if not math.isfinite(self.white) or self.white <= 0:
            raise invalid("image: white must be a finite number above 0")
        if self.dtype == "uint8" and (self.mean or self.white != 1.0):
            raise invalid("image: pixels as uint8 are given as they are, without white, mean and std")


@dataclass(frozen=True)
class Audio:
    """Replace the bytes of a WAV file by its samples: [bytes] of uint8 becomes [1, samples] of float32 from -1 to 1.

    The axis' maximum bounds the file.  rate: samples a second that the graph gets; channels are averaged.
    max_seconds: of the recording as sent.  samples: how many the graph gets, filled up with silence; 0 for as many
    as there are.  truncate: whether a longer recording loses its end; it is refused otherwise.  quality: soxr's.
    """

    kind: ClassVar[str] = "audio"
    component: ClassVar[str] = "audio"
    input: str
    output: str
    rate: int
    max_seconds: float
    samples: int = 0
    truncate: bool = False
    quality: str = "hq"

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Replace the file's bytes by samples."""
        _take_file("audio", tensors, self.input)
        within(self.rate, "audio: rate", 1000, MAX_RATE)
        within(self.max_seconds, "audio: max_seconds", 0.001, MAX_SECONDS)
        within(self.samples, "audio: samples", 0, MAX_ELEMENTS)
        one_of(self.quality, "audio: quality", QUALITIES)
        within(self.longest, "audio: max_seconds times rate", 1, MAX_ELEMENTS)
        if self.truncate and not self.samples:
            raise invalid("audio: truncate needs a number of samples")
        length = self.samples or Axis(f"{self.output}.samples", 1, self.longest)
        add(tensors, TensorField(self.output, "float32", (1, length)))

    @property
    def longest(self) -> int:
        """Samples that the longest recording has; one more than it lasts, because a resampler rounds up."""
        return math.ceil(self.max_seconds * self.rate) + 1


def _take_file(kind: str, tensors: Fields, name: str) -> None:
    """Remove an input that carries a file; raises `manifest-invalid` for one that cannot."""
    tensor = take(tensors, name, _BYTES)
    if len(tensor.shape) != 1:
        raise invalid(f"{kind}: {name!r} must have one axis, which counts the file's bytes")
    del tensors[name]
