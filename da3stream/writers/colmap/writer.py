"""colmap/: images and a sparse model for COLMAP and for trainers of 3D Gaussians and radiance fields."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import MixedImageSizesError
from da3stream.geometry.camera import Camera, rescale_intrinsics
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.colmap.dense import DensePoints
from da3stream.writers.colmap.images import begin_images
from da3stream.writers.colmap.job import ColmapJob, save_job
from da3stream.writers.colmap.model import (
    ModelImage,
    add_points,
    build_model,
    open_database,
    write_cameras_and_images,
    write_model,
)
from da3stream.writers.colmap.pairs import loop_pairs, sequence_pairs
from da3stream.writers.colmap.worker_process import WorkerFailedError, run_worker
from da3stream.writers.image_choice import evenly_along_path
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.ply import write_points_with_normals

_MAX_POINTS = 100_000
_MAX_WORKERS = 8
"""Each takes some 60 MB."""


class ColmapWriter(Writer):
    """colmap/images, colmap/sparse/0 and colmap/database.db.

    The images are the user's own, read a second time, or, where that is impossible, the processing-resolution
    ones as JPEG. All share one camera at the size of these images: the medians over all frames of focal
    lengths and principal point; with `per_frame_cameras` each has its own. At most `colmap_images` images,
    evenly over the distance travelled.

    Points with tracks are made by a worker process from matches of the images and our poses; the database has
    the features and matches. Beside them there are at most 100,000 points of our depth. They have no tracks:
    their places in the images would repeat our poses, and a bundle adjustment that believes them moves
    nothing (measured: `benchmarks/colmap_models.py`). `colmap_points` says which go into points3D; those of
    our depth that do not lie in sparse/0/points3D.ply, from which some trainers of 3D Gaussians begin;
    but not beside a refined model, which has moved away from them.

    Where the folder was written before and is unchanged, images that are still the same are not matched
    again; it comes out as it would without. Some hundred bytes a frame are held until `finish`.
    """

    has_originals = True

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._is_chosen = np.zeros(context.frames, dtype=bool)
        self._is_chosen[evenly_along_path(context.positions_in_world, context.config.colmap_images)] = True
        self._seen = 0
        self._frames: list[NDArray[np.int64]] = []
        self._poses: list[NDArray[np.float64]] = []
        self._intrinsics: list[NDArray[np.float64]] = []
        self._own_cameras: list[Camera] = []
        self._typical_depths: list[float] = []
        self._chunks: list[int] = []
        self._size: tuple[int, int] | None = None
        self._dense = DensePoints(max_points=_MAX_POINTS, percentile=context.config.confidence_percentile)
        self._report: dict[str, Any] = {}
        self._warnings: list[str] = []
        self._pending = PendingOutputs(context.outputs)
        self._folder = self._pending.folder("colmap")
        self._images = begin_images(self._folder / "images", context.originals)

    def add(self, block: FrameBlock) -> None:
        if len(block) == 0:
            return
        sizes = self._images.sizes(block)
        rows = np.flatnonzero(self._is_chosen[self._seen : self._seen + len(block)])
        self._seen += len(block)
        self._add_cameras(block, sizes, rows)
        self._frames.append(block.index[rows])
        self._poses.append(block.world_from_cam[rows])
        self._typical_depths += [_typical_depth(block, row) for row in rows.tolist()]
        self._chunks += [block.submap] * len(rows)
        self._dense.add(block)
        self._images.add(block, rows)

    def finish(self) -> None:
        names = self._images.publish()
        scratch = self._folder / "job"
        scratch.mkdir()
        job = self._job(names)
        if self.context.config.colmap_points == "dense":
            _write_without_tracks(self._folder, job)
        elif len(names) < 2:
            self._warnings.append("colmap: fewer than two images; its points have no tracks")
            _write_without_tracks(self._folder, job)
        else:
            self._have_tracks_made(scratch, job)
        shutil.rmtree(scratch)
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()

    @property
    def report(self) -> Mapping[str, Any]:
        return self._report

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    def _add_cameras(self, block: FrameBlock, sizes: NDArray[np.int64], rows: NDArray[np.intp]) -> None:
        """Take the cameras of a block at the size of its images; shared ones of all frames."""
        height, width = block.images.shape[1:3]
        if self.context.config.per_frame_cameras:
            for row in rows:
                size = (int(sizes[row, 0]), int(sizes[row, 1]))
                matrix = rescale_intrinsics(block.intrinsics[row], (width, height), size)
                self._own_cameras.append(Camera.from_matrix(matrix, *size))
            return
        self._size = _common_size(sizes, self._size)
        self._intrinsics.append(rescale_intrinsics(block.intrinsics, (width, height), self._size))

    def _job(self, names: list[str]) -> ColmapJob:
        config, cloud = self.context.config, self._dense.cloud
        poses = np.concatenate([np.empty((0, 4, 4)), *self._poses])
        per_frame = config.per_frame_cameras
        return ColmapJob(
            cameras=self._own_cameras if per_frame else self._shared_camera(),
            images=[
                ModelImage(name=name, world_from_cam=pose, camera=number if per_frame else 0)
                for number, (name, pose) in enumerate(zip(names, poses, strict=True))
            ],
            typical_depths=self._typical_depths,
            chunks=self._chunks,
            uncertainties={
                chunk: self.context.pose_uncertainties[chunk]
                for chunk in dict.fromkeys(self._chunks)
                if chunk in self.context.pose_uncertainties
            },
            pairs=self._pairs(poses),
            points_in_world=cloud.points_in_world,
            colors=cloud.colors,
            camera_model=config.camera_model,
            file_format=config.colmap_format,
            dense=config.colmap_points != "tracks",
            refine=config.refine == "ba",
            workers=_workers(),
            **self._earlier(),
        )

    def _earlier(self) -> dict[str, str]:
        """What the job may know of the folder that is replaced."""
        said = self.context.earlier.get("colmap", {}).get("features")
        folder = None if said is None else self.context.written("colmap")
        return {} if folder is None else {"earlier": str(folder.resolve()), "earlier_settings": str(said)}

    def _shared_camera(self) -> list[Camera]:
        """The camera that all images share; none if there are no frames."""
        if self._size is None:
            return []
        return [Camera.from_matrix(np.median(np.concatenate(self._intrinsics), axis=0), *self._size)]

    def _pairs(self, poses: NDArray[np.float64]) -> list[tuple[int, int]]:
        """The images that are matched, from 0."""
        used = [
            (loop.candidate.earlier, loop.candidate.later)
            for loop in self.context.loops
            if loop.chunk is not None and self.context.loops_used.get(loop.chunk, False)
        ]
        frames = np.concatenate([np.empty(0, dtype=np.int64), *self._frames])
        return sorted({*sequence_pairs(len(poses)), *loop_pairs(used, frames, poses)})

    def _have_tracks_made(self, scratch: Path, job: ColmapJob) -> None:
        """Have the model made by the worker; without tracks if its native code fails."""
        save_job(scratch, job)
        try:
            self._report = run_worker(self._folder, scratch, self.context.say)
        except WorkerFailedError as error:
            self._warnings.append(f"colmap/: the points have no tracks, since matching failed: {error}")
            _remove_model(self._folder)
            _write_without_tracks(self._folder, job)
            return
        if not self._report["points_with_tracks"]:
            self._warnings.append(
                "colmap/: the images have no matches that fit the poses, so that no point has a track"
            )
        refinement = self._report.get("refinement")
        if refinement is not None and not refinement["kept"]:
            self._warnings.append(f"colmap/: not refined, {refinement['reason']}")
        if not job.dense and (refinement is None or not refinement["kept"]):
            path = self._folder / "sparse" / "0" / "points3D.ply"
            with path.open("xb") as stream:
                write_points_with_normals(stream, job.points_in_world, job.colors)


def _workers() -> int:
    """Cores that this process may use, as far as matching has work for them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_WORKERS)


