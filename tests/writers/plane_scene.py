"""A scene whose every number is known: a textured plane seen by cameras on an arc."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from da3stream.geometry.camera import pixel_rays, subsample_intrinsics
from da3stream.scene import FrameBlock, FrameGaussians, Gaussians
from da3stream.source.base import OriginalImage
from da3stream.writers.base import Writer

WIDTH, HEIGHT = 84, 56
ORIGINAL = (1920, 1280)
STEP = 3
INTRINSICS = np.array([[71.5, 0.0, 40.25], [0.0, 73.0, 29.5], [0.0, 0.0, 1.0]])
PLANE_NORMAL = np.array([0.1, -0.2, 1.0]) / np.linalg.norm([0.1, -0.2, 1.0])
PLANE_OFFSET = 6.0
"""The plane is normal @ x = offset, in world units."""


@dataclass
class FakeOriginals:
    """Hands out bytes that name their frame."""

    suffix: str = ".jpg"
    asked: list[int] = field(default_factory=list)
    forgotten: tuple[int, ...] = ()

    def originals(self, source_indices: Iterable[int]) -> Iterator[OriginalImage]:
        for index in source_indices:
            self.asked.append(index)
            if index not in self.forgotten:
                yield OriginalImage(source_index=index, suffix=self.suffix, data=b"original %d" % index)


def arc_pose(position: float) -> np.ndarray:
    """(4, 4) world_from_cam on an arc before the plane; position 0 is the identity."""
    angle = 0.5 * position
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("yxz", [-angle, 0.3 * angle, 0.1 * angle]).as_matrix()
    pose[:3, 3] = [3.0 * np.sin(angle), 0.4 * angle, 3.0 * (1 - np.cos(angle))]
    return pose


def arc_positions(frames: int) -> np.ndarray:
    """(frames, 3) camera centres of `frames` frames along the arc."""
    return np.array([arc_pose(i / max(frames - 1, 1))[:3, 3] for i in range(frames)]).reshape(-1, 3)


def plane_depth(world_from_cam: np.ndarray, intrinsics: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) exact z-depth of the plane."""
    rays = pixel_rays(intrinsics, height, width) @ world_from_cam[:3, :3].T
    depth = (PLANE_OFFSET - PLANE_NORMAL @ world_from_cam[:3, 3]) / (rays @ PLANE_NORMAL)
    assert (depth > 0).all()
    return depth


def coordinate_image(frame: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """An image whose colours name the pixel: red is the column, green the row, blue the frame modulo 256."""
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    image[..., 2] = frame % 256
    return image


def plane_block(
    start: int, stop: int, *, frames: int = 24, submap: int = 0, full: bool = False
) -> FrameBlock:
    """Frames start to stop of `frames` on the arc. Confidence is random and never twice the same."""
    index = np.arange(start, stop)
    poses = np.array([arc_pose(i / max(frames - 1, 1)) for i in index]).reshape(-1, 4, 4)
    small = subsample_intrinsics(INTRINSICS, STEP)
    h, w = len(range(STEP // 2, HEIGHT, STEP)), len(range(STEP // 2, WIDTH, STEP))
    images = [coordinate_image(i) for i in index]
    depth = [plane_depth(pose, small, h, w) for pose in poses]
    ranks = np.random.default_rng(start).permutation(len(index) * h * w) + 1.0
    confidence = (ranks / (len(ranks) + 1)).reshape(-1, h, w).astype(np.float32)
    full_depth = [plane_depth(pose, INTRINSICS, HEIGHT, WIDTH) for pose in poses]
    return FrameBlock(
        submap=submap,
        index=index,
        source_index=index * 3,
        timestamp_s=index / 29.97,
        names=tuple(f"{i:06d}.jpg" for i in index * 3),
        original_size=np.tile(ORIGINAL, (len(index), 1)),
        images=np.array(images, dtype=np.uint8).reshape(-1, HEIGHT, WIDTH, 3),
        world_from_cam=poses,
        intrinsics=np.tile(INTRINSICS, (len(index), 1, 1)),
        depth=np.array(depth, dtype=np.float32).reshape(-1, h, w),
        confidence=confidence,
        depth_intrinsics=np.tile(small, (len(index), 1, 1)),
        full_depth=np.array(full_depth, dtype=np.float32).reshape(-1, HEIGHT, WIDTH) if full else None,
        full_confidence=np.ones((len(index), HEIGHT, WIDTH), dtype=np.float32) if full else None,
        gaussians=FrameGaussians.of(
            [plane_gaussians(i, d, small) for i, d in zip(index, depth, strict=True)], 1
        ),
    )


def plane_gaussians(frame: int, depth: np.ndarray, intrinsics: np.ndarray) -> Gaussians:
    """One for every third depth pixel of a frame, in its camera: random sizes, axes, colours, opacities."""
    random = np.random.default_rng(frame)
    points = (pixel_rays(intrinsics, *depth.shape) * depth[..., None]).reshape(-1, 3)[::3]
    count = len(points)
    return Gaussians(
        means=points.astype(np.float32),
        log_scales=random.normal(-4, 0.5, (count, 3)),
        rotations_wxyz=Rotation.random(count, rng=random).as_quat(),
        harmonics=random.normal(size=(count, 3, 1)),
        opacity_logits=random.normal(size=count),
    ).compact()


def blocks_of(frames: int, size: int = 10, **options: Any) -> list[FrameBlock]:
    """All frames of the arc in blocks of at most `size`."""
    return [
        plane_block(start, min(start + size, frames), frames=frames, submap=number, **options)
        for number, start in enumerate(range(0, frames, size))
    ]


def without_frames(block: FrameBlock) -> FrameBlock:
    """A block of no frames."""
    arrays = {name: getattr(block, name)[:0] for name in _ARRAYS if getattr(block, name) is not None}
    return replace(block, names=(), gaussians=block.gaussians.after(len(block)), **arrays)


_ARRAYS = (
    "index", "source_index", "timestamp_s", "original_size", "images", "world_from_cam", "intrinsics",
    "depth", "confidence", "depth_intrinsics", "full_depth", "full_confidence",
)  # fmt: skip


def write(writer: Writer, blocks: Iterable[FrameBlock]) -> None:
    """Feed a writer and finish it."""
    for block in blocks:
        writer.add(block)
    writer.finish()
