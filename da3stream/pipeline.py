"""The public functions: they open a run, let a session do it, and close it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from da3stream import __version__
from da3stream.config import OUTPUT_OPTIONS, Config, load_config
from da3stream.disk import DiskBudget
from da3stream.equipment import equip
from da3stream.errors import (
    InputError,
    InputNotFoundError,
    RunCorruptError,
    RunIncompleteError,
    RunMismatchError,
    command_line,
    naming_run,
)
from da3stream.estimation import (
    GeometryEstimator,
)
from da3stream.finishing import (
    formats_of,
    trajectory_of,
    with_options,
    write_formats,
    write_outputs,
)
from da3stream.opening import open_frames, open_input
from da3stream.place.base import PlaceDescriptor
from da3stream.placed_map import PlacedMap
from da3stream.places import PlaceRecorder
from da3stream.progress import Progress, ProgressCallback, ignore_progress
from da3stream.recording import Recording
from da3stream.report import write_report
from da3stream.result import Result, Update
from da3stream.scene import WorldAlignment
from da3stream.scene.world_alignment import UpMethod
from da3stream.session import Session, complete_finished
from da3stream.source.base import CapturesOnce, FrameSource
from da3stream.store import Run, RunRequest, open_existing, open_run, read_manifest
from da3stream.store.manifest import keeps_submaps
from da3stream.store.opening import FREE_OPTIONS, check_usable
from da3stream.world_frame import AlignmentRequest, KnownDistance, choose_alignment
from da3stream.writers import check_installed, export_names, with_originals


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
    given = (source, output, config, estimator, descriptor, resume, overwrite, progress)
    with naming_run(Path(output)), _opened(*given) as session:
        if not session.run.is_finished:
            for _ in session.chunks():
                pass
        return session.finish()


def finished_result(
    run_directory: str | Path, config: Config, *, progress: ProgressCallback | None = None
) -> Result | None:
    """The result of a run that has finished, without its input; None if there is something left to make.

    What a finished run may still lack after a kill, its report, is made up for. Of `config`, the options of a
    run, those that change nothing in its result are kept with it.

    Raises:
        StoreError: there is no run directory, or another process works on it.
    """
    watching = progress or ignore_progress
    try:
        with _existing(run_directory) as run:
            if not (run.is_finished and run.is_whole):
                return None
            _tell_changed_outputs(run, watching)
            chosen = {**run.manifest["config"], **config.model_dump(mode="json", include=set(FREE_OPTIONS))}
            if chosen != run.manifest["config"]:
                run.write_manifest(config=chosen)
            result = complete_finished(run, config, watching)
            run.recording.drop_files()
            return result
    except RunCorruptError:  # coming back to it mends it
        return None


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
    given = (source, output, config, estimator, descriptor, resume, overwrite, progress)
    with naming_run(Path(output)), _opened(*given) as session:
        for index in session.chunks():
            yield session.update(index)
        if (update := session.last_update()) is not None:
            yield update
        session.finish()


def export(
    run_directory: str | Path,
    names: tuple[str, ...],
    *,
    options: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> Path:
    """Write formats of a finished run again, or others than it was made with, without inference.

    Args:
        run_directory: a finished run.
        names: formats.
        options: those of outputs (`refine`, `max_points`, ...) that are to be others than the run's.
            run.json says under `output_options` which format was made with others. `align` keeps them;
            the next `export` of the format begins with the run's own again.
        progress: called with a `Progress` after every step.

    Raises:
        ConfigError: these are no options of outputs, or values that are not allowed.
        StoreError: there is no finished run, or what the format needs was not kept.
    """
    with _existing(run_directory) as run:
        own = _config_of_finished(run)
        config = with_options(own, options or {})
        source = _source_for(run, config, names)
        watching = progress or ignore_progress
        placed = PlacedMap.of(run, config.scale_prior)
        written = write_outputs(run, placed, names, config, source=source, progress=watching)
        formats = dict.fromkeys((*formats_of(run, config), *names))
        run.write_manifest(
            status="finished",
            formats=list(formats),
            output_options=_output_options(run, names, own, config),
            **written.entries(run, placed),
        )
        write_report(run, placed)
        return run.root


def _output_options(run: Run, names: tuple[str, ...], own: Config, used: Config) -> dict[str, Any]:
    """What run.json says of options that outputs were made with, now that these were made with others."""
    usual, chosen = own.model_dump(mode="json"), used.model_dump(mode="json")
    others = {name: chosen[name] for name in OUTPUT_OPTIONS if chosen[name] != usual[name]}
    before = run.manifest.get("output_options", {})
    options = {**before, **dict.fromkeys(names, others)}
    return {name: options[name] for name in sorted(options) if options[name]}


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
    with _existing(run_directory) as run:
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
        written = write_formats(run, placed, names, config, source=source, progress=watching)
        run.write_manifest(
            status="finished", formats=list(names), is_metric=placed.is_metric, **written.entries(run, placed)
        )
        write_report(run, placed)
        return alignment


@contextmanager
def _existing(run_directory: str | Path) -> Iterator[Run]:
    """A run directory as it is, locked; whatever goes wrong within names it."""
    root = Path(run_directory)
    with naming_run(root):
        run = open_existing(root)
        try:
            yield run
        finally:
            run.close()


def _source_for(run: Run, config: Config, names: tuple[str, ...]) -> FrameSource | None:
    """The input of a finished run, now that these formats can be written: nothing is missing for them."""
    check_installed(names)
    DiskBudget(run.root, config).check_export(len(run.trajectory()), names)
    needing = with_originals(names)
    return _reopen(run, config, needing) if needing else None


def _config_of_finished(run: Run) -> Config:
    """The options of a run that has finished and keeps what its outputs are made of."""
    if not run.is_finished:
        raise RunIncompleteError(
            f"the run {run.root} has not finished",
            hint=f"Finish it: {command_line('resume', run.root)}",
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
    root = Path(output)
    begun = check_usable(root, resume=resume, overwrite=overwrite) and resume
    disk = DiskBudget(root, config)
    if not begun:
        disk.plan(opened.size_hint())
    with equip(read_manifest(root) if begun else None, config, estimator, descriptor, watching) as equipment:
        request = RunRequest(
            config=config.model_dump(mode="json"),
            source=opened.identity(),
            input=_name_of(source, opened),
            model=equipment.estimator.name,
            place=equipment.place,
            weights=None if begun else equipment.weights,
            place_weights=None if begun else equipment.place_weights,
            timestamps_are_synthetic=getattr(opened, "timestamps_are_synthetic", False),
            poses=None if given.poses is None else given.poses.identity(),
            poses_in_metres=given.poses_in_metres,
            masks=None if given.masks is None else given.masks.identity(),
        )
        run = open_run(root, request, version=__version__, resume=resume, overwrite=overwrite)
        try:
            if run.is_finished:
                _tell_changed_outputs(run, watching)
            else:
                equipment.check(run)
            places = PlaceRecorder(run, equipment.estimator.name, equipment.load_place)
            if isinstance(opened, CapturesOnce):
                given = replace(given, source=Recording(run, opened, config, watching))
            with equipment.executor as executor:
                yield Session(run, given, equipment.estimator, executor, places, disk, watching)
            if run.is_finished:
                run.recording.drop_files()
        except InputError:
            run.remove_if_blank()
            raise
        finally:
            run.close()


def _tell_changed_outputs(run: Run, progress: ProgressCallback) -> None:
    way_on = "; `da3stream export` writes it again" if keeps_submaps(run.manifest) else ""
    for path in run.changed_outputs:
        progress(Progress(stage="start", message=f"{path} is not as it was written{way_on}"))


def _name_of(source: str | Path | FrameSource, opened: FrameSource) -> str | None:
    """What opens the input again: a live one's address, or a path; None for a source object."""
    if isinstance(opened, CapturesOnce):
        return getattr(opened, "input", None)
    return str(Path(source).expanduser().resolve()) if isinstance(source, str | Path) else None


def _reopen(run: Run, config: Config, needing: tuple[str, ...]) -> FrameSource | None:
    """The input of a finished run, whose images these formats hold; None if it was a source object."""
    if run.manifest["input"] is None:
        return None
    try:
        source = open_frames(run.manifest["input"], config)
    except InputNotFoundError:
        raise InputNotFoundError(
            f"the input of the run {run.root} is not there any more",
            got=run.manifest["input"],
            hint=f"Put it back: {', '.join(needing)} take images from it. Other formats do not need it.",
        ) from None
    if source.identity() != run.manifest["source"]:
        raise RunMismatchError(
            f"{run.manifest['input']} is not the input that the run {run.root} was made of any more"
        )
    return source
