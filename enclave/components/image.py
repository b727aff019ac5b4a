"""Pictures into pixels, by Pillow: two formats, one frame, and every bound held against the header before decoding.

Only Pillow's readers of PNG and JPEG are imported, and called by name: its own search for a format would try others.
"""

from __future__ import annotations

import io
import warnings
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFile, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from enclave.components import BOXES, PIECES, WHOLE, Parts, Step
from enclave.components.ends import count_scans, is_whole_jpeg, is_whole_png
from enclave.errors import EnclaveCode, EnclaveError
from enclave.validate import Tensors
from enclave.values import Array
from manifests.steps import ComponentStep, Crop, Image, Whole
from manifests.steps.decode import FILTERS, FITS, MAX_PIXELS, MODES

MAX_SCANS = 64
"""Scans of a JPEG, thumbnails' among them: progressive ones have ten or so, of some ten bytes at the least."""
MAX_SCANNED = 1 << 29
"""Pixels times scans of a JPEG, because each scan is decoded over all pixels: some seconds."""

Pillow.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own guard, behind ours
ImageFile.LOAD_TRUNCATED_IMAGES = False  # its default, which another user of the library could have changed
warnings.filterwarnings("ignore", module=r"PIL\.")  # what a reader finds odd is no matter for the log

_BEGINNINGS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}
"""How a file of each format begins (PNG 3 §5.2; ITU-T T.81 B.1.1.3 and B.2.1)."""
_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {"png": PngImageFile, "jpeg": JpegImageFile}
_WHOLE = {"png": is_whole_png, "jpeg": is_whole_jpeg}

_ORIENTATION = 0x0112
_TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
"""What sets a picture upright, by its orientation (Exif 2.32, tag 0x0112); others leave it as it is."""
_MODES = {"rgb": "RGB", "gray": "L"}
_COLOURS = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255)}
_SAMPLES = (
    b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACAQMAAACnuvRZAAAABlBMVEUAAAD///+l2Z/dAAAAAXRSTlMAQObYZgAAABplWElmTU0AKgAAAAgAAQES"
        "AAMAAAABAAYAAAAAAADWZ0tpAAAADElEQVR42mNgYGAAAAAEAAHI6uv5AAAAAElFTkSuQmCC"
    ),
    b64decode(
        "/9j/4AAQSkZJRgABAQAAAQABAAD/4QAiRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAD/2wBDAP//////////////////////////////"
        "////////////////////////////////////////////////////////wAALCAACAAMBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABQQAQAA"
        "AAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AN//Z"
    ),
)
"""A picture of 3 x 2 pixels as a PNG with a palette, of which one colour is clear, and as a JPEG; both to be turned."""
_FILTERS = {name: Pillow.Resampling[name.upper()] for name in FILTERS}


def compile(step: ComponentStep, parts: Parts) -> Step:  # noqa: A001, ARG001 - one signature for all components
    """Return the function that replaces a request's file by the pixels of its picture.

    Of a Whole, the whole picture stays beside them, as WHOLE.  Of a Crop, it is what cuts BOXES out of WHOLE.
    """
    if isinstance(step, Crop):
        return lambda tensors: {PIECES: _cut(step, tensors[WHOLE], tensors[BOXES])}
    image = step.image if isinstance(step, Whole) else step
    assert isinstance(image, Image)  # noqa: S101 - tells the type checker what the registry of steps holds
    decoder, keeps = _Decoder(image), isinstance(step, Whole)

    def run(tensors: Tensors) -> Tensors:
        others = {name: value for name, value in tensors.items() if name != image.input}
        pixels, whole = decoder.decode(tensors[image.input].tobytes(), keeps=keeps)
        return {**others, image.output: pixels} | ({} if whole is None else {WHOLE: whole})

    return run


def rehearse() -> None:
    """Decode a picture of each format in every fit; EXIF, palettes and transparency load more of Pillow."""
    for sample in _SAMPLES:
        for fit in FITS:
            step = Image("x", "y", 2, 2, mean=(0.5,), std=(0.5,), alpha="white", fit=fit)
            _, whole = _Decoder(step).decode(sample, keeps=True)
            for mode in MODES:
                compile(Crop(2, 2, mode=mode), {})({WHOLE: np.asarray(whole), BOXES: np.array([[0.0, 0.0, 0.5, 0.5]])})


