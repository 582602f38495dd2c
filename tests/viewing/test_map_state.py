"""Where cameras are, by the trajectory alone and by placing the map again."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from da3stream.errors import ProcessLostError
from da3stream.placed_map import PlacedMap
from da3stream.store import FollowedRun
from da3stream.viewing.map_state import first_state_of, state_of
from da3stream.viewing.replay import replayed_state


def test_the_first_state_is_the_trajectory_with_nearly_the_scales_of_the_map(run: FollowedRun) -> None:
    first, exact = first_state_of(run), replayed_state(run.root, threading.Event())
    np.testing.assert_array_equal(first.world_from_cam, run.trajectory().world_from_cam[:, :3])
    np.testing.assert_allclose(exact.world_from_cam, first.world_from_cam, atol=1e-9)
    np.testing.assert_allclose(first.depth_scale, exact.depth_scale, rtol=0.05)
    np.testing.assert_array_equal(first.submap, exact.submap)


def test_before_the_optimisation_the_path_is_that_of_the_picture(run: FollowedRun) -> None:
    """The writers draw `chain_centres`; whole cameras have to agree with it, and drift away from the map."""
    placed = PlacedMap.of(run, None)
    state = state_of(run, placed)
    before = state.before_optimisation()
    np.testing.assert_allclose(before.centres, placed.chain_centres(), atol=1e-9)
    turned = before.world_from_cam[:, :, :3]
    np.testing.assert_allclose(
        turned @ turned.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turned.shape), atol=1e-9
    )
    np.testing.assert_allclose(before.world_from_cam[0], state.world_from_cam[0], atol=1e-6)
    assert np.linalg.norm(before.centres[-1] - state.centres[-1]) > 1e-3


def test_a_child_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ProcessLostError, match="no run directory"):
        replayed_state(tmp_path, threading.Event())


def test_a_state_that_nobody_needs_is_not_waited_for(run: FollowedRun) -> None:
    closed = threading.Event()
    closed.set()
    with pytest.raises(ProcessLostError, match="SIGKILL"):
        replayed_state(run.root, closed)
