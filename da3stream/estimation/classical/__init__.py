"""Structure from motion and dense stereo: poses and depth on a CPU, without learned weights.

    images -> features -> matching -> ViewGraph -> rotation test -> mapping in worker processes
           -> Reconstruction -> completion -> dense depth -> Prediction

Native code that can crash (pycolmap) runs in worker processes only; `estimator.py` puts the steps in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from da3stream.estimation.classical.estimator import ClassicalEstimator

__all__ = ["ClassicalEstimator"]


def __getattr__(name: str) -> Any:
    # Lazily, so that the worker processes, which live in this package, start without OpenCV.
    if name == "ClassicalEstimator":
        from da3stream.estimation.classical.estimator import ClassicalEstimator

        return ClassicalEstimator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
