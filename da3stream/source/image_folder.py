"""Frames of a folder of images, or of a single image."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from da3stream.config import SourceConfig
from da3stream.errors import InputNotFoundError, MixedImageSizesError, NoFramesError, command_line
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.geometry.lens import LensCamera
from da3stream.imaging import resize_for_processing
from da3stream.scene import Frame
from da3stream.source.base import OriginalImage
from da3stream.source.capture_times import capture_times_s
from da3stream.source.fingerprint import content_fingerprint, identity_string
from da3stream.source.image_file import IMAGE_SUFFIXES, is_image_file, published_image, read_rgb
from da3stream.source.selection import SelectionRule, image_rule, motion_summary, select
from da3stream.source.undistortion import Undistorter, lens_fields, lens_of, undistorter_for

_FINGERPRINT_EDGE_BYTES = 1 << 14


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """An image of the folder."""

    source_index: int
    """Position in natural order among all images of the folder, from 0."""
    timestamp_s: float
    """Capture time in seconds since 1970, or seconds made from the index."""
    path: Path

    @property
    def name(self) -> str:
        """File name."""
        return self.path.name


_ReadImage = tuple[ListedImage, NDArray[np.uint8]]


class ImageFolderSource:
    """Images of a folder in natural order (`img2` before `img10`), or one image file.

    Hidden files, subfolders and files with other suffixes are ignored. EXIF rotation is applied. Grey images
    get three equal channels, 16-bit values v become round(v / 257), and alpha is dropped without blending.

    `Frame.timestamp_s` is the EXIF capture time if all images have one and they strictly increase. Otherwise
    times are made up: index / fps, or the index in seconds. `start` and `end` count from the first image.
    """

    def __init__(
        self,
        path: str | Path,
        config: SourceConfig,
        *,
        names: Collection[str] | None = None,
        lenses: Mapping[str, LensCamera] | None = None,
    ) -> None:
        """
        Args:
            path: the folder, or an image file.
            config: which images are taken.
            names: of the images that count, also in subfolders (`left/1.jpg`); others are left out, with a
                warning. None: all in the folder itself.
            lenses: cameras by file name, in pixels of the images, if there are several. Each image is
                undistorted by its own, and frames have their intrinsics.

        Raises:
            InputNotFoundError: there is no such folder or file.
            NoFramesError: the folder holds no image that counts.
        """
        self.path = Path(path)
        self.warnings: list[str] = []
        """How many images were left out, or undistorted by their own cameras, once an iteration has ended."""
        every = _image_paths(self.path, names or ())
        named = {self.path / name for name in names or ()}
        self._paths = [path for path in every if names is None or path in named]
        self._left_out = [path.name for path in every if names is not None and path not in named]
        if not self._paths:
            raise NoFramesError(
                f"the folder {self.path} holds no image that is asked for", got=f"{every[0].name}, ..."
            )
        self._config = config
        self.lens = lens_of(config)
        """The camera whose distortion is taken out of the images; None: they stay as they are."""
        self._undistorter = None if self.lens is None else Undistorter(self.lens)
        self._lenses = lenses or {}

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
        self.warnings[:] = [*self._left_out_summary(), *self._undistortion_summary()]
        for index, (listed, image) in enumerate(self._taken()):
            size = (image.shape[1], image.shape[0])
            processed = resize_for_processing(image, self._config.resolution)
            yield Frame(
                index=index,
                source_index=listed.source_index,
                timestamp_s=listed.timestamp_s,
                image=processed,
                name=listed.path.name,
                original_size=size,
                intrinsics=self._own_intrinsics(listed.path, size, (processed.shape[1], processed.shape[0])),
            )

    def _own_intrinsics(
        self, path: Path, size: tuple[int, int], processing_size: tuple[int, int]
    ) -> NDArray[np.float64] | None:
        """(3, 3) of the undistorted image at processing resolution; None unless there are several cameras."""
        lens = self._lenses.get(path.name)
        return (
            None if lens is None else rescale_intrinsics(lens.pinhole(*size).matrix(), size, processing_size)
        )

    def _left_out_summary(self) -> list[str]:
        names = self._left_out
        total = len(names) + len(self._paths)
        return (
            [f"{len(names)} of {total} images have no pose and are left out: {names[0]}, ..."]
            if names
            else []
        )

    def _undistortion_summary(self) -> list[str]:
        distorted = [lens for lens in self._lenses.values() if lens.distortion is not None]
        return [f"{len(distorted)} images are undistorted, each by its own camera"] if distorted else []

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
            undistort = self._undistorter_of(listed.path)
            yield listed, image if undistort is None else undistort(image)

    def _undistorter_of(self, path: Path) -> Undistorter | None:
        lens = self._lenses.get(path.name)
        return self._undistorter if lens is None else undistorter_for(lens)

    def size_hint(self) -> int:
        """Number of selected images; if motion selects, at most so many. Raises what `selected` raises."""
        offered = len(self.selected())
        return min(offered, self.rule.max_frames or offered)

    def identity(self) -> str:
        """Names and contents (see `content_fingerprint`) of all images, and the selection."""
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(f"{path.name}\0{content_fingerprint(path, _FINGERPRINT_EDGE_BYTES)}\n".encode())
            if path.name in self._lenses:
                digest.update(f"{self._lenses[path.name]}\n".encode())
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
            path = self._paths[source_index]
            yield published_image(source_index, path, self._undistorter_of(path))


def _image_paths(path: Path, names: Collection[str]) -> list[Path]:
    """The images of a folder, and of the subfolders that the names lead to."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputNotFoundError(f"there is no folder {path}")
    if _is_run(path):
        raise NoFramesError(
            f"{path} is a run directory, no folder of images",
            hint=f"To go on with it: {command_line('resume', path)}",
        )
    folders = {path} | {(path / name).parent for name in names}
    entries = [entry for folder in sorted(folders) for entry in folder.iterdir()]
    files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    images = [file for file in files if is_image_file(file)]
    if not images:
        others = sorted({file.suffix or file.name for file in files})[:5]
        raise NoFramesError(
            f"the folder {path} holds no image",
            got=f"{len(files)} other file{'s' if len(files) > 1 else ''} ({', '.join(others)})"
            if files
            else "no files",
            expected=f"files with {', '.join(IMAGE_SUFFIXES)}",
            hint=_folder_with_images(path),
        )
    return sorted(images, key=lambda image: _natural_key(image.relative_to(path).as_posix()))


