"""What the poses of two images say about where their pixels match (Hartley, Zisserman, chapters 9 and 11)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.geometry.sim3 import skew

Array = NDArray[np.float64]


def second_from_first(first: NDArray[Any], second: NDArray[Any]) -> Array:
    """(3, 4) pose of the first camera in the second, of two (3, 4) poses cam_from_world."""
    return (to_4x4(second) @ invert(to_4x4(first)))[:3]


def essential_matrix(first: NDArray[Any], second: NDArray[Any]) -> Array:
    """(3, 3) E of two (3, 4) poses cam_from_world: y2' E y1 = 0 on rays with z = 1."""
    relative = second_from_first(first, second)
    return skew(relative[:, 3]) @ relative[:, :3]


def fundamental_matrix(
    first: NDArray[Any],
    second: NDArray[Any],
    intrinsics_of_first: NDArray[Any],
    intrinsics_of_second: NDArray[Any],
) -> Array:
    """(3, 3) F of two (3, 4) poses cam_from_world and (3, 3) intrinsics: x2' F x1 = 0 in pixels."""
    essential = essential_matrix(first, second)
    return np.asarray(np.linalg.inv(intrinsics_of_second).T @ essential @ np.linalg.inv(intrinsics_of_first))


def infinite_homography(
    first: NDArray[Any],
    second: NDArray[Any],
    intrinsics_of_first: NDArray[Any],
    intrinsics_of_second: NDArray[Any],
) -> Array:
    """(3, 3) H: x2 ~ H x1 in pixels for what is infinitely far away; arguments of `fundamental_matrix`."""
    rotation = second_from_first(first, second)[:, :3]
    return np.asarray(intrinsics_of_second @ rotation @ np.linalg.inv(intrinsics_of_first))


def squared_sampson_error(fundamental: Array, points_in_first: Array, points_in_second: Array) -> Array:
    """(M,) squared Sampson distances in px^2 of (M, 2) matches; infinite where F says nothing (Hartley,
    Zisserman section 11.4.3)."""
    lines_in_second = points_in_first @ fundamental[:, :2].T + fundamental[:, 2]
    lines_in_first = points_in_second @ fundamental[:2] + fundamental[2]
    residual = (lines_in_second[:, :2] * points_in_second).sum(axis=1) + lines_in_second[:, 2]
    gradient = (lines_in_second[:, :2] ** 2).sum(axis=1) + (lines_in_first[:, :2] ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = residual**2 / gradient
    return np.where(gradient > 0.0, squared, np.inf)
