"""Rigid transforms as plain arrays: (..., 3, 4) or (..., 4, 4), the last row of the latter being 0 0 0 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


def to_4x4(rigid: NDArray[Any]) -> Array:
    """Append the row 0 0 0 1 to (..., 3, 4); (..., 4, 4) is returned as float64."""
    if rigid.shape[-2] == 4:
        return np.asarray(rigid, dtype=np.float64)
    full = np.zeros((*rigid.shape[:-2], 4, 4))
    full[..., :3, :] = rigid
    full[..., 3, 3] = 1.0
    return full


def invert(rigid: NDArray[Any]) -> Array:
    """b_from_a of an a_from_b, in the shape that was given."""
    inverse = np.array(rigid, dtype=np.float64)
    rotation = np.swapaxes(rigid[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ rigid[..., :3, 3:])[..., 0]
    return inverse


def quaternion_wxyz(rotation: NDArray[Any]) -> Array:
    """(..., 4) unit quaternions, w first and >= 0, of (..., 3, 3) rotations."""
    flat = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_quat(canonical=True)
    return flat[:, [3, 0, 1, 2]].reshape(*rotation.shape[:-2], 4)


def rotation_from_quaternion_wxyz(quaternion: NDArray[Any]) -> Array:
    """(..., 3, 3) rotations of (..., 4) quaternions, w first, of any length > 0."""
    flat = np.asarray(quaternion, dtype=np.float64).reshape(-1, 4)
    return Rotation.from_quat(flat[:, [1, 2, 3, 0]]).as_matrix().reshape(*quaternion.shape[:-1], 3, 3)


def nearest_rotation(matrices: NDArray[Any]) -> Array:
    """(..., 3, 3) rotations nearest to (..., 3, 3) matrices; of a weighted sum of rotations: their mean.

    The chordal mean of Hartley et al., "Rotation averaging", IJCV 2013, section 5.3.
    """
    u, _, vt = np.linalg.svd(matrices)
    sign = np.ones(matrices.shape[:-1])
    sign[..., 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    return (u * sign[..., None, :]) @ vt


def rotation_angle(rotations: NDArray[Any]) -> Array:
    """(...) angles in radians of (..., 3, 3) rotations."""
    flat = rotations.reshape(-1, 3, 3)
    return np.asarray(Rotation.from_matrix(flat).magnitude()).reshape(rotations.shape[:-2])
