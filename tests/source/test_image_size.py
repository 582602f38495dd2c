"""Sizes by the headers of image files, and headers that end too early."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from da3stream.source.image_size import claimed_size

from .clips import picture


def encoded(suffix: str, *options: int) -> bytes:
    content: bytes = cv2.imencode(suffix, picture(0, 168, 96), options)[1].tobytes()
    return content


FILES = {
    "jpg": encoded(".jpg"),
    "progressive": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "png": encoded(".png"),
    "bmp": encoded(".bmp"),
    "tiff": encoded(".tiff"),
    "lossy webp": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless webp": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
}


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_that_of_the_image(name: str) -> None:
    assert claimed_size(FILES[name]) == (168, 96)


@pytest.mark.parametrize("name", FILES)
def test_a_header_that_is_cut_anywhere_says_nothing_or_the_size(name: str) -> None:
    content = FILES[name]
    for length in range(min(len(content), 700)):
        assert claimed_size(content[:length]) in (None, (168, 96))


@pytest.mark.parametrize("name", FILES)
def test_noise_in_a_header_is_no_exception(name: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        content = bytearray(FILES[name])
        content[4:60] = rng.bytes(56)
        size = claimed_size(bytes(content))
        assert size is None or min(size) >= 0


def test_other_layouts() -> None:
    extended = b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (1999).to_bytes(3, "little") + (999).to_bytes(3, "little")
    assert claimed_size(extended) == (2000, 1000)
    entries = struct.pack(">HHII", 256, 4, 1, 70000) + struct.pack(">HHIHH", 257, 3, 1, 500, 0)
    assert claimed_size(b"MM\0*" + struct.pack(">IH", 8, 2) + entries) == (70000, 500)
    upside_down = bytearray(FILES["bmp"])
    upside_down[22:26] = struct.pack("<i", -96)
    assert claimed_size(bytes(upside_down)) == (168, 96)
    assert claimed_size(b"\xff\xd8\xff\xff\xff\xc0\0\x11\x08\0\x60\0\xa8") == (168, 96), "fill bytes"
    assert claimed_size(b"GIF89a" + bytes(50)) is None
