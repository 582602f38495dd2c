"""A trajectory as a file gives it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import Trajectory


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PoseSequence:
    """Camera poses with whatever tells which moments or images they belong to."""

    world_from_cam: NDArray[np.float64]
    """(N, 4, 4) camera to world, OpenCV axes, in the unit of the file."""
    timestamp_s: NDArray[np.float64] | None = None
    """(N,) seconds, ascending, or None."""
    names: tuple[str, ...] | None = None
    """N image names, as the file spells them, or None."""
    source_index: NDArray[np.int64] | None = None
    """(N,) positions in the source (video frames, listed images), ascending; None: row i is position i."""
    timestamps_are_synthetic: bool = False
    """The timestamps are made up from the position in the source."""
    numbered_in: str | None = None
    """What the names are made-up numbers of: the identity of a video. None: they are names of files."""
    origin: str = "trajectory"
    """Where it comes from, for messages and legends."""

    def __post_init__(self) -> None:
        n = len(self.world_from_cam)
        if self.world_from_cam.shape != (n, 4, 4):
            raise ValueError(f"world_from_cam has shape {self.world_from_cam.shape}, expected (N, 4, 4)")
        for name in ("timestamp_s", "names", "source_index"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise ValueError(f"{len(value)} {name} for {n} poses")

    def __len__(self) -> int:
        return len(self.world_from_cam)

    @classmethod
    def from_trajectory(cls, trajectory: Trajectory) -> PoseSequence:
        """The result of a run in memory; its rows are taken for positions in the source."""
        return cls(
            world_from_cam=trajectory.world_from_cam,
            timestamp_s=trajectory.timestamp_s,
            origin="estimate",
            source_index=trajectory.index,
        )

    @property
    def positions(self) -> NDArray[np.float64]:
        """(N, 3) camera centres."""
        return self.world_from_cam[:, :3, 3]
