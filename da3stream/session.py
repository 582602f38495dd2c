"""One run from its opening to its end: chunk after chunk, then the finishing pass."""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.chunking import Chunker, CoarseWindows, LoadedChunk, LoadedWindow, count_chunks
from da3stream.chunks_ahead import BegunChunk, ChunksAhead
from da3stream.config import Config
from da3stream.disk import DiskBudget
from da3stream.errors import DeviceMemoryError, InputError, NoFramesError, RunCorruptError
from da3stream.estimation import GeometryEstimator
from da3stream.executors import Estimate, Executor
from da3stream.finishing import block_of, formats_of, trajectory_of, write_formats
from da3stream.joining import Joiner
from da3stream.keyframe_memory import KeyframeMemory
from da3stream.loop_search import LoopSearch
from da3stream.making import ChunkMaker
from da3stream.measuring import ResourceMeter, StageTimes, environment
from da3stream.opening import OpenedInput
from da3stream.placed_map import PlacedMap
from da3stream.places import PlaceRecorder
from da3stream.planning import describe
from da3stream.prior_check import PriorWatch
from da3stream.progress import Progress, ProgressCallback, Stage
from da3stream.report import write_report
from da3stream.result import Result, Update, loop_counts, result_of
from da3stream.scene import ChunkSizes, Frame, LoopCandidate, Submap
from da3stream.store import PlanRecord, Run
from da3stream.store.run import REPORT
from da3stream.writers.cloud import confident_cloud
from da3stream.writers.flying_pixels import without_flying_pixels

FEWEST_FINE_CHUNKS = 3
"""With fewer a coarse chunk has nothing to tie together."""
FAILURES_THAT_END_COARSE = 2
"""So many coarse chunks in vain, and none kept: the frames are too far apart in this video."""


