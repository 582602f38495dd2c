"""Reads one image file. No pixel is made up: what is not whole is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import UnreadableImageError
from da3stream.source.base import OriginalImage
from da3stream.source.image_size import claimed_size, is_jpeg

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 1 << 28
"""Of one image: 268 million, more than any camera has. A larger claim is a damaged header."""
_MAX_JPEG_PIXELS_PER_BYTE = 512
"""A JPEG file has at least one bit for each 8x8 block, the Huffman code of its mean (ITU-T T.81, F.1.2)."""
JPEG_QUALITY = 95
_PUBLISHED_AS_IS = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png"}


def is_image_file(path: Path) -> bool:
    """Whether the name ends like that of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as upright (H, W, 3) uint8 RGB.

    Raises:
        UnreadableImageError: it cannot be read or decoded as a whole, or its values are no integers.
    """
    import cv2

    return cv2.cvtColor(_decode(_read_bytes(path), path), cv2.COLOR_BGR2RGB)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"the image {path} cannot be read", got=error.strerror) from None


def _decode(encoded: bytes, path: Path) -> NDArray[np.uint8]:
    """Upright (H, W, 3) uint8 BGR.

    OpenCV refuses what is cut short when it decodes from memory; reading the file by itself it would fill up
    with grey.
    """
    import cv2

    _check_claim(encoded, path)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # three channels, EXIF rotation, depth as stored
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    except cv2.error as error:
        if error.code == cv2.Error.STS_NO_MEM:
            raise MemoryError(f"no memory for the image {path}") from error
        image = None
    if image is None:
        raise UnreadableImageError(
            f"the image {path} cannot be decoded",
            got=f"{len(encoded)} bytes",
            expected="a complete image file",
            hint="Remove or replace it; no image is skipped silently.",
        )
    if image.dtype == np.uint16:
        return np.rint(image / np.float32(257)).astype(np.uint8)
    if image.dtype != np.uint8:
        raise UnreadableImageError(
            f"the image {path} cannot be used",
            got=f"{image.dtype} pixels",
            expected="8 or 16 bits per channel",
        )
    return image


def _check_claim(encoded: bytes, path: Path) -> None:
    """Raise UnreadableImageError if the header claims a size that cannot be true."""
    width, height = claimed_size(encoded) or (0, 0)
    limit = min(MAX_PIXELS, _MAX_JPEG_PIXELS_PER_BYTE * len(encoded)) if is_jpeg(encoded) else MAX_PIXELS
    if width * height > limit:
        raise UnreadableImageError(
            f"the image {path} cannot be decoded",
            got=f"a header that claims {width}x{height} pixels in a file of {len(encoded)} bytes",
            expected=f"at most {limit} pixels",
            hint="Remove or replace it; no image is skipped silently.",
        )


def published_image(
    source_index: int, path: Path, undistort: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
) -> OriginalImage:
    """The file itself if it is an upright JPEG or PNG, else encoded as PNG; undistorted ones as they came.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    import cv2

    encoded = _read_bytes(path)
    upright = _decode(encoded, path)
    suffix = _PUBLISHED_AS_IS.get(path.suffix.lower())
    if undistort is not None:
        return _encoded(source_index, undistort(upright), suffix or ".png")
    if suffix is not None:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        stored = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
        if stored is not None and np.array_equal(stored, upright):
            return OriginalImage(source_index=source_index, suffix=suffix, data=encoded)
    return _encoded(source_index, upright, ".png")


def _encoded(source_index: int, image: NDArray[np.uint8], suffix: str) -> OriginalImage:
    """(H, W, 3) BGR as a file."""
    import cv2

    _, file = cv2.imencode(
        suffix, image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else []
    )
    return OriginalImage(source_index=source_index, suffix=suffix, data=file.tobytes())