@dataclass(frozen=True)
class _Decoder:
    """One step, ready to be applied to files."""

    step: Image

    def decode(self, data: bytes, *, keeps: bool = False) -> tuple[Array, Array | None]:
        """Return the pixels in the step's layout, and the whole picture where that is to be kept: [h, w] or [h, w, 3].

        Raises EnclaveError `image-...` and nothing else.
        """
        image_type = self._format(data)
        try:
            whole = self._opened(data, image_type)
            return arranged(self.step, self._fitted(whole)), np.asarray(whole) if keeps else None
        except (EnclaveError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - Pillow's exceptions have no common root, and texts with content
            raise self._refuse(EnclaveCode.IMAGE_MALFORMED, "must hold a whole picture that can be decoded") from None

    def _format(self, data: bytes) -> str:
        for name in self.step.formats:
            if data.startswith(_BEGINNINGS[name]):
                if _WHOLE[name](data):
                    return name
                raise self._refuse(EnclaveCode.IMAGE_MALFORMED, "must hold a whole picture")
        raise self._refuse(EnclaveCode.IMAGE_FORMAT, f"must hold a picture as {' or '.join(self.step.formats)}")

    def _opened(self, data: bytes, image_type: str) -> Pillow.Image:
        with _READERS[image_type](io.BytesIO(data)) as file:  # reads the header alone
            self._check(file, data, image_type)
            file.load()
            upright = self._turned(file)
            return self._opaque(upright).convert(_MODES[self.step.mode])

    def _check(self, file: ImageFile.ImageFile, data: bytes, image_type: str) -> None:
        """Hold the header against the bounds, before anything of its size is allocated."""
        pixels = file.width * file.height
        if not 0 < pixels <= self.step.max_pixels:
            raise self._refuse(EnclaveCode.IMAGE_TOO_LARGE, f"must hold at most {self.step.max_pixels} pixels")
        if pixels * len(file.getbands()) > self.step.max_ratio * len(data):
            ratio = f"at most {self.step.max_ratio} decoded bytes for each byte of the file"
            raise self._refuse(EnclaveCode.IMAGE_TOO_LARGE, f"must hold {ratio}")
        if getattr(file, "n_frames", 1) != 1:
            raise self._refuse(EnclaveCode.IMAGE_FRAMES, "must hold one picture, and not an animation")
        scans = min(MAX_SCANS, MAX_SCANNED // pixels)
        if image_type == "jpeg" and count_scans(data) > scans:
            raise self._refuse(EnclaveCode.IMAGE_FRAMES, f"must hold a picture of this size in at most {scans} scans")

    def _turned(self, file: Pillow.Image) -> Pillow.Image:
        turn = _TURNS.get(file.getexif().get(_ORIENTATION, 1)) if self.step.orient else None
        return file if turn is None else file.transpose(turn)

    def _opaque(self, image: Pillow.Image) -> Pillow.Image:
        """Return the picture without transparency, as the step has it."""
        if not image.has_transparency_data or self.step.alpha == "drop":
            return image
        clear = image.convert("RGBA")
        if self.step.alpha != "refuse":
            return Pillow.alpha_composite(Pillow.new("RGBA", clear.size, _COLOURS[self.step.alpha]), clear)
        if clear.getchannel("A").getextrema() != (255, 255):
            raise self._refuse(EnclaveCode.IMAGE_TRANSPARENT, "must hold a picture that one cannot see through")
        return clear

    def _fitted(self, image: Pillow.Image) -> Pillow.Image:
        size, method = (self.step.width, self.step.height), _FILTERS[self.step.filter]
        if self.step.fit == "cover":
            return ImageOps.fit(image, size, method)
        if self.step.fit == "contain":
            return ImageOps.pad(image, size, method)
        return image.resize(size, method)

    def _refuse(self, code: EnclaveCode, bound: str) -> EnclaveError:
        return EnclaveError(code, f"input {self.step.input!r} {bound}", field=self.step.input)


def arranged(step: Image | Crop, image: Pillow.Image) -> Array:
    """Return the numbers that a graph takes of a picture of the step's size: scaled, centred, in the step's layout."""
    pixels: Any = np.asarray(image).reshape(step.height, step.width, MODES[step.mode])
    if step.dtype == "float32":
        pixels = pixels.astype(np.float32) / np.float32(255 / step.white)
        if step.mean:
            pixels = (pixels - np.asarray(step.mean, np.float32)) / np.asarray(step.std, np.float32)
    if step.layout == "nchw":
        pixels = pixels.transpose(2, 0, 1)
    array: Array = np.ascontiguousarray(pixels)
    return array.reshape(1, -1) if step.layout == "flat" else array[None]


def _cut(step: Crop, whole: Array, boxes: Array) -> Array:
    """Return one picture for each box, [n, ...]; boxes [n, 4] are fractions of the picture, and hold some of it."""
    image = Pillow.fromarray(whole).convert(_MODES[step.mode])
    edges = boxes * np.array([image.width, image.height] * 2, np.float64)
    size, method = (step.width, step.height), _FILTERS[step.filter]
    pieces = [
        arranged(step, image.resize(size, method, (left, top, right, bottom))) for left, top, right, bottom in edges
    ]
    return np.concatenate(pieces)
