"""Metres: what each chunk says of the unit, and what the run makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream import Config, Prediction
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld

from .doubles import CountingEstimator


class MetricEstimator(CountingEstimator):
    """Exact geometry in a unit that is off by a factor of each chunk; some chunks know no metres at all."""

    def __init__(self, world: SimulatedWorld, factors: list[float | None]) -> None:
        super().__init__(world)
        self.is_metric, self._world, self._factors = True, world, factors

    def estimate(self, images: Any, *, indices: Any, known_cameras: Any = None) -> Prediction:
        exact = super().estimate(images, indices=indices, known_cameras=known_cameras)
        factor = self._factors[(int(indices[0]) // 8) % len(self._factors)]
        known, factor = factor is not None, factor or 5.0
        true_step = np.linalg.norm(np.diff(self._world.world_from_cam[indices[:2], :3, 3], axis=0))
        step = np.linalg.norm(np.diff(positions(exact.cam_from_submap[:2]), axis=0))
        scale = factor * true_step / step
        cameras = exact.cam_from_submap.copy()
        cameras[:, :, 3] *= scale
        return replace(exact, depth=exact.depth * np.float32(scale), cam_from_submap=cameras, is_metric=known)


def positions(cam_from_submap: np.ndarray) -> np.ndarray:
    return -np.einsum("nji,nj->ni", cam_from_submap[:, :, :3], cam_from_submap[:, :, 3])


def length(poses: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())


@pytest.mark.parametrize(
    ("factors", "expected"),
    [([1.0], 1.0), ([1.5, 1.0, 1.0, 1.0], 1.0), ([1.3], 1.3), ([None, 1.0, 1.0, 1.0], 1.0)],
)
def test_the_unit_is_the_median_of_what_the_chunks_say(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    factors: list[float | None],
    expected: float,
) -> None:
    estimator = MetricEstimator(world, factors)
    result = da3stream.reconstruct(source, tmp_path, config=config, estimator=estimator)
    true_length = length(world.world_from_cam[result.trajectory.index])
    assert length(result.trajectory.world_from_cam) == pytest.approx(expected * true_length, rel=0.01)
    assert json.loads((tmp_path / "run.json").read_text())["is_metric"] is True


def test_updates_tell_of_the_final_unit(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    poses: dict[int, np.ndarray] = {}
    estimator = MetricEstimator(world, [1.5, 1.0, 1.0, 1.0])
    for update in da3stream.stream(source, tmp_path, config=config, estimator=estimator):
        poses.update(update.corrections)
        poses.update(zip(update.frames.tolist(), update.world_from_cam, strict=True))
    assert len(update.frames) == len(update.points_in_world) == 0
    result = da3stream.reconstruct(source, tmp_path, config=config, estimator=estimator, resume=True)
    np.testing.assert_allclose(
        np.stack([poses[k] for k in range(len(poses))]), result.trajectory.world_from_cam
    )


def test_exports_are_in_the_final_unit_too(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    da3stream.reconstruct(
        source, tmp_path, config=config, estimator=MetricEstimator(world, [1.5, 1.0, 1.0, 1.0])
    )
    names = ("camera_poses.txt", "pcd/combined_pcd.ply")
    before = {name: (tmp_path / name).read_bytes() for name in names}
    da3stream.export(tmp_path, ("poses", "pcd"))
    assert before == {name: (tmp_path / name).read_bytes() for name in names}
