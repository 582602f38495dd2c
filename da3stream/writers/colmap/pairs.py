"""Which images of a capture are matched: neighbours along the path, and the two sides of loops."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

OFFSETS = (1, 2, 3, 5, 8, 13)
"""Every image is matched with the images so many places later: short steps match well, long ones have
parallax."""
LOOP_IMAGES = 6
"""Images on each side of a loop, before and after its frame."""
LOOP_PARTNERS = 3
"""Images of the other side that each of them is matched with."""
MAX_TURN_DEG = 60.0
"""SIFT finds little beyond such a difference of the viewing directions."""


def sequence_pairs(count: int) -> list[tuple[int, int]]:
    """(first, second) numbers of neighbouring images, first < second, of `count` images in their order."""
    return [(first, first + offset) for first in range(count) for offset in OFFSETS if first + offset < count]


def loop_pairs(
    loops: Iterable[tuple[int, int]], frames: NDArray[np.int64], world_from_cam: NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Pairs that join the two places of loops, first < second, without repetition.

    Each image around one frame of a loop is paired with the `LOOP_PARTNERS` images around the other that see
    the place most alike by our poses: with the nearest centres among those that look within `MAX_TURN_DEG`.

    Args:
        loops: pairs of frame indices.
        frames: (N,) frame index of each image, ascending.
        world_from_cam: (N, 4, 4) camera to world.
    """
    found: set[tuple[int, int]] = set()
    for one, other in loops:
        around_one, around_other = _around(one, frames), _around(other, frames)
        for image in around_one:
            found.update(_pair(image, partner) for partner in _alike(image, around_other, world_from_cam))
        for image in around_other:
            found.update(_pair(image, partner) for partner in _alike(image, around_one, world_from_cam))
    return sorted(pair for pair in found if pair[0] != pair[1])


def _pair(one: int, other: int) -> tuple[int, int]:
    return min(one, other), max(one, other)


def _around(frame: int, frames: NDArray[np.int64]) -> range:
    """Numbers of the images around a frame."""
    middle = int(np.argmin(np.abs(frames - frame))) if len(frames) else 0
    return range(max(0, middle - LOOP_IMAGES), min(len(frames), middle + LOOP_IMAGES + 1))


def _alike(image: int, others: range, world_from_cam: NDArray[np.float64]) -> list[int]:
    candidates = np.array(others)
    cosines = world_from_cam[candidates, :3, 2] @ world_from_cam[image, :3, 2]
    candidates = candidates[cosines > np.cos(np.radians(MAX_TURN_DEG))]
    distances = np.linalg.norm(world_from_cam[candidates, :3, 3] - world_from_cam[image, :3, 3], axis=1)
    return [int(candidates[row]) for row in np.argsort(distances, kind="stable")[:LOOP_PARTNERS]]