def _folder_with_images(path: Path) -> str | None:
    """Where the images are of a data set without any at its top, or else a run; None if neither is in it."""
    entries = sorted(entry for entry in path.iterdir() if os.access(entry, os.R_OK | os.X_OK))
    folders = [entry for entry in entries if entry.is_dir()]
    runs = [folder for folder in folders if _is_run(folder)]
    for folder in folders:
        if folder not in runs and any(is_image_file(file) for file in folder.iterdir()):
            return f"There are images in {folder}: give that."
    return f"There is a run in it: {command_line('info', runs[0])}" if runs else None


def _is_run(folder: Path) -> bool:
    """Whether a run has written into the folder: the pictures at its top are no input."""
    return (folder / "run.json").is_file() and (folder / "journal.jsonl").is_file()


def _natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts digits by their value and all else as text; the name itself decides between `a1` and `a01`."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name


def _mixed_sizes(
    first: Path, first_size: tuple[int, int], other: Path, size: tuple[int, int]
) -> MixedImageSizesError:
    return MixedImageSizesError(
        f"the images {first.name} and {other.name} differ in size",
        got=f"{size[0]}x{size[1]} in {other}",
        expected=f"{first_size[0]}x{first_size[1]} as in {first}",
        hint="Use images of one size, in one folder per camera.",
    )
