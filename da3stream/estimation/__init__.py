"""Chunk of images -> poses, intrinsics and depth in a frame of its own."""

from __future__ import annotations

from da3stream.config import EstimationConfig
from da3stream.estimation.base import GeometryEstimator

__all__ = ["GeometryEstimator", "create_estimator", "resolve_model"]

AUTO_NOTICE = (
    "model auto: this version has the classical estimator only (structure from motion and dense stereo on "
    "the CPU; it needs texture and camera motion). Pass --intrinsics if you know your camera."
)


def resolve_model(config: EstimationConfig) -> str:
    """Name of the estimator that the configuration asks for, `auto` resolved."""
    return "classical" if config.model == "auto" else config.model


def create_estimator(name: str) -> GeometryEstimator:
    """The estimator of this name."""
    from da3stream.estimation.classical import ClassicalEstimator

    return {"classical": ClassicalEstimator}[name]()
