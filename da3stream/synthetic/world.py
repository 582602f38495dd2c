"""A world of boxes around a trajectory, ray-cast to exact depth."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SKY_DEPTH = 150.0
_CAMERA_HEIGHT = 1.65
_CACHED_FRAMES = 1024


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrueDepth:
    """What a frame of the world looks like."""

    depth: Array
    """(H, W) z-depth in metres; `SKY_DEPTH` where a ray meets nothing."""
    sky: NDArray[np.bool_]
    """(H, W) True where a ray meets nothing."""


class SimulatedWorld:
    """Axis-aligned boxes beside a given trajectory: a street with houses, or a room with furniture.

    The world frame is that of the trajectory, y down, in metres. Rays go through integer pixel indices with
    the principal point at (W/2, H/2), which are pixel centres of a camera whose principal point lies half a
    pixel further; `intrinsics` says the latter.

    Args:
        world_from_cam: (N, 4, 4) camera to world, OpenCV axes.
        seed: what the boxes are drawn from.
        indoor: a closed room with a few boxes, instead of a street under the sky.
        size: (height, width) of the depth maps.
        hfov_deg: horizontal field of view.
    """

    def __init__(
        self,
        world_from_cam: NDArray[Any],
        seed: int,
        *,
        indoor: bool = False,
        size: tuple[int, int] = (14, 44),
        hfov_deg: float = 82.0,
    ) -> None:
        self.world_from_cam: Array = np.array(world_from_cam, dtype=np.float64)
        self.size, self.indoor = size, indoor
        height, width = size
        focal = width / 2 / np.tan(np.radians(hfov_deg) / 2)
        self.intrinsics: Array = np.array(
            [[focal, 0, width / 2 + 0.5], [0, focal, height / 2 + 0.5], [0, 0, 1.0]]
        )
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        rays = np.stack([(u - width / 2) / focal, (v - height / 2) / focal, np.ones_like(u)], -1)
        self._rays: Array = rays.reshape(-1, 3)
        centres = self.world_from_cam[:, :3, 3]
        rng = np.random.default_rng(seed)
        self._room = np.stack([centres.min(0) - 2.0, centres.max(0) + 2.0])
        self.boxes: Array = _furniture(centres, self._room, rng) if indoor else _houses(centres, rng)
        """(B, 2, 3) lowest and highest corner."""
        self._cache: OrderedDict[int, TrueDepth] = OrderedDict()

    def __len__(self) -> int:
        return len(self.world_from_cam)

    def true_depth(self, index: int) -> TrueDepth:
        """Exact depth of a frame; the frames asked for last are kept, at most a fixed number of them."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        self._cache[index] = self._cast(index)
        if len(self._cache) > _CACHED_FRAMES:
            self._cache.popitem(last=False)
        return self._cache[index]

    def _cast(self, index: int) -> TrueDepth:
        origin, rotation = self.world_from_cam[index, :3, 3], self.world_from_cam[index, :3, :3]
        rays = self._rays @ rotation.T
        inverse = 1.0 / np.where(np.abs(rays) < 1e-9, 1e-9, rays)
        nearest = _nearest_box(self._boxes_in_view(origin, rotation), origin, inverse)
        if self.indoor:
            walls = np.maximum((self._room[0] - origin) * inverse, (self._room[1] - origin) * inverse).min(-1)
            nearest = np.minimum(nearest, walls)
        else:
            down = rays[:, 1] > 1e-6
            ground = _CAMERA_HEIGHT / np.where(down, rays[:, 1], 1e-9)
            nearest = np.minimum(nearest, np.where(down, ground, np.inf))
        sky = ~np.isfinite(nearest) | (nearest > SKY_DEPTH)
        depth = np.where(sky, SKY_DEPTH, nearest)
        return TrueDepth(depth=depth.reshape(self.size), sky=sky.reshape(self.size))

    def _boxes_in_view(self, origin: Array, rotation: Array) -> Array:
        """Boxes that a ray may hit: nearby ones whose bounding sphere reaches into the view."""
        middle = self.boxes.mean(1) - origin
        in_cam = middle @ rotation
        radius = np.linalg.norm(self.boxes[:, 1] - self.boxes[:, 0], axis=1) / 2
        half_width = np.abs(self._rays[:, 0]).max()
        outside = np.abs(in_cam[:, 0]) - half_width * in_cam[:, 2]
        visible = (in_cam[:, 2] > -radius) & (outside < radius * np.hypot(1.0, half_width))
        if not self.indoor:
            visible &= np.linalg.norm(middle[:, [0, 2]], axis=1) < 90
        return self.boxes[visible]


def _nearest_box(boxes: Array, origin: Array, inverse_rays: Array) -> Array:
    """(R,) ray parameter of the first box that each ray enters; infinity for none (slab method)."""
    enters = np.full((len(inverse_rays), len(boxes)), -np.inf)
    leaves = np.full((len(inverse_rays), len(boxes)), np.inf)
    for axis in range(3):
        low = (boxes[None, :, 0, axis] - origin[axis]) * inverse_rays[:, axis, None]
        high = (boxes[None, :, 1, axis] - origin[axis]) * inverse_rays[:, axis, None]
        np.maximum(enters, np.minimum(low, high), out=enters)
        np.minimum(leaves, np.maximum(low, high, out=high), out=leaves)
    hit = (enters < leaves) & (enters > 0.05)
    return np.where(hit, enters, np.inf).min(1, initial=np.inf)


def _furniture(centres: Array, room: Array, rng: np.random.Generator) -> Array:
    position = rng.uniform(room[0], room[1], (60, 3))
    half = rng.uniform(0.15, 0.6, (60, 3))
    distance = np.linalg.norm(position[:, None] - centres[None, ::5], axis=-1).min(1)
    keep = distance > 0.9
    return np.stack([position[keep] - half[keep], position[keep] + half[keep]], 1)


def _houses(centres: Array, rng: np.random.Generator) -> Array:
    extent = np.linalg.norm(centres.max(0) - centres.min(0))
    count = max(400, int(extent * 12))
    beside = rng.integers(0, len(centres), count)
    offset = np.zeros((count, 3))
    angle, distance = rng.uniform(0, 2 * np.pi, count), rng.uniform(7, 45, count)
    offset[:, 0], offset[:, 2] = np.cos(angle) * distance, np.sin(angle) * distance
    position = centres[beside] + offset
    half = np.stack([rng.uniform(1, 7, count), rng.uniform(2, 10, count), rng.uniform(1, 7, count)], 1)
    keep = _clearance(position, half, centres[::4]) > 2.5
    return np.stack([position[keep] - half[keep], position[keep] + half[keep]], 1)


def _clearance(position: Array, half: Array, centres: Array, block: int = 64) -> Array:
    """(B,) how far the trajectory stays from each box, seen from above (Chebyshev distance)."""
    plane = [0, 2]
    parts = [
        (
            np.abs(position[i : i + block, None, plane] - centres[None][..., plane])
            - half[i : i + block, None, plane]
        )
        .max(-1)
        .min(1)
        for i in range(0, len(position), block)
    ]
    return np.concatenate(parts)
