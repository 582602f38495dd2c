"""Chunks become submaps here: the estimator is called, within what its device can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from da3stream.chunking import LoadedChunk
from da3stream.config import Config
from da3stream.errors import DeviceMemoryError
from da3stream.estimation import GeometryEstimator
from da3stream.estimation.base import PlansMemory
from da3stream.estimation.contract import check_prediction, known_cameras_for
from da3stream.measuring import StageTimes
from da3stream.planning import first_plan, shorter_plan
from da3stream.scene import Chunk, ChunkSizes, Frame, Prediction, Submap
from da3stream.store import PlanRecord, Run


class ChunkMaker:
    """Makes and stores submaps, with the cameras that earlier chunks have settled."""

    def __init__(
        self,
        run: Run,
        config: Config,
        estimator: GeometryEstimator,
        times: StageTimes,
        beside_bytes: Callable[[], int],
    ) -> None:
        """`beside_bytes` tells what else the estimator's device holds; it is asked when that is planned."""
        self._run, self._config, self._estimator, self._times = run, config, estimator, times
        self._beside_bytes = beside_bytes
        self._settled: NDArray[np.float64] | None = None

    def learn_from(self, chunk: int) -> None:
        """Keep what a stored chunk has settled for all later ones."""
        if self._settled is None:
            self._settled = self._run.chunks[chunk].settled_intrinsics

    def sizes_of(self, chunk: int, frame: Frame) -> ChunkSizes:
        """How long a chunk is: as journaled, or as planned now that the first frame is here."""
        plan = self._run.plan_for(chunk)
        if plan is None:
            beside_bytes = self._beside_bytes()
            plan = first_plan(self._estimator, self._config, frame.size, beside_bytes=beside_bytes)
            self._run.put_plan(plan)
        if plan.execution is not None and isinstance(self._estimator, PlansMemory):
            self._estimator.execution = plan.execution
        return plan.sizes

    def shorten(self, chunk: int, error: DeviceMemoryError) -> PlanRecord:
        """Go on with chunks of half the size. DeviceMemoryError: `error`, if they cannot be shorter."""
        plan = shorter_plan(self.plan_of(chunk), chunk, self._config, error)
        self._run.put_plan(plan)
        return plan

    def plan_of(self, chunk: int) -> PlanRecord:
        """The plan by which a chunk is made."""
        plan = self._run.plan_for(chunk)
        assert plan is not None, "chunks are made by a plan"
        return plan

    def make(self, loaded: LoadedChunk) -> tuple[Submap, Prediction]:
        """Estimate and store a chunk of decoded frames.

        Raises:
            DeviceMemoryError: it is too long for the device.
            EstimationError: it cannot be reconstructed.
        """
        prediction = self._estimate(loaded.chunk, loaded.frames)
        return self.store(loaded.chunk, prediction, loaded.new_frames), prediction

    def estimate_stored(self, chunk: Chunk) -> Prediction:
        """Estimate a chunk of frames that are stored, from their JPEGs. Errors as of `make`."""
        return self._estimate(chunk, self._run.stored_frames(chunk.frames))

    def preview(self, chunk: Chunk, prediction: Prediction) -> Submap:
        """The submap of a chunk of stored frames as it would be stored."""
        return self._run.preview(chunk, prediction, self._run.owner(chunk.frames[0]).image_size)

    def store(self, chunk: Chunk, prediction: Prediction, new_frames: Sequence[Frame] = ()) -> Submap:
        """Store a prediction; returns the submap as later readers will see it."""
        size = new_frames[0].size if new_frames else self._run.owner(chunk.frames[0]).image_size
        with self._times.stage("store"):
            return self._run.put_chunk(
                chunk, new_frames, prediction, image_size=size, keep_full=self._config.keep == "full"
            )

    def _estimate(self, chunk: Chunk, frames: Sequence[Frame]) -> Prediction:
        images = np.stack([frame.image for frame in frames])
        original_sizes = [frame.original_size or frame.size for frame in frames]
        with self._times.stage("estimation"):
            known = known_cameras_for(original_sizes, frames[0].size, self._config, self._settled)
            prediction = self._estimator.estimate(
                images, indices=np.array(chunk.frames, dtype=np.int64), known_cameras=known
            )
            check_prediction(prediction, self._estimator.name, len(chunk.frames))
        self._note_execution(chunk.index)
        return prediction

    def _note_execution(self, chunk: int) -> None:
        """Journal it if the estimator has begun to cut its work smaller."""
        plan, estimator = self.plan_of(chunk), self._estimator
        if isinstance(estimator, PlansMemory) and estimator.execution != plan.execution:
            changed = replace(plan, first_chunk=chunk, execution=estimator.execution, warning=None)
            self._run.put_plan(changed)
