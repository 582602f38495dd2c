"""Sim(3) on many edges at once: the logarithm and the inverse of the right Jacobian.

Both rest on phi(M) = sum of M^n / (n + 1)! = integral of exp(u M) for u in [0, 1], of 3x3 and 7x7 matrices.
With the right Jacobian J(x) = phi(-ad(x)), `exp(x + y) = exp(x) exp(J(x) y)` to first order in y (Chirikjian,
"Stochastic Models, Information Theory, and Lie Groups", vol. 2, section 10.7; Sola et al., arXiv 1812.01537,
section II-D). Sim(3) has no short closed form of J^-1: phi is summed and doubled to full precision instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.geometry.sim3 import Sim3, skew

Array = NDArray[np.float64]

_TERMS = 13
_LARGEST_NORM = 0.5
"""The first term left out is 0.5^13 / 14!, below 2e-15; every doubling keeps the relative error."""


def phi(matrices: Array) -> Array:
    """(..., D, D) sums of M^n / (n + 1)!, relative error about 1e-14.

    The series is summed for M / 2^k, and phi(2 M) = (exp(M) + 1) phi(M) / 2 is applied k times.
    """
    identity = np.eye(matrices.shape[-1])
    norm = float(np.abs(matrices).sum(axis=-1).max(initial=0.0))
    doublings = max(0, int(np.ceil(np.log2(norm / _LARGEST_NORM)))) if norm > 0 else 0
    small = matrices / 2.0**doublings
    value: Array = np.broadcast_to(identity, matrices.shape)
    for divisor in range(_TERMS, 1, -1):
        value = identity + small @ value / divisor
    exponential = identity + small @ value
    for _ in range(doublings):
        value = 0.5 * (value + exponential @ value)
        exponential = exponential @ exponential
    return value


def log(transforms: Sim3) -> Array:
    """(E, 7) tangents of E transforms: `Sim3.log` without its loop over the edges."""
    tangents = np.empty((len(transforms.scale), 7))
    tangents[:, :3] = Rotation.from_matrix(transforms.rotation).as_rotvec()
    tangents[:, 6] = np.log(transforms.scale)
    generators = skew(tangents[:, :3]) + tangents[:, 6, None, None] * np.eye(3)
    tangents[:, 3:6] = np.linalg.solve(phi(generators), transforms.translation[..., None])[..., 0]
    return tangents


def exp(tangents: Array) -> Sim3:
    """The transforms of (E, 7) tangents: `Sim3.exp` without its loop over the edges."""
    generators = skew(tangents[:, :3]) + tangents[:, 6, None, None] * np.eye(3)
    return Sim3(
        scale=np.exp(tangents[:, 6]),
        rotation=Rotation.from_rotvec(tangents[:, :3]).as_matrix(),
        translation=(phi(generators) @ tangents[:, 3:6, None])[..., 0],
    )


def inverse_right_jacobian(tangents: Array) -> Array:
    """(E, 7, 7) inverse right Jacobians: `log(T exp(d)) = log(T) + J^-1(log T) d` to first order in d.

    Its blocks of the translation against rotation and log-scale are linear in the tangent's translation,
    which therefore enters with length 1: the precision does not depend on units.
    """
    length = np.linalg.norm(tangents[:, 3:6], axis=1)
    unit = np.where(length > 0, length, 1.0)
    adjoint = _algebra_adjoint(tangents[:, :3], tangents[:, 3:6] / unit[:, None], tangents[:, 6])
    inverse = np.asarray(np.linalg.inv(phi(-adjoint)), dtype=np.float64)
    inverse[:, 3:6, :3] *= unit[:, None, None]
    inverse[:, 3:6, 6] *= unit[:, None]
    return inverse


def _algebra_adjoint(rotation: Array, translation: Array, log_scale: Array) -> Array:
    """(E, 7, 7) ad(x): `Sim3.exp(x).adjoint() == expm(ad(x))`."""
    adjoint = np.zeros((len(rotation), 7, 7))
    adjoint[:, :3, :3] = skew(rotation)
    adjoint[:, 3:6, :3] = skew(translation)
    adjoint[:, 3:6, 3:6] = adjoint[:, :3, :3] + log_scale[:, None, None] * np.eye(3)
    adjoint[:, 3:6, 6] = -translation
    return adjoint
