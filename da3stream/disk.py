"""What a run may take on the disk: planned before it starts, watched while it goes on."""

from __future__ import annotations

import contextlib
import os
from math import log
from pathlib import Path

from da3stream.config import Config
from da3stream.errors import StoreError, command_line
from da3stream.writers import export_names
from da3stream.writers.sensor_frames import MAX_POINTS

BYTES_PER_FRAME = 200_000
"""What intermediate files take for each frame at 504x280, at most about; at other sizes in proportion to the
pixels. With coarse chunks over every fourth frame (twice as many as by default) and vlad, benchmarks/disk.py
measured 163,000 on a walking robot's video (submaps 116,000, images 30,000, descriptors 17,000) and 158,000
on richly textured photos (images 39,000); the recording of a live input makes that 193,000 and 198,000."""
FULL_BYTES_PER_FRAME = 504 * 280 * 8
"""Full-size depth and confidence beside that, with `--keep full`."""
_PIXELS = 504 * 280
_RECORDING_BYTES = 110_000
"""Of a rerun, MCAP or ROS 2 recording: a JPEG at 504x280, reduced depth (62,000) and messages."""
FRAME_BYTES = {
    "results": 11 * _PIXELS,
    "npz": 22 * _PIXELS,
    "mini_npz": 16 * _PIXELS,
    "depth_vis": 900_000,
    "depth_png": 2 * _PIXELS,
    "depth_exr": 4 * _PIXELS,
    "nerfstudio": 2 * _PIXELS,
    "mesh": (13 + 27) * 40_000 + 168 * 94 * 7,
    "rerun": _RECORDING_BYTES,
    "mcap": _RECORDING_BYTES,
    "ros2bag": _RECORDING_BYTES,
}
"""Of formats that hold maps of every frame: a frame of full size, 504x280, and what of it lies in scratch
files; points and the images of nerfstudio/ come on top. mesh: 40,000 faces with half as many vertices."""
IMAGE_BYTES = 700_000
"""An image of colmap/ and nerfstudio/: a JPEG of two megapixels."""
MATCHED_IMAGE_BYTES = 450_000
"""Of an image with tracks: features and matches in the database (measured: 320,000 to 332,000), its key
points in the model, and a copy of these while it is made."""
MATCHED_TEXT_BYTES = 110_000
"""The same model as text."""
GAUSSIAN_BYTES = {0: 34, 2: 82}
"""A stored Gaussian, by the degree of its colours."""
GAUSSIAN_PLY_BYTES = {0: 68, 2: 164}
"""Of gs_ply/."""
GAUSSIANS_PER_FRAME = 504 * 280
POINT_BYTES, POINTS_PER_FRAME = 15, 10_000
"""Of pcd/: a point; points of a frame at 504x280 whose least confident 40 percent are left out."""
RECORDING_POINT_BYTES = 16
RECORDINGS = {"rerun", "mcap", "ros2bag"}
FIXED_BYTES = 10_000_000
"""Of colmap/sparse and its database, text files and pictures; of scene.glb as much again."""
RESERVE_BYTES = 256 * 2**20
"""Stays free on the file system where no `--disk` is given."""
FRAMES_AHEAD = 120
"""There must be room for so many more frames, about two chunks, at every check."""


