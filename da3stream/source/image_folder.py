"""Frames of a folder of images, or of a single image."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from da3stream.config import SourceConfig
from da3stream.errors import InputNotFoundError, MixedImageSizesError, NoFramesError
from da3stream.imaging import resize_for_processing
from da3stream.scene import Frame
from da3stream.source.base import OriginalImage
from da3stream.source.capture_times import capture_times_s
from da3stream.source.fingerprint import content_fingerprint, identity_string
from da3stream.source.image_file import IMAGE_SUFFIXES, is_image_file, published_image, read_rgb
from da3stream.source.selection import SelectionRule, image_rule, motion_summary, select
from da3stream.source.undistortion import Undistorter, lens_fields, lens_of

_FINGERPRINT_EDGE_BYTES = 1 << 14


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """An image of the folder."""

    source_index: int
    """Position in natural order among all images of the folder, from 0."""
    timestamp_s: float
    """Capture time in seconds since 1970, or seconds made from the index."""
    path: Path


_ReadImage = tuple[ListedImage, NDArray[np.uint8]]


class ImageFolderSource:
    """Images of a folder in natural order (`img2` before `img10`), or one image file.

    Hidden files, subfolders and files with other suffixes are ignored. EXIF rotation is applied. Grey images
    get three equal channels, 16-bit values v become round(v / 257), and alpha is dropped without blending.

    `Frame.timestamp_s` is the EXIF capture time if all images have one and they strictly increase. Otherwise
    times are made up: index / fps, or the index in seconds. `start` and `end` count from the first image.
    """

    def __init__(
        self, path: str | Path, config: SourceConfig, *, names: Collection[str] | None = None
    ) -> None:
        """
        Args:
            path: the folder, or an image file.
            config: which images are taken.
            names: of the images that count; others are left out, with a warning. None: all of them.

        Raises:
            InputNotFoundError: there is no such folder or file.
            NoFramesError: the folder holds no image that counts.
        """
        self.path = Path(path)
        self.warnings: list[str] = []
        """How many images were left out, once an iteration has ended; nothing is ever repaired."""
        every = _image_paths(self.path)
        self._paths = [path for path in every if names is None or path.name in names]
        self._left_out = [path.name for path in every if names is not None and path.name not in names]
        if not self._paths:
            raise NoFramesError(
                f"the folder {self.path} holds no image that is asked for", got=f"{every[0].name}, ..."
            )
        self._config = config
        self.lens = lens_of(config)
        """The camera whose distortion is taken out of the images; None: they stay as they are."""
        self._undistort = None if self.lens is None else Undistorter(self.lens)

    @cached_property
    def _capture_times_s(self) -> list[float] | None:
        return capture_times_s(self._paths)

    @property
    def timestamps_are_synthetic(self) -> bool:
        """Whether times are made up from the index. Reads the headers of all images once."""
        return self._capture_times_s is None

    @property
    def rule(self) -> SelectionRule:
        """The selection with its defaults resolved.

        Raises:
            ConfigError: start or end is given, but no time is known.
        """
        return image_rule(self._config, has_times=not self.timestamps_are_synthetic)

    def selected(self) -> list[ListedImage]:
        """The images that are taken, or offered to the selection by motion; none of them is read.

        Raises:
            NoFramesError: the selection leaves nothing.
        """
        images, rule = self.listed(), self.rule
        if rule.motion is not None:
            rule = replace(rule, motion=None, max_frames=None)
        taken = list(select(images, rule, elapsed_s=lambda it: it.timestamp_s - images[0].timestamp_s))
        if not taken:
            raise NoFramesError(
                f"the selection leaves no image of {self.path}",
                got=f"{len(images)} images over {images[-1].timestamp_s - images[0].timestamp_s:.2f} s",
                hint="Check --start and --end: they count seconds from the first image.",
            )
        return taken

    def listed(self) -> list[ListedImage]:
        """All images with their times."""
        interval_s = 1.0 / (self._config.fps or 1.0)
        times_s = self._capture_times_s or [index * interval_s for index in range(len(self._paths))]
        return [
            ListedImage(source_index=index, timestamp_s=time_s, path=path)
            for index, (path, time_s) in enumerate(zip(self._paths, times_s, strict=True))
        ]

    def __iter__(self) -> Iterator[Frame]:
        """Yield the selected images.

        Raises:
            UnreadableImageError: an image cannot be decoded.
            MixedImageSizesError: an image has another size than the first one.
            NoFramesError, ConfigError: see `selected`.
        """
        self.warnings[:] = self._left_out_summary()
        for index, (listed, image) in enumerate(self._taken()):
            yield Frame(
                index=index,
                source_index=listed.source_index,
                timestamp_s=listed.timestamp_s,
                image=resize_for_processing(image, self._config.resolution),
                name=listed.path.name,
                original_size=(image.shape[1], image.shape[0]),
            )

    def _left_out_summary(self) -> list[str]:
        names = self._left_out
        total = len(names) + len(self._paths)
        return (
            [f"{len(names)} of {total} images have no pose and are left out: {names[0]}, ..."]
            if names
            else []
        )

    def _taken(self) -> Iterator[_ReadImage]:
        """The selected images, read."""
        threshold = self.rule.motion
        if threshold is None:
            yield from self._read()
            return
        from da3stream.source.motion import MotionFilter, grey_image

        motion = MotionFilter[_ReadImage](threshold, lambda read: grey_image(read[1]))
        yield from islice(motion(self._read()), self.rule.max_frames)
        self.warnings += motion_summary(kept=motion.kept, offered=motion.offered)

    def _read(self) -> Iterator[_ReadImage]:
        """The images of `selected` and their pixels, (H, W, 3) uint8 RGB."""
        first: tuple[Path, tuple[int, int]] | None = None
        for listed in self.selected():
            image = read_rgb(listed.path)
            size = (image.shape[1], image.shape[0])
            first = first or (listed.path, size)
            if size != first[1]:
                raise _mixed_sizes(first[0], first[1], listed.path, size)
            yield listed, image if self._undistort is None else self._undistort(image)

    def size_hint(self) -> int:
        """Number of selected images; if motion selects, at most so many. Raises what `selected` raises."""
        offered = len(self.selected())
        return min(offered, self.rule.max_frames or offered)

    def identity(self) -> str:
        """Names and contents (see `content_fingerprint`) of all images, and the selection."""
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(f"{path.name}\0{content_fingerprint(path, _FINGERPRINT_EDGE_BYTES)}\n".encode())
        return identity_string(
            "images",
            digest.hexdigest(),
            selection=asdict(self.rule),
            fps=self._config.fps,
            resolution=self._config.resolution,
            **lens_fields(self.lens),
        )

    def originals(self, source_indices: Iterable[int]) -> Iterator[OriginalImage]:
        """Yield these images at full size: the file itself if it is an upright JPEG or PNG, else as PNG.

        What has to be undistorted is encoded anew: JPEG files as JPEG of quality 95, others as PNG.

        Raises:
            UnreadableImageError: an image cannot be decoded.
        """
        for source_index in source_indices:
            yield published_image(source_index, self._paths[source_index], self._undistort)


def _image_paths(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputNotFoundError(f"there is no folder {path}")
    files = [entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    images = [file for file in files if is_image_file(file)]
    if not images:
        others = sorted({file.suffix or file.name for file in files})[:5]
        raise NoFramesError(
            f"the folder {path} holds no image",
            got=f"{len(files)} other files ({', '.join(others)})" if files else "no files",
            expected=f"files with {', '.join(IMAGE_SUFFIXES)}",
            hint=_folder_with_images(path),
        )
    return sorted(images, key=_natural_key)


def _folder_with_images(path: Path) -> str | None:
    """Where the images are of a data set that has none at its top; None if they are not one deeper either."""
    for folder in sorted(entry for entry in path.iterdir() if os.access(entry, os.R_OK | os.X_OK)):
        if folder.is_dir() and any(is_image_file(file) for file in folder.iterdir()):
            return f"There are images in {folder}: give that."
    return None


def _natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts digits by their value and all else as text; the name itself decides between `a1` and `a01`."""
    parts = re.findall(r"\d+|\D+", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name


def _mixed_sizes(
    first: Path, first_size: tuple[int, int], other: Path, size: tuple[int, int]
) -> MixedImageSizesError:
    return MixedImageSizesError(
        f"the images {first.name} and {other.name} differ in size",
        got=f"{size[0]}x{size[1]} in {other}",
        expected=f"{first_size[0]}x{first_size[1]} as in {first}",
        hint="Use images of one size, in one folder per camera.",
    )
