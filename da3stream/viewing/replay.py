"""The map of a finished run, placed again in a child process: what that takes of memory is given back.

python -m da3stream.viewing.replay RUN      writes what `replayed` adds to standard output, as arrays of numpy
"""

from __future__ import annotations

import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from da3stream.child_process import run_unless, signal_name
from da3stream.errors import ProcessLostError, RunRestartedError
from da3stream.store import FollowedRun
from da3stream.viewing.map_state import CamerasBefore, MapState, state_of


def replayed(root: Path, state: MapState, closed: threading.Event) -> MapState:
    """A state of a finished run, with the exact scales of depth, and what was before the optimisation.

    Args:
        root: its directory.
        state: its `first_state_of`; the cameras stay.
        closed: once it is set, nobody needs the state any more: the child process is ended.

    Raises:
        ProcessLostError: the child process did not come to its end.
        RunRestartedError: the run has other frames by now.
    """
    with tempfile.TemporaryFile() as file:
        done = run_unless(closed, [sys.executable, "-m", "da3stream.viewing.replay", str(root)], stdout=file)
        if done.returncode == 0:
            file.seek(0)
            return _completed(state, file, root)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    reason = signal_name(done.returncode) or (lines[-1] if lines else f"status {done.returncode}")
    raise ProcessLostError(f"the map of {root} could not be placed again", got=reason)


def _completed(state: MapState, file: IO[bytes], root: Path) -> MapState:
    try:
        depth_scale, before, scale_before = (np.load(file, allow_pickle=False) for _ in range(3))
    except (ValueError, EOFError) as error:
        raise ProcessLostError(f"the map of {root} came back damaged: {error}") from error
    if len(depth_scale) != len(state):
        raise RunRestartedError(f"the run {root} was begun anew", hint="Open it again.")
    return replace(
        state,
        depth_scale=depth_scale,
        before=CamerasBefore(world_from_cam=before, depth_scale=scale_before),
    )


def main() -> None:
    """Write what is asked of the run that the command line names."""
    from da3stream.config import load_config
    from da3stream.placed_map import PlacedMap

    run = FollowedRun(Path(sys.argv[1]))
    state = state_of(run, PlacedMap.of(run, load_config(None, run.manifest["config"]).scale_prior))
    assert state.before is not None
    for array in (state.depth_scale, state.before.world_from_cam, state.before.depth_scale):
        np.save(sys.stdout.buffer, np.ascontiguousarray(array), allow_pickle=False)


if __name__ == "__main__":
    main()
