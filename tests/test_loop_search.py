"""The search for places, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.loop_search import LoopSearch
from da3stream.scene import ChunkSizes, LoopCandidate
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedWorld
from da3stream.synthetic.paths import street_laps

SIZES = ChunkSizes(size=60, overlap=30)
FRAMES = 700


@pytest.fixture(scope="module")
def poses() -> np.ndarray:
    """Laps of 400 frames."""
    return street_laps(FRAMES, lap_frames=400, step_m=3.6)


@pytest.fixture(scope="module")
def vectors(poses: np.ndarray) -> np.ndarray:
    descriptor = SimulatedDescriptor(SimulatedWorld(poses, 7), scale_m=12.0)
    return descriptor.describe(np.zeros(0, np.uint8), indices=np.arange(FRAMES))


def search(poses: np.ndarray, vectors: np.ndarray, sizes: ChunkSizes = SIZES) -> tuple[LoopCandidate, ...]:
    loops = LoopSearch(lambda frames: vectors[frames], sizes, 40.0)
    found: tuple[LoopCandidate, ...] = ()
    step = sizes.size - sizes.overlap
    for start in range(0, FRAMES, step):
        frames = np.arange(start, min(FRAMES, start + step))
        loops.add(frames, vectors[frames], poses[frames, :3, 3])
        found += loops.decide(1)
    return found + loops.finish()


def test_every_third_frame_of_a_usual_chunk_is_searched_for(poses: np.ndarray, vectors: np.ndarray) -> None:
    strong = [one for one in search(poses, vectors) if one.similarity > one.threshold]
    assert len(strong) >= 5
    assert {one.later % 3 for one in strong} == {0}
    assert {one.earlier % 3 for one in strong} == {2}, "a lap of 400 frames earlier: any frame can be found"
    right = [np.linalg.norm(poses[one.later, :3, 3] - poses[one.earlier, :3, 3]) < 20 for one in strong]
    assert np.mean(right) > 0.8
    assert all(one.later - one.earlier >= SIZES.size for one in strong)


def test_chunks_shorter_than_the_step_between_queries_are_fine(
    poses: np.ndarray, vectors: np.ndarray
) -> None:
    """Two new frames a chunk: every third one has no query."""
    found = search(poses, vectors, ChunkSizes(size=60, overlap=58))
    assert {one.later % 3 for one in found} == {0}


def test_nothing_is_recalled_before_anything_is_there(vectors: np.ndarray) -> None:
    loops = LoopSearch(lambda frames: vectors[frames], SIZES, 40.0)
    assert loops.keyframes(vectors[:3], before=100, most=4) == ()
