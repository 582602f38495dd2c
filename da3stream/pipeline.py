"""Calls the stages in order: source, chunking, estimation, alignment, then the finishing pass. No arithmetic here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream import __version__
from da3stream.alignment import align_submaps
from da3stream.chunking import LoadedChunk, chunk_frames, count_chunks
from da3stream.config import Config, load_config
from da3stream.errors import InputError, NoFramesError, RunIncompleteError, RunMismatchError
from da3stream.estimation import AUTO_NOTICE, GeometryEstimator, create_estimator, resolve_model
from da3stream.estimation.contract import check_prediction, describe_frames, known_cameras_for
from da3stream.finishing import PlacedMap, block_of, trajectory_of, write_outputs
from da3stream.measuring import StageTimes
from da3stream.place.base import PlaceDescriptor
from da3stream.progress import Progress, ProgressCallback, Stage, ignore_progress
from da3stream.scene import Frame, Submap, Trajectory
from da3stream.source import open_source
from da3stream.source.base import FrameSource, HasOriginals
from da3stream.store import Run, RunRequest, open_existing, open_run
from da3stream.writers import export_names
from da3stream.writers.cloud import PointCloud, confident_pixels, frame_cloud


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Result:
    """A finished run."""

    trajectory: Trajectory
    output: Path
    """The run directory."""
    warnings: tuple[str, ...]
    """What went wrong on the way without ending the run; also in run.json."""
    measured: Mapping[str, Any]
    """Seconds by stage and peak memory of the process that finished the run."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Update:
    """What one more chunk has told. Applying all updates in order gives the final trajectory."""

    chunk: int
    """Index of the chunk."""
    frames: NDArray[np.int64]
    """(M,) indices of the frames that are new."""
    timestamp_s: NDArray[np.float64]
    """(M,) seconds."""
    world_from_cam: NDArray[np.float64]
    """(M, 4, 4) their cameras."""
    corrections: Mapping[int, NDArray[np.float64]]
    """Frame index -> (4, 4) world_from_cam that replaces what an earlier update said."""
    points_in_world: NDArray[np.float32]
    """(K, 3) confident points that the new frames see."""
    colors: NDArray[np.uint8]
    """(K, 3) RGB of the points."""


