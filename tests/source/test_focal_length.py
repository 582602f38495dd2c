"""Focal lengths that photographs know."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3stream.source.focal_length import exif_focal_px


def write_photo(path: Path, equivalent_mm: int | None, size: tuple[int, int] = (60, 40)) -> Path:
    """A grey image; with FocalLengthIn35mmFilm (0xA405) in the EXIF folder 0x8769."""
    image = np.full((size[1], size[0], 3), 90, dtype=np.uint8)
    if equivalent_mm is None:
        encoded = cv2.imencode(path.suffix, image)[1]
    else:
        entry, end = struct.Struct("<HHII"), struct.pack("<I", 0)
        root = struct.pack("<H", 1) + entry.pack(0x8769, 4, 1, 26) + end
        folder = struct.pack("<H", 1) + entry.pack(0xA405, 3, 1, equivalent_mm) + end
        block = np.frombuffer(b"II*\0" + struct.pack("<I", 8) + root + folder, np.uint8)
        encoded = cv2.imencodeWithMetadata(path.suffix, image, [cv2.IMAGE_METADATA_EXIF], [block])[1]
    path.write_bytes(encoded.tobytes())
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_35_mm_equivalent_compares_diagonals(tmp_path: Path, suffix: str) -> None:
    photo = write_photo(tmp_path / f"a{suffix}", 28)
    # A 3:2 image has the shape of the film, whose 36 mm are its width.
    assert exif_focal_px(photo, 3600, 2400) == pytest.approx(2800)
    assert exif_focal_px(photo, 2400, 3600) == pytest.approx(2800)
    assert exif_focal_px(photo, 4000, 3000) == pytest.approx(28 * 5000 / math.hypot(36, 24))


@pytest.mark.parametrize("equivalent_mm", [None, 0])
def test_none_where_it_is_unknown(tmp_path: Path, equivalent_mm: int | None) -> None:
    assert exif_focal_px(write_photo(tmp_path / "a.jpg", equivalent_mm), 3600, 2400) is None
