"""How the world frame of a run was chosen by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from da3stream.geometry.sim3 import Sim3

UpMethod = Literal["gravity", "plane"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WorldAlignment:
    """The world frame that `da3stream align` has given a run, relative to the one that the run came out in.

    The origin stays. An upright world has y down, as a level camera has: x right, y down, z ahead. So
    whatever makes something of cameras and points needs no other convention than before, and a run whose
    first camera is level is hardly turned at all. (KITTI's odometry has the same axes.)
    """

    world_from_run: Sim3
    """Frame and unit that the run came out in, to the world of its outputs; translation 0."""
    up: UpMethod | None
    """What says where up is; None: the world is not turned."""
    is_metric: bool
    """The unit was made metres by hand."""

    def __post_init__(self) -> None:
        if self.world_from_run.scale.shape or np.any(self.world_from_run.translation):
            raise ValueError(f"an alignment is one turn and one scale, got {self.world_from_run}")
