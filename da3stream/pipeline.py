"""The public functions: they open a run, let a session do it, and close it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from da3stream import __version__
from da3stream.config import Config, load_config
from da3stream.config.model import ModelName
from da3stream.disk import DiskBudget
from da3stream.errors import InputError, RunIncompleteError, RunMismatchError
from da3stream.estimation import (
    EstimatorOnDemand,
    GaussianOptions,
    GeometryEstimator,
    estimator_on_demand,
    no_gaussians,
    resolve_model,
)
from da3stream.estimation.da3.device import choose_device, runs_on_gpu
from da3stream.executors import LocalExecutor, ModelRecipe, RayExecutor
from da3stream.executors.remote import RemoteEstimator
from da3stream.finishing import formats_of, trajectory_of, write_outputs
from da3stream.opening import open_frames, open_input
from da3stream.place.base import PlaceDescriptor
from da3stream.place.choice import resolve_place
from da3stream.place.describing import no_backbone
from da3stream.placed_map import PlacedMap
from da3stream.places import PlaceRecorder
from da3stream.progress import Progress, ProgressCallback, ignore_progress
from da3stream.recording import Recording
from da3stream.report import write_report
from da3stream.result import Result, Update
from da3stream.scene import WorldAlignment
from da3stream.scene.world_alignment import UpMethod
from da3stream.session import Session
from da3stream.source.base import CapturesOnce, FrameSource
from da3stream.store import Run, RunRequest, open_existing, open_run, read_manifest
from da3stream.store.opening import check_usable
from da3stream.world_frame import AlignmentRequest, KnownDistance, choose_alignment
from da3stream.writers import check_installed, export_names


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
        source: path of a video or folder, URL, webcam (`0`, `/dev/video0`), `-` for a container on standard
            input, or a source of frames, which are then taken as they are.
        output: the run directory; made if missing.
        config: options; default: `load_config()`.
        estimator: default: the one that `config.model` names.
        descriptor: place descriptor; default: the one that `config.place` names.
        resume: continue an interrupted run; the result is the same as without the interruption.
        overwrite: remove an older run in `output` first.
        progress: called with a `Progress` after every step.

    Raises:
        Da3StreamError: any of `da3stream.errors`; what was stored until then can be resumed.
    """
    with _opened(source, output, config, estimator, descriptor, resume, overwrite, progress) as session:
        if not session.run.is_finished:
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
    """Like `reconstruct`, but yields what is known after each chunk; the outputs are written in the end.

    The first update comes as soon as one chunk of frames was read and estimated. The last one may hold
    corrections only: of a metric estimate, the unit is settled when all chunks are there. Stopping early
    leaves a run that can be resumed.
    """
    with _opened(source, output, config, estimator, descriptor, resume, overwrite, progress) as session:
        for index in session.chunks():
            yield session.update(index)
        if (update := session.last_update()) is not None:
            yield update
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
        config = _config_of_finished(run)
        source = _source_for(run, config, names)
        watching = progress or ignore_progress
        placed = PlacedMap.of(run, config.scale_prior)
        written = write_outputs(run, placed, names, config, source=source, progress=watching)
        formats = dict.fromkeys((*formats_of(run, config), *names))
        figures = {**run.manifest.get("outputs", {}), **written.figures}
        run.write_manifest(status="finished", formats=list(formats), outputs=figures)
        write_report(run, placed)
        return run.root
    finally:
        run.close()


def align(
    run_directory: str | Path,
    *,
    up: UpMethod | None = None,
    scale: float | None = None,
    known_distance: KnownDistance | None = None,
    reset: bool = False,
    progress: ProgressCallback | None = None,
) -> WorldAlignment | None:
    """Choose the world frame and unit of a finished run by hand, and write all its outputs in it.

    All is relative to the frame and unit that the run came out in, so that doing it twice does it once. What
    is not said stays as an earlier `align` has chosen it. If it is killed, `da3stream resume` finishes it.

    Args:
        run_directory: a finished run.
        up: turn the world upright, y down: by the `gravity` that the cameras' mean up vector shows, or by the
            `plane` of the ground.
        scale: metres in a unit that the run came out in.
        known_distance: a distance of which the metres are known; excludes `scale`.
        reset: go back to the frame and unit that the run came out in, before anything else that is said.
        progress: called with a `Progress` after every step.

    Returns:
        What the run is aligned by now; None if by nothing.

    Raises:
        ConfigError: nothing is asked for, or what is asked for cannot be.
        StoreError: there is no finished run, or its depth was not kept.
    """
    request = AlignmentRequest(up=up, scale=scale, known_distance=known_distance, reset=reset)
    run = open_existing(Path(run_directory))
    try:
        config = _config_of_finished(run)
        names = formats_of(run, config)
        source = _source_for(run, config, names)
        placed = PlacedMap.of(run, config.scale_prior, is_aligned=False)
        alignment = choose_alignment(run, placed, request)
        run.put_alignment(alignment)
        if alignment is not None:
            placed.align(alignment)
        run.put_trajectory(trajectory_of(run, placed))
        watching = progress or ignore_progress
        written = write_outputs(run, placed, names, config, source=source, progress=watching)
        run.write_manifest(
            status="finished", formats=list(names), outputs=written.figures, is_metric=placed.is_metric
        )
        write_report(run, placed)
        return alignment
    finally:
        run.close()


