"""What metric submaps say of the scale: all of them are in metres, so all have one scale in the world."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScalePrior:
    """Residuals (log s_i - g) / sigma of metric nodes i, with one free g: the world's own unit is arbitrary.

    g is eliminated: at any scales its best value is their mean.
    """

    nodes: NDArray[np.intp]
    """(M,) metric nodes, at least one."""
    sigma: float
    """Standard deviation of a metric submap's log-scale, > 0."""

    @classmethod
    def of(cls, nodes: Collection[int], sigma: float | None) -> ScalePrior | None:
        """None without a sigma or without metric nodes."""
        if sigma is None or not nodes:
            return None
        return cls(nodes=np.array(sorted(nodes), dtype=np.intp), sigma=sigma)

    @property
    def count(self) -> int:
        """Number of metric nodes."""
        return len(self.nodes)

    @property
    def ones(self) -> scipy.sparse.csr_array:
        """(M, 1)"""
        return scipy.sparse.csr_array(np.ones((self.count, 1)))

    def selection(self, nodes: int) -> scipy.sparse.csr_array:
        """(M, nodes) matrix that picks the metric nodes."""
        rows = np.arange(self.count)
        return scipy.sparse.csr_array((np.ones(self.count), (rows, self.nodes)), shape=(self.count, nodes))

    def deviations(self, scale: Array) -> Array:
        """(M,) residuals at the best g, of (N,) scales."""
        log_scale = np.log(scale[self.nodes])
        return (log_scale - log_scale.mean()) / self.sigma

    def cost(self, scale: Array) -> float:
        """Sum of squared residuals."""
        return float(np.square(self.deviations(scale)).sum())
