"""Draws textured rectangles as a pinhole camera sees them, with exact depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import Camera
from da3stream.synthetic.scene import Surface
from da3stream.synthetic.textures import Image

Array = NDArray[np.float64]

_SUPERSAMPLING = 2
_NEAR = 0.05
_SKY = (176, 202, 226)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Coverage:
    """Where a surface lies in the image, and in front of what was drawn before."""

    rows: slice
    columns: slice
    visible: NDArray[np.bool_]
    """(h, w) of the window."""
    inverse_depth: NDArray[np.float32]
    """(h, w) of the window, of the surface's plane."""
    plane_from_pixel: Array
    """(3, 3): pixel (x, y, 1) to (a, b, 1) / depth, the point being corner + a right + b down."""


def render_image(surfaces: Sequence[Surface], camera: Camera, world_from_cam: NDArray[Any]) -> Image:
    """(H, W, 3) uint8 RGB; edges and textures are antialiased by drawing at twice the size."""
    large = camera.resized(camera.width * _SUPERSAMPLING, camera.height * _SUPERSAMPLING)
    image = np.empty((large.height, large.width, 3), np.uint8)
    image[:] = _SKY
    inverse_depth = np.zeros(image.shape[:2], np.float32)
    for surface in surfaces:
        found = _cover(surface, large, world_from_cam, inverse_depth)
        if found is None:
            continue
        inverse_depth[found.rows, found.columns][found.visible] = found.inverse_depth[found.visible]
        window = image[found.rows, found.columns]
        cv2.copyTo(_sample(surface, found), found.visible.view(np.uint8), window)
    return cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)


def render_depth(
    surfaces: Sequence[Surface], camera: Camera, world_from_cam: NDArray[Any]
) -> NDArray[np.float32]:
    """(H, W) z-depth in metres at the pixel centres; 0 where nothing is seen."""
    inverse_depth = np.zeros((camera.height, camera.width), np.float32)
    for surface in surfaces:
        found = _cover(surface, camera, world_from_cam, inverse_depth)
        if found is not None:
            inverse_depth[found.rows, found.columns][found.visible] = found.inverse_depth[found.visible]
    return np.divide(1, inverse_depth, where=inverse_depth > 0, out=np.zeros_like(inverse_depth))


def _cover(
    surface: Surface, camera: Camera, world_from_cam: NDArray[Any], inverse_depth: NDArray[np.float32]
) -> _Coverage | None:
    """Where a surface is seen; None if it shows its back, lies outside, or is hidden."""
    rotation, position = world_from_cam[:3, :3], world_from_cam[:3, 3]
    plane_to_cam = rotation.T @ np.stack([surface.right, surface.down, surface.corner - position], 1)
    # The determinant is the area times the distance in front of the surface.
    if np.linalg.det(plane_to_cam) <= 1e-9:
        return None
    plane_from_pixel = np.linalg.inv(camera.matrix() @ plane_to_cam)
    window = _window((surface.corners - position) @ rotation, camera)
    if window is None:
        return None
    rows, columns = window
    x = np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5
    a, b, inverse = ((row[0] * x + row[2]) + row[1] * y for row in plane_from_pixel.astype(np.float32))
    visible = (a >= 0) & (a <= inverse) & (b >= 0) & (b <= inverse) & (inverse > inverse_depth[rows, columns])
    if not visible.any():
        return None
    return _Coverage(
        rows=rows, columns=columns, visible=visible, inverse_depth=inverse, plane_from_pixel=plane_from_pixel
    )


def _window(corners_in_cam: Array, camera: Camera) -> tuple[slice, slice] | None:
    """Rows and columns that hold the corners (4, 3); the whole image if one is not in front of the camera."""
    if (corners_in_cam[:, 2] <= _NEAR).all():
        return None
    if (corners_in_cam[:, 2] <= _NEAR).any():
        return slice(0, camera.height), slice(0, camera.width)
    pixels = (corners_in_cam / corners_in_cam[:, 2:]) @ camera.matrix().T
    size = np.array([camera.width, camera.height])
    start = np.clip(np.floor(pixels[:, :2].min(0)), 0, size).astype(int)
    stop = np.clip(np.ceil(pixels[:, :2].max(0)) + 1, 0, size).astype(int)
    if (stop <= start).any():
        return None
    return slice(int(start[1]), int(stop[1])), slice(int(start[0]), int(stop[0]))


def _sample(surface: Surface, found: _Coverage) -> Image:
    """The texture as the window sees it. OpenCV counts pixels from their centres, hence the halves."""
    texture = surface.texture
    texel_from_plane = np.array([[texture.shape[1], 0, -0.5], [0, texture.shape[0], -0.5], [0, 0, 1.0]])
    pixel_from_window = np.array(
        [[1, 0, found.columns.start + 0.5], [0, 1, found.rows.start + 0.5], [0, 0, 1.0]]
    )
    texel_from_window = texel_from_plane @ found.plane_from_pixel @ pixel_from_window
    height, width = found.visible.shape
    return cv2.warpPerspective(
        texture, texel_from_window, (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