def _source_for(run: Run, config: Config, names: tuple[str, ...]) -> FrameSource | None:
    """The input of a finished run, now that these formats can be written: nothing is missing for them."""
    check_installed(names)
    DiskBudget(run.root, config).check_export(len(run.trajectory()), names)
    return _reopen(run, config)


def _config_of_finished(run: Run) -> Config:
    """The options of a run that has finished and keeps what its outputs are made of."""
    if not run.is_finished:
        raise RunIncompleteError(
            f"the run {run.root} has not finished", hint="Finish it: da3stream resume RUN."
        )
    config = load_config(None, run.manifest["config"])
    if config.keep == "none":
        raise RunIncompleteError(
            f"the run {run.root} was made with --keep none",
            hint="Run again with --keep reduced to export later.",
        )
    return config


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
) -> Iterator[Session]:
    """A session whose run is locked, and whose estimator is closed if it was made here."""
    config = config or load_config()
    check_installed(export_names(config))
    given = open_input(source, config)
    config, opened, watching = given.config, given.source, progress or ignore_progress
    if config.distortion is not None:
        watching(Progress(stage="start", message=f"images are undistorted ({config.distortion})"))
    begun = check_usable(Path(output), resume=resume, overwrite=overwrite) and resume
    disk = DiskBudget(Path(output), config)
    if not begun:
        disk.plan(opened.size_hint())
    if (
        estimator is not None
        and _gaussians_of(config)
        and not getattr(estimator, "predicts_gaussians", False)
    ):
        raise no_gaussians(estimator.name)
    on_cluster: RayExecutor | None = None
    own: EstimatorOnDemand | RemoteEstimator | None = None
    made: EstimatorOnDemand | RayExecutor | None = None
    if config.executor == "ray":
        made = on_cluster = _ray_executor(Path(output), begun, config, estimator, watching)
        own = on_cluster.estimator if estimator is None else None
        estimator = on_cluster.estimator
    elif estimator is None:
        estimator = own = made = _own_estimator(Path(output), begun, config, watching)
    try:
        place, load = _place_descriptor(Path(output), begun, config, descriptor, watching)
        own_place = load if descriptor is None else None
        if own and place == "backbone" and own.name.partition("+")[0] == "classical":
            raise no_backbone(own.name)
        request = RunRequest(
            config=config.model_dump(mode="json"),
            source=opened.identity(),
            input=_name_of(source, opened),
            model=estimator.name,
            place=place,
            weights=own.weights if own and not begun else None,
            place_weights=_place_weights(own_place) if own_place and not begun else None,
            timestamps_are_synthetic=getattr(opened, "timestamps_are_synthetic", False),
            poses=None if given.poses is None else given.poses.identity(),
            poses_in_metres=given.poses_in_metres,
            masks=None if given.masks is None else given.masks.identity(),
        )
        run = open_run(Path(output), request, version=__version__, resume=resume, overwrite=overwrite)
        try:
            for path in run.changed_outputs if run.is_finished else ():
                line = f"{path} is not as it was written; `da3stream export` writes it again"
                watching(Progress(stage="start", message=line))
            if own and not run.is_finished:
                _check_weights(run, "weights", own.name, own.weights)
            if own_place and not run.is_finished:
                _check_weights(run, "place_weights", place, _place_weights(own_place))
            places = PlaceRecorder(run, estimator.name, load)
            if isinstance(opened, CapturesOnce):
                given = replace(given, source=Recording(run, opened, config, watching))
            with on_cluster or LocalExecutor(estimator) as executor:
                yield Session(run, given, estimator, executor, places, disk, watching)
            if run.is_finished:
                run.recording.drop_files()
        except InputError:
            run.remove_if_blank()
            raise
        finally:
            run.close()
    finally:
        if made:
            made.close()


