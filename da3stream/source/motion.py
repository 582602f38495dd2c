"""Which frames show that the camera has moved.

The optical flow is followed from the last frame kept, not from the frame before: slow motion adds up until it
counts. What cannot be followed, because of a cut, blur or too large a step, counts as far away, so that such
frames are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

LONGER_SIDE_PX = 192
"""Of the grey images that are compared. Averaging over so large areas removes most of the noise."""
STILL = 0.002
"""Flow below this share of the longer side is noise: a standard deviation of 10 grey levels, at
192 px, makes 0.0014 of it on the worst of the real clips."""

_CELL_PX = 12
_FEWEST_POINTS = 12
_LEAST_TEXTURE = 5e-5
"""Smaller eigenvalue of the gradients, as OpenCV scales it; noise of 2 grey levels has 3e-5."""
_WINDOW_PX = (15, 15)
_PYRAMID_LEVELS = 3
_STOP = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.01)
_RETURN_PX = 0.5

Item = TypeVar("Item")
Grey = NDArray[np.uint8]


class MotionFilter(Generic[Item]):
    """Keeps an item once the flow since the last one kept reaches a threshold.

    The first item is always kept, and the last one if anything has moved since the one kept before it. The
    result depends on the images alone: each point is followed by itself, whatever the number of threads.
    """

    def __init__(self, threshold: float, grey_of: Callable[[Item], Grey]) -> None:
        """
        Args:
            threshold: share of the longer side of the image.
            grey_of: gives the grey image of an item, all of one size (see `grey_size`).
        """
        self._threshold, self._grey_of = threshold, grey_of
        self.offered = 0
        """Items seen so far."""
        self.kept = 0
        """Items kept so far."""

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items that are kept."""
        reference: Grey | None = None
        dropped: tuple[Item, float] | None = None
        for item in items:
            self.offered += 1
            grey = self._grey_of(item)
            flow = math.inf if reference is None else median_flow(reference, grey)
            if flow < self._threshold:
                dropped = item, flow
                continue
            reference, dropped = grey, None
            self.kept += 1
            yield item
        if dropped is not None and dropped[1] >= STILL:
            self.kept += 1
            yield dropped[0]


def grey_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the grey image of a picture."""
    scale = LONGER_SIDE_PX / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def grey_image(rgb: NDArray[np.uint8]) -> Grey:
    """The grey image (h, w) of a picture (H, W, 3)."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, grey_size(rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_AREA)


def median_flow(before: Grey, now: Grey) -> float:
    """Median length of the flow between two grey images, as a share of the longer side.

    Points are the best corner of every cell of a grid, so that all parts of the image count alike; a median
    does not see what moves by itself unless it fills half of the image. They are followed by the pyramidal
    method of Lucas and Kanade (Bouguet 2000), there and back: who does not return to where he came from
    (Kalal, Mikolajczyk and Matas 2010, "Forward-Backward Error") counts as infinitely far. So the result is
    infinite if half of the points are lost, or if there are too few to tell.
    """
    points = _corners(before)
    if len(points) < _FEWEST_POINTS:
        return math.inf
    there, found = _follow(before, now, points)
    back, returned = _follow(now, before, there)
    is_lost = ~(found & returned) | (np.linalg.norm(back - points, axis=1) > _RETURN_PX)
    flow_px = np.where(is_lost, np.inf, np.linalg.norm(there - points, axis=1))
    return float(np.percentile(flow_px, 50, method="higher") / max(before.shape))


def _follow(
    before: Grey, now: Grey, points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, 2) where points of one image lie in the other, and (N,) whether they were found."""
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        before, now, points, None, winSize=_WINDOW_PX, maxLevel=_PYRAMID_LEVELS, criteria=_STOP
    )
    return moved, status[:, 0].astype(bool)


def _corners(grey: Grey) -> NDArray[np.float32]:
    """(N, 2) x and y of the best corner of each cell that has texture at all."""
    strength = cv2.cornerMinEigenVal(grey, 5)
    rows, columns = grey.shape[0] // _CELL_PX, grey.shape[1] // _CELL_PX
    cells = strength[: rows * _CELL_PX, : columns * _CELL_PX].reshape(rows, _CELL_PX, columns, _CELL_PX)
    cells = cells.transpose(0, 2, 1, 3).reshape(rows * columns, _CELL_PX**2)
    best = cells.argmax(axis=1)
    row, column = np.divmod(np.arange(rows * columns), columns)
    x, y = column * _CELL_PX + best % _CELL_PX, row * _CELL_PX + best // _CELL_PX
    return np.stack([x, y], axis=1)[cells.max(axis=1) >= _LEAST_TEXTURE].astype(np.float32)
