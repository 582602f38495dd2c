"""The size that an image file claims, from its first bytes: known before any pixel is decoded.

A bit that flips in a header makes a thousand pixels out of ten. A decoder believes it, allocates, and in the
case of JPEG fills up with grey what the file does not hold.
"""

from __future__ import annotations

import struct

_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SHORT = 256, 257, 3


def is_jpeg(encoded: bytes) -> bool:
    """Whether the bytes begin as a JPEG file does."""
    return encoded.startswith(b"\xff\xd8")


def claimed_size(encoded: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels, as stored; None if the header is cut short or of another format.

    Formats: JPEG (ITU-T T.81, B.2.2), PNG (ISO/IEC 15948, 11.2.2), BMP, TIFF 6.0 and
    WebP (RFC 9649, 2.5 to 2.7).
    """
    try:
        if is_jpeg(encoded):
            return _jpeg_size(encoded)
        if encoded.startswith(b"\x89PNG"):
            return _pair(">II", encoded, 16)
        if encoded.startswith(b"BM"):
            width, height = _pair("<ii", encoded, 18)
            return abs(width), abs(height)  # negative: the rows come from top to bottom
        if encoded.startswith((b"II*\0", b"MM\0*")):
            return _tiff_size(encoded, "<" if encoded.startswith(b"II") else ">")
        if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
            return _webp_size(encoded)
    except struct.error:  # the header ends too early
        return None
    return None


def _pair(layout: str, encoded: bytes, position: int) -> tuple[int, int]:
    first, second = struct.unpack_from(layout, encoded, position)
    return int(first), int(second)


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Of the first frame header; segments before it are passed over."""
    position = 2
    while position < len(encoded):
        (marker,) = struct.unpack_from(">xB", encoded, position)
        if marker in _JPEG_FRAME_HEADERS:
            height, width = _pair(">HH", encoded, position + 5)
            return width, height
        if marker == 0xFF:  # fill bytes may stand before a marker
            position += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            position += 2
        else:
            (length,) = struct.unpack_from(">H", encoded, position + 2)
            position += 2 + max(2, length)
    return None


def _tiff_size(encoded: bytes, order: str) -> tuple[int, int] | None:
    """Of the first image file directory."""
    (start,) = struct.unpack_from(f"{order}I", encoded, 4)
    (entries,) = struct.unpack_from(f"{order}H", encoded, start)
    sizes: dict[int, int] = {}
    for position in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind = _pair(f"{order}HH", encoded, position)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT):
            layout = "H" if kind == _TIFF_SHORT else "I"
            (sizes[tag],) = struct.unpack_from(f"{order}{layout}", encoded, position + 8)
    return (sizes[_TIFF_WIDTH], sizes[_TIFF_HEIGHT]) if len(sizes) == 2 else None


def _webp_size(encoded: bytes) -> tuple[int, int] | None:
    chunk = encoded[12:16]
    if chunk == b"VP8X":
        width, height = (encoded[at : at + 3] for at in (24, 27))
        return 1 + int.from_bytes(width, "little"), 1 + int.from_bytes(height, "little")
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width_bits, height_bits = _pair("<HH", encoded, 26)
        return width_bits & 0x3FFF, height_bits & 0x3FFF
    return None
