"""One run from its opening to its end: chunk after chunk, then the finishing pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.alignment import align_submaps
from da3stream.chunking import Chunker, LoadedChunk, count_chunks
from da3stream.config import Config
from da3stream.errors import DeviceMemoryError, InputError, NoFramesError
from da3stream.estimation import GeometryEstimator
from da3stream.estimation.base import PlansMemory
from da3stream.estimation.contract import check_prediction, known_cameras_for
from da3stream.finishing import PlacedMap, block_of, trajectory_of, write_outputs
from da3stream.measuring import StageTimes
from da3stream.places import PlaceRecorder
from da3stream.planning import describe, first_plan, shorter_plan
from da3stream.progress import Progress, ProgressCallback, Stage
from da3stream.result import Result, Update, result_of, warnings_of
from da3stream.scene import ChunkSizes, Frame, Submap
from da3stream.source.base import FrameSource
from da3stream.store import PlanRecord, Run
from da3stream.writers import export_names
from da3stream.writers.cloud import confident_cloud

DISK_BYTES_PER_FRAME = 140_000
"""What intermediate files take at 504x280; in proportion to the pixels at other sizes."""


class Session:
    """One run from its opening to its end."""

    def __init__(
        self,
        run: Run,
        source: FrameSource,
        config: Config,
        estimator: GeometryEstimator,
        places: PlaceRecorder,
        progress: ProgressCallback,
    ) -> None:
        self.run, self.source, self.config = run, source, config
        self._estimator, self._places, self._progress = estimator, places, progress
        self._times = StageTimes()
        self._placed = PlacedMap(run)
        self._settled: NDArray[np.float64] | None = None
        self._reused = False
        self._said: set[str] = set()

    def chunks(self) -> Iterator[Submap]:
        """Submap after submap, stored, aligned and placed; what an earlier run stored is read, not made.

        Of a finished run that kept nothing there are none.
        """
        if self.run.is_finished and self.config.keep == "none":
            return
        self._total = self.source.size_hint()
        previous: Submap | None = None
        for submap in self._stored() if self.run.is_complete else self._made():
            if previous is not None:
                self._align(previous, submap)
            self._placed.add(submap.chunk.index)
            if self._settled is None:
                self._settled = self.run.chunks[submap.chunk.index].settled_intrinsics
            self._say_chunk(submap.chunk.index)
            previous = submap
            yield submap

    def _stored(self) -> Iterator[Submap]:
        """The submaps of a run that had reached the end of its source."""
        self._progress(self._step("start"))
        for index in range(len(self.run.chunks)):
            self._reused = True
            yield self.run.submap(index)

    def _made(self) -> Iterator[Submap]:
        """The submaps, from decoded frames; those that are stored are checked against them and read."""
        chunks = Chunker(self._frames(), self._sizes_of)
        frames = 0
        while (loaded := self._next(chunks)) is not None:
            self._reused = self._is_made(loaded)
            try:
                submap = self._reuse(loaded) if self._reused else self._estimate(loaded)
            except DeviceMemoryError as error:
                self._shorten(loaded.chunk.index, error)
                chunks.give_back(loaded)
                continue
            yield submap
            frames += len(loaded.chunk.new)
        if frames == 0:
            raise NoFramesError("the input gave no frame", hint="Check it with `da3stream info`.")
        self._finish_places()
        self.run.end_stream(frames, getattr(self.source, "warnings", ()))

    def update(self, submap: Submap) -> Update:
        """What the newest chunk has told."""
        chunk = submap.chunk
        block = block_of(self.run, self._placed, chunk.index, self.run.typical_confidence)
        corrected = self._placed.assemble(chunk.context).world_from_cam if chunk.context else ()
        cloud = confident_cloud(block, self.config.confidence_percentile)
        return Update(
            chunk=chunk.index,
            frames=block.index,
            timestamp_s=block.timestamp_s,
            world_from_cam=block.world_from_cam,
            corrections=dict(zip(chunk.context, corrected, strict=True)),
            points_in_world=cloud.points_in_world,
            colors=cloud.colors,
        )

    def last_update(self) -> Update | None:
        """What only the whole tells; None if that is nothing new."""
        if not self._placed.submaps or not self._placed.settle_scale():
            return None
        everything = trajectory_of(self.run, self._placed)
        none = slice(0, 0)
        return Update(
            chunk=len(self.run.chunks) - 1,
            frames=everything.index[none],
            timestamp_s=everything.timestamp_s[none],
            world_from_cam=everything.world_from_cam[none],
            corrections=dict(zip(everything.index.tolist(), everything.world_from_cam, strict=True)),
            points_in_world=np.empty((0, 3), dtype=np.float32),
            colors=np.empty((0, 3), dtype=np.uint8),
        )

    def finish(self) -> Result:
        """Write the outputs and close the books."""
        if self.run.is_finished:
            self._keep_what_was_asked_for()
            return result_of(self.run)
        with self._times.stage("assembly"):
            self._placed.settle_scale()
            trajectory = trajectory_of(self.run, self._placed)
            self.run.put_trajectory(trajectory)
        with self._times.stage("outputs"):
            names = export_names(self.config)
            write_outputs(
                self.run, self._placed, names, self.config, source=self.source, progress=self._progress
            )
        self.run.write_manifest(
            status="finished",
            frames=len(trajectory),
            chunks=len(self.run.chunks),
            measured=self._times.summary(),
            is_metric=self._placed.is_metric,
            warnings=warnings_of(self.run),
        )
        self._keep_what_was_asked_for()
        self._progress(Progress(stage="done", frames=len(trajectory), frames_total=len(trajectory)))
        return result_of(self.run)

    def _keep_what_was_asked_for(self) -> None:
        if self.config.keep == "none":
            self.run.drop_intermediate()

    def _frames(self) -> Iterator[Frame]:
        """The source's frames, checked."""
        size = None
        for expected, frame in enumerate(self.source):
            size = size or frame.size
            if frame.index != expected or frame.size != size:
                raise InputError(
                    "the source broke its contract",
                    got=f"frame {frame.index} of size {frame.size}",
                    expected=f"frame {expected} of size {size}",
                )
            yield frame

    def _sizes_of(self, chunk: int, frame: Frame) -> ChunkSizes:
        """How long a chunk is: as journaled, or as planned now that the first frame is here."""
        plan = self.run.plan_for(chunk)
        if plan is None:
            plan = first_plan(self._estimator, self.config, frame.size)
            self.run.put_plan(plan)
        if chunk == 0:
            self._say_plan(plan)
        if plan.execution is not None and isinstance(self._estimator, PlansMemory):
            self._estimator.execution = plan.execution
        return plan.sizes

    def _shorten(self, chunk: int, error: DeviceMemoryError) -> None:
        """Go on with chunks of half the size."""
        plan = shorter_plan(self._plan_of(chunk), chunk, self.config, error)
        self.run.put_plan(plan)
        self._progress(Progress(stage="estimation", message=plan.warning))

    def _plan_of(self, chunk: int) -> PlanRecord:
        plan = self.run.plan_for(chunk)
        assert plan is not None, "chunks are made by a plan"
        return plan

    def _note_execution(self, chunk: int) -> None:
        """Journal it if the estimator has begun to cut its work smaller."""
        plan, estimator = self._plan_of(chunk), self._estimator
        if isinstance(estimator, PlansMemory) and estimator.execution != plan.execution:
            changed = replace(plan, first_chunk=chunk, execution=estimator.execution, warning=None)
            self.run.put_plan(changed)

    def _next(self, chunks: Iterator[LoadedChunk]) -> LoadedChunk | None:
        with self._times.stage("decoding"):
            return next(chunks, None)

    def _estimate(self, loaded: LoadedChunk) -> Submap:
        images = np.stack([frame.image for frame in loaded.frames])
        indices = np.array(loaded.chunk.frames, dtype=np.int64)
        with self._times.stage("estimation"):
            known = known_cameras_for(loaded.frames, self.config, self._settled)
            prediction = self._estimator.estimate(images, indices=indices, known_cameras=known)
            check_prediction(prediction, self._estimator.name, len(indices))
        self._note_execution(loaded.chunk.index)
        with self._times.stage("store"):
            keep_full = self.config.keep == "full"
            submap = self.run.put_chunk(loaded.chunk, loaded.new_frames, prediction, keep_full=keep_full)
        self._describe(loaded, prediction.descriptors)
        return submap

    def _is_made(self, loaded: LoadedChunk) -> bool:
        """Whether an earlier run has stored this chunk, with all that only an estimate can tell."""
        stored = self.run.has_chunk(loaded.chunk, loaded.new_frames)
        return stored and not self._places.needs_estimate(loaded.chunk.index)

    def _reuse(self, loaded: LoadedChunk) -> Submap:
        """A stored chunk; the descriptors of its frames may be missing."""
        self._describe(loaded, None)
        return self.run.submap(loaded.chunk.index)

    def _describe(self, loaded: LoadedChunk, predicted: NDArray[np.float32] | None) -> None:
        with self._times.stage("descriptors"):
            self._places.add(loaded, predicted)

    def _finish_places(self) -> None:
        with self._times.stage("descriptors"):
            warning = self._places.finish()
        if warning is not None:
            self._progress(Progress(stage="estimation", message=warning))

    def _align(self, previous: Submap, submap: Submap) -> None:
        if previous.chunk.index not in self.run.edges.get(submap.chunk.index, {}):
            with self._times.stage("alignment"):
                self.run.put_edge(align_submaps(previous, submap))

    def _say_chunk(self, index: int) -> None:
        record = self.run.chunks[index]
        self._progress(
            self._step("estimation", chunk=index + 1, frames=record.chunk.new[-1] + 1, reused=self._reused)
        )
        for warning in record.warnings:
            if warning not in self._said:
                self._said.add(warning)
                self._progress(Progress(stage="estimation", message=f"chunk {index}: {warning}"))

    def _say_plan(self, plan: PlanRecord) -> None:
        """What is about to happen, in a line."""
        bytes_per_frame = DISK_BYTES_PER_FRAME * (self.config.resolution / 504) ** 2
        disk = "" if self._total is None else f", about {self._total * bytes_per_frame / 1e6:.0f} MB on disk"
        line = f"model {self._estimator.name}, {describe(plan)}{disk}"
        self._progress(Progress(stage="start", message=line))
        if plan.warning is not None:
            self._progress(Progress(stage="start", message=plan.warning))
        self._progress(self._step("start"))

    def _step(self, stage: Stage, **done: Any) -> Progress:
        plan = self.run.plan_for(len(self.run.chunks))
        chunks = None if self._total is None or plan is None else count_chunks(self._total, plan.sizes)
        return Progress(stage=stage, frames_total=self._total, chunks=chunks, **done)
