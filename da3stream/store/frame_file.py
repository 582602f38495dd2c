"""The images of a chunk's new frames as bytes: JPEGs in an uncompressed zip archive that any tool opens."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.errors import RunCorruptError, StoreError
from da3stream.scene import Frame

JPEG_QUALITY = 92


def encode_frames(frames: Iterable[Frame]) -> bytes:
    """A zip archive with `000123.jpg` for the frame with index 123. Equal frames make equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for frame in frames:
            done, jpeg = cv2.imencode(
                ".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            )
            if not done:
                raise StoreError(f"frame {frame.index} of size {frame.size} cannot be encoded as JPEG")
            archive.writestr(zipfile.ZipInfo(f"{frame.index:06d}.jpg"), jpeg.tobytes())
    return buffer.getvalue()


def decode_frames(content: bytes) -> NDArray[np.uint8]:
    """(M, H, W, 3) RGB images of `encode_frames`' bytes, in their order.

    Raises:
        RunCorruptError: the bytes are no such archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            images = [_decode(archive.read(name)) for name in archive.namelist()]
        return np.stack(images)
    except (zipfile.BadZipFile, ValueError, cv2.error) as error:
        raise RunCorruptError(f"stored frames cannot be read: {error}") from error


def _decode(jpeg: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError("an image cannot be decoded")
    return image