class DiskBudget:
    """Compares what a run directory takes, and will take, with what it may."""

    def __init__(self, root: Path, config: Config) -> None:
        """Start.

        Args:
            root: the run directory; it need not exist.
            config: the options; `disk` is the budget, None: what is free, less `RESERVE_BYTES`.
        """
        self._root, self._config = root, config
        pixels = (config.resolution / 504) ** 2
        self._full = FULL_BYTES_PER_FRAME * pixels if config.keep == "full" else 0.0
        self._frame_bytes = BYTES_PER_FRAME * pixels + self._full
        self._walked_bytes: int | None = None
        self._free_then = 0

    def plan(self, frames: int | None) -> None:
        """Whether a run of so many frames fits, before anything is written; None: it cannot be known.

        Raises:
            StoreError: it does not; the message says how much is missing, and what would help.
        """
        if frames is None:
            return
        needed = self.planned_bytes(frames)
        missing = needed - self._taken() - self._room()
        if missing > 0:
            raise StoreError(
                f"the run directory {self._root} would take about {_size(needed)} for {frames} frames, "
                f"{_size(missing)} more than it may",
                hint=self._advice("Fewer frames (--fps, --max-frames), a lower --resolution, ").rstrip(),
            )

    def planned_bytes(self, frames: int) -> int:
        """What a run of so many frames takes, its outputs included, at most about."""
        stored = int(frames * self._frame_bytes) + self._gaussian_bytes(0, frames)
        return stored + self.output_bytes(frames, export_names(self._config))

    def check(self, frames: int) -> None:
        """Whether the chunks after so many frames fit.

        StoreError if not: what is stored is kept and can be resumed.
        """
        ahead = int(FRAMES_AHEAD * self._frame_bytes) + self._gaussian_bytes(frames, frames + FRAMES_AHEAD)
        self._require(ahead, "the next chunks")

    def check_outputs(self, frames: int, names: tuple[str, ...]) -> None:
        """Whether these formats of so many frames fit. Errors as of `check`."""
        self._require(self.output_bytes(frames, names), "the outputs")

    def check_export(self, frames: int, names: tuple[str, ...]) -> None:
        """Whether these formats of a finished run fit, beside older ones of them. Errors as of `check`."""
        again = command_line("export", self._root, "--to", ",".join(names))
        self._require(self.output_bytes(frames, names), "the formats", again)

    def output_bytes(self, frames: int, names: tuple[str, ...]) -> int:
        """What these formats take for so many frames, at most about."""
        config = self._config
        pixels = (config.resolution / 504) ** 2
        seen = min(config.max_points, int(frames * POINTS_PER_FRAME * pixels))
        images = min(config.colmap_images, frames)
        each = frames * pixels * sum(FRAME_BYTES.get(name, 0) for name in names)
        recorded = min(seen, MAX_POINTS) * RECORDING_POINT_BYTES * len(RECORDINGS.intersection(names))
        gaussians = min(config.max_gaussians, int(frames * GAUSSIANS_PER_FRAME * pixels))
        return int(
            each
            + gaussians * GAUSSIAN_PLY_BYTES[config.gaussian_degree] * ("gs_ply" in names)
            + recorded
            + seen * POINT_BYTES * len({"pcd", "ply_chunks"} & set(names))
            + images * IMAGE_BYTES * len({"colmap", "nerfstudio"} & set(names))
            + images * self._matches_bytes() * ("colmap" in names)
            + FIXED_BYTES * (1 + ("glb" in names))
        )

    def _gaussian_bytes(self, start: int, stop: int) -> int:
        """What the stored Gaussians of these frames take.

        A frame keeps its part of `max_gaussians` if the run ended with it: less and less as the run goes on,
        so that all of them together grow with the logarithm of its length.
        """
        config = self._config
        if "gs_ply" not in config.export or stop <= start:
            return 0
        each = GAUSSIANS_PER_FRAME * (config.resolution / 504) ** 2
        most = config.max_gaussians
        full = min(max(int(most / each), start), stop)
        later = most * log(stop / full) if stop > full > 0 else 0.0
        later = most * (1 + log(stop)) if full == 0 else later
        return int(((full - start) * each + later) * GAUSSIAN_BYTES[config.gaussian_degree])

    def _matches_bytes(self) -> int:
        """What an image of colmap/ takes in the model and the database."""
        if self._config.colmap_points == "dense":
            return 0
        return MATCHED_IMAGE_BYTES + (MATCHED_TEXT_BYTES if self._config.colmap_format != "binary" else 0)

    def _require(self, needed: int, what: str, again: str | None = None) -> None:
        """`again`: the command that is to be repeated, if it is not `resume`."""
        missing = needed - self._room()
        if missing > 0:
            raise StoreError(
                f"the run directory {self._root} takes {_size(self._taken())} on the disk, and {what} need "
                f"{_size(missing)} more than it may take",
                hint=f"What is stored is kept. {self._advice('')}Then go on with: {self._command(again)}",
            )

    def _command(self, again: str | None) -> str:
        """A larger budget is kept by `resume`, of a finished run too."""
        resume = command_line("resume", self._root) + ("" if self._config.disk is None else " --disk SIZE")
        if again is None:
            return resume
        return again if self._config.disk is None else f"{resume}; {again}"

    def _advice(self, others: str) -> str:
        smaller = "--keep reduced, " if self._full else ""
        if self._config.disk is None:
            return f"{others}{smaller}fewer --colmap-images or a disk with more room would help. "
        return f"{others}{smaller}fewer --colmap-images or more than --disk {self._config.disk} would help. "

    def _room(self) -> int:
        """Bytes that may still be written."""
        free = _free_bytes(self._root)
        limit = self._config.disk_bytes
        if limit is None:
            return free - RESERVE_BYTES
        # Walking through all files for every chunk would cost more the longer a run gets. While the file
        # system as a whole has lost little since the last walk, the run has not grown by more.
        lost = self._free_then - free
        if self._walked_bytes is None or lost < 0 or lost > (limit - self._walked_bytes) / 4:
            self._taken()
            lost = 0
        assert self._walked_bytes is not None
        return min(free, limit - self._walked_bytes - lost)

    def _taken(self) -> int:
        """Bytes that the run directory takes now."""
        self._free_then = _free_bytes(self._root)
        self._walked_bytes = folder_bytes(self._root)
        return self._walked_bytes


def folder_bytes(root: Path) -> int:
    """What all files below a folder take on the disk; 0 if it does not exist.

    A file that goes away meanwhile, as the pending files of a run do, takes nothing.
    """
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def _free_bytes(root: Path) -> int:
    existing = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    status = os.statvfs(existing)
    return status.f_bavail * status.f_frsize


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count, 0) / 1e6:.0f} MB"
