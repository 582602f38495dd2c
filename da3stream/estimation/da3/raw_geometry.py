"""What a network says of one chunk, step by step made into what the pipeline may rely on.

A network can say anything: infinite depth, a field of view of zero, cameras that are not numbers. Here such
values are replaced by plausible ones at confidence 0, and a warning says so; nothing here ever fails for
them. Everything is numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import EstimationError
from da3stream.estimation.da3.conditioning import align_to_given
from da3stream.geometry.rigid3 import nearest_rotation

Array = NDArray[np.float64]

MIN_FOCAL, MAX_FOCAL = 0.05, 20.0
"""In units of the longer side of the image: fields of view of about 169 and 3 degrees."""
DEFAULT_FOCAL = 1.0
"""Where no camera is known: a field of view of 53 degrees."""
MAX_DEPTH_RATIO = 1e5
"""Depths so many times larger or smaller than the median are errors; the store holds less than that."""
NEGLIGIBLE_SHARE = 1e-3
"""Of the pixels: so much bad depth is not worth a warning."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RawGeometry:
    """A network's word on N images of H x W pixels."""

    depth: NDArray[np.float32]
    """(N, H, W) z-depth."""
    confidence: NDArray[np.float32]
    """(N, H, W), larger is better, 0 = never use."""
    cam_from_world: Array
    """(N, 3, 4)."""
    intrinsics: Array
    """(N, 3, 3) in pixels of the images."""
    sky: NDArray[np.bool_] | None = None
    """(N, H, W), None if the network knows nothing of a sky."""
    warnings: tuple[str, ...] = ()

    def but(self, *warnings: str, **changes: Any) -> RawGeometry:
        """The same with some fields changed and warnings added."""
        return replace(self, warnings=(*self.warnings, *warnings), **changes)


def nothing_known(frames: int, height: int, width: int, *warnings: str) -> RawGeometry:
    """A camera that stands still before a wall, nothing of it to be used."""
    return RawGeometry(
        depth=np.ones((frames, height, width), dtype=np.float32),
        confidence=np.zeros((frames, height, width), dtype=np.float32),
        cam_from_world=np.tile(np.eye(3, 4), (frames, 1, 1)),
        intrinsics=np.tile(_default_intrinsics(height, width), (frames, 1, 1)),
        warnings=warnings,
    )


def with_proper_cameras(said: RawGeometry) -> RawGeometry:
    """Finite cameras with orthonormal rotations, plausible focal lengths and centred principal points.

    A camera that is not finite becomes that of the nearest frame whose camera is, and the frame's confidence
    0. The camera head knows no principal point but the middle, and what the ray head says of it is wrong
    where it is not the middle (see `ray_pose.pose_from_rays`), so that it is the middle always.
    """
    said = _with_finite_cameras(said)
    cameras = said.cam_from_world.copy()
    cameras[:, :, :3] = nearest_rotation(cameras[:, :, :3])
    height, width = said.depth.shape[1:]
    focal = said.intrinsics[:, [0, 1], [0, 1]]
    plausible = np.clip(focal, MIN_FOCAL * max(height, width), MAX_FOCAL * max(height, width))
    intrinsics = np.tile(_default_intrinsics(height, width), (len(cameras), 1, 1))
    intrinsics[:, [0, 1], [0, 1]] = plausible
    warnings = () if np.array_equal(focal, plausible) else ("an implausible focal length was limited",)
    return said.but(*warnings, cam_from_world=cameras, intrinsics=intrinsics)


def with_known_intrinsics(said: RawGeometry, given: NDArray[Any]) -> RawGeometry:
    """Given intrinsics (N, 3, 3) in place of the predicted ones, and depth that fits them.

    A point's distance from the optical axis is (pixel offset) * depth / focal length. What the network sees
    between images is such lateral motion, so that is what must stay, and with it the translations: depth is
    multiplied by given over predicted focal length.
    """
    ratio = np.sqrt(_focal_product(given) / _focal_product(said.intrinsics))
    with np.errstate(over="ignore"):
        depth = said.depth * ratio.astype(np.float32)[:, None, None]
    return said.but(depth=depth, intrinsics=np.asarray(given, dtype=np.float64))


def with_known_poses(said: RawGeometry, given: NDArray[Any]) -> RawGeometry:
    """Given poses (N, 3, 4) in place of the predicted ones, and depth in their unit.

    Where the cameras do not move, no scale can be told: the prediction stays, with a warning.
    """
    try:
        aligned = align_to_given(said.depth, said.cam_from_world, given, keep_given=True)
    except EstimationError:
        return said.but("the given poses fix no scale (cameras must move); the predicted ones are kept")
    with np.errstate(over="ignore"):
        depth = aligned.depth.astype(np.float32)
    return said.but(depth=depth, cam_from_world=aligned.cam_from_world)


def with_usable_depth(said: RawGeometry) -> RawGeometry:
    """Depth that is finite and positive everywhere; what was not so, the sky, and bad confidence become 0.

    Depth beyond `MAX_DEPTH_RATIO` of the median counts as bad, too.
    """
    depth, confidence = said.depth, said.confidence
    positive = np.isfinite(depth) & (depth > 0)
    unit = np.median(depth[positive]) if positive.any() else np.float32(1)
    with np.errstate(over="ignore"):
        usable = positive & (depth >= unit / MAX_DEPTH_RATIO) & (depth <= unit * MAX_DEPTH_RATIO)
    trusted = usable & np.isfinite(confidence) & (confidence > 0)
    if said.sky is not None:
        trusted &= ~said.sky
    bad = "more than 0.1 % of the depth is not finite, not positive or absurd, and left out"
    warnings = (bad,) if (~usable).mean() > NEGLIGIBLE_SHARE else ()
    return said.but(
        *warnings,
        depth=np.where(usable, depth, unit).astype(np.float32),
        confidence=np.where(trusted, confidence, 0).astype(np.float32),
    )


def _with_finite_cameras(said: RawGeometry) -> RawGeometry:
    numbers = np.concatenate((said.cam_from_world, said.intrinsics), axis=2).reshape(len(said.depth), -1)
    finite = np.asarray(np.isfinite(numbers).all(axis=1), dtype=np.bool_)
    if finite.all():
        return said
    if not finite.any():
        return nothing_known(*said.depth.shape, *said.warnings, "no camera is finite; the chunk is left out")
    known = np.flatnonzero(finite)
    distance = np.abs(np.arange(len(finite))[:, None] - known)
    source = known[distance.argmin(axis=1)]
    return said.but(
        "a camera that is not finite was replaced by that of a neighbouring frame",
        cam_from_world=said.cam_from_world[source],
        intrinsics=said.intrinsics[source],
        confidence=np.where(finite[:, None, None], said.confidence, np.float32(0)),
    )


def _default_intrinsics(height: int, width: int) -> Array:
    focal = DEFAULT_FOCAL * max(height, width)
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def _focal_product(intrinsics: NDArray[Any]) -> Array:
    return np.asarray(intrinsics[:, 0, 0] * intrinsics[:, 1, 1], dtype=np.float64)
