"""Rotation of colours that depend on the viewing direction, given as real spherical harmonics.

The basis is that of 3D Gaussian Splatting (Kerbl et al. 2023): 1; -y, z, -x; xy, -yz, 2zz-xx-yy, -xz, xx-yy,
each times its constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COEFFICIENTS = 9
"""Degrees 0, 1 and 2."""
_LINEAR = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])


def harmonics_turn(target_from_source: NDArray[Any]) -> Array:
    """(9, 9) matrix that takes the coefficients of f to those of d -> f(R^T d), of a (3, 3) rotation R.

    Degree 1 turns like a vector. Degree 2 is a quadratic form d^T A d with a symmetric traceless A, which
    turns into R A R^T; with their constants the five A are orthogonal and of equal length, so that the
    coefficients of the turned form are scalar products.
    """
    rotation = np.asarray(target_from_source, dtype=np.float64)
    forms = _quadratic_forms()
    turn = np.zeros((COEFFICIENTS, COEFFICIENTS))
    turn[0, 0] = 1.0
    turn[1:4, 1:4] = _LINEAR @ rotation @ _LINEAR.T
    turn[4:, 4:] = np.einsum("jab,kab->jk", forms, rotation @ forms @ rotation.T)
    return turn


def _quadratic_forms() -> Array:
    """(5, 3, 3) symmetric traceless matrices of the functions of degree 2, of unit Frobenius norm."""
    half, sixth = np.sqrt(1 / 2), np.sqrt(1 / 6)
    forms = np.zeros((5, 3, 3))
    for form, (i, j), value in ((0, (0, 1), half), (1, (1, 2), -half), (3, (0, 2), -half)):
        forms[form, i, j] = forms[form, j, i] = value
    forms[2] = np.diag([-sixth, -sixth, 2 * sixth])
    forms[4] = np.diag([half, -half, 0.0])
    return forms
