"""Similarity transforms of 3-space.

    x_in_a = scale * rotation @ x_in_b + translation

A `Sim3` named `a_from_b` takes points of frame b to frame a. All verbs broadcast over leading axes. The
tangent vector is (rotation 3, translation 3, log-scale 1); perturbations act on the right:
`transform @ Sim3.exp(delta)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sim3:
    """x_in_a = scale * rotation @ x_in_b + translation."""

    scale: Any = 1.0
    """(...) float64 > 0; given as anything that converts to an array."""
    rotation: Any
    """(..., 3, 3) float64, orthonormal, determinant 1."""
    translation: Any
    """(..., 3) float64, in the unit of frame a."""

    def __post_init__(self) -> None:
        for name in ("scale", "rotation", "translation"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        batch = self.scale.shape
        if self.rotation.shape != (*batch, 3, 3) or self.translation.shape != (*batch, 3):
            raise ValueError(
                f"scale {batch}, rotation {self.rotation.shape} and translation {self.translation.shape} "
                "do not fit (...), (..., 3, 3), (..., 3)"
            )
        if not np.all(self.scale > 0):
            raise ValueError(f"scale must be > 0, got {self.scale}")

    @classmethod
    def identity(cls, batch: tuple[int, ...] = ()) -> Sim3:
        """The transform that changes nothing, repeated over `batch`."""
        return cls(
            scale=np.ones(batch),
            rotation=np.broadcast_to(np.eye(3), (*batch, 3, 3)),
            translation=np.zeros((*batch, 3)),
        )

    @classmethod
    def exp(cls, tangent: ArrayLike) -> Sim3:
        """The transform of a (..., 7) tangent vector (rotation, translation, log-scale)."""
        tangent = np.asarray(tangent, dtype=np.float64)
        matrix = scipy.linalg.expm(_generator(tangent))
        scale = np.exp(tangent[..., 6])
        return cls(
            scale=scale, rotation=matrix[..., :3, :3] / scale[..., None, None], translation=matrix[..., :3, 3]
        )

    def log(self) -> Array:
        """The (..., 7) tangent vector with `Sim3.exp(t.log()) == t`; rotation angles lie in [0, pi]."""
        flat = self.rotation.reshape(-1, 3, 3)
        rotvec = Rotation.from_matrix(flat).as_rotvec().reshape(*self.scale.shape, 3)
        tangent = np.concatenate([rotvec, np.zeros_like(rotvec), np.log(self.scale)[..., None]], axis=-1)
        # exp maps the translational part v to phi(G) v with phi(G) = integral of expm(u G) for u in [0, 1].
        block = np.zeros((*self.scale.shape, 6, 6))
        block[..., :3, :3] = _generator(tangent)[..., :3, :3]
        block[..., :3, 3:] = np.eye(3)
        phi = scipy.linalg.expm(block)[..., :3, 3:]
        tangent[..., 3:6] = np.linalg.solve(phi, self.translation[..., None])[..., 0]
        return tangent

    def inverse(self) -> Sim3:
        """b_from_a of an a_from_b."""
        scale = 1.0 / self.scale
        rotation = np.swapaxes(self.rotation, -1, -2)
        translation = -scale[..., None] * (rotation @ self.translation[..., None])[..., 0]
        return Sim3(scale=scale, rotation=rotation, translation=translation)

    def __matmul__(self, other: Sim3) -> Sim3:
        """a_from_c = a_from_b @ b_from_c."""
        return Sim3(
            scale=self.scale * other.scale,
            rotation=self.rotation @ other.rotation,
            translation=self.apply(other.translation),
        )

    def apply(self, points: NDArray[Any]) -> Array:
        """Points (..., 3) of frame b, in frame a. A single transform takes any number of points."""
        rotated = (self.rotation @ points[..., None])[..., 0] if self.scale.ndim else points @ self.rotation.T
        return self.scale[..., None] * rotated + self.translation

    def adjoint(self) -> Array:
        """(..., 7, 7) with `T @ exp(x) == exp(T.adjoint() @ x) @ T`."""
        adjoint = np.zeros((*self.scale.shape, 7, 7))
        adjoint[..., :3, :3] = self.rotation
        adjoint[..., 3:6, :3] = skew(self.translation) @ self.rotation
        adjoint[..., 3:6, 3:6] = self.scale[..., None, None] * self.rotation
        adjoint[..., 3:6, 6] = -self.translation
        adjoint[..., 6, 6] = 1.0
        return adjoint

    def matrix(self) -> Array:
        """(..., 4, 4) homogeneous matrix."""
        matrix = np.zeros((*self.scale.shape, 4, 4))
        matrix[..., :3, :3] = self.scale[..., None, None] * self.rotation
        matrix[..., :3, 3] = self.translation
        matrix[..., 3, 3] = 1.0
        return matrix

    def move_pose(self, b_from_cam: NDArray[Any]) -> Array:
        """Camera poses (..., 4, 4) of frame b, in frame a: rotations stay orthonormal, centres are scaled."""
        moved = np.zeros(np.broadcast_shapes(b_from_cam.shape, (*self.scale.shape, 4, 4)))
        moved[..., :3, :3] = self.rotation @ b_from_cam[..., :3, :3]
        moved[..., :3, 3] = self.apply(b_from_cam[..., :3, 3])
        moved[..., 3, 3] = 1.0
        return moved


def skew(vectors: NDArray[Any]) -> Array:
    """(..., 3, 3) matrices with `skew(a) @ b == cross(a, b)`."""
    matrix = np.zeros((*vectors.shape[:-1], 3, 3))
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    matrix[..., 0, 1], matrix[..., 0, 2], matrix[..., 1, 2] = -z, y, -x
    return matrix - np.swapaxes(matrix, -1, -2)


def _generator(tangent: Array) -> Array:
    """(..., 4, 4) matrix whose exponential is the homogeneous matrix of the transform."""
    generator = np.zeros((*tangent.shape[:-1], 4, 4))
    generator[..., :3, :3] = skew(tangent[..., :3]) + tangent[..., 6, None, None] * np.eye(3)
    generator[..., :3, 3] = tangent[..., 3:6]
    return generator
