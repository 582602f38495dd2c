"""colmap/: images and a sparse model for COLMAP and for trainers of 3D Gaussians and radiance fields."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import MixedImageSizesError
from da3stream.geometry.camera import Camera, rescale_intrinsics
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.cloud import PointCloud
from da3stream.writers.colmap_images import begin_images
from da3stream.writers.colmap_model import ModelImage, write_model
from da3stream.writers.image_choice import evenly_along_path
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.sampling import CloudSampler

_MAX_POINTS = 100_000


class ColmapWriter(Writer):
    """colmap/images, colmap/sparse/0 and colmap/database.db (`write_model` says what the latter is good for).

    The images are the user's own, read a second time, or, where that is impossible, the processing-resolution
    ones as JPEG. All share one PINHOLE camera at the size of these images: the medians over all frames of
    focal lengths and principal point. At most `colmap_images` images, evenly over the distance travelled, and
    at most 100,000 points, a random share of every frame's confident ones.

    Some hundred bytes a frame are held until `finish`.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._is_chosen = np.zeros(context.frames, dtype=bool)
        self._is_chosen[evenly_along_path(context.positions_in_world, context.config.colmap_images)] = True
        self._seen = 0
        self._poses: list[NDArray[np.float64]] = []
        self._intrinsics: list[NDArray[np.float64]] = []
        self._clouds: list[PointCloud] = []
        self._size: tuple[int, int] | None = None
        self._sampler = CloudSampler(
            max_points=_MAX_POINTS, frames=context.frames, percentile=context.config.confidence_percentile
        )
        self._pending = PendingOutputs(context.outputs)
        self._folder = self._pending.folder("colmap")
        self._images = begin_images(self._folder / "images", context.originals)

    def add(self, block: FrameBlock) -> None:
        if len(block) == 0:
            return
        self._size = _common_size(self._images.sizes(block), self._size)
        height, width = block.images.shape[1:3]
        self._intrinsics.append(rescale_intrinsics(block.intrinsics, (width, height), self._size))
        rows = np.flatnonzero(self._is_chosen[self._seen : self._seen + len(block)])
        self._seen += len(block)
        self._poses.append(block.world_from_cam[rows])
        self._clouds.append(self._sampler.sample(block))
        self._images.add(block, rows)

    def finish(self) -> None:
        poses = np.concatenate([np.empty((0, 4, 4)), *self._poses])
        names = self._images.publish()
        images = [ModelImage(name=name, world_from_cam=pose) for name, pose in zip(names, poses, strict=True)]
        write_model(self._folder, self._camera(), images, PointCloud.concatenate(self._clouds))
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()

    def _camera(self) -> Camera | None:
        """The camera that all images share; None if there are none."""
        if self._size is None:
            return None
        return Camera.from_matrix(np.median(np.concatenate(self._intrinsics), axis=0), *self._size)


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
                hint="Export without `colmap`, or resize the images.",
            )
    return first