def _typical_depth(block: FrameBlock, row: int) -> float:
    """Median depth of a frame; infinite if nothing is known of it."""
    depth = block.depth[row][(block.confidence[row] > 0) & (block.depth[row] > 0)]
    return float(np.median(depth)) if len(depth) else float("inf")


def _write_without_tracks(folder: Path, job: ColmapJob) -> None:
    """The model with the points of our depth, and a database without features."""
    model = build_model(job.cameras, job.images, job.camera_model)
    add_points(model, job.points_in_world, job.colors)
    write_model(folder, model, job.file_format)
    with open_database(folder) as database:
        write_cameras_and_images(database, model)


def _remove_model(folder: Path) -> None:
    """Remove what a worker that failed has left."""
    shutil.rmtree(folder / "sparse", ignore_errors=True)
    for path in folder.glob("database.db*"):
        path.unlink()


def _common_size(sizes: NDArray[Any], earlier: tuple[int, int] | None) -> tuple[int, int]:
    """The one (width, height) that all of (M, 2) sizes and the earlier ones have.

    Raises:
        MixedImageSizesError: they differ, so that the images cannot share a camera.
    """
    first = earlier or (int(sizes[0, 0]), int(sizes[0, 1]))
    for width, height in np.unique(sizes, axis=0).tolist():
        if (width, height) != first:
            raise MixedImageSizesError(
                "the images of a COLMAP model share one camera and must have one size",
                got=f"{width}x{height} after {first[0]}x{first[1]}",
                hint="Add --per-frame-cameras, export without `colmap`, or resize the images.",
            )
    return first
