"""Semi-global matching over a volume of plane costs (Hirschmueller, PAMI 2008).

A scan steps through one image axis in both directions at once. Every step is a handful of numpy operations on
all its paths, (directions, planes, pixels across) of uint8, which stay in the cache. With penalties of at
most 96 and costs of at most 127 no path leaves uint8: the cheapest plane of a step costs at most 127 and no
plane more than the cheapest plus P2 plus its own cost. Sums of eight paths fit int16.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Int16 = NDArray[np.int16]

MAX_COST = 127
SMALL_STEP_PENALTY = 4
JUMP_PENALTY, MIN_JUMP_PENALTY = 96, 24
JUMP_GRADIENT = 12.0
"""Grey levels per pixel at which the penalty of a jump in depth has halved."""


def jump_penalties(grey: UInt8) -> UInt8:
    """(h, w) P2: jumps in depth are cheaper where the image has edges."""
    smooth = cv2.GaussianBlur(grey, (3, 3), 0).astype(np.float32)
    gradient = cv2.magnitude(
        cv2.Sobel(smooth, -1, 1, 0, scale=0.125), cv2.Sobel(smooth, -1, 0, 1, scale=0.125)
    )
    penalty = JUMP_PENALTY / (1 + gradient / np.float32(JUMP_GRADIENT))
    return np.maximum(penalty, MIN_JUMP_PENALTY).astype(np.uint8)


def aggregate(cost: UInt8, jump_penalty: UInt8) -> Int16:
    """(planes, h, w) sum over eight directions of the path costs.

    Args:
        cost: (planes, h, w), at most MAX_COST.
        jump_penalty: (h, w), at most JUMP_PENALTY.
    """
    total = np.zeros(cost.shape, dtype=np.int16)
    _scan(cost, jump_penalty, total, shifts=(0, 1, -1))
    sideways = np.stack([cv2.transpose(plane) for plane in cost])
    across = np.zeros(sideways.shape, dtype=np.int16)
    _scan(sideways, np.ascontiguousarray(jump_penalty.T), across, shifts=(0,))
    for plane, addition in zip(total, across, strict=True):
        plane += cv2.transpose(addition)
    return total


def _scan(cost: UInt8, jump_penalty: UInt8, total: Int16, *, shifts: tuple[int, ...]) -> None:
    """Add to `total` the paths down and up axis 1 that move by `shifts` pixels across in each step."""
    rows = cost.shape[1]
    paths = _both_ways(cost, 0)[:, None].repeat(len(shifts), axis=1)
    _add_paths(total, paths, 0)
    for row in range(1, rows):
        previous = np.stack([_shifted(paths[:, k], shift) for k, shift in enumerate(shifts)], axis=1)
        penalty = np.stack([jump_penalty[row], jump_penalty[rows - 1 - row]])[:, None, None]
        paths = _step(previous, _both_ways(cost, row)[:, None], penalty)
        _add_paths(total, paths, row)


def _both_ways(cost: UInt8, row: int) -> UInt8:
    """(2, planes, across) costs of the row and of its mirror image, which the paths upwards have reached."""
    return np.stack([cost[:, row], cost[:, cost.shape[1] - 1 - row]])


def _add_paths(total: Int16, paths: UInt8, row: int) -> None:
    for path in paths[0]:
        total[:, row] += path
    for path in paths[1]:
        total[:, total.shape[1] - 1 - row] += path


def _step(previous: UInt8, cost: UInt8, jump_penalty: UInt8) -> UInt8:
    """Path costs of the next row: the cost there plus the cheapest way to come from the previous row."""
    lowest = previous.min(axis=-2, keepdims=True)
    near = previous + np.uint8(SMALL_STEP_PENALTY)
    best = np.minimum(previous, lowest + jump_penalty)
    np.minimum(best[..., 1:, :], near[..., :-1, :], out=best[..., 1:, :])
    np.minimum(best[..., :-1, :], near[..., 1:, :], out=best[..., :-1, :])
    best -= lowest
    best += cost
    return best


def _shifted(paths: UInt8, shift: int) -> UInt8:
    """The path costs of the neighbour at x - shift; at the border, paths continue straight."""
    if shift == 0:
        return paths
    moved = np.empty_like(paths)
    if shift > 0:
        moved[..., 1:], moved[..., 0] = paths[..., :-1], paths[..., 0]
    else:
        moved[..., :-1], moved[..., -1] = paths[..., 1:], paths[..., -1]
    return moved
