"""Inverse depth of a pixel from where it went in another view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.dense.views import PairGeometry, Rays

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Triangulation:
    """Least squares along the ray of each reference pixel; all arrays of the shape of the pixels given."""

    inverse_depth: Float32
    """May be negative or, without parallax, anything finite."""
    parallax_px: Float32
    """How far the pixel moved in the source because of its depth: sensitivity (px per inverse depth) x
    inverse depth. A localisation error of s px makes a relative error of s / parallax_px."""
    residual_px: Float32
    """Distance of the target from the point of the epipolar line that belongs to `inverse_depth`."""


def triangulate(pair: PairGeometry, rays: Rays, target_x: Float32, target_y: Float32) -> Triangulation:
    """Inverse depths w that bring A x + w b nearest to the target pixels of the source view.

    Both coordinates give one equation linear in w, e.g. w (b_x - u b_z) = u a_z - a_x; they are solved in the
    least squares sense, which is exact up to the common division by depth.
    """
    bx, by, bz = (np.float32(value) for value in pair.epipole)
    slope_x, slope_y = bx - target_x * bz, by - target_y * bz
    power = slope_x * slope_x + slope_y * slope_y
    right_x, right_y = target_x * rays.z - rays.x, target_y * rays.z - rays.y
    inverse_depth = (slope_x * right_x + slope_y * right_y) / np.maximum(power, np.float32(1e-20))
    source_z = rays.z + inverse_depth * bz
    safe_z = np.where(source_z > 1e-6, source_z, np.float32(1e-6))
    residual = (
        np.abs(slope_x * right_y - slope_y * right_x) / np.sqrt(np.maximum(power, np.float32(1e-20))) / safe_z
    )
    return Triangulation(
        inverse_depth=inverse_depth,
        parallax_px=np.where(source_z > 1e-6, inverse_depth * np.sqrt(power) / safe_z, np.float32(0)),
        residual_px=residual,
    )


def sensitivity_px(pair: PairGeometry, rays: Rays, inverse_depth: Float32) -> Float32:
    """Pixels that the projection into the source moves per unit of inverse depth; 0 behind the source."""
    bx, by, bz = (np.float32(value) for value in pair.epipole)
    source_z = rays.z + inverse_depth * bz
    moved_x, moved_y = bx * rays.z - rays.x * bz, by * rays.z - rays.y * bz
    safe_z = np.where(source_z > 1e-6, source_z, np.float32(1e6))
    return np.sqrt(moved_x * moved_x + moved_y * moved_y) / (safe_z * safe_z)
