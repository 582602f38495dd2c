"""The basis of 3D Gaussian Splatting, its constants written out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def colours_along(coefficients: NDArray[Any], directions: NDArray[Any]) -> NDArray[np.float64]:
    """(..., D) values of (..., 9) coefficients along (D, 3) unit directions."""
    x, y, z = np.asarray(directions, dtype=np.float64).T
    basis = np.stack(
        [
            np.full_like(x, 0.28209479177387814),
            *(-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x),
            *(1.0925484305920792 * x * y, -1.0925484305920792 * y * z),
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            *(-1.0925484305920792 * x * z, 0.5462742152960396 * (x * x - y * y)),
        ]
    )
    return np.asarray(coefficients, dtype=np.float64) @ basis
