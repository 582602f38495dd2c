"""How well the cameras of a submap are known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseUncertainty:
    """Standard deviations of a camera against its submap, and so of a submap against its neighbour."""

    turn_rad: float
    """Of the rotation about each axis."""
    shift_over_depth: float
    """Of the centre along each axis, relative to the typical depth."""
    log_scale: float
