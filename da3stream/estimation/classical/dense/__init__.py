"""Dense depth for cameras that are known: optical flow and a plane sweep on the CPU."""

from da3stream.estimation.classical.dense.estimator import dense_depth
from da3stream.estimation.classical.dense.maps import DenseMaps, SparseDepth

__all__ = ["DenseMaps", "SparseDepth", "dense_depth"]
