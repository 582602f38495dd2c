"""The run directory of a viewer: whether it can be shown, and what is read of it once."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import RunIncompleteError
from da3stream.ground import up_of_cameras
from da3stream.store import FollowedRun
from da3stream.store.manifest import MANIFEST
from da3stream.viewing.map_state import MapState

_WAIT_S = 0.5


def open_to_view(root: Path, *, follow: bool) -> FollowedRun:
    """A run directory that has something to show.

    Raises:
        StoreError: there is none.
        RunIncompleteError: it has not finished and is not to be followed, or was kept without depth maps.
    """
    run = FollowedRun(root)
    if run.manifest["config"].get("keep") == "none":
        raise RunIncompleteError(
            f"{root} was kept without depth maps (--keep none)",
            hint="Its pcd/combined_pcd.ply opens in MeshLab and CloudCompare.",
        )
    if not run.is_finished and not follow:
        raise RunIncompleteError(
            f"the run {root} has not finished",
            hint="Watch it with --follow, or finish it with `da3stream resume`.",
        )
    return run


def wait_for_run(root: Path) -> None:
    """Wait until a run directory is there."""
    while not (root / MANIFEST).is_file():
        time.sleep(_WAIT_S)


def accepted_loops(run: FollowedRun) -> list[tuple[int, int]]:
    """(later, earlier) frames of the loops that were closed."""
    loops = list(run.loops.values())
    return [(loop.candidate.later, loop.candidate.earlier) for loop in loops if loop.is_accepted]


def up_of(run: FollowedRun, state: MapState) -> NDArray[np.float64]:
    """(3,) which way is up: against y in a world that was set upright, otherwise as the cameras have it."""
    if run.alignment is None or run.alignment.up is None:
        up = up_of_cameras(state.world_from_cam)
        if up is not None:
            return up
    return np.array([0.0, -1.0, 0.0])
