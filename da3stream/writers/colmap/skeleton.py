"""A thinned model that says how a long capture lies as a whole: a camera that all images share, and the poses
of some of them. Imported by the worker process only.

Windows of images cannot: what is outside of a window holds it where the old focal length has put it. A model
of fewer images over the whole path has no outside; the images between those follow them. Skeletal graphs for
efficient structure from motion (Snavely, Seitz, Szeliski, CVPR 2008) thin captures for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

Array = NDArray[np.float64]

MAX_SPACING = 7
"""Images that a thinned model goes on by, at most: with longer steps its tracks would break."""


def evenly(ids: Sequence[int], most: int) -> list[int]:
    """Some of the images, the first and the last among them: `most` if that is enough for `MAX_SPACING`."""
    count = max(min(most, len(ids)), ceil((len(ids) - 1) / MAX_SPACING) + 1)
    return [ids[row] for row in np.linspace(0, len(ids) - 1, count).round().astype(int)]


def thinned(model: Any, ids: Iterable[int]) -> Any:
    """A `pycolmap.Reconstruction` of some images of another, with what they see of its points."""
    kept, sparse = set(ids), pycolmap.Reconstruction(model)
    for image_id in sorted(sparse.reg_image_ids()):
        if image_id not in kept:
            sparse.deregister_frame(sparse.images[image_id].frame_id)
    return sparse


def followed(poses: Array, rows: NDArray[np.intp], moved: Array) -> Array:
    """(N, 4, 4) poses that follow some of them: where these are moved to, and blended between two of them.

    Args:
        poses: (N, 4, 4) world_from_cam.
        rows: (K,) those that were moved, ascending; the first is 0, the last N - 1.
        moved: (K, 4, 4) what they are now.
    """
    before, along = poses[rows], np.arange(len(poses))
    turns = moved[:, :3, :3] @ np.swapaxes(before[:, :3, :3], 1, 2)
    turn = Slerp(rows, Rotation.from_matrix(turns))(along).as_matrix()
    scale = _length(moved) / _length(before) if _length(before) > 0 else 1.0
    earlier = np.clip(np.searchsorted(rows, along, side="right") - 1, 0, len(rows) - 2)
    weight = (along - rows[earlier]) / (rows[earlier + 1] - rows[earlier])

    def centres_by(ends: NDArray[np.intp]) -> Array:
        offsets = poses[:, :3, 3] - before[ends, :3, 3]
        return moved[ends, :3, 3] + scale * (turn @ offsets[..., None])[..., 0]

    result = poses.copy()
    result[:, :3, :3] = turn @ poses[:, :3, :3]
    result[:, :3, 3] = (1 - weight)[:, None] * centres_by(earlier) + weight[:, None] * centres_by(earlier + 1)
    return result


def _length(poses: Array) -> float:
    """Of the path through (N, 4, 4) poses."""
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())
