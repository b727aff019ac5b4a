"""Pictures: the pixels are those of Pillow called directly; bombs and oddities are refused before they cost."""

from __future__ import annotations

import io
import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps

from tests.enclave.decoding import decoded, refused
from tests.testkit.files import PNG, bomb, chunk, picture, png, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

STEP: dict[str, Any] = {"kind": "image", "input": "file", "output": "x", "width": 16, "height": 12}
RESAMPLING = Image.Resampling


def step(**changes: Any) -> dict[str, Any]:
    return {**STEP, **changes}


def plain(image: Image.Image, method: RESAMPLING = RESAMPLING.BILINEAR) -> np.ndarray:
    """What somebody with Pillow and numpy alone would feed to a model."""
    pixels = np.asarray(image.convert("RGB").resize((16, 12), method), np.float32) / np.float32(255)
    return pixels.transpose(2, 0, 1)[None]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(40, 30), (1, 1), (640, 3), (16, 12)])
def test_pixels_are_those_of_the_library_called_directly(form: str, size: tuple[int, int]) -> None:
    data = saved(picture(*size), form)
    np.testing.assert_array_equal(decoded(STEP, data), plain(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("name", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_every_filter_is_the_librarys(name: str) -> None:
    expected = plain(picture(), RESAMPLING[name.upper()])
    np.testing.assert_array_equal(decoded(step(filter=name), saved(picture())), expected)


@pytest.mark.parametrize(("fit", "function"), [("cover", ImageOps.fit), ("contain", ImageOps.pad)])
def test_every_fit_is_the_librarys(fit: str, function: Any) -> None:
    for size in ((40, 30), (100, 10), (10, 100)):
        expected = np.asarray(function(picture(*size), (16, 12), RESAMPLING.BILINEAR))
        result = decoded(step(fit=fit, layout="nhwc", dtype="uint8"), saved(picture(*size)))
        np.testing.assert_array_equal(result[0], expected)


def test_numbers_are_scaled_and_centred_as_the_step_says() -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    column = (1, 3, 1, 1)
    expected = (plain(picture()) - np.float32(mean).reshape(column)) / np.float32(std).reshape(column)
    np.testing.assert_array_equal(decoded(step(mean=mean, std=std), saved(picture())), expected)
    gray = np.asarray(picture().convert("L").resize((16, 12), RESAMPLING.BILINEAR), np.float32) / np.float32(255 / 16)
    flat = decoded(step(mode="gray", layout="flat", white=16), saved(picture()))
    np.testing.assert_array_equal(flat, gray.reshape(1, -1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_mode_of_a_png_is_read(mode: str) -> None:
    image = picture(mode=mode) if mode != "I;16" else Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40))
    data = saved(image)
    np.testing.assert_array_equal(decoded(STEP, data), plain(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 1}, {"optimize": True}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_is_read(mode: str, options: dict[str, Any]) -> None:
    data = saved(picture(mode=mode), "JPEG", **options)
    np.testing.assert_array_equal(decoded(STEP, data), plain(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [*range(10), 255, 65535])
def test_the_cameras_orientation_is_followed_where_the_step_says_so(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(picture(), form, exif=exif.tobytes())
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(decoded(STEP, data), plain(ImageOps.exif_transpose(opened)))
    np.testing.assert_array_equal(decoded(step(orient=False), data), plain(opened))


def test_what_one_can_see_through_is_refused_dropped_or_laid_on_a_colour() -> None:
    image = picture(mode="RGBA")
    assert refused(STEP, saved(see_through(image))) == "image-transparent"
    data = saved(see_through(image))
    np.testing.assert_array_equal(decoded(step(alpha="drop"), data), plain(see_through(image)))
    for alpha in ("white", "black"):
        ground = Image.new("RGBA", image.size, alpha)
        expected = plain(Image.alpha_composite(ground, see_through(image)))
        np.testing.assert_array_equal(decoded(step(alpha=alpha), data), expected)


def test_transparency_of_a_palette_counts_too() -> None:
    image = picture(mode="P")
    data = saved(image, transparency=image.getpixel((5, 5)))
    assert refused(STEP, data) == "image-transparent"
    assert decoded(step(alpha="white"), data).shape == (1, 3, 12, 16)


def see_through(image: Image.Image) -> Image.Image:
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    return clear


def animation(form: str = "PNG") -> bytes:
    return saved(picture(), form, save_all=True, append_images=[picture(41, 30).resize((40, 30))], duration=50)


def compressed_text(size: int) -> bytes:
    return chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(size), 9))


def compressed_profile(size: int) -> bytes:
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(size), 9))


WHOLE = saved(picture())
JPEG = saved(picture(), "JPEG")
ROWS = bytes(30 * 121)

REFUSALS: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "an empty file": (STEP, b"", "image-format"),
    "one byte": (STEP, b"\x89", "image-format"),
    "text": (STEP, b"hello, world", "image-format"),
    "a GIF": (STEP, saved(picture(), "GIF"), "image-format"),
    "a BMP": (STEP, saved(picture(), "BMP"), "image-format"),
    "a TIFF": (STEP, saved(picture(), "TIFF"), "image-format"),
    "an EPS, for which Pillow would start Ghostscript": (STEP, b"%!PS-Adobe-3.0 EPSF-3.0\n", "image-format"),
    "an SVG": (STEP, b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image-format"),
    "a JPEG where PNG alone is taken": (step(formats=["png"]), JPEG, "image-format"),
    "a PNG where JPEG alone is taken": (step(formats=["jpeg"]), WHOLE, "image-format"),
    "a GIF that becomes a PNG later on": (STEP, b"GIF89a" + WHOLE, "image-format"),
    "a signature and nothing else": (STEP, PNG, "image-malformed"),
    "a JPEG of its first marker": (STEP, b"\xff\xd8\xff", "image-malformed"),
    "a PNG cut in its data": (STEP, WHOLE[: len(WHOLE) // 2], "image-malformed"),
    "a PNG cut in its header": (STEP, WHOLE[:20], "image-malformed"),
    "a JPEG cut in its data": (STEP, JPEG[: len(JPEG) // 2], "image-malformed"),
    "a JPEG cut in its header": (STEP, JPEG[:100], "image-malformed"),
    "a PNG with a broken checksum": (STEP, WHOLE[:29] + bytes(4) + WHOLE[33:], "image-malformed"),
    "a PNG of no pixels": (STEP, png(0, 30, b""), "image-malformed"),
    "a PNG with an unknown colour": (STEP, png(40, 30, ROWS, colour=9), "image-malformed"),
    "a PNG 2^31 - 1 pixels wide": (STEP, png((1 << 31) - 1, 1, b""), "image-too-large"),
    "a PNG of 2^62 pixels": (STEP, png((1 << 31) - 1, (1 << 31) - 1, b""), "image-too-large"),
    "a JPEG of 65,500 by 65,500": (STEP, b"", "image-too-large"),
    "a PNG of one pixel too many": (step(max_pixels=1199), WHOLE, "image-too-large"),
    "few bytes that say that they become many": (STEP, png(4000, 4000, b"x" * 100), "image-too-large"),
    "more than the owner's ratio": (step(max_ratio=10), png(400, 300, bytes(300 * 1201)), "image-too-large"),
    "a whole decompression bomb": (STEP, bomb(), "image-too-large"),
    "an animated PNG": (STEP, animation(), "image-frames"),
    "a JPEG of a million scans": (STEP, JPEG[:-2] + b"\xff\xda" * 1_000_000 + JPEG[-2:], "image-frames"),
    "a PNG that ends before its last chunk": (STEP, WHOLE[:-12], "image-malformed"),
    "a PNG that lacks its last byte": (STEP, WHOLE[:-1], "image-malformed"),
    "a PNG of twenty thousand chunks": (STEP, png(40, 30, ROWS, *[chunk(b"prVt")] * 20_000), "image-malformed"),
    "a PNG whose chunk announces 4 GB": (STEP, WHOLE[:33] + b"\xff" * 4 + WHOLE[37:], "image-malformed"),
    "a JPEG without its end": (STEP, JPEG[:-2], "image-malformed"),
    "text that unpacks to 64 MB": (STEP, png(40, 30, ROWS, compressed_text(64 << 20)), "image-malformed"),
    "a profile that unpacks to 64 MB": (STEP, png(40, 30, ROWS, compressed_profile(64 << 20)), "image-malformed"),
    "texts that unpack to 100 MB": (STEP, png(40, 30, ROWS, *[compressed_text(1 << 20)] * 100), "image-malformed"),
}
at = JPEG.index(b"\xff\xc0")
REFUSALS["a JPEG of 65,500 by 65,500"] = (
    STEP,
    JPEG[: at + 5] + b"\xff\xdc\xff\xdc" + JPEG[at + 9 :],
    "image-too-large",
)


@pytest.mark.parametrize("case", REFUSALS)
def test_a_file_that_is_no_good_picture_is_refused_cheaply(case: str) -> None:
    changed, data, code = REFUSALS[case]
    refused(STEP, PNG)  # what is allocated once is not counted
    tracemalloc.start()
    began = time.process_time()
    try:
        assert refused(changed, data) == code
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (4 << 20) + 3 * len(data) + (66 << 20) * ("100 MB" in case)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_file_that_was_cut_is_refused_before_a_pixel_is_decoded(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a refusal costs next to nothing: decoding is all that takes time."""
    data, decodings = saved(picture(1200, 900), form), []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda file: decodings.append(1) or load(file))
    decoded(STEP, data)
    assert decodings, "a whole picture is decoded"
    decodings.clear()
    refused(STEP, data[: len(data) // 2])
    assert not decodings


@pytest.mark.parametrize(("side", "most"), [(40, 64), (4000, 33)])
def test_a_jpegs_scans_are_bounded_by_its_pixels(side: int, most: int) -> None:
    """Some ten bytes would buy the work of a whole picture each time."""
    data = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    scans = data.count(b"\xff\xda")
    assert decoded(STEP, data[:-2] + last * (most - scans) + data[-2:]).shape == (1, 3, 12, 16)
    assert refused(STEP, data[:-2] + last * (most - scans + 1) + data[-2:]) == "image-frames"


ACCEPTED = {
    "an archive behind the picture": WHOLE + b"PK\x03\x04" + bytes(100),
    "a script behind the photograph": JPEG + b"<script>alert(1)</script>",
    "a comment full of other formats' beginnings": saved(picture(), "JPEG", comment=b"GIF89a%PDF-1.7\x89PNG"),
    "a profile of colours": saved(
        picture(), icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
    "a profile that is none": saved(picture(), "JPEG", icc_profile=b"no profile at all" * 10),
    "EXIF that is none": saved(picture(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 64),
    "EXIF that points outside": saved(picture(), "JPEG", exif=b"Exif\0\0MM\0*" + b"\xff\xff\xff\xf0" + bytes(16)),
    "EXIF that points to itself": saved(picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\x08"),
    "fewer rows than the header says, which Pillow leaves black": png(40, 60, ROWS),
    "a text that unpacks to a little": png(40, 30, ROWS, compressed_text(1000)),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_surrounds_a_picture_changes_none_of_it(case: str) -> None:
    """Oddities that programs meet every day; the library called directly reads the same."""
    np.testing.assert_array_equal(decoded(STEP, ACCEPTED[case]), plain(Image.open(io.BytesIO(ACCEPTED[case]))))


def test_a_picture_of_the_greatest_size_is_read() -> None:
    data = saved(Image.new("L", (4096, 4096), 7))
    assert (decoded(step(dtype="uint8"), data) == 7).all()


def test_a_shortage_of_memory_is_not_called_a_malformed_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fails)
    with pytest.raises(MemoryError):
        decoded(STEP, WHOLE)