class Session:
    """One run from its opening to its end."""

    def __init__(
        self,
        run: Run,
        given: OpenedInput,
        estimator: GeometryEstimator,
        executor: Executor,
        places: PlaceRecorder,
        disk: DiskBudget,
        progress: ProgressCallback,
    ) -> None:
        self._disk = disk
        config, self._given = given.config, given
        self.run, self.source, self.config = run, given.source, config
        self._estimator, self._places, self._progress = estimator, places, progress
        self._times, self._meter = StageTimes(), ResourceMeter(run)
        self._executor = executor
        self._maker = ChunkMaker(
            run, config, estimator, executor, self._times, self._meter, places.device_bytes, given.masks
        )
        self._joiner = Joiner(run, self._maker, self._times)
        self._placed = PlacedMap(run, config.scale_prior)
        self._coarse = CoarseWindows(config.coarse) if config.coarse else None
        self._coarse_verdicts: list[str | None] = []
        self._search: LoopSearch | None = None
        self._memory = KeyframeMemory(run, places, config.memory_keyframes)
        self._due: list[int] = []
        self._told: list[NDArray[np.float64]] = []
        """(M, 4, 4) the cameras that updates have told of, by fine chunk."""
        self._told_scale: list[NDArray[np.float64]] = []
        """(M,) their depth scales when they were new."""
        self._reused = self._has_known_poses = False
        self._said: set[str] = set()

    def chunks(self) -> Iterator[int]:
        """Indices of the fine chunks, each stored, joined and placed, with all that follows from it.

        What an earlier run stored is read, not made. Of a finished run that kept nothing there are none.
        """
        if self.run.is_finished and self.config.keep == "none":
            return
        self._total = self.source.size_hint()
        yield from self._stored() if self.run.is_complete else self._made()

    def _stored(self) -> Iterator[int]:
        """The chunks of a run that had reached the end of its source."""
        self._progress(self._step("start"))
        self._reused = True
        for index in range(len(self.run.chunks)):
            self._placed.add(index)
            if self.run.chunks[index].chunk.new:
                self._say_chunk(index)
                yield index

    def _made(self) -> Iterator[int]:
        """The chunks, from decoded frames; those that are stored are checked against them and read."""
        with self._ahead() as chunks:
            while (begun := self._next(chunks)) is not None:
                self._disk.check(self._joiner.frames)
                if self._joiner.chunks == 0:
                    self._say_plan(self._maker.plan_of(0))
                loaded = begun.window.numbered(self._joiner.chunks)
                self.run.expect(loaded.chunk)
                self._reused = begun.estimate is None
                try:
                    submap = self._submap_of(loaded, begun.estimate)
                except DeviceMemoryError as error:
                    plan = self._maker.shorten(loaded.chunk.new[0], error)
                    self._say(plan.warning)
                    chunks.retry(begun)
                    continue
                self._join(submap)
                self._follow_up()
                self._say_chunk(submap.chunk.index)
                yield submap.chunk.index
        if self._joiner.frames == 0:
            raise NoFramesError("the input gave no frame", hint="Check it with `da3stream info`.")
        self._follow_up_at_the_end()
        warnings = [*getattr(self.source, "warnings", ()), *self._missing_masks()]
        self.run.end_stream(self._joiner.frames, warnings)

    def _missing_masks(self) -> list[str]:
        """How many frames have no mask, in words. InputError if all of them have none."""
        masks = self._given.masks
        if masks is None:
            return []
        names = [name for record in self.run.fine_chunks for name in record.frames.names]
        masks.check_names(names)
        missing = [name for name in names if not masks.has(name)]
        return [f"{len(missing)} of {len(names)} frames have no mask: {missing[0]}, ..."] if missing else []

    def update(self, index: int) -> Update:
        """What a new fine chunk has told."""
        if self._placed.needs_optimisation():
            with self._times.stage("optimisation"):
                self._placed.optimise()
            corrections, factors = self._corrections(since=0)
        else:
            corrections, factors = self._corrections(since=self.run.chunks[index].chunk.window[0])
        block = block_of(self.run, self._placed, index, self.run.typical_confidence)
        self._told.append(block.world_from_cam.copy())
        self._told_scale.append(self._placed.assemble(self.run.chunks[index].chunk.new).depth_scale)
        clean = without_flying_pixels(block, self.config.edge_angle)
        cloud = confident_cloud(clean, self.config.confidence_percentile)
        return Update(
            chunk=index,
            frames=block.index,
            timestamp_s=block.timestamp_s,
            world_from_cam=block.world_from_cam,
            corrections=corrections,
            points_in_world=cloud.points_in_world,
            colors=cloud.colors,
            depth_factors=factors,
            block=clean,
        )

    def last_update(self) -> Update | None:
        """What only the whole tells; None if that is nothing new."""
        if not self._told:
            return None
        self._settle()
        corrections, factors = self._corrections(since=0)
        if not corrections:
            return None
        return Update(
            chunk=self.run.fine_chunks[-1].chunk.index,
            frames=np.zeros(0, dtype=np.int64),
            timestamp_s=np.zeros(0),
            world_from_cam=np.zeros((0, 4, 4)),
            corrections=corrections,
            points_in_world=np.empty((0, 3), dtype=np.float32),
            colors=np.empty((0, 3), dtype=np.uint8),
            depth_factors=factors,
        )

    def finish(self) -> Result:
        """Write the outputs and close the books."""
        if self.run.is_finished:
            return complete_finished(self.run, self.config, self._progress)
        frames = self.run.end_of_stream.frames if self.run.end_of_stream else 0
        names = formats_of(self.run, self.config)
        self._disk.check_outputs(frames, names)
        self._settle()
        with self._times.stage("assembly"):
            trajectory = trajectory_of(self.run, self._placed)
            self.run.put_trajectory(trajectory)
        with self._times.stage("outputs"):
            written = write_formats(
                self.run, self._placed, names, self.config, source=self.source, progress=self._progress
            )
        self.run.write_manifest(
            status="finished",
            formats=list(names),
            frames=len(trajectory),
            chunks=len(self._placed.fine),
            coarse_chunks=sum(record.chunk.scale > 1 for record in self.run.chunks.values()),
            **loop_counts(self.run.loops.values()),
            optimisation=self._placed.summary(),
            measured=self._measured(),
            is_metric=self._placed.is_metric,
            **written.entries(self.run, self._placed),
        )
        result = complete_finished(self.run, self.config, self._progress, self._placed)
        self._progress(Progress(stage="done", frames=len(trajectory), frames_total=len(trajectory)))
        return result

    # Chunks -------------------------------------------------------------------------------------

    def _frames(self) -> Iterator[Frame]:
        """The source's frames, checked."""
        size = None
        for expected, frame in enumerate(self._times.each(self.source, "decoding")):
            size = size or frame.size
            if frame.index != expected or frame.size != size:
                raise InputError(
                    "the source broke its contract",
                    got=f"frame {frame.index} of size {frame.size}",
                    expected=f"frame {expected} of size {size}",
                )
            yield self._posed(frame)

    def _posed(self, frame: Frame) -> Frame:
        """The frame with its known pose. Either all frames have one, or none."""
        frame = self._given.posed(frame)
        if frame.index == 0:
            self._has_known_poses = frame.world_from_cam is not None
        elif self._has_known_poses != (frame.world_from_cam is not None):
            raise InputError(
                "the source broke its contract",
                got=f"frame {frame.index} {'without' if self._has_known_poses else 'with'} a known pose",
                expected="known poses of all frames, or of none",
            )
        return frame

    def _ahead(self) -> ChunksAhead:
        """Chunks are loaded and estimated ahead, unless they are chosen by what became of those before."""
        has_memory = self.config.memory_keyframes > 0
        chunks = Chunker(self._frames(), self._maker.sizes_of, self._recall if has_memory else None)
        priors = self._given.poses if self.config.poses_as == "prior" else None
        begin = partial(self._begin, PriorWatch(priors, self._total))
        ahead = 0 if has_memory else self._executor.capacity + 1
        leave = getattr(self.source, "stop", lambda: None)
        return ChunksAhead(chunks, begin, ahead=ahead, capacity=self._maker.capacity, leave=leave)

    def _begin(self, priors: PriorWatch, window: LoadedWindow) -> BegunChunk:
        """Have a chunk estimated. InputError: its frames show that the prior poses are not theirs."""
        priors.check(window.new)
        return self._maker.begin(window, anew=self._places.needs_estimate)

    def _recall(self, sizes: ChunkSizes, new: Sequence[Frame]) -> tuple[Frame, ...]:
        with self._times.stage("descriptors"):
            return self._memory.recall(sizes, new, self._search)

    def _next(self, chunks: ChunksAhead) -> BegunChunk | None:
        with self._times.stage("waiting for frames"):
            return next(chunks, None)

    def _submap_of(self, loaded: LoadedChunk, estimate: Future[Estimate] | None) -> Submap:
        """The submap of a chunk, stored and described. One that was stored before may lack descriptors."""
        if estimate is None:
            self._describe(loaded, None)
            return self.run.submap(loaded.chunk.index)
        submap, prediction = self._maker.make(loaded, estimate)
        self._describe(loaded, prediction.descriptors)
        return submap

    def _describe(self, loaded: LoadedChunk, predicted: NDArray[np.float32] | None) -> None:
        with self._times.stage("descriptors"):
            self._due = self._places.add(loaded, predicted)

    def _join(self, submap: Submap) -> None:
        index = submap.chunk.index
        self._maker.learn_from(index)
        self._joiner.add(submap)
        self._placed.add(index)

    # What follows from a chunk: coarse chunks and loops -------------------------------------------

    def _follow_up(self) -> None:
        if self._coarse is not None and len(self._placed.fine) >= FEWEST_FINE_CHUNKS:
            self._make_coarse(self._coarse.complete(self._joiner.frames, self._chunk_size))
        self._close_loops(self._due)

    def _follow_up_at_the_end(self) -> None:
        if self._coarse is not None and len(self._placed.fine) >= FEWEST_FINE_CHUNKS:
            self._make_coarse(self._coarse.complete(self._joiner.frames, self._chunk_size))
            self._make_coarse(self._coarse.rest(self._joiner.frames, self._chunk_size))
        with self._times.stage("descriptors"):
            due = self._places.finish()
        self._say(self.run.no_places)
        self._close_loops(due)
        if self._search is not None and self.config.loop:
            self._verify(self._search.finish())

    def _make_coarse(self, windows: Iterable[tuple[int, ...]]) -> None:
        assert self._coarse is not None
        for frames in windows:
            if self._coarse_is_off():
                return
            reason = self._joiner.coarse(frames, self._coarse.stride)
            self._adopt_bridge()
            self._coarse_verdicts.append(reason)
            if reason is not None and self._coarse_is_off():
                self._say(f"no more coarse chunks: {reason}")

    def _coarse_is_off(self) -> bool:
        """Whether the first coarse chunks were all in vain."""
        failed = len(self._coarse_verdicts) - self._coarse_verdicts.count(None)
        return failed == len(self._coarse_verdicts) >= FAILURES_THAT_END_COARSE

    def _close_loops(self, described: list[int]) -> None:
        """Search with the descriptors of these chunks, and verify what is found."""
        if not (self.config.loop or self.config.memory_keyframes) or not described:
            return
        if self._has_known_poses:  # nothing has drifted
            return
        if self._search is None:
            sizes = self._maker.plan_of(self.run.chunks[described[0]].chunk.new[0]).sizes
            self._search = LoopSearch(self.run.descriptors_of, sizes, self.config.loop_budget)
        with self._times.stage("search"):
            for index in described:
                vectors = self.run.descriptors(index)
                assert vectors is not None, "the recorder has stored them"
                frames = np.array(self.run.chunks[index].chunk.new, dtype=np.int64)
                self._search.add(frames, vectors, self._placed.chain_centres_of(index))
            candidates = self._search.decide(len(described)) if self.config.loop else ()
        self._verify(candidates)

    def _verify(self, candidates: Sequence[LoopCandidate]) -> None:
        for number, candidate in enumerate(candidates):
            for begun in candidates[number : number + 2]:  # the next is estimated while this one is verified
                self._joiner.begin_loop(begun, self._chunk_size)
            closure = self._joiner.loop(candidate, self._chunk_size, self._placed.chain_scale)
            self._adopt_bridge()
            verdict = "closed" if closure.is_accepted else f"rejected, {closure.reason}"
            self._say(f"loop between frames {candidate.earlier} and {candidate.later}: {verdict}")

    def _adopt_bridge(self) -> None:
        """Place the chunk that was just made, if one was kept."""
        if self._joiner.chunks > len(self._placed):
            self._placed.add(self._joiner.chunks - 1)

    @property
    def _chunk_size(self) -> int:
        return self._maker.plan_of(self._joiner.frames - 1).sizes.size

    # The whole ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Place everything for good. Doing it again changes nothing."""
        with self._times.stage("optimisation"):
            self._placed.settle()

    def _corrections(self, since: int) -> tuple[dict[int, NDArray[np.float64]], dict[int, float]]:
        """The cameras from a frame on that were told before and lie elsewhere now, by frame; and by how much
        their depth has grown since they were new."""
        owners = [self.run.chunks[index].chunk for index in self._placed.fine[: len(self._told)]]
        first = bisect.bisect_left(owners, since, key=lambda chunk: chunk.new[-1])
        corrections, factors = {}, {}
        for chunk, told, scale in zip(
            owners[first:], self._told[first:], self._told_scale[first:], strict=True
        ):
            assembled = self._placed.assemble(chunk.new)
            cameras = assembled.world_from_cam
            for row in np.flatnonzero((cameras != told).any(axis=(1, 2))):
                corrections[chunk.new[row]] = told[row] = cameras[row]
                factors[chunk.new[row]] = float(assembled.depth_scale[row] / scale[row])
        return corrections, factors

    def _measured(self) -> dict[str, Any]:
        """What is not the same in another run of the same input."""
        return {
            **self._times.summary(),
            "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "end": asdict(self._meter.exact_sample()),
            "environment": environment(),
        }

    # Words --------------------------------------------------------------------------------------

    def _say(self, message: str | None) -> None:
        if message is not None:
            self._progress(Progress(stage="estimation", message=message))

    def _say_chunk(self, index: int) -> None:
        record = self.run.chunks[index]
        number = len(self._placed.fine)
        self._progress(
            self._step("estimation", chunk=number, frames=record.chunk.new[-1] + 1, reused=self._reused)
        )
        for warning in record.warnings:
            if warning not in self._said:
                self._said.add(warning)
                self._say(f"chunk {index}: {warning}")

    def _say_plan(self, plan: PlanRecord) -> None:
        """What is about to happen, in a line."""
        total = self._total
        disk = (
            "" if total is None else f", up to about {self._disk.planned_bytes(total) / 1e6:.0f} MB on disk"
        )
        line = f"model {self._estimator.name}, {describe(plan)}{disk}"
        self._progress(Progress(stage="start", message=line))
        if plan.warning is not None:
            self._progress(Progress(stage="start", message=plan.warning))
        self._progress(self._step("start"))

    def _step(self, stage: Stage, **done: Any) -> Progress:
        plan = self.run.plan_for(self._joiner.frames)
        chunks = None if self._total is None or plan is None else count_chunks(self._total, plan.sizes)
        return Progress(stage=stage, frames_total=self._total, chunks=chunks, **done)


def complete_finished(
    run: Run, config: Config, progress: ProgressCallback, placed: PlacedMap | None = None
) -> Result:
    """The result of a run whose outputs are written, and what comes after them: its report, and the removal
    of what is not to be kept. `placed`: its map, if it was just made; the report is made anew then.
    """
    if placed is not None or not run.files.exists(REPORT):
        try:
            write_report(run, placed)
        except RunCorruptError as error:  # the results are there, and what is damaged is not needed for them
            progress(Progress(stage="done", message=f"there is no report: {error}"))
    if config.keep == "none":
        run.drop_intermediate()
    return result_of(run)
