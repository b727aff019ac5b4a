"""Files of pictures and sound, and a tokenizer: whole ones, and those that somebody made to do harm."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

PNG = b"\x89PNG\r\n\x1a\n"


def picture(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    """A picture with structure in it, the same each time."""
    random = np.random.default_rng(width * 1000 + height)
    image = Image.fromarray(random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).line((0, 0, width, height // 2), fill=(255, 0, 0))
    return image.convert(mode)


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    """A chunk of a PNG (PNG 3 §5.3)."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes, *between: bytes, colour: int = 2, depth: int = 8) -> bytes:
    """A PNG whose header says what it is told to, whatever its data are."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG + head + b"".join(between) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND")


def bomb(width: int = 7000, height: int = 7000) -> bytes:
    """A whole PNG of a single colour: some 140 KiB that become 147 MB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    data = b"".join([packer.compress(row) for _ in range(height)]) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG + head + chunk(b"IDAT", data) + chunk(b"IEND")


def wav(samples: np.ndarray, rate: int = 8000, *, bits: int = 16, channels: int = 1, floats: bool = False) -> bytes:
    """A WAV file of samples from -1 to 1, one column for each channel."""
    if floats:
        data = samples.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = np.clip(np.round(samples * 128 + 128), 0, 255).astype(np.uint8).tobytes()
    else:
        whole = np.clip(np.round(samples.astype(np.float64) * (1 << bits - 1)), -(1 << bits - 1), (1 << bits - 1) - 1)
        wide = whole.astype("<i4").reshape(-1, 1).view(np.uint8)
        data = np.ascontiguousarray(wide[:, : bits // 8]).tobytes()
    return riff(form(3 if floats else 1, channels, rate, bits), data)


def form(kind: int, channels: int, rate: int, bits: int) -> bytes:
    """A format chunk's content."""
    return struct.pack("<HHIIHH", kind, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)


def riff(fmt: bytes, data: bytes, size: int | None = None, *before: bytes) -> bytes:
    """A RIFF file of WAVE; `size` is what the data chunk says of itself."""
    body = b"WAVE" + b"".join(before) + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tone(seconds: float = 0.5, rate: int = 8000, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def trained_bytes(texts: list[str], words: int = 320) -> bytes:
    """A tokenizer.json of merged bytes, as language models have it, trained on these texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str().encode()


def trained_tokenizer(texts: list[str], words: int = 2000) -> bytes:
    """A tokenizer.json of word pieces, trained on these texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=words, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str().encode()
