"""depth_png/: depth as 16-bit grey images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from da3stream.writers.base import WriterContext
from da3stream.writers.depth_images import DepthImagesWriter
from da3stream.writers.kept_depth import FrameDepth

logger = logging.getLogger(__name__)

MILLIMETRE = 0.001
_LARGEST = 65535
STEPS_TO_MEDIAN = 2048


class DepthPngWriter(DepthImagesWriter):
    """depth_png/000042.png: 16-bit grey, 0 = unknown; depth = value * `world_units_per_step` of depth.json.

    In metric runs that is 0.001: values are millimetres. Otherwise the first frame with depth settles it: its
    median becomes 2048 steps, so that steps are fine and depth up to 32 times as large fits. What is farther
    than 65535 steps (65.5 m) becomes unknown; depth.json counts such pixels as `pixels_too_far`.
    """

    name: ClassVar = "depth_png"
    suffix: ClassVar = ".png"

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._step = MILLIMETRE if context.is_metric else None
        self._too_far = 0

    def finish(self) -> None:
        super().finish()
        if self._too_far:
            logger.warning(
                "depth_png: %d pixels are too far for 16 bits and are written as unknown. depth_exr and npz "
                "hold them.",
                self._too_far,
            )

    def _write(self, path: Path, found: FrameDepth) -> None:
        if self._step is None and found.depth.any():
            self._step = float(np.median(found.depth[found.depth > 0])) / STEPS_TO_MEDIAN
        steps = depth_steps(found.depth, self._step or 1.0)
        self._too_far += int(np.count_nonzero(found.depth) - np.count_nonzero(steps))
        write_grey(path, steps)

    def _scale(self) -> dict[str, Any]:
        return {
            "world_units_per_step": self._step,
            "unit": "millimetres" if self.context.is_metric else "steps of the run's own unit",
            "pixels_too_far": self._too_far,
        }


def depth_steps(depth: NDArray[np.float32], step: float) -> NDArray[np.uint16]:
    """(H, W) depth in steps of this size, at least 1; 0 where depth is 0, or more than 65535 steps."""
    steps = np.maximum(np.rint(depth.astype(np.float64) / step), 1)
    return np.where((depth > 0) & (steps <= _LARGEST), steps, 0).astype(np.uint16)


def write_grey(path: Path, pixels: NDArray[np.uint16]) -> None:
    """Write (H, W) uint16 as a PNG."""
    import cv2

    _, png = cv2.imencode(".png", pixels)
    path.write_bytes(png.tobytes())
