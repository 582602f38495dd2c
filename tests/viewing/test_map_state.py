"""Where cameras are, by the trajectory alone and by placing the map again."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from da3stream.errors import ProcessLostError, RunRestartedError
from da3stream.placed_map import PlacedMap
from da3stream.store import FinishedRun, FollowedRun
from da3stream.viewing.map_state import first_state_of, state_of
from da3stream.viewing.replay import replayed


def test_the_first_state_is_the_trajectory_with_nearly_the_scales_of_the_map(run: FollowedRun) -> None:
    first, exact = first_state_of(FinishedRun(run.root)), state_of(run, PlacedMap.of(run, None))
    np.testing.assert_array_equal(first.world_from_cam, run.trajectory().world_from_cam[:, :3])
    np.testing.assert_allclose(exact.world_from_cam, first.world_from_cam, atol=1e-9)
    np.testing.assert_allclose(first.depth_scale, exact.depth_scale, rtol=0.05)
    np.testing.assert_array_equal(first.submap, exact.submap)


def test_the_child_tells_what_placing_the_map_here_tells(run: FollowedRun) -> None:
    here = state_of(run, PlacedMap.of(run, None))
    told = replayed(run.root, first_state_of(FinishedRun(run.root)), threading.Event())
    assert here.before is not None
    assert told.before is not None
    np.testing.assert_array_equal(told.depth_scale, here.depth_scale)
    np.testing.assert_array_equal(told.before.world_from_cam, here.before.world_from_cam)
    np.testing.assert_array_equal(told.before.depth_scale, here.before.depth_scale)


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


def test_with_priors_the_path_before_lies_where_they_do(pulled_run: FollowedRun) -> None:
    placed = PlacedMap.of(pulled_run, None)
    state = state_of(pulled_run, placed)
    before = state.before_optimisation()
    np.testing.assert_allclose(before.centres, placed.chain_centres(), atol=1e-9)
    assert np.linalg.norm(state.centres, axis=1).min() > 500
    assert np.linalg.norm(before.centres - state.centres, axis=1).max() < 0.1 * state.length
    np.testing.assert_allclose(before.depth_scale, state.depth_scale, rtol=0.3)
    turned = before.world_from_cam[:, :, :3] @ state.world_from_cam[:, :, :3].transpose(0, 2, 1)
    assert np.trace(turned, axis1=1, axis2=2).min() > 1 + 2 * np.cos(0.2)


def test_a_child_that_fails_says_why(run: FollowedRun, tmp_path: Path) -> None:
    with pytest.raises(ProcessLostError, match="no run directory"):
        replayed(tmp_path, first_state_of(FinishedRun(run.root)), threading.Event())


def test_a_run_that_has_other_frames_by_now_is_no_mix_of_both(run: FollowedRun) -> None:
    first = first_state_of(FinishedRun(run.root))
    with pytest.raises(RunRestartedError, match="begun anew"):
        replayed(run.root, replace(first, world_from_cam=first.world_from_cam[:40]), threading.Event())


def test_a_state_that_nobody_needs_is_not_waited_for(run: FollowedRun) -> None:
    closed = threading.Event()
    closed.set()
    with pytest.raises(ProcessLostError, match="SIGKILL"):
        replayed(run.root, first_state_of(FinishedRun(run.root)), closed)