def reconstruct(
    source: str | Path | FrameSource,
    output: str | Path,
    *,
    config: Config | None = None,
    estimator: GeometryEstimator | None = None,
    descriptor: PlaceDescriptor | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Result:
    """Reconstruct a video, a folder of images or any `FrameSource` into a run directory.

    Args:
        source: path of a video or folder, or a source of frames, which are then taken as they are.
        output: the run directory; made if missing.
        config: options; default: `load_config()`.
        estimator: default: the one that `config.model` names.
        descriptor: place descriptor whose vectors are stored with the run; default: none.
        resume: continue an interrupted run; the result is the same as without the interruption.
        overwrite: remove an older run in `output` first.
        progress: called with a `Progress` after every step.

    Raises:
        Da3StreamError: any of `da3stream.errors`; what was stored until then can be resumed.
    """
    with _opened(source, output, config, estimator, descriptor, resume, overwrite, progress) as session:
        for _ in session.chunks():
            pass
        return session.finish()


def stream(
    source: str | Path | FrameSource,
    output: str | Path,
    *,
    config: Config | None = None,
    estimator: GeometryEstimator | None = None,
    descriptor: PlaceDescriptor | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Iterator[Update]:
    """Like `reconstruct`, but yields what is known after each chunk; the outputs are written after the last one.

    The first update comes as soon as one chunk of frames was read and estimated. Stopping early leaves a run that can
    be resumed.
    """
    with _opened(source, output, config, estimator, descriptor, resume, overwrite, progress) as session:
        for submap in session.chunks():
            yield session.update(submap)
        session.finish()


def export(
    run_directory: str | Path, names: tuple[str, ...], *, progress: ProgressCallback | None = None
) -> Path:
    """Write formats of a finished run again, or others than it was made with, without inference.

    Raises:
        StoreError: there is no finished run, or what the format needs was not kept.
    """
    run = open_existing(Path(run_directory))
    try:
        if not run.is_finished:
            raise RunIncompleteError(f"the run {run.root} has not finished", hint="Finish it: da3stream resume RUN.")
        config = load_config(None, run.manifest["config"])
        if config.keep == "none":
            raise RunIncompleteError(
                f"the run {run.root} was made with --keep none", hint="Run again with --keep reduced to export later."
            )
        source = _reopen(run, config)
        _write(run, PlacedMap.of(run), run.trajectory(), names, config, source, progress or ignore_progress)
        return run.root
    finally:
        run.close()


class _Session:
    """One run from its opening to its end."""

    def __init__(
        self,
        run: Run,
        source: FrameSource,
        config: Config,
        estimator: GeometryEstimator,
        descriptor: PlaceDescriptor | None,
        progress: ProgressCallback,
    ) -> None:
        self.run, self.source, self.config = run, source, config
        self._estimator, self._descriptor, self._progress = estimator, descriptor, progress
        self._times = StageTimes()
        self._placed = PlacedMap(run)
        self._settled: NDArray[np.float64] | None = None
        self._reused = False

    def chunks(self) -> Iterator[Submap]:
        """Submap after submap, stored, aligned and placed; what an earlier run has stored is read instead of made."""
        self._say_start()
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
        for index in range(len(self.run.chunks)):
            self._reused = True
            yield self.run.submap(index)

    def _made(self) -> Iterator[Submap]:
        """The submaps, from decoded frames; those that are stored are checked against them and read."""
        chunks = chunk_frames(self._frames(), self.config)
        frames = 0
        while (loaded := self._next(chunks)) is not None:
            self._reused = self.run.has_chunk(loaded.chunk, loaded.new_frames)
            yield self.run.submap(loaded.chunk.index) if self._reused else self._estimate(loaded)
            frames += len(loaded.chunk.new)
        if frames == 0:
            raise NoFramesError("the input gave no frame", hint="Check it with `da3stream info`.")
        self.run.end_stream(frames, getattr(self.source, "warnings", ()))

    def update(self, submap: Submap) -> Update:
        """What the newest chunk has told."""
        chunk = submap.chunk
        block = block_of(self.run, self._placed, chunk.index)
        corrected = self._placed.assemble(chunk.context).world_from_cam if chunk.context else ()
        pixels = confident_pixels(block, self.config.confidence_percentile)
        cloud = PointCloud.concatenate([frame_cloud(block, row, own) for row, own in enumerate(pixels)])
        return Update(
            chunk=chunk.index, frames=block.index, timestamp_s=block.timestamp_s, world_from_cam=block.world_from_cam,
            corrections=dict(zip(chunk.context, corrected, strict=True)),
            points_in_world=cloud.points_in_world, colors=cloud.colors,
        )

    def finish(self) -> Result:
        """Write the outputs and close the books."""
        if self.run.is_finished:
            return _result_of(self.run)
        with self._times.stage("assembly"):
            trajectory = trajectory_of(self.run, self._placed)
            self.run.put_trajectory(trajectory)
        with self._times.stage("outputs"):
            _write(
                self.run, self._placed, trajectory, export_names(self.config), self.config, self.source, self._progress
            )
        self.run.write_manifest(
            status="finished", frames=len(trajectory), chunks=len(self.run.chunks), measured=self._times.summary(),
            is_metric=self.run.chunks[0].is_metric, warnings=warnings_of(self.run),
        )
        if self.config.keep == "none":
            self.run.drop_intermediate()
        self._progress(Progress(stage="done", frames=len(trajectory), frames_total=len(trajectory)))
        return _result_of(self.run)

    def _frames(self) -> Iterator[Frame]:
        """The source's frames, checked."""
        size = None
        for expected, frame in enumerate(self.source):
            size = size or frame.size
            if frame.index != expected or frame.size != size:
                raise InputError(
                    "the source broke its contract", got=f"frame {frame.index} of size {frame.size}",
                    expected=f"frame {expected} of size {size}",
                )
            yield frame

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
        own = slice(len(loaded.chunk.context), None)
        with self._times.stage("descriptors"):
            descriptors = describe_frames(self._descriptor, images[own], indices[own])
        with self._times.stage("store"):
            return self.run.put_chunk(
                loaded.chunk, loaded.new_frames, prediction,
                keep_full=self.config.keep == "full", descriptors=descriptors,
            )

    def _align(self, previous: Submap, submap: Submap) -> None:
        if previous.chunk.index not in self.run.edges.get(submap.chunk.index, {}):
            with self._times.stage("alignment"):
                self.run.put_edge(align_submaps(previous, submap))

    def _say_start(self) -> None:
        self._total = self.source.size_hint()
        if self.config.model == "auto" and self._estimator.name == "classical":
            self._progress(Progress(stage="start", message=AUTO_NOTICE))
        self._progress(self._step("start"))

    def _say_chunk(self, index: int) -> None:
        record = self.run.chunks[index]
        self._progress(self._step("estimation", chunk=index + 1, frames=record.chunk.new[-1] + 1, reused=self._reused))
        for warning in record.warnings:
            self._progress(Progress(stage="estimation", message=f"chunk {index}: {warning}"))

    def _step(self, stage: Stage, **done: Any) -> Progress:
        chunks = None if self._total is None else count_chunks(self._total, self.config)
        return Progress(stage=stage, frames_total=self._total, chunks=chunks, **done)


@contextmanager
def _opened(
    source: str | Path | FrameSource,
    output: str | Path,
    config: Config | None,
    estimator: GeometryEstimator | None,
    descriptor: PlaceDescriptor | None,
    resume: bool,
    overwrite: bool,
    progress: ProgressCallback | None,
) -> Iterator[_Session]:
    """A session whose run is locked, and whose estimator is closed if it was made here."""
    config = config or load_config()
    opened = open_source(Path(source), config) if isinstance(source, str | Path) else source
    request = RunRequest(
        config=config.model_dump(mode="json"), source=opened.identity(),
        input=str(source) if isinstance(source, str | Path) else None,
        model=resolve_model(config) if estimator is None else estimator.name,
        timestamps_are_synthetic=getattr(opened, "timestamps_are_synthetic", False),
    )
    run = open_run(Path(output), request, version=__version__, resume=resume, overwrite=overwrite)
    try:
        worker = create_estimator(request.model) if estimator is None else estimator
        try:
            yield _Session(run, opened, config, worker, descriptor, progress or ignore_progress)
        finally:
            if estimator is None:
                getattr(worker, "close", lambda: None)()
    finally:
        run.close()


def _write(
    run: Run,
    placed: PlacedMap,
    trajectory: Trajectory,
    names: tuple[str, ...],
    config: Config,
    source: FrameSource | None,
    progress: ProgressCallback,
) -> None:
    originals = source if isinstance(source, HasOriginals) else None
    write_outputs(run, placed, trajectory, names, config, originals=originals, progress=progress)


def _result_of(run: Run) -> Result:
    """What a finished run directory says."""
    manifest = run.manifest
    return Result(
        trajectory=run.trajectory(), output=run.root, warnings=tuple(manifest["warnings"]), measured=manifest["measured"]
    )


def _reopen(run: Run, config: Config) -> FrameSource | None:
    """The input of a finished run; None if it was a source object."""
    if run.manifest["input"] is None:
        return None
    source = open_source(Path(run.manifest["input"]), config)
    if source.identity() != run.manifest["source"]:
        raise RunMismatchError(f"{run.manifest['input']} is not the input that the run {run.root} was made of any more")
    return source


def warnings_of(run: Run) -> list[str]:
    """Everything that went wrong on the way: in the source, in chunks, between them."""
    said = list(run.end_of_stream.warnings) if run.end_of_stream else []
    for index in range(len(run.chunks)):
        record = run.chunks[index]
        said += [f"chunk {index}: {warning}" for warning in record.warnings]
    for later, edges in sorted(run.edges.items()):
        for earlier, edge in sorted(edges.items()):
            if edge.evidence["method"] == "poses":
                said.append(f"chunks {earlier} and {later} have too little depth in common; joined by camera poses alone")
    return said
