"""Logs what a run tells, while it runs, to a recording for rerun's viewer.

The entities are those of rerun/capture.rrd, but that the trajectory comes in parts, world/trajectory/SUBMAP,
and that there are no loops. On the timelines `frame` and `time` the latest of what was known counts: a camera
that is corrected is logged once more at its own frame. The timeline `update`, which counts chunks, shows what
was known when.

Points are not sent again. Those of a corrected submap move as a whole with the camera in its middle, and its
scale; rerun/capture.rrd, which is written in the end, places each frame by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import RESUME, ConfigError, StoreError
from da3stream.result import Update
from da3stream.scene import FrameBlock
from da3stream.store import read_manifest
from da3stream.writers.cloud import confident_cloud
from da3stream.writers.rerun_recording import RerunRecording, load_rerun
from da3stream.writers.sensor_frames import conventions_of, sensor_frames

POINTS_PER_FRAME = 500
"""How many frames will come is not known, so each of them gets the same."""
MOVED_STEPS, MOVED_RAD = 0.01, 1e-3
"""A correction is logged at once if it moves a camera by more than so many steps between frames, or turns it
by more: else the many small ones of a long run would fill the file. The last word is exact."""
_UNIT_IS_OPEN = "not known yet"

Array = NDArray[np.float64]


@dataclass(kw_only=True, slots=True, eq=False)
class _Told:
    """The frames of one submap, as they were told last."""

    submap: int
    index: NDArray[np.int64]
    timestamp_s: Array
    world_from_cam: Array
    """(M, 4, 4) as they are known now."""
    logged: Array
    """(M, 4, 4) as the file has them."""
    middle_when_new: Array
    """(4, 4) camera in the middle, when the points were logged."""
    middle_factor: float = 1.0
    """Multiple of the depth that it had then."""
    logged_factor: float = 1.0
    """The same, as the file has it."""


class LiveRerun:
    """A `Listener` that logs to a .rrd file, which it begins with the first update.

    A context manager. The file can be read after every update, while it grows; its index comes with the end.
    """

    def __init__(self, path: Path, run_directory: Path) -> None:
        """
        Args:
            path: the file; an older one is replaced, by the first update.
            run_directory: of the run, which has to be there at the first update only.

        Raises:
            MissingDependencyError: rerun is not installed.
            ConfigError: the name does not end in .rrd; there is no such folder, or it belongs to the run.
        """
        load_rerun()
        if path.suffix != ".rrd":
            raise ConfigError(f"--rerun {path}: the name has to end in .rrd", hint=f"Name {path}.rrd.")
        self._path, self._run_directory = path, run_directory
        where = path.absolute().parent
        if run_directory.resolve() in (where.resolve(), *where.resolve().parents):
            raise ConfigError(
                f"--rerun {path} lies in the run directory, which holds outputs only",
                hint="Name a file beside it, or take --export rerun, which writes rerun/capture.rrd there.",
            )
        if not where.is_dir():
            raise ConfigError(f"--rerun: there is no folder {where}", hint="Make it, or name another one.")
        self._recording: RerunRecording | None = None
        self._submaps: list[_Told] = []
        self._percentile = 0.0
        self._last_update = 0

    def __enter__(self) -> LiveRerun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recording is not None:
            self._recording.abandon()

    def start(self, config: Mapping[str, Any]) -> None:
        """Take the options of the run."""
        self._percentile = float(config["confidence_percentile"])

    def update(self, update: Update) -> None:
        """Log what a chunk has told. StoreError if it cannot be written."""
        try:
            recording = self._recording or self._begin()
            self._last_update = update.chunk
            if update.corrections:
                for told in self._submaps:
                    self._take_over(told, update)
                self._log_corrections(recording, self._step() * MOVED_STEPS, MOVED_RAD)
            if update.block is not None and len(update.block):
                self._add(recording, update.block, update.chunk)
        except OSError as error:
            raise self._problem(error) from error

    def end(self, status: str, *, is_metric: bool | None) -> None:
        """Log the unit, and close the file. StoreError if it cannot be written."""
        if self._recording is None:
            return
        try:
            self._log_corrections(self._recording, 0.0, 0.0)
            self._log_notes(self._recording, "metres" if is_metric else "arbitrary")
            self._recording.complete()
        except OSError as error:
            raise self._problem(error) from error

    def _begin(self) -> RerunRecording:
        self._recording = RerunRecording(self._path, f"da3stream-live-{self._run_directory.name}")
        self._log_notes(self._recording, _UNIT_IS_OPEN)
        return self._recording

    def _log_notes(self, recording: RerunRecording, unit: str) -> None:
        synthetic = read_manifest(self._run_directory)["timestamps_are_synthetic"]
        recording.log_notes(conventions_of(synthetic, unit))

    def _add(self, recording: RerunRecording, block: FrameBlock, update: int) -> None:
        """Log new frames."""
        index, time_s = int(block.index[0]), float(block.timestamp_s[0])
        recording.log_frames(list(sensor_frames(block)), update)
        cloud = confident_cloud(block, self._percentile)
        most = POINTS_PER_FRAME * len(block)
        if len(cloud) > most:
            cloud = cloud.take(np.random.default_rng(update).choice(len(cloud), most, replace=False))
        recording.log_points(block.submap, cloud, index, time_s, update)
        told = _Told(
            submap=block.submap,
            index=block.index,
            timestamp_s=block.timestamp_s,
            world_from_cam=block.world_from_cam.copy(),
            logged=block.world_from_cam.copy(),
            middle_when_new=block.world_from_cam[len(block) // 2].copy(),
        )
        self._submaps.append(told)
        self._log_path(recording, len(self._submaps) - 1, update)

    def _take_over(self, told: _Told, update: Update) -> None:
        """Keep what an update says of a submap."""
        frames = told.index.tolist()
        for row, frame in enumerate(frames):
            if frame in update.corrections:
                told.world_from_cam[row] = update.corrections[frame]
        middle = frames[len(frames) // 2]
        told.middle_factor = update.depth_factors.get(middle, told.middle_factor)

    def _step(self) -> float:
        """Typical distance between two frames."""
        centres = np.concatenate([told.world_from_cam[:, :3, 3] for told in self._submaps])
        return float(np.median(np.linalg.norm(np.diff(centres, axis=0), axis=1))) if len(centres) > 1 else 0.0

    def _log_corrections(self, recording: RerunRecording, shift: float, turn_rad: float) -> None:
        """Log cameras that lie farther than that from where the file has them, and what hangs on them."""
        was_moved = False
        for number, told in enumerate(self._submaps):
            apart = np.linalg.norm(told.world_from_cam[:, :3, 3] - told.logged[:, :3, 3], axis=1)
            turned = np.linalg.norm(told.world_from_cam[:, :3, :3] - told.logged[:, :3, :3], axis=(1, 2))
            rows = np.flatnonzero((apart > shift) | (turned > np.sqrt(2) * turn_rad))
            if len(rows):
                told.logged[rows] = told.world_from_cam[rows]
                index, times_s = told.index[rows].tolist(), told.timestamp_s[rows].tolist()
                recording.log_poses(index, times_s, told.logged[rows], self._last_update)
            if len(rows) or told.middle_factor != told.logged_factor:
                self._move_points(recording, told, self._last_update)
            if len(rows) or was_moved:
                self._log_path(recording, number, self._last_update)
            was_moved = len(rows) > 0

    def _move_points(self, recording: RerunRecording, told: _Told, update: int) -> None:
        """x' = T' f T^-1 x, with the camera in the middle before and after, and the factor of its depth."""
        now, before, factor = (
            told.logged[len(told.index) // 2],
            told.middle_when_new,
            told.middle_factor,
        )
        told.logged_factor = factor
        turn = now[:3, :3] @ before[:3, :3].T
        world_from_logged = np.eye(4)
        world_from_logged[:3, :3] = turn
        world_from_logged[:3, 3] = now[:3, 3] - factor * turn @ before[:3, 3]
        recording.move_points(
            told.submap, world_from_logged, factor, int(told.index[0]), float(told.timestamp_s[0]), update
        )

    def _log_path(self, recording: RerunRecording, number: int, update: int) -> None:
        """The part of the trajectory that a submap has added, from the last camera before it on."""
        told = self._submaps[number]
        positions = told.logged[:, :3, 3]
        if number:
            positions = np.concatenate([self._submaps[number - 1].logged[-1:, :3, 3], positions])
        recording.log_path(told.submap, positions, int(told.index[0]), float(told.timestamp_s[0]), update)

    def _problem(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot log to {self._path}",
            got=error.strerror or str(error),
            hint=f"What the run has stored is kept. Name another file, or go on with: {RESUME}",
        )
