"""nerfstudio/: images, cameras, depth and points for nerfstudio, and for who reads its transforms.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.cloud import PointCloud
from da3stream.writers.colmap.images import begin_images
from da3stream.writers.depth_png import MILLIMETRE, STEPS_TO_MEDIAN, depth_steps, write_grey
from da3stream.writers.image_choice import evenly_along_path
from da3stream.writers.kept_depth import depth_at_image_size
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.ply import PointPly
from da3stream.writers.sampling import CloudSampler

_MAX_POINTS = 100_000
_Z_UP_FROM_WORLD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Right stays x, forward becomes y, up (minus y) becomes z."""
_SAME_CAMERA = 1e-6
"""Relative: some thousandths of a pixel."""
_CAMERA_FIELDS = ("fl_x", "fl_y", "cx", "cy", "w", "h")
_FINE_ENOUGH = 500
"""Steps in the median depth."""
_COARSEST = 8
"""Times `STEPS_TO_MEDIAN`: a quarter of what 16 bits hold, so that most of what is far has room."""
_OPENGL_AXES = np.array([1.0, -1.0, -1.0])


class NerfstudioWriter(Writer):
    """nerfstudio/transforms.json with images/, depths/ and sparse_pc.ply.

    - `transform_matrix`: camera to world with OpenGL's camera (x right, y up, z backwards) in a world with z
      up: right is x, the first camera looks along y. `applied_transform` is that world from the run's own.
    - `fl_x fl_y cx cy w h` of the images as they lie there, the centre of the top-left pixel at (0.5, 0.5),
      as nerfstudio has it; once for all frames if they share a camera, otherwise a set for each.
    - depths/000042.png: 16 bit, 0 = unknown, at processing resolution and with the outline of the image, to
      whose size nerfstudio brings it; depth = value * `depth_unit_scale_factor`. That is 0.001, nerfstudio's
      default, in metric runs. Otherwise it is 0.001 too if that suits the first frame with depth; if not, the
      median there becomes 2048 steps, and a warning names the option that tells nerfstudio. What is farther
      than 65535 steps is unknown, which is counted and warned of.
    - sparse_pc.ply: at most 100,000 points, in the world of the transform matrices.

    Images, and which, as in colmap/. Some hundred bytes a frame are held until `finish`.
    Format: https://docs.nerf.studio/quickstart/data_conventions.html
    """

    has_full_depth = True
    has_originals = True

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._is_chosen = np.zeros(context.frames, dtype=bool)
        self._is_chosen[evenly_along_path(context.positions_in_world, context.config.colmap_images)] = True
        self._seen = 0
        self._frames: list[_Frames] = []
        self._step = MILLIMETRE if context.is_metric else None
        self._known = self._too_far = 0
        self._sampler = CloudSampler(
            max_points=_MAX_POINTS, frames=context.frames, percentile=context.config.confidence_percentile
        )
        self._pending = PendingOutputs(context.outputs)
        self._folder = self._pending.folder("nerfstudio")
        try:
            self._images = begin_images(self._folder / "images", context.originals)
            (self._folder / "depths").mkdir()
            self._ply_stream = (self._folder / "sparse_pc.ply").open("xb")
            self._ply = PointPly(self._ply_stream)
        except BaseException:
            self._pending.abort()
            raise

    def add(self, block: FrameBlock) -> None:
        rows = np.flatnonzero(self._is_chosen[self._seen : self._seen + len(block)])
        self._seen += len(block)
        cloud = self._sampler.sample(block)
        self._ply.append(_in_z_up(cloud), cloud.colors)
        self._images.add(block, rows)
        self._frames.append(_Frames.of(block, rows, self._images.sizes(block)[rows]))
        for row in rows.tolist():
            depth = depth_at_image_size(block, row).depth
            write_grey(self._folder / _depth_path(block.index[row]), self._in_steps(depth))

    def finish(self) -> None:
        self._ply.complete()
        self._ply_stream.close()
        names = self._images.publish()
        with (self._folder / "transforms.json").open("x", encoding="utf-8") as stream:
            stream.writelines(_transforms(names, self._frames, self._step or MILLIMETRE))
        self._pending.commit()

    @property
    def report(self) -> Mapping[str, Any]:
        return {"depth_unit_scale_factor": self._step or MILLIMETRE, "depth_pixels_too_far": self._too_far}

    @property
    def warnings(self) -> tuple[str, ...]:
        said = []
        if self._step is not None and self._step != MILLIMETRE:
            said.append(
                f"nerfstudio: depth is in steps of {self._step:g} units, which its trainers have to be told: "
                f"ns-train ... nerfstudio-data --depth-unit-scale-factor {self._step:g}"
            )
        if self._too_far:
            said.append(
                f"nerfstudio: {max(self._too_far / self._known, 1e-4):.2%} of the depth is farther than 16 "
                "bits can say and is written as unknown"
            )
        return tuple(said)

    def abort(self) -> None:
        self._ply_stream.close()
        self._pending.abort()

    def _in_steps(self, depth: NDArray[np.float32]) -> NDArray[np.uint16]:
        """A depth map in steps; the first one that has depth settles how long they are."""
        known = depth[depth > 0]
        if self._step is None and len(known):
            self._step = _step_for(known)
        steps = depth_steps(depth, self._step or MILLIMETRE)
        self._known += len(known)
        self._too_far += len(known) - int(np.count_nonzero(steps))
        return steps


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Frames:
    """Some frames of one block, as small as can be."""

    index: NDArray[np.int64]
    """(M,) frame indices."""
    timestamp_s: NDArray[np.float64]
    """(M,) seconds."""
    world_from_cam: NDArray[np.float64]
    """(M, 4, 4) camera to world, OpenCV axes."""
    cameras: NDArray[np.float64]
    """(M, 6) values of `_CAMERA_FIELDS`."""

    @classmethod
    def of(cls, block: FrameBlock, rows: NDArray[np.intp], sizes: NDArray[np.int64]) -> _Frames:
        """The frames in these rows, whose images in the folder have (M, 2) these widths and heights."""
        height, width = block.images.shape[1:3]
        k = block.intrinsics[rows] * np.append(sizes / (width, height), np.ones((len(rows), 1)), 1)[..., None]
        return cls(
            index=block.index[rows],
            timestamp_s=block.timestamp_s[rows],
            world_from_cam=block.world_from_cam[rows],
            cameras=np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2], *sizes.T], axis=1),
        )


