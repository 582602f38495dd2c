"""`stream()`: updates while the source runs."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import da3stream
from da3stream import Config, Frame
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld

from .doubles import FRAMES, CountingEstimator, ReportingSource


def test_the_first_update_comes_before_the_source_has_ended(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    """A camera that shows nothing more until it is seen where the first chunk was taken."""
    told = threading.Event()

    class Waiting(ReportingSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                assert frame.index < 16 or told.wait(60)
                yield frame

    updates = da3stream.stream(Waiting(source), tmp_path, config=config, estimator=CountingEstimator(world))
    first = next(updates)
    told.set()
    assert first.frames.tolist() == list(range(16))
    updates.close()


def test_updates_with_their_corrections_give_the_final_trajectory(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    poses: dict[int, np.ndarray] = {}
    corrected = 0.0
    for update in da3stream.stream(
        source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0)
    ):
        assert set(update.corrections) <= set(poses)
        for frame, pose in update.corrections.items():
            corrected = max(corrected, float(np.abs(poses[frame] - pose).max()))
            poses[frame] = pose
        poses.update(zip(update.frames.tolist(), update.world_from_cam, strict=True))
        assert len(update.points_in_world) == len(update.colors)
        assert (len(update.colors) > 0) == (len(update.frames) > 0)
    final = da3stream.reconstruct(
        source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0), resume=True
    ).trajectory
    assert sorted(poses) == list(range(FRAMES))
    assert np.array_equal(np.stack([poses[k] for k in range(FRAMES)]), final.world_from_cam)
    assert corrected > 0


def test_stopping_early_leaves_a_run_that_can_be_resumed(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    updates = da3stream.stream(source, tmp_path, config=config, estimator=CountingEstimator(world))
    next(updates)
    next(updates)
    updates.close()
    rest = CountingEstimator(world)
    result = da3stream.reconstruct(source, tmp_path, config=config, estimator=rest, resume=True)
    assert rest.chunks[0][0] == 16
    assert len(result.trajectory) == FRAMES


@pytest.fixture
def only_new_garbage() -> Iterator[None]:
    """The collector passes over what was there before the test, which takes most of its time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("only_new_garbage")
def test_no_frame_older_than_two_chunks_stays_in_memory(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    images: list[tuple[int, weakref.ref[np.ndarray]]] = []

    class Watched(ReportingSource):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for frame in self._inner:
                image = frame.image.copy()
                images.append((frame.index, weakref.ref(image)))
                yield Frame(
                    index=frame.index,
                    source_index=frame.source_index,
                    timestamp_s=frame.timestamp_s,
                    image=image,
                )
                del image

    for update in da3stream.stream(
        Watched(source), tmp_path, config=config, estimator=CountingEstimator(world)
    ):
        if not len(update.frames):
            continue  # corrections only, after the source has ended
        gc.collect()
        alive = [index for index, reference in images if reference() is not None]
        assert alive, "the check cannot fail if nothing is alive"
        assert min(alive) > update.frames[-1] - 2 * 16
