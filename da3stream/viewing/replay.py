"""The map of a finished run, placed again in a child process: what that takes of memory is given back.

python -m da3stream.viewing.replay RUN      writes a MapState to standard output, in safetensors
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from da3stream.child_process import run_unless, signal_name
from da3stream.config import load_config
from da3stream.errors import ProcessLostError
from da3stream.placed_map import PlacedMap
from da3stream.store import FollowedRun
from da3stream.viewing.map_state import CamerasBefore, MapState, state_of


def replayed_state(root: Path, closed: threading.Event) -> MapState:
    """The exact state of a finished run.

    Args:
        root: its directory.
        closed: once it is set, nobody needs the state any more: the child process is ended.

    Raises:
        ProcessLostError: the child process did not come to its end.
    """
    done = run_unless(closed, [sys.executable, "-m", "da3stream.viewing.replay", str(root)])
    try:
        if done.returncode == 0:
            return _decode(done.stdout)
    except (SafetensorError, KeyError) as error:
        raise ProcessLostError(f"the map of {root} came back damaged: {error}") from error
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    reason = signal_name(done.returncode) or (lines[-1] if lines else f"status {done.returncode}")
    raise ProcessLostError(f"the map of {root} could not be placed again", got=reason)


def _encode(state: MapState) -> bytes:
    assert state.before is not None
    return save(
        {
            "world_from_cam": np.ascontiguousarray(state.world_from_cam),
            "depth_scale": state.depth_scale,
            "submap": state.submap,
            "timestamp_s": state.timestamp_s,
            "before": np.ascontiguousarray(state.before.world_from_cam),
            "scale_before": state.before.depth_scale,
        }
    )


def _decode(content: bytes) -> MapState:
    tensors = load(content)
    return MapState(
        world_from_cam=tensors["world_from_cam"],
        depth_scale=tensors["depth_scale"],
        submap=tensors["submap"],
        timestamp_s=tensors["timestamp_s"],
        before=CamerasBefore(world_from_cam=tensors["before"], depth_scale=tensors["scale_before"]),
    )


def main() -> None:
    """Write the state of the run that the command line names."""
    run = FollowedRun(Path(sys.argv[1]))
    placed = PlacedMap.of(run, load_config(None, run.manifest["config"]).scale_prior)
    sys.stdout.buffer.write(_encode(state_of(run, placed)))


if __name__ == "__main__":
    main()