def _step_for(depths: NDArray[np.float32]) -> float:
    """Units in a step: a thousandth if these depths are neither coarse nor too far in it."""
    median = float(np.median(depths))
    if _FINE_ENOUGH <= median / MILLIMETRE <= STEPS_TO_MEDIAN * _COARSEST:
        return MILLIMETRE
    return float(f"{median / STEPS_TO_MEDIAN:.2g}")


def _depth_path(index: int) -> str:
    return f"depths/{index:06d}.png"


def _transform_matrix(world_from_cam: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) z-up world from OpenGL's camera."""
    matrix = np.eye(4)
    matrix[:3, :3] = _Z_UP_FROM_WORLD @ world_from_cam[:3, :3] * _OPENGL_AXES
    matrix[:3, 3] = _Z_UP_FROM_WORLD @ world_from_cam[:3, 3]
    return matrix + 0.0  # no negative zeros


def _in_z_up(cloud: PointCloud) -> NDArray[np.float64]:
    return cloud.points_in_world.astype(np.float64) @ _Z_UP_FROM_WORLD.T


def _transforms(names: Sequence[str], blocks: Sequence[_Frames], step: float) -> Iterator[str]:
    """The lines of transforms.json, a frame a line."""
    cameras = np.concatenate([np.empty((0, len(_CAMERA_FIELDS))), *(block.cameras for block in blocks)])
    are_one = len(cameras) > 0 and np.allclose(cameras, cameras[0], rtol=_SAME_CAMERA, atol=0)
    head = {
        "camera_model": "OPENCV",
        **(_intrinsics(cameras[0]) if are_one else {}),
        **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
        "applied_transform": np.pad(_Z_UP_FROM_WORLD, ((0, 0), (0, 1))).tolist(),
        "ply_file_path": "sparse_pc.ply",
        "depth_unit_scale_factor": step,
    }
    yield json.dumps(head)[:-1] + ', "frames": ['
    rows = [(block, row) for block in blocks for row in range(len(block.index))]
    for number, (name, (block, row)) in enumerate(zip(names, rows, strict=True)):
        frame = {
            "file_path": f"images/{name}",
            "depth_file_path": _depth_path(block.index[row]),
            "transform_matrix": _transform_matrix(block.world_from_cam[row]).tolist(),
            "timestamp_s": float(block.timestamp_s[row]),
            **({} if are_one else _intrinsics(block.cameras[row])),
        }
        yield (",\n" if number else "\n") + json.dumps(frame, allow_nan=False)
    yield "\n]}\n"


def _intrinsics(camera: NDArray[np.float64]) -> dict[str, float]:
    """The fields of one camera; its image size as integers."""
    fields = dict(zip(_CAMERA_FIELDS, camera.tolist(), strict=True))
    return {**fields, "w": int(fields["w"]), "h": int(fields["h"])}
