"""Estimators that are sent to the actors of a Ray cluster. They meet the tests through files."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from da3stream import Prediction
from da3stream.errors import DeviceMemoryError
from da3stream.estimation.base import DevicePlan
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedWorld

PATIENCE_S = 60


class Sent(SimulatedEstimator):
    """The simulated estimator; writes the first frame of every chunk that it begins to a file."""

    def __init__(self, world: SimulatedWorld, folder: Path) -> None:
        super().__init__(world, seed=3, level=1.0)
        self.log = folder / "begun.txt"

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        with self.log.open("a") as log:
            log.write(f"{indices[0]} {os.getpid()}\n")
        images[0, 0, 0] = 0  # as a library may that takes the array over
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


def begun(folder: Path) -> list[int]:
    """First frames of the chunks in the order in which they were begun."""
    return [int(line.split()[0]) for line in (folder / "begun.txt").read_text().splitlines()]


def processes(folder: Path) -> set[int]:
    return {int(line.split()[1]) for line in (folder / "begun.txt").read_text().splitlines()}


def deaths(folder: Path) -> int:
    """How often `Killed` was."""
    log = folder / "deaths.txt"
    return len(log.read_text().splitlines()) if log.exists() else 0


class LateFirst(Sent):
    """The first chunk is not done before a later one is."""

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        prediction = super().estimate(images, indices=indices, known_cameras=known_cameras)
        later = self.log.with_name("later")
        if indices[0] > 0:
            later.touch()
        deadline = time.monotonic() + PATIENCE_S
        while not later.exists():
            assert time.monotonic() < deadline, "no later chunk was begun beside the first"
            time.sleep(0.01)
        return prediction


class Killed(Sent):
    """Kills its process when it comes to a frame, the first `deaths` times."""

    def __init__(self, world: SimulatedWorld, folder: Path, frame: int, deaths: int) -> None:
        super().__init__(world, folder)
        self.frame, self.deaths = frame, deaths

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        prediction = super().estimate(images, indices=indices, known_cameras=known_cameras)
        if indices[0] == self.frame and deaths(self.log.parent) < self.deaths:
            with self.log.with_name("deaths.txt").open("a") as log:
                log.write("killed\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return prediction


class Small(Sent):
    """Holds so many frames and believes in more; insists on being told how to cut its work."""

    def __init__(
        self, world: SimulatedWorld, folder: Path, holds: int, backs_off_at: int | None = None
    ) -> None:
        super().__init__(world, folder)
        self.holds, self.backs_off_at = holds, backs_off_at
        self.execution: dict[str, int] = {"views": 8}

    def plan(self, image_size: tuple[int, int], frames: int | None, *, beside_bytes: int = 0) -> DevicePlan:
        fits = 40 if frames is None else min(frames, 40)
        return DevicePlan(frames=fits, execution={"views": 4}, planned_bytes=4, budget_bytes=8)

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        if self.execution["views"] > 4:
            raise ValueError("nobody has said how to cut the work")
        if len(indices) > self.holds:
            raise DeviceMemoryError("the memory of the GPU is full")
        if indices[0] == self.backs_off_at:
            self.execution = {"views": 1}
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


class Broken(Sent):
    """Has a bug that shows at its second chunk."""

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        super().estimate(images, indices=indices, known_cameras=known_cameras)
        if indices[0] > 0:
            raise ZeroDivisionError("a bug")
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


class Unlike(Sent):
    """Has other weights in every process."""

    @property
    def weights(self) -> dict[str, int]:
        return {"seed": os.getpid()}


class Unsendable(Sent):
    """Holds what no other process can have."""

    def __init__(self, world: SimulatedWorld, folder: Path) -> None:
        super().__init__(world, folder)
        self.lock = threading.Lock()
