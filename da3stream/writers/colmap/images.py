"""Folders of images (of colmap/, nerfstudio/): the user's own, or else those that the run worked on."""

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
    """Images that are chosen block by block and lie in the folder in the end.

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
    def add(self, block: FrameBlock, rows: NDArray[np.intp]) -> None:
        """Take the images in these rows of the next block."""

    @abstractmethod
    def publish(self) -> list[str]:
        """Have exactly the taken images in the folder and return their names, relative to it."""

    def _write(self, name: str, content: bytes) -> None:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise InputError(f"the image name {name!r} leads out of the folder of images")
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
    """The user's own images, read a second time in the end, one after the other."""

    def __init__(self, folder: Path, originals: HasOriginals) -> None:
        super().__init__(folder)
        self._originals = originals
        self._names: list[str] = []
        self._source_indices: list[int] = []

    def sizes(self, block: FrameBlock) -> NDArray[np.int64]:
        return block.original_size

    def add(self, block: FrameBlock, rows: NDArray[np.intp]) -> None:
        self._names.extend(block.names[row] for row in rows)
        self._source_indices.extend(block.source_index[rows].tolist())

    def publish(self) -> list[str]:
        names = []
        images = self._originals.originals(self._source_indices) if self._source_indices else ()
        for name, index, image in zip_longest(self._names, self._source_indices, images):
            if image is None or image.source_index != index:
                raise InputError(
                    "the images could not be read a second time",
                    got="no more images" if image is None else f"image {image.source_index}",
                    expected="no more images" if index is None else f"image {index}",
                    hint="Is the input still the same?",
                )
            names.append(_named_like_its_format(name, image.suffix))
            self._write(names[-1], image.data)
        return names


class ProcessedImages(ColmapImages):
    """The images that the run worked on, as JPEG."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._names: list[str] = []

    def sizes(self, block: FrameBlock) -> NDArray[np.int64]:
        height, width = block.images.shape[1:3]
        return np.tile(np.array([width, height]), (len(block), 1))

    def add(self, block: FrameBlock, rows: NDArray[np.intp]) -> None:
        for row in rows:
            self._names.append(_named_like_its_format(block.names[row], ".jpg"))
            self._write(self._names[-1], _jpeg(block.images[row]))

    def publish(self) -> list[str]:
        return self._names


def begin_images(folder: Path, originals: HasOriginals | None) -> ColmapImages:
    """The user's own images where they can be read a second time, otherwise those that the run worked on."""
    return ProcessedImages(folder) if originals is None else OriginalImages(folder, originals)


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
