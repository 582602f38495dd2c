"""One selected image of the input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.scene._checks import check_array, describe_arrays


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frame:
    """One selected image of the input, at processing resolution."""

    index: int
    """Position among the selected frames, from 0, without gaps."""
    source_index: int
    """Position in the source: number of the decoded video frame or of the listed image, from 0."""
    timestamp_s: float
    """Presentation time in seconds."""
    image: NDArray[np.uint8] = field(repr=False)
    """(H, W, 3) uint8 RGB at processing resolution."""
    name: str | None = None
    """File name for outputs that list images (`000123.jpg`); None: made from `source_index`."""
    original_size: tuple[int, int] | None = None
    """(width, height) in pixels of the user's image, upright; None: the size of `image`."""
    world_from_cam: NDArray[np.float64] | None = field(default=None, repr=False)
    """(4, 4) camera to world, OpenCV axes, if known beforehand: of all frames of a source or of none."""
    intrinsics: NDArray[np.float64] | None = field(default=None, repr=False)
    """(3, 3) in pixels of `image`, if this frame has a known camera of its own; None: as all others."""
    pose_prior: NDArray[np.float64] | None = field(default=None, repr=False)
    """(4, 4) the same of a pose that may err; of any frames. Set by the pipeline (`--poses-as prior`)."""

    def __post_init__(self) -> None:
        check_array("image", self.image, (None, None, 3), np.uint8)
        if self.world_from_cam is not None:
            check_array("world_from_cam", self.world_from_cam, (4, 4), np.float64)
        if self.intrinsics is not None:
            check_array("intrinsics", self.intrinsics, (3, 3), np.float64)
        if self.pose_prior is not None:
            check_array("pose_prior", self.pose_prior, (4, 4), np.float64)
        if self.index < 0 or self.source_index < 0:
            raise ValueError(f"indices must be >= 0, got {self.index} and {self.source_index}")

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"image": self.image}
        return (
            f"Frame(index={self.index}, source_index={self.source_index}, "
            f"timestamp_s={self.timestamp_s:.6f}, {describe_arrays(**shown)})"
        )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of `image`."""
        return self.image.shape[1], self.image.shape[0]
