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
    free = jacobian[:, given:]
    if free.shape[1] == 0:
        return first
    weighted = free.T @ scipy.sparse.diags_array(certainty)
    normal = scipy.sparse.csc_array(weighted @ free)
    unit = scipy.sparse.diags_array(1.0 / np.sqrt(normal.diagonal()))
    factors = scipy.sparse.linalg.splu(
        scipy.sparse.csc_array(unit @ normal @ unit),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    right_side = unit @ (weighted @ (measured - jacobian[:, :given] @ first))
    return np.concatenate([first, unit @ factors.solve(right_side)])
