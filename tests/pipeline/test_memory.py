"""Keyframe memory in whole runs: which frames are recalled, what they join, and that kills leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream import Frame, Prediction
from da3stream.geometry.registration import umeyama
from da3stream.place import describing
from da3stream.placed_map import PlacedMap
from da3stream.scene import SubmapEdge
from da3stream.store import ChunkRecord, open_existing
from da3stream.synthetic.aliasing import AliasingEstimator
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps

from .doubles import CountingEstimator
from .test_resume import digests

FRAMES, LAP, SIZE, OVERLAP, K = 120, 60, 16, 8, 3
OPTIONS = {"colmap_points": "dense", "chunk_size": SIZE, "overlap": OVERLAP, "coarse": 0, "loop": False}
REMEMBERING = {**OPTIONS, "memory_keyframes": K}


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    """Two laps."""
    return SimulatedWorld(street_laps(FRAMES, seed=1, lap_frames=LAP), 7, size=(14, 42), hfov_deg=82)


@pytest.fixture
def descriptor(world: SimulatedWorld) -> SimulatedDescriptor:
    return SimulatedDescriptor(world, scale_m=6.0)


def run(
    world: SimulatedWorld, folder: Path, options: dict[str, Any], estimator: Any = None, **arguments: Any
) -> da3stream.Result:
    return da3stream.reconstruct(
        arguments.pop("source", None) or SimulatedSource(world),
        folder,
        config=da3stream.load_config(None, options),
        estimator=estimator or CountingEstimator(world, level=1.0),
        **arguments,
    )


def fine_chunks(folder: Path) -> list[ChunkRecord]:
    stored = open_existing(folder)
    stored.close()
    return stored.fine_chunks


def edges_of(folder: Path) -> list[SubmapEdge]:
    stored = open_existing(folder)
    stored.close()
    return [edge for edges in stored.edges.values() for edge in edges.values()]


def ate_m(result: da3stream.Result, world: SimulatedWorld) -> float:
    centres, truth = result.trajectory.world_from_cam[:, :3, 3], world.world_from_cam[:, :3, 3]
    return float(np.sqrt(np.square(umeyama(centres, truth).apply(centres) - truth).sum(1).mean()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld) -> Path:
    """An uninterrupted run with memory."""
    folder = tmp_path_factory.mktemp("memory") / "run"
    run(world, folder, REMEMBERING, descriptor=SimulatedDescriptor(world, scale_m=6.0))
    return folder


# What is recalled -----------------------------------------------------------------------------------------


def test_the_second_lap_recalls_the_same_places_of_the_first(whole: Path, world: SimulatedWorld) -> None:
    centres = world.world_from_cam[:, :3, 3]
    recalling = [record.chunk for record in fine_chunks(whole) if record.chunk.recalled]
    assert len(recalling) >= 4
    for chunk in recalling:
        recalled = np.array(chunk.recalled)
        assert len(recalled) <= K
        assert (np.diff(recalled) >= SIZE // 4).all()
        assert chunk.new[0] - recalled.max() >= SIZE
        distance = np.linalg.norm(centres[recalled, None] - centres[list(chunk.window)], axis=2).min(axis=1)
        assert distance.max() < 10.0, "a fifth of the size of the loop"


def test_the_first_lap_recalls_nothing(whole: Path) -> None:
    first_lap = [record.chunk for record in fine_chunks(whole) if record.chunk.new[-1] < LAP - SIZE]
    assert len(first_lap) >= 4
    assert all(chunk.recalled == () for chunk in first_lap)


def test_chunks_keep_their_size_and_overlap_and_own_every_frame_once(whole: Path) -> None:
    chunks = [record.chunk for record in fine_chunks(whole)]
    assert [frame for chunk in chunks for frame in chunk.new] == list(range(FRAMES))
    assert {len(chunk.frames) for chunk in chunks[:-1]} == {SIZE}
    assert all(len(b.window) - len(b.new) >= OVERLAP for b in chunks[1:])
    for before, chunk in pairwise(chunks):
        assert set(chunk.window[: -len(chunk.new)]) <= set(before.window)


def test_recalled_frames_join_the_submaps_that_hold_them(whole: Path) -> None:
    edges, chunks = edges_of(whole), {record.chunk.index: record.chunk for record in fine_chunks(whole)}
    remembered = [edge for edge in edges if edge.kind == "memory"]
    assert len(remembered) >= 4
    for edge in remembered:
        assert set(edge.evidence["frames"]) <= set(chunks[edge.b].recalled) & set(chunks[edge.a].window)
    for edge in edges:
        if edge.kind == "overlap":
            assert set(edge.evidence["frames"]) <= set(chunks[edge.b].window) & set(chunks[edge.a].window)


def test_memory_makes_the_map_better(tmp_path: Path, world: SimulatedWorld) -> None:
    results = [
        run(world, tmp_path / str(number), options, descriptor=SimulatedDescriptor(world, scale_m=6.0))
        for number, options in enumerate((OPTIONS, REMEMBERING))
    ]
    without, remembering = (ate_m(result, world) for result in results)
    assert remembering < 0.7 * without


def test_where_nothing_is_recalled_nothing_changes(tmp_path: Path, world: SimulatedWorld) -> None:
    half = SimulatedSource(world, frames=LAP - SIZE)
    for number, options in enumerate((OPTIONS, REMEMBERING)):
        descriptor = SimulatedDescriptor(world, scale_m=6.0)
        run(world, tmp_path / str(number), options, source=half, descriptor=descriptor)
    assert digests(tmp_path / "0") == digests(tmp_path / "1")


@pytest.mark.slow
def test_a_chunk_too_short_to_give_places_away_recalls_nothing(
    tmp_path: Path, world: SimulatedWorld, descriptor: SimulatedDescriptor
) -> None:
    run(world, tmp_path, {**REMEMBERING, "overlap": SIZE - 2}, descriptor=descriptor)
    assert all(not record.chunk.recalled for record in fine_chunks(tmp_path))


def test_with_loops_and_coarse_chunks(
    tmp_path: Path, world: SimulatedWorld, descriptor: SimulatedDescriptor
) -> None:
    """Bridges take chunk indices between those of the fine chunks."""
    options = {
        "colmap_points": "dense",
        "chunk_size": SIZE,
        "overlap": OVERLAP,
        "coarse": 4,
        "memory_keyframes": K,
    }
    updates = list(
        da3stream.stream(
            SimulatedSource(world),
            tmp_path,
            config=da3stream.load_config(None, options),
            estimator=CountingEstimator(world, level=1.0),
            descriptor=descriptor,
        )
    )
    assert {edge.kind for edge in edges_of(tmp_path)} == {"overlap", "coarse", "loop", "memory"}
    told = np.zeros((FRAMES, 4, 4))
    for update in updates:
        told[update.frames] = update.world_from_cam
        for frame, pose in update.corrections.items():
            told[frame] = pose
    stored = open_existing(tmp_path)
    stored.close()
    np.testing.assert_array_equal(told, stored.trajectory().world_from_cam)


# Wrong keyframes ------------------------------------------------------------------------------------------


class DeceivedDescriptor(SimulatedDescriptor):
    """Takes frames 36 to 50 for frames 4 to 18."""

    def describe(self, images: np.ndarray, *, indices: np.ndarray) -> np.ndarray:
        alias = np.where((indices >= 36) & (indices < 51), indices - 32, indices)
        return super().describe(images, indices=alias)


class RecallDeceivedEstimator(AliasingEstimator):
    """Puts whatever a chunk recalls on top of its window."""

    def _confused_poses(self, indices: list[int]) -> np.ndarray:
        poses = self.world.world_from_cam.copy()
        jumps = np.flatnonzero(np.diff(indices) > 8)
        if len(jumps):
            recalled, window = indices[: jumps[-1] + 1], indices[jumps[-1] + 1 :]
            onto = poses[window[len(window) // 2]] @ np.linalg.inv(poses[recalled[0]])
            poses[recalled] = onto @ poses[recalled]
        return poses


@pytest.mark.parametrize("seed", range(3))
def test_aliases_do_not_ruin_the_map(tmp_path: Path, seed: int) -> None:
    """One lap; descriptor and estimator agree that two of its places are one. Nothing but the path between
    them contradicts, and the map is what it would be without the edges of the memory."""
    world = SimulatedWorld(street_laps(90, seed=1, lap_frames=180), 7, size=(14, 42), hfov_deg=82)
    deceived = RecallDeceivedEstimator(world, seed)
    run(world, tmp_path, REMEMBERING, deceived, descriptor=DeceivedDescriptor(world, scale_m=6.0))
    assert sum(edge.kind == "memory" for edge in edges_of(tmp_path)) >= 4
    stored = open_existing(tmp_path)
    stored.close()
    placed = PlacedMap.of(stored, None).assemble(range(90))
    for later, edges in stored.edges.items():
        stored.edges[later] = {a: edge for a, edge in edges.items() if edge.kind != "memory"}
    alone = PlacedMap.of(stored, None).assemble(range(90))
    np.testing.assert_allclose(placed.world_from_cam, alone.world_from_cam, atol=1e-3)
    np.testing.assert_allclose(placed.depth_scale, alone.depth_scale, rtol=1e-3)


# Interruptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interrupted_at", [1, 9, 11, 13])
def test_a_killed_run_recalls_the_same(
    tmp_path: Path,
    world: SimulatedWorld,
    descriptor: SimulatedDescriptor,
    whole: Path,
    interrupted_at: int,
) -> None:
    killed = CountingEstimator(world, level=1.0, fail_at=interrupted_at)
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path, REMEMBERING, killed, descriptor=descriptor)
    again = CountingEstimator(world, level=1.0)
    run(world, tmp_path, REMEMBERING, again, descriptor=descriptor, resume=True)
    assert killed.chunks + again.chunks == [record.chunk.frames for record in fine_chunks(whole)]
    assert digests(tmp_path) == digests(whole)


def test_a_damaged_chunk_recalls_what_it_had(
    tmp_path: Path, world: SimulatedWorld, descriptor: SimulatedDescriptor, whole: Path
) -> None:
    killed = CountingEstimator(world, level=1.0, fail_at=13)
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path, REMEMBERING, killed, descriptor=descriptor)
    damaged = next(record.chunk for record in fine_chunks(tmp_path) if record.chunk.recalled)
    (tmp_path / "submaps" / f"{damaged.index:06d}.safetensors").write_bytes(b"torn")
    again = CountingEstimator(world, level=1.0)
    run(world, tmp_path, REMEMBERING, again, descriptor=descriptor, resume=True)
    assert again.chunks[0] == damaged.frames
    assert digests(tmp_path) == digests(whole)


# Descriptors that come late -------------------------------------------------------------------------------


class RepeatingSource(SimulatedSource):
    """Every lap shows the very images of the first."""

    def __iter__(self) -> Iterator[Frame]:
        frames = list(super().__iter__())
        return (replace(frame, image=frames[frame.index % LAP].image) for frame in frames)


@pytest.mark.slow
def test_vlad_recalls_once_its_vocabulary_is_known_also_after_a_kill(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describing, "TRAINING_FRAMES", 80)
    source = RepeatingSource(world)
    run(world, tmp_path / "whole", REMEMBERING, source=source)
    chunks = [record.chunk for record in fine_chunks(tmp_path / "whole")]
    recalling = [chunk for chunk in chunks if chunk.recalled]
    assert recalling
    assert recalling[0].new[0] >= 80
    for number in (3, chunks.index(recalling[0]), len(chunks) - 1):
        folder = tmp_path / str(number)
        killed = CountingEstimator(world, level=1.0, fail_at=number)
        with pytest.raises(KeyboardInterrupt):
            run(world, folder, REMEMBERING, killed, source=source)
        run(world, folder, REMEMBERING, source=source, resume=True)
        assert digests(folder) == digests(tmp_path / "whole")


def test_with_backbone_the_chunk_before_is_what_likes_are_looked_for(
    tmp_path: Path, world: SimulatedWorld
) -> None:
    class Talking(CountingEstimator):
        def estimate(
            self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None
        ) -> Prediction:
            prediction = super().estimate(images, indices=indices, known_cameras=known_cameras)
            said = SimulatedDescriptor(world, scale_m=6.0).describe(images, indices=indices)
            return replace(prediction, descriptors=said)

    run(world, tmp_path, {**REMEMBERING, "place": "backbone"}, Talking(world, level=1.0))
    chunks = [record.chunk for record in fine_chunks(tmp_path)]
    centres = world.world_from_cam[:, :3, 3]
    recalling = [pair for pair in pairwise(chunks) if pair[1].recalled]
    assert recalling
    for before, chunk in recalling:
        distance = centres[list(chunk.recalled), None] - centres[list(before.new)]
        assert np.linalg.norm(distance, axis=2).min(axis=1).max() < 10.0
