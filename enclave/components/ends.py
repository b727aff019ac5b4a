"""Whether a picture's file is whole, as far as its frame tells: decoding would find out only once it is there.

Nothing else is held here; what the pieces hold is the decoder's to judge.
"""

from __future__ import annotations

MAX_CHUNKS = 1 << 14
"""Chunks of a PNG: writers make pieces of 8 KiB and more, and these would be 128 MiB."""

_START = 8
_SOS, _EOI = b"\xff\xda", b"\xff\xd9"


def is_whole_png(data: bytes) -> bool:
    """Tell whether chunk follows chunk to the last one, IEND (PNG 3 §5.3, §5.6); what follows it is not looked at."""
    at = _START
    for _ in range(MAX_CHUNKS):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += 12 + size
        if at > len(data):
            return False
        if name == b"IEND":
            return True
    return False


def count_scans(data: bytes) -> int:
    """Return how many scans of a JPEG begin, those of thumbnails among them (ITU-T T.81 B.2.3).

    Within a scan's data no such marker can occur, because every 0xFF there is followed by 0 or by a restart.
    """
    return data.count(_SOS)


def is_whole_jpeg(data: bytes) -> bool:
    """Tell whether an end of image follows the last scan's beginning (ITU-T T.81 B.1.1.3)."""
    return data.rfind(_EOI) > data.rfind(_SOS) >= 0
