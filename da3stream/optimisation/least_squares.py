"""Sparse linear least squares: one factorisation of the normal equations, any number of right-hand sides."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

Array = NDArray[np.float64]


def least_squares(jacobian: scipy.sparse.csr_array, certainty: Array, measured: Array, first: Array) -> Array:
    """Weighted least squares J x = measured with the first rows of x given.

    Args:
        jacobian: (M, U) sparse.
        certainty: (M,) inverse variances.
        measured: (M, K).
        first: (F, K) the given rows of x.

    Returns:
        (U, K) all rows of x.
    """
    given = len(first)
    free = jacobian[:, given:] if given else jacobian
    if free.shape[1] == 0:
        return first
    matrix, unit, right_side = _normal_equations(
        free, certainty, measured - jacobian[:, :given] @ first if given else measured
    )
    factors = scipy.sparse.linalg.splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return np.concatenate([first, unit[:, None] * factors.solve(right_side)])


def _normal_equations(
    free: scipy.sparse.csr_array, certainty: Array, target: Array
) -> tuple[scipy.sparse.csc_array, Array, Array]:
    """Matrix (U, U) with a diagonal of 1, what a unit of each unknown (U,) is, right-hand sides (U, K)."""
    weighted = free.T @ scipy.sparse.diags_array(certainty)
    normal = scipy.sparse.csc_array(weighted @ free)
    unit = 1.0 / np.sqrt(normal.diagonal())
    normal.data *= unit[normal.indices]
    normal.data *= np.repeat(unit, np.diff(normal.indptr))
    return normal, unit, unit[:, None] * (weighted @ target)
