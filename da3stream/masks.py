"""Masks of what is to be ignored: moving things, the bonnet of the car, a time stamp in the picture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.errors import InputError, InputNotFoundError, UnreadableImageError
from da3stream.geometry.lens import LensCamera
from da3stream.scene import Frame, Prediction
from da3stream.source.image_file import IMAGE_SUFFIXES, is_image_file
from da3stream.source.undistortion import Undistorter

BLACK_BELOW = 128
MAX_ASPECT_DIFFERENCE = 0.05
"""Of the aspect ratios of a mask and its frame. The processing size may differ by 2.5 % from the input's."""


class MaskFolder:
    """A folder of mask images, black where a frame is to be ignored, one file for each masked frame.

    The mask of `0007.jpg` is `0007.png`, `0007.jpg.png` (as COLMAP names them) or of any other image format.
    That of frame 123 of a video, counted from 0 in the file, is `123.png`, with any number of zeros before
    it. Any size will do, with the aspect ratio of the frame. A frame without a file is not masked.
    """

    def __init__(
        self,
        folder: str | Path,
        lens: LensCamera | None = None,
        lenses: Mapping[str, LensCamera] | None = None,
    ) -> None:
        """
        Args:
            folder: the masks.
            lens: of the user's images, if they are undistorted: masks are, too.
            lenses: the same of several cameras, by the names of frames.

        Raises:
            InputNotFoundError: there is no such folder, or no image in it.
            InputError: two files are masks of the same frame.
        """
        self.folder, self._lens, self._lenses = Path(folder), lens, lenses or {}
        if not self.folder.is_dir():
            raise InputNotFoundError(f"there is no folder of masks {folder}")
        self._paths: dict[str, Path] = {}
        for path in sorted(self.folder.iterdir()):
            if not is_image_file(path) or path.name.startswith("."):
                continue
            key = _key(path.name)
            if key in self._paths:
                raise InputError(
                    f"two masks in {folder} are of the same frame",
                    got=f"{self._paths[key].name} and {path.name}",
                )
            self._paths[key] = path
        if not self._paths:
            raise InputNotFoundError(
                f"the folder of masks {folder} holds no image",
                expected=f"files with {', '.join(IMAGE_SUFFIXES)}",
            )

    def identity(self) -> str:
        """A string that is equal for equal names and contents. Reads all files."""
        digest = hashlib.sha256()
        for key, path in self._paths.items():
            digest.update(f"{key}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()[:32]

    def has(self, name: str) -> bool:
        """Whether there is a mask of the frame of this name."""
        return _key(name) in self._paths

    def check_names(self, names: Sequence[str]) -> None:
        """Raise InputError if no mask is of any of these frames."""
        if not any(self.has(name) for name in names):
            raise InputError(
                f"no mask in {self.folder} is named like a frame",
                got=f"masks like {next(iter(self._paths.values())).name}",
                expected=f"names like {PurePosixPath(names[0]).stem}.png",
            )

    def apply(self, prediction: Prediction, frames: Sequence[Frame]) -> Prediction:
        """The prediction of these frames with confidence 0 where they are masked.

        Raises:
            UnreadableImageError: a mask cannot be read.
            InputError: a mask has another aspect ratio than its frame.
        """
        ignored = self.ignored(frames, (prediction.depth.shape[2], prediction.depth.shape[1]))
        return replace(prediction, confidence=np.where(ignored, np.float32(0), prediction.confidence))

    def ignored(self, frames: Sequence[Frame], size: tuple[int, int]) -> NDArray[np.bool_]:
        """(N, H, W) where frames are masked, at a size of (width, height). Raises what `apply` raises."""
        ignored = np.zeros((len(frames), size[1], size[0]), dtype=np.bool_)
        for row, frame in enumerate(frames):
            path = self._paths.get(_key(name_of(frame)))
            if path is not None:
                lens = self._lenses.get(name_of(frame), self._lens)
                ignored[row] = _ignored(path, frame, size, lens)
        return ignored


def name_of(frame: Frame) -> str:
    """What a frame is called in the outputs."""
    return frame.name or f"{frame.source_index:06d}.jpg"


def _key(name: str) -> str:
    """`0007.jpg.png` and `0007.png` -> `7`; `img_01.jpg` -> `img_01`."""
    path = PurePosixPath(name)
    while path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    return str(int(path.name)) if path.name.isdecimal() else path.name


def _ignored(path: Path, frame: Frame, size: tuple[int, int], lens: LensCamera | None) -> NDArray[np.bool_]:
    """(H, W) True where a mask is black, at a size of (width, height)."""
    mask = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise UnreadableImageError(f"cannot read the mask {path}")
    width, height = frame.original_size or frame.size
    if abs(mask.shape[1] / mask.shape[0] / (width / height) - 1) > MAX_ASPECT_DIFFERENCE:
        raise InputError(
            f"the mask {path} has another aspect ratio than its frame",
            got=f"{mask.shape[1]}x{mask.shape[0]}",
            expected=f"that of {width}x{height}",
        )
    if lens is not None and lens.distortion is not None:
        mask = Undistorter(lens.resized((width, height), (mask.shape[1], mask.shape[0])))(mask)
    shrinks = mask.shape[1] >= size[0]
    resized = cv2.resize(mask, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    return np.asarray(resized < BLACK_BELOW)
