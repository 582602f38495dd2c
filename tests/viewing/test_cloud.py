"""What the page gets of a run: budgets, and that every node puts its points where the writers put them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from plyfile import PlyData
from scipy.spatial import cKDTree

from da3stream.geometry.rigid3 import rotation_from_quaternion_wxyz
from da3stream.store import FinishedRun, FollowedRun
from da3stream.viewing.cloud import CloudBuilder, CloudOptions, typical_depth
from da3stream.viewing.keyframe_points import KeyframePoints, keyframe_points
from da3stream.viewing.keyframes import MAX_KEYFRAMES, growing_keyframes
from da3stream.viewing.level_of_detail import LEVELS, LevelledPoints
from da3stream.viewing.map_state import MapState, first_state_of
from da3stream.viewing.pace import MOST
from da3stream.viewing.replay import replayed
from da3stream.viewing.scene import FrameCamera, MapScene
from tests.viewing.conftest import FRAMES

ALL = CloudOptions(budget=1_000_000, confidence_percentile=0)


@pytest.fixture(scope="module")
def state(viewed: Any) -> MapState:
    return replayed(viewed, first_state_of(FinishedRun(viewed)), threading.Event())


@pytest.fixture
def scene(server: Any) -> MapScene:
    image = np.random.default_rng(0).integers(0, 256, (72, 128, 3), dtype=np.uint8)
    camera = FrameCamera(fov_rad=1.0, aspect=16 / 9, thumbnail=image)
    return MapScene(server, 5.0, lambda frame: camera, lambda frame: None)


def build(
    run: FollowedRun,
    scene: MapScene,
    state: MapState,
    options: CloudOptions,
    keyframes: Sequence[int] = range(FRAMES),
) -> CloudBuilder:
    builder = CloudBuilder(run, scene, 5.0)
    for _ in builder.build(state, keyframes, options):
        pass
    return builder


def shown_in_world(scene: MapScene, frame: int) -> np.ndarray:
    """(K, 3) points of a keyframe, placed as a browser places them: by scale, orientation and position."""
    node = scene._nodes[frame]
    rotation = rotation_from_quaternion_wxyz(np.array(node.frame.wxyz))
    clouds = [
        float(handle.scale) * handle.points.astype(np.float64)  # type: ignore[arg-type]
        for handle in node.clouds
        if handle is not None
    ]
    return np.concatenate(clouds) @ rotation.T + np.array(node.frame.position)


def writers_cloud(run: FollowedRun) -> np.ndarray:
    vertices = PlyData.read(str(run.root / "pcd" / "combined_pcd.ply"))["vertex"]
    return np.column_stack([vertices["x"], vertices["y"], vertices["z"]]).astype(np.float64)


def test_nodes_put_points_where_the_cloud_of_the_run_has_them(
    run: FollowedRun, scene: MapScene, state: MapState
) -> None:
    """combined_pcd.ply was written by other code, from whole chunks, and is read by another program."""
    build(run, scene, state, ALL)
    tree = cKDTree(writers_cloud(run))
    for frame in (0, 33, 69):
        points = shown_in_world(scene, frame)
        depth = np.linalg.norm(points - state.centres[frame], axis=1)
        apart, _ = tree.query(points)
        assert len(points) > 20
        assert (apart < 2e-3 * depth).mean() > 0.98  # float16 keeps 11 bits


def test_the_state_before_moves_nodes_and_sends_no_point_again(
    run: FollowedRun, scene: MapScene, state: MapState
) -> None:
    build(run, scene, state, ALL)
    handles = [handle for node in scene._nodes.values() for handle in node.clouds]
    now = shown_in_world(scene, 69)
    before = state.before_optimisation()
    scene.move(before)
    assert [handle for node in scene._nodes.values() for handle in node.clouds] == handles
    points = keyframe_points(run, 69, confidence_percentile=0, edge_angle_deg=5.0)
    expected = points.in_world(before.world_from_cam[69], float(before.depth_scale[69]))
    apart, _ = cKDTree(expected).query(shown_in_world(scene, 69))
    assert apart.max() < 1e-2
    assert np.abs(shown_in_world(scene, 69) - now).max() > 1e-2
    scene.move(state)
    np.testing.assert_allclose(shown_in_world(scene, 69), now, atol=1e-6)


@pytest.mark.parametrize("budget", [300, 2000])
def test_a_budget_is_kept_and_used(run: FollowedRun, scene: MapScene, state: MapState, budget: int) -> None:
    build(run, scene, state, CloudOptions(budget=budget, confidence_percentile=0))
    assert 0.4 * budget < scene.points <= budget
    assert scene.points == sum(
        len(shown_in_world(scene, frame)) for frame in scene.keyframes if scene.points_of(frame)
    )


def test_a_budget_that_changes_between_passes_is_followed_up_and_down(
    run: FollowedRun, scene: MapScene, state: MapState
) -> None:
    after: list[int] = []

    def budget_after(points: int) -> int:
        after.append(points)
        return 800 if len(after) == 1 else 300

    options = CloudOptions(budget=200, confidence_percentile=0)
    builder = CloudBuilder(run, scene, 5.0)
    for _ in builder.build(state, range(FRAMES), options, budget_after=budget_after):
        pass
    assert after[0] <= 200
    assert 300 < after[1] <= 800
    assert 0.4 * 300 < scene.points <= 300
    assert builder.is_enough(300)
    assert not builder.is_enough(2000)


def test_less_confidence_means_more_points(run: FollowedRun, scene: MapScene, state: MapState) -> None:
    build(run, scene, state, CloudOptions(budget=1_000_000, confidence_percentile=90))
    few = scene.points
    build(run, scene, state, ALL)
    assert scene.points > 3 * few


def test_a_newer_wish_ends_the_work(run: FollowedRun, scene: MapScene, state: MapState) -> None:
    asked = iter([False] * 5 + [True] * 100)
    for _ in CloudBuilder(run, scene, 5.0).build(state, range(70), ALL, lambda: next(asked)):
        pass
    assert len(scene.keyframes) == 5


def test_new_keyframes_join_those_that_are_there(run: FollowedRun, scene: MapScene, state: MapState) -> None:
    builder = CloudBuilder(run, scene, 5.0)
    assert not builder.extend(state, [0], ALL)
    for _ in builder.build(state, [0, 20], ALL):
        pass
    old = scene._nodes[20]
    assert builder.extend(state, [0, 20, 40], ALL)
    assert scene.keyframes == [0, 20, 40]
    assert scene._nodes[20] is old
    assert not builder.extend(state, [0, 40], ALL)
    assert scene.keyframes == [0, 20, 40]
    assert not builder.extend(
        state, [0, 20, 40, 60], CloudOptions(budget=scene.points, confidence_percentile=0)
    )


def test_a_cloud_that_grows_shows_as_much_as_one_that_is_built_at_once(
    run: FollowedRun, scene: MapScene, state: MapState
) -> None:
    """Each time that every second keyframe goes, what only these have shown must be shown by others."""
    options = CloudOptions(budget=2000, confidence_percentile=0)
    builder = CloudBuilder(run, scene, 5.0)
    for frames in range(5, 71, 5):
        keyframes = growing_keyframes(frames, most=12)
        if not builder.extend(state, keyframes, options):
            for _ in builder.build(state, keyframes, options):
                pass
    grown = covered(scene)
    build(run, scene, state, options, keyframes)
    assert len(grown & covered(scene)) > 0.93 * len(covered(scene))


def covered(scene: MapScene) -> set[tuple[int, ...]]:
    """Cells of the world, a metre wide, in which something is shown."""
    shown = [frame for frame in scene.keyframes if scene.points_of(frame)]
    points = np.concatenate([shown_in_world(scene, frame) for frame in shown])
    return {tuple(cell) for cell in np.floor(points).astype(int).tolist()}


@pytest.mark.parametrize(("moved", "is_kept"), [(0.01, True), (2.0, False)])
def test_a_map_that_was_bent_is_built_anew(
    run: FollowedRun, scene: MapScene, state: MapState, moved: float, is_kept: bool
) -> None:
    """Once old cameras lie elsewhere by more than the largest voxel, what is marked is no longer there."""
    builder = CloudBuilder(run, scene, 5.0)
    for _ in builder.build(state, [0, 20, 40], ALL):
        pass
    assert builder._table is not None
    cameras = state.world_from_cam.copy()
    cameras[20, :, 3] += moved * builder._table.side(LEVELS - 1) * np.array([0.0, 0.0, 1.0])
    assert builder.extend(replace(state, world_from_cam=cameras), [0, 20, 40, 60], ALL) == is_kept
    turned = state.world_from_cam.copy()
    turned[40, :, :3] = turned[40, :, :3] @ np.diag([-1.0, 1.0, -1.0])  # its centre stays where it is
    assert not builder.extend(replace(state, world_from_cam=turned), [0, 20, 40, 60], ALL)


def test_the_page_gets_no_more_than_a_browser_bears(
    run: FollowedRun, scene: MapScene, server: Any, state: MapState
) -> None:
    """As many points and keyframes as can be chosen, counted as they leave the server."""
    each = MOST // MAX_KEYFRAMES
    random = np.random.default_rng(0)
    points = KeyframePoints(
        points_in_cam=random.normal(0, 1, (each, 3)).astype(np.float32),
        colors=random.integers(0, 256, (each, 3), dtype=np.uint8),
        footprint=np.ones(each, np.float32),
        depth_unit=1.0,
    )
    levels = LevelledPoints(rows=tuple(np.array_split(np.arange(each), LEVELS)))
    rows = np.zeros(MAX_KEYFRAMES, int)
    many = replace(
        state, world_from_cam=state.world_from_cam[rows], depth_scale=state.depth_scale[rows], before=None
    )
    for frame in range(MAX_KEYFRAMES):
        scene.add_keyframe(frame, many)
        scene.set_points(frame, many, points, levels, [0.01] * LEVELS)
    scene.show_frusta(many)
    assert len(scene.frusta) == MAX_KEYFRAMES
    assert 9 * MOST < bytes_sent(server) <= 300e6


def bytes_sent(server: Any) -> int:
    """What somebody gets who opens the page now, until nothing more comes."""
    import viser
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    total = 0
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    address = f"ws://127.0.0.1:{server.get_port()}"
    with connect(address, subprotocols=[protocol], max_size=None, compression=None) as client:
        while True:
            try:
                total += len(client.recv(timeout=2))
            except TimeoutError:
                return total


def test_the_typical_depth_is_that_of_the_maps(run: FollowedRun, state: MapState) -> None:
    depths = np.concatenate([(run.maps_of(f).depth * state.depth_scale[f]).ravel() for f in range(0, 70, 3)])
    assert typical_depth(run, state, range(70)) == pytest.approx(np.median(depths[depths > 0]), rel=0.5)
