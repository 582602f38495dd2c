"""The images of colmap/images: the user's own, or else those that the run worked on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import zip_longest
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import InputError
from da3stream.scene import FrameBlock
from da3stream.source.base import HasOriginals

_JPEG_QUALITY = 95
_SAME_FORMAT = ({".jpg", ".jpeg"}, {".png"})


class ColmapImages(ABC):
    """Images that are announced frame by frame and of which some are published in the end.

    Args:
        folder: where they go; nothing else is in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def sizes(self, block: FrameBlock) -> NDArray[np.int64]:
        """(M, 2) width and height that the images of a block have in the folder."""

    @abstractmethod
    def add(self, block: FrameBlock) -> None:
        """Announce the frames of the next block."""

    @abstractmethod
    def publish(self, rows: NDArray[np.intp]) -> list[str]:
        """Leave exactly these images (ascending positions among all announced) in the folder.

        Returns:
            Their names, relative to the folder.
        """

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as stream:
                stream.write(content)
        except FileExistsError:
            raise InputError(
                f"two images are called {name!r}", expected="a name of its own for every frame"
            ) from None


class OriginalImages(ColmapImages):
    """The user's own images, read a second time once it is known which are wanted, one after the other."""

    def __init__(self, folder: Path, originals: HasOriginals) -> None:
        super().__init__(folder)
        self._originals = originals
        self._names: list[str] = []
        self._source_indices: list[int] = []

    def sizes(self, block: FrameBlock) -> NDArray[np.int64]:
        return block.original_size

    def add(self, block: FrameBlock) -> None:
        self._names.extend(block.names)
        self._source_indices.extend(block.source_index.tolist())

    def publish(self, rows: NDArray[np.intp]) -> list[str]:
        wanted = [self._source_indices[row] for row in rows]
        names = []
        images = self._originals.originals(wanted) if wanted else ()
        for row, index, image in zip_longest(rows, wanted, images):
            if image is None or image.source_index != index:
                raise InputError(
                    "the images could not be read a second time",
                    got="no more images" if image is None else f"image {image.source_index}",
                    expected="no more images" if index is None else f"image {index}",
                    hint="Is the input still the same?",
                )
            names.append(_named_like_its_format(self._names[row], image.suffix))
            self._write(names[-1], image.data)
        return names


class ProcessedImages(ColmapImages):
    """The images that the run worked on, as JPEG; all wait until it is known which are wanted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._names: list[str] = []

    def sizes(self, block: FrameBlock) -> NDArray[np.int64]:
        height, width = block.images.shape[1:3]
        return np.tile(np.array([width, height]), (len(block), 1))

    def add(self, block: FrameBlock) -> None:
        for name, image in zip(block.names, block.images, strict=True):
            self._names.append(_named_like_its_format(name, ".jpg"))
            self._write(self._names[-1], _jpeg(image))

    def publish(self, rows: NDArray[np.intp]) -> list[str]:
        wanted = set(rows.tolist())
        for row, name in enumerate(self._names):
            if row not in wanted:
                (self._folder / name).unlink()
        return [self._names[row] for row in rows]


def _named_like_its_format(name: str, suffix: str) -> str:
    """The name itself if it ends like a file of this format (`.jpg`, `.png`), or else the suffix appended."""
    given = PurePosixPath(name).suffix.lower()
    fits = given == suffix or any({given, suffix} <= suffixes for suffixes in _SAME_FORMAT)
    return name if fits else name + suffix


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    import cv2

    bgr = np.ascontiguousarray(image[..., ::-1])
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return bytes(encoded)