def _name_of(source: str | Path | FrameSource, opened: FrameSource) -> str | None:
    """What opens the input again: a live one's address, or a path; None for a source object."""
    if isinstance(opened, CapturesOnce):
        return getattr(opened, "input", None)
    return str(Path(source).expanduser().resolve()) if isinstance(source, str | Path) else None


def _own_estimator(
    output: Path, begun: bool, config: Config, progress: ProgressCallback
) -> EstimatorOnDemand:
    """The estimator that the configuration names; for a run that was begun, the one it was begun with.

    For a new run it is made at once: what is missing is said before there is a run directory. One that
    was begun may be of other settings, which is said before a network is loaded, or finished.
    """
    notify = _start_notice(progress)
    if not begun:
        worker = estimator_on_demand(resolve_model(config, notify), config, notify, _gaussians_of(config))
        worker.prepare()
        return worker
    return estimator_on_demand(_model_of_run(output, config), config, notify, _gaussians_of(config))


def _gaussians_of(config: Config) -> GaussianOptions | None:
    """The Gaussians that are to be predicted; None unless they are to be written."""
    if "gs_ply" not in config.export:
        return None
    return GaussianOptions(most=config.max_gaussians, coefficients=(config.gaussian_degree + 1) ** 2)


def _ray_executor(
    output: Path,
    begun: bool,
    config: Config,
    estimator: GeometryEstimator | None,
    progress: ProgressCallback,
) -> RayExecutor:
    """The estimator, or the one that the configuration names, on a Ray cluster; as `_own_estimator`."""
    model = _model_of_run(output, config) if begun else config.model
    executor = RayExecutor(
        estimator or ModelRecipe(model=model, config=config, gaussians=_gaussians_of(config)),
        use_gpus=config.device != "cpu",
        notify=_start_notice(progress),
    )
    if not begun:
        executor.start()
    return executor


def _model_of_run(output: Path, config: Config) -> str:
    """The model of a run that was begun: what `auto` was there."""
    begun_with: str = read_manifest(output)["model"].partition("+")[0]
    settled = config.model == "auto" and begun_with in get_args(ModelName)
    return begun_with if settled else config.model


def _start_notice(progress: ProgressCallback) -> Callable[[str], None]:
    """Turns a line into progress of the start."""
    return lambda line: progress(Progress(stage="start", message=line))


def _place_descriptor(
    output: Path,
    begun: bool,
    config: Config,
    descriptor: PlaceDescriptor | None,
    progress: ProgressCallback,
) -> tuple[str, Callable[[], PlaceDescriptor] | None]:
    """Name of the place descriptor, and what makes it if it is an object.

    For a run that was begun, `auto` is what it was begun with. SALAD is made at once for a new run: what is
    missing is said before there is a run directory.
    """
    if descriptor is not None:
        return descriptor.name, lambda: descriptor
    name = resolve_place(config, lambda: runs_on_gpu(config.device))
    if begun and name != "none" and config.place == "auto":
        recorded = read_manifest(output).get("place")
        name = recorded if recorded in ("salad", "vlad") else name
    if name != "salad":
        return name, None

    @cache
    def load() -> PlaceDescriptor:
        from da3stream.place.salad.descriptor import SaladDescriptor

        return SaladDescriptor.load(device=choose_device(config.device), notify=_start_notice(progress))

    if not begun:
        load()
    return name, load


def _place_weights(load: Callable[[], PlaceDescriptor]) -> Mapping[str, Any] | None:
    """Identity of the weights of our own place descriptor, which is made for it."""
    return getattr(load(), "weights", None)


def _check_weights(run: Run, entry: str, name: str, weights: Mapping[str, Any] | None) -> None:
    """Raise RunMismatchError if a run was begun with other weights than these, of what is called `name`.

    `entry` is where the manifest has them.
    """
    recorded = run.manifest.get(entry)
    if recorded != weights:
        raise RunMismatchError(
            f"{run.root} was made with other weights of {name}",
            got=weights,
            expected=recorded,
            hint="Give the same ones to resume, or start again with --overwrite.",
        )


def _reopen(run: Run, config: Config) -> FrameSource | None:
    """The input of a finished run; None if it was a source object."""
    if run.manifest["input"] is None:
        return None
    source = open_frames(run.manifest["input"], config)
    if source.identity() != run.manifest["source"]:
        raise RunMismatchError(
            f"{run.manifest['input']} is not the input that the run {run.root} was made of any more"
        )
    return source
