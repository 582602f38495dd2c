"""Chunks become submaps here: an executor estimates them, within what the estimator's device can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from da3stream.chunking import LoadedChunk, LoadedWindow
from da3stream.chunks_ahead import BegunChunk
from da3stream.config import Config
from da3stream.errors import DeviceMemoryError
from da3stream.estimation import GeometryEstimator
from da3stream.estimation.base import PlansMemory
from da3stream.estimation.contract import known_cameras_for
from da3stream.executors import Estimate, EstimationTask, Executor
from da3stream.masks import MaskFolder
from da3stream.measuring import ResourceMeter, StageTimes
from da3stream.planning import first_plan, shorter_plan
from da3stream.scene import Chunk, ChunkSizes, Frame, KnownCameras, Prediction, Submap
from da3stream.store import PlanRecord, Run
from da3stream.store.records import known_poses_of, own_intrinsics_of


class ChunkMaker:
    """Makes and stores submaps, with the cameras that earlier chunks have settled.

    `sizes_of` and `begin` are called ahead of the rest and in a thread of their own, each chunk in its order.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        estimator: GeometryEstimator,
        executor: Executor,
        times: StageTimes,
        meter: ResourceMeter,
        beside_bytes: Callable[[], int],
        masks: MaskFolder | None = None,
    ) -> None:
        """Start.

        Args:
            run: where submaps are stored.
            config: the options.
            estimator: asked for its plan.
            executor: estimates.
            times: counts the seconds.
            meter: says what the run takes.
            beside_bytes: what else the estimator's device holds; asked when that is planned.
            masks: what of the frames is to be ignored.
        """
        self._run, self._config, self._times, self._meter = run, config, times, meter
        self._estimator, self._executor = estimator, executor
        self._beside_bytes, self._masks = beside_bytes, masks
        self._applied: PlanRecord | None = None
        self._planning = Lock()
        """Held from the look for a plan until the estimator works by it: two threads set `_applied`."""
        self._settled: NDArray[np.float64] | None = None
        self._settled_ahead: NDArray[np.float64] | None = None
        self._has_own_cameras = False
        self._last_begun: Future[Estimate] | None = None
        self._bridges: dict[tuple[int, ...], Future[Estimate]] = {}

    # Ahead --------------------------------------------------------------------------------------

    def sizes_of(self, frame: Frame) -> ChunkSizes:
        """How long a chunk is: as journaled, or as planned now that the first frame is here."""
        with self._planning:
            plan = self._run.plan_for(frame.index)
            if plan is None:
                beside_bytes = self._beside_bytes()
                plan = first_plan(self._estimator, self._config, frame.size, beside_bytes=beside_bytes)
                self._run.put_plan(plan)
            if plan is not self._applied and plan.execution is not None:
                assert isinstance(self._estimator, PlansMemory), "only such an estimator has a choice"
                self._estimator.execution = plan.execution
            self._applied = plan
        return plan.sizes

    def capacity(self) -> int:
        """Chunks that may be estimated at a time: one while they may still settle the cameras of the next."""
        return 1 if self._may_settle() else self._executor.capacity

    def begin(self, window: LoadedWindow, *, anew: Callable[[int], bool]) -> BegunChunk:
        """Have a chunk estimated with what all chunks before it have settled, unless it is stored.

        Args:
            window: its frames.
            anew: whether a stored chunk has to be estimated nevertheless, by its index.

        Raises:
            RunMismatchError: its frames are stored, but in another chunk.
        """
        self._has_own_cameras |= window.frames[0].intrinsics is not None
        self._learn_ahead()
        record = self._run.stored_chunk(window.context, window.new)
        if record is not None and not anew(record.chunk.index):
            if self._settled_ahead is None:
                self._settled_ahead = record.settled_intrinsics
            self._last_begun = None
            return BegunChunk(window=window, estimate=None)
        self._last_begun = self._submit(window.frames, self._settled_ahead)
        return BegunChunk(window=window, estimate=self._last_begun)

    def _learn_ahead(self) -> None:
        if self._last_begun is not None and self._may_settle():
            self._settled_ahead = self._last_begun.result().prediction.settled_intrinsics

    def _may_settle(self) -> bool:
        is_known = self._settled_ahead is not None or self._config.intrinsics is not None
        return not (is_known or self._has_own_cameras) and getattr(
            self._estimator, "settles_intrinsics", True
        )

    # In order -----------------------------------------------------------------------------------

    def learn_from(self, chunk: int) -> None:
        """Keep what a stored chunk has settled for the bridges after it."""
        if self._settled is None:
            self._settled = self._run.chunks[chunk].settled_intrinsics

    def shorten(self, frame: int, error: DeviceMemoryError) -> PlanRecord:
        """Go on with chunks of half the size from the one that owns this frame first.

        DeviceMemoryError: `error`, if they cannot be shorter.
        """
        plan = shorter_plan(self.plan_of(frame), frame, self._config, error)
        self._run.put_plan(plan)
        self._last_begun = None
        return plan

    def plan_of(self, frame: int) -> PlanRecord:
        """The plan by which the chunk that owns a frame is made."""
        plan = self._run.plan_for(frame)
        assert plan is not None, "chunks are made by a plan"
        return plan

    def make(self, loaded: LoadedChunk, estimate: Future[Estimate]) -> tuple[Submap, Prediction]:
        """Wait for the estimate of a chunk of decoded frames, and store it.

        Raises:
            DeviceMemoryError: it is too long for the device.
            EstimationError: it cannot be reconstructed.
        """
        prediction = self._masked(
            self._result_of(estimate, first_frame=loaded.chunk.new[0]), lambda: loaded.frames
        )
        return self.store(loaded.chunk, prediction, loaded.new_frames), prediction

    def begin_bridge(self, frames: tuple[int, ...]) -> None:
        """Have stored frames estimated together, from their JPEGs. `estimate_bridge` waits for it."""
        if frames not in self._bridges:
            self._bridges[frames] = self._submit(self._run.stored_frames(frames), self._settled)

    def estimate_bridge(self, chunk: Chunk) -> Prediction:
        """Estimate a chunk of stored frames. Errors as of `make`."""
        self.begin_bridge(chunk.frames)
        prediction = self._result_of(self._bridges.pop(chunk.frames), first_frame=max(chunk.frames) + 1)
        return self._masked(prediction, lambda: self._run.stored_frames(chunk.frames))

    def _masked(self, prediction: Prediction, frames: Callable[[], Sequence[Frame]]) -> Prediction:
        """The prediction without what is to be ignored; `frames` are only asked for if that is anything."""
        return prediction if self._masks is None else self._masks.apply(prediction, frames())

    def preview(self, chunk: Chunk, prediction: Prediction) -> Submap:
        """The submap of a chunk of stored frames as it would be stored."""
        return self._run.preview(chunk, prediction, self._run.owner(chunk.frames[0]).image_size)

    def store(self, chunk: Chunk, prediction: Prediction, new_frames: Sequence[Frame] = ()) -> Submap:
        """Store a prediction; returns the submap as later readers will see it."""
        size = new_frames[0].size if new_frames else self._run.owner(chunk.frames[0]).image_size
        with self._times.stage("store"):
            return self._run.put_chunk(
                chunk,
                new_frames,
                prediction,
                image_size=size,
                keep_full=self._config.keep == "full",
                resources=self._meter.sample,
            )

    def _submit(self, frames: Sequence[Frame], settled: NDArray[np.float64] | None) -> Future[Estimate]:
        return self._executor.submit(
            EstimationTask(
                images=np.stack([frame.image for frame in frames]),
                indices=np.array([frame.index for frame in frames], dtype=np.int64),
                known_cameras=self._known(frames, settled),
            )
        )

    def _known(self, frames: Sequence[Frame], settled: NDArray[np.float64] | None) -> KnownCameras | None:
        """What an estimator is told of frames."""
        return known_cameras_for(
            [frame.original_size or frame.size for frame in frames],
            frames[0].size,
            self._config,
            settled,
            own_intrinsics=own_intrinsics_of(frames),
            world_from_cam=known_poses_of(frames),
            ignored=None if self._masks is None else self._masks.ignored(frames, frames[0].size),
        )

    def _result_of(self, future: Future[Estimate], first_frame: int) -> Prediction:
        with self._times.stage("waiting for estimates"):
            estimate = future.result()
        self._times.add("estimation", estimate.seconds)
        plan = self.plan_of(first_frame)
        if estimate.execution is not None and estimate.execution != plan.execution:
            changed = replace(plan, first_frame=first_frame, execution=estimate.execution, warning=None)
            with self._planning:
                self._run.put_plan(changed)
                self._applied = changed  # the estimator cuts its work so already
        return estimate.prediction
