"""Where up is in a reconstruction: by its cameras, and by the ground that they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import unproject
from da3stream.scene import FrameBlock

Array = NDArray[np.float64]

MIN_AGREEMENT = 0.3
"""Length of the mean of the cameras' up vectors below which it says nothing."""
MAX_TILT_DEG = 45.0
"""Between the cameras' mean up vector and the normal of what may be ground. Walls are 90 degrees off."""
TOLERANCE = 0.03
"""Distance of a point of a plane from that plane, over the camera's: a depth error has about that effect."""
MIN_SHARE = 0.04
"""Of a depth map's pixels that a plane must hold to be the ground of that frame."""
SAME_UP_DEG = 2.0
"""Normals of frames that differ by less speak for one another."""
_HYPOTHESES = 128
_REFINEMENTS = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroundPlane:
    """The ground of one frame."""

    up: Array
    """(3,) unit normal in world coordinates, towards the camera."""
    share: float
    """Of the depth map's pixels that lie on it, 0 to 1."""


def up_of_cameras(world_from_cam: NDArray[Any]) -> Array | None:
    """(3,) unit mean of the up vectors (image top) of (N, 4, 4) cameras; None if they do not agree."""
    mean = -np.asarray(world_from_cam, dtype=np.float64)[:, :3, 1].mean(axis=0)
    length = float(np.linalg.norm(mean))
    return mean / length if length >= MIN_AGREEMENT else None


def up_of_ground(planes: list[GroundPlane]) -> Array | None:
    """(3,) unit mode of the normals of frames' ground, those with more pixels counting more; None of none.

    The mode, not the mean: a ramp, a mound or a table that some frames took for the ground does not tilt what
    most of them say. Found by mean shift with a Gaussian kernel from the best supported normal (Comaniciu and
    Meer, "Mean shift: a robust approach toward feature space analysis", 2002).
    """
    if not planes:
        return None
    normals = np.stack([plane.up for plane in planes])
    shares = np.array([plane.share for plane in planes])
    best = int(np.argmax(_support(normals @ normals.T) @ shares))
    up = normals[best]
    for _ in range(50):
        moved = (shares * _support(normals @ up)) @ normals
        up = moved / np.linalg.norm(moved)
    return up


def ground_of(block: FrameBlock, row: int, cameras_up: Array) -> GroundPlane | None:
    """The plane below the camera that holds most of one frame's upward surface; None if there is hardly one.

    RANSAC over planes through three points (Fischler and Bolles, 1981), then least squares. Only points whose
    own surface faces up within `MAX_TILT_DEG` take part, so that a wall is no ground however large it is, and
    a ceiling is none either. The random numbers are seeded with the frame's index.

    Args:
        block: finished frames.
        row: which of them.
        cameras_up: (3,) unit, about where up is in the world.
    """
    points = _upward_points(block, row, cameras_up)
    fewest = max(3, int(MIN_SHARE * block.depth[row].size))
    if len(points) < fewest:
        return None
    triples = np.random.default_rng(int(block.index[row])).integers(0, len(points), (_HYPOTHESES, 3))
    a, b, c = (points[column] for column in triples.T)
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1)
    a, normals = a[lengths > 0], normals[lengths > 0] / lengths[lengths > 0, None]
    if not len(normals):
        return None
    near = _near(points, normals, np.einsum("hi,hi->h", normals, a))
    inliers = near[:, int(np.argmax(near.sum(axis=0)))]
    for _ in range(_REFINEMENTS):
        if np.count_nonzero(inliers) < fewest:
            return None
        normal, offset = _least_squares(points[inliers])
        inliers = _near(points, normal[None], np.array([offset]))[:, 0]
    up = -np.sign(offset) * normal  # the camera is the origin
    if up @ cameras_up < np.cos(np.radians(MAX_TILT_DEG)):
        return None
    return GroundPlane(up=up, share=float(inliers.mean() * len(points) / block.depth[row].size))


def _upward_points(block: FrameBlock, row: int, up: Array) -> Array:
    """(K, 3) points below the camera, whose surface faces up; axes of the world, the camera as origin."""
    usable = (block.confidence[row] > 0) & (block.depth[row] > 0) & np.isfinite(block.depth[row])
    depth = np.where(usable, block.depth[row], np.nan).astype(np.float64)
    points = unproject(depth, block.depth_intrinsics[row]) @ block.world_from_cam[row, :3, :3].T
    middle = points[1:-1, 1:-1]
    normals = np.cross(points[2:, 1:-1] - points[:-2, 1:-1], points[1:-1, 2:] - points[1:-1, :-2])
    length = np.linalg.norm(normals, axis=-1)
    least = np.cos(np.radians(MAX_TILT_DEG)) * length
    with np.errstate(invalid="ignore"):  # NaN where there is no depth: nothing holds there
        faces_up = (normals @ up > least) & (length > 0) & (middle @ up < 0)
    return np.asarray(middle[faces_up])


def _near(points: Array, normals: Array, offsets: Array) -> NDArray[np.bool_]:
    """(K, H) which of (K, 3) points lie on which of the planes (H, 3), (H,) with normal @ x = offset."""
    near: NDArray[np.bool_] = np.abs(points @ normals.T - offsets) < TOLERANCE * np.abs(offsets)
    return near


def _least_squares(points: Array) -> tuple[Array, float]:
    """Unit normal and offset of the plane through (K, 3) points."""
    middle = points.mean(axis=0)
    normal = np.linalg.eigh((points - middle).T @ (points - middle))[1][:, 0]
    return normal, float(normal @ middle)


def _support(cosines: Array) -> Array:
    """What normals under these angles say for one another, 0 to 1."""
    angles = np.arccos(np.clip(cosines, -1, 1))
    return np.asarray(np.exp(-0.5 * (angles / np.radians(SAME_UP_DEG)) ** 2))
