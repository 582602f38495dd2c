"""What the pipeline asks of a place descriptor."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class TakesDeviceMemory(Protocol):
    """A place descriptor that runs on the estimator's device may have this, too."""

    def device_bytes(self) -> int:
        """What it takes of the device's memory; the plan of a run counts it."""
        ...


@runtime_checkable
class PlaceDescriptor(Protocol):
    """Turns images into vectors whose inner product says how likely they show the same place."""

    name: str
    dim: int

    def describe(self, images: NDArray[np.uint8], *, indices: NDArray[Any]) -> NDArray[np.float32]:
        """(N, dim) float32 of unit length for images (N, H, W, 3) uint8 RGB with frame indices (N,)."""
        ...
