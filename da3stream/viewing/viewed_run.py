"""The run directory of a viewer: whether it can be shown, and what is read of it once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import RunIncompleteError, command_line
from da3stream.ground import up_of_cameras
from da3stream.scene import WorldAlignment
from da3stream.store import FinishedRun, FollowedRun, FrameMaps, read_manifest
from da3stream.store.finished import is_finished
from da3stream.store.glance import is_locked
from da3stream.store.journal import JOURNAL
from da3stream.store.manifest import MANIFEST, keeps_submaps
from da3stream.viewing.map_state import MapState

_WAIT_S = 0.5


class ViewedRun(Protocol):
    """What the viewer asks of a run directory, finished or not."""

    manifest: dict[str, Any]
    alignment: WorldAlignment | None

    @property
    def typical_confidence(self) -> float: ...
    @property
    def closed_loops(self) -> list[tuple[int, int]]: ...
    def image_of(self, frame: int) -> NDArray[np.uint8]: ...
    def maps_of(self, frame: int) -> FrameMaps: ...


def check_viewable(root: Path, *, follow: bool) -> None:
    """Check that a run directory has something to show; reads its manifest alone.

    Raises:
        StoreError: there is none.
        RunIncompleteError: it has not finished and is not to be followed, or was kept without depth maps.
    """
    manifest = read_manifest(root)
    if not keeps_submaps(manifest):
        raise RunIncompleteError(
            f"{root} was kept without depth maps (--keep none)",
            hint="Its pcd/combined_pcd.ply opens in MeshLab and CloudCompare.",
        )
    if not is_finished(root, manifest) and not follow:
        raise RunIncompleteError(
            f"the run {root} has not finished",
            hint=f"Watch it with --follow, or finish it with {command_line('resume', root)}",
        )


def open_to_view(root: Path) -> FinishedRun | FollowedRun:
    """A run directory: as it stays, if it has finished, or as it grows.

    Raises:
        StoreError: there is none.
        RunCorruptError: its journal is damaged.
    """
    return FinishedRun(root) if is_finished(root, read_manifest(root)) else FollowedRun(root)


def is_being_written(root: Path) -> bool:
    """Whether a process works on a run directory; True where that cannot be known."""
    try:
        return is_locked(root)
    except OSError:
        return True


def wait_for_run(root: Path) -> None:
    """Wait until a run directory is there."""
    while not (root / MANIFEST).is_file():
        time.sleep(_WAIT_S)


def journal_and_manifest(root: Path) -> list[tuple[int, int] | None]:
    """Time and length of both files: another value after each change."""
    paths = (root / JOURNAL, root / MANIFEST)
    found = [path.stat() if path.exists() else None for path in paths]
    return [None if status is None else (status.st_mtime_ns, status.st_size) for status in found]


def up_of(run: ViewedRun, state: MapState) -> NDArray[np.float64]:
    """(3,) which way is up: against y in a world that was set upright, otherwise as the cameras have it."""
    if run.alignment is None or run.alignment.up is None:
        up = up_of_cameras(state.world_from_cam)
        if up is not None:
            return up
    return np.array([0.0, -1.0, 0.0])
