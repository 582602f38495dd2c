"""Two laps of a street, and estimators and descriptors that get the second visit wrong in many ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream import Config, Frame, Prediction, Trajectory, load_config
from da3stream.errors import DeviceMemoryError
from da3stream.geometry.registration import umeyama
from da3stream.synthetic.aliasing import AliasingEstimator
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps

from .doubles import CountingEstimator

LAP = 100
SIZE = 20
STRIDE = 4


def two_laps(frames: int = 130, lap_frames: int = LAP) -> SimulatedWorld:
    return SimulatedWorld(street_laps(frames, lap_frames=lap_frames), seed=7, size=(14, 42), hfov_deg=82)


def bridged(**options: Any) -> Config:
    """Both kinds of bridges, and the outputs that are quick to write."""
    names = "poses,tum,cameras,loops,trajectory,pcd"
    fixed = {"chunk_size": SIZE, "coarse": STRIDE, "export": names, "colmap_points": "dense"}
    return load_config(None, {**fixed, **options})


def is_coarse(indices: NDArray[Any]) -> bool:
    return len(indices) > 1 and int(np.median(np.diff(indices))) > 1


def is_loop(indices: NDArray[Any]) -> bool:
    return len(indices) > 1 and not is_coarse(indices) and int(np.diff(indices).max()) > 1


class MortalEstimator(CountingEstimator):
    """Works so many times in its life; `made` outlives it."""

    def __init__(self, world: SimulatedWorld, lives: int, made: list[tuple[int, ...]]) -> None:
        super().__init__(world, level=1.0, fail_at=len(made) + lives)
        self.chunks = made


class FailingEstimator(CountingEstimator):
    """Raises for the bridges that it is told to fail at."""

    def __init__(
        self, world: SimulatedWorld, *, coarse: Exception | None = None, loop: Exception | None = None
    ) -> None:
        super().__init__(world, level=1.0)
        self.errors = {"coarse": coarse, "loop": loop}
        self.failed: list[tuple[int, ...]] = []

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        error = self.errors.get("coarse" if is_coarse(indices) else "loop" if is_loop(indices) else "fine")
        if error is not None:
            self.failed.append(tuple(int(i) for i in indices))
            raise error
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


class WildEstimator(CountingEstimator):
    """Returns nonsense for coarse chunks: poses and depth of its own invention, and little confidence."""

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        prediction = super().estimate(images, indices=indices, known_cameras=known_cameras)
        if not is_coarse(indices):
            return prediction
        rng = np.random.default_rng(int(indices[0]))
        cameras = prediction.cam_from_submap.copy()
        cameras[:, :, 3] = 20 * rng.normal(size=(len(indices), 3))
        depth = rng.uniform(0.1, 50, prediction.depth.shape).astype(np.float32)
        return replace(
            prediction,
            depth=depth,
            cam_from_submap=cameras,
            confidence=prediction.confidence * np.float32(1e-3),
        )


class DeceivedEstimator(CountingEstimator):
    """Takes two places that are far from each other for one; true revisits it sees as they are."""

    def __init__(self, world: SimulatedWorld, *, far_m: float = 20.0) -> None:
        super().__init__(world, level=1.0)
        self._world, self._far_m = world, far_m
        self._aliasing = AliasingEstimator(world, seed=3)
        self.deceived = 0

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        ends = self._world.world_from_cam[[int(indices[0]), int(indices[-1])], :3, 3]
        if is_loop(indices) and np.linalg.norm(ends[1] - ends[0]) > self._far_m:
            self.deceived += 1
            return self._aliasing.estimate(images, indices=indices, known_cameras=known_cameras)
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


class FalseDescriptor(SimulatedDescriptor):
    """Describes some frames as if they showed others: `twins` maps each to the other."""

    def __init__(self, world: SimulatedWorld, twins: Mapping[int, int]) -> None:
        super().__init__(world)
        self._twins = twins

    def describe(self, images: np.ndarray, *, indices: np.ndarray) -> NDArray[np.float32]:
        seen = np.array([self._twins.get(int(index), int(index)) for index in indices])
        own = super().describe(images, indices=indices)
        other = super().describe(images, indices=seen)
        rng = np.random.default_rng(int(indices[0]))
        mixed = np.where((seen == indices)[:, None], own, other + 0.2 * rng.normal(size=other.shape) / 16)
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


class LapSource(SimulatedSource):
    """Shows the same pictures in every lap, so that local features find the revisit."""

    def __iter__(self) -> Any:
        pictures = [frame.image for frame in SimulatedSource.__iter__(self)]
        for frame in SimulatedSource.__iter__(self):
            yield Frame(
                index=frame.index,
                source_index=frame.source_index,
                timestamp_s=frame.timestamp_s,
                image=pictures[frame.index % LAP],
            )


class Device(CountingEstimator):
    """Holds `holds` frames of decoded chunks until frame `until`, then only half as many."""

    def __init__(self, world: SimulatedWorld, holds: int, until: int) -> None:
        super().__init__(world, level=1.0)
        self._holds, self._until = holds, until

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        if int(indices[-1]) >= self._until and len(indices) > self._holds // 2:
            raise DeviceMemoryError("the memory of the GPU is full")
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


class ShrinkingEstimator(CountingEstimator):
    """Reconstructs every frame of a chunk a little smaller or larger than the one before.

    Both depth and steps change by `per_frame`, so that consecutive chunks agree about it. The two places of a
    loop are seen together, at one scale.
    """

    def __init__(self, world: SimulatedWorld, per_frame: float) -> None:
        super().__init__(world, level=1.0)
        self._per_frame = per_frame

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        prediction = super().estimate(images, indices=indices, known_cameras=known_cameras)
        jumps = np.flatnonzero(np.diff(indices) > LAP // 2) + 1 if is_loop(indices) else []
        rows = np.concatenate([np.arange(len(part)) for part in np.split(indices, jumps)])
        scales = self._per_frame**rows
        poses = np.tile(np.eye(4), (len(indices), 1, 1))
        poses[:, :3] = prediction.cam_from_submap
        poses = np.linalg.inv(poses)
        # The step to the first frame of a place is that from the middle of the other place, or none.
        steps = np.diff(poses[:, :3, 3], axis=0, prepend=poses[:1, :3, 3])
        poses[:, :3, 3] = poses[0, :3, 3] + np.cumsum(steps * scales[:, None], axis=0)
        return replace(
            prediction,
            depth=(prediction.depth * scales[:, None, None]).astype(np.float32),
            cam_from_submap=np.linalg.inv(poses)[:, :3],
        )


def ate_m(trajectory: Trajectory, world: SimulatedWorld) -> float:
    """RMSE of the camera centres after a similarity alignment."""
    centres = trajectory.world_from_cam[:, :3, 3]
    truth = world.world_from_cam[: len(centres), :3, 3]
    return float(np.sqrt(((umeyama(centres, truth).apply(centres) - truth) ** 2).sum(1).mean()))


def loops_of(run: Path) -> list[dict[str, Any]]:
    """loop_closures.json."""
    rows: list[dict[str, Any]] = json.loads((run / "loop_closures.json").read_text())["loops"]
    return rows


def manifest_of(run: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((run / "run.json").read_text())
    return manifest


def outputs_of(run: Path) -> dict[str, bytes]:
    """What must be the same with and without an interruption."""
    paths = [path for path in run.rglob("*") if path.is_file()]
    own = {"journal.jsonl", "run.json", "lock", "report.html"}
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(paths)
        if path.name not in own and path.relative_to(run).parts[0] != "scratch"
    }
