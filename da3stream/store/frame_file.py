"""The images of a chunk's new frames as bytes: JPEGs in an uncompressed zip archive that any tool opens."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

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
            archive.writestr(zipfile.ZipInfo(_name(frame.index)), jpeg.tobytes())
    return buffer.getvalue()


def decode_frames(content: bytes, frames: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """(M, H, W, 3) RGB images of `encode_frames`' bytes.

    Args:
        content: the bytes.
        frames: indices of the frames that are wanted; default: all, in their order.

    Raises:
        RunCorruptError: the bytes are no such archive, or a frame is not in it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist() if frames is None else [_name(frame) for frame in frames]
            return np.stack([_decode(archive.read(name)) for name in names])
    except (zipfile.BadZipFile, KeyError, ValueError, cv2.error) as error:
        raise RunCorruptError(f"stored frames cannot be read: {error}") from error


def read_frame(path: Path, frame: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB image of one frame of a stored file; the others are not read.

    Raises:
        RunCorruptError: the file cannot be read, or the frame is not in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _decode(archive.read(_name(frame)))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, cv2.error) as error:
        raise RunCorruptError(f"the stored frame {frame} cannot be read: {error}") from error


def _name(frame: int) -> str:
    return f"{frame:06d}.jpg"


def _decode(jpeg: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError("an image cannot be decoded")
    return image
