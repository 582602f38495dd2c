"""Starting a run directory and coming back to one: it is locked, compared with what is asked, or emptied."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from da3stream.config import MeansConfig
from da3stream.errors import RunExistsError, RunMismatchError, StoreError, option
from da3stream.store.files import LOCK, SCRATCH, RunFiles
from da3stream.store.journal import JOURNAL, Journal
from da3stream.store.manifest import (
    FORMAT,
    MANIFEST,
    VERSION,
    encode_manifest,
    is_run,
    keeps_submaps,
    load_manifest,
)
from da3stream.store.run import OWN_FOLDERS, TRAJECTORY, Run

logger = logging.getLogger(__name__)

FREE_OPTIONS = tuple(MeansConfig.model_fields)
"""Options that change nothing in a run's result: they may be others when it is resumed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What a run is asked to do; resuming compares it with what the run directory was made for."""

    config: Mapping[str, Any]
    """Resolved options, JSON values."""
    source: str
    """Identity of the source's content and selection."""
    input: str | None
    """Path or URL of the input as given, to open it again; None for a source object."""
    model: str
    """Name of the estimator."""
    timestamps_are_synthetic: bool
    """Timestamps are made up from the frame index."""
    place: str = "none"
    """Name of the place descriptor; none: frames are not described."""
    weights: Mapping[str, Any] | None = None
    """Identity of the estimator's weights, JSON values; only recorded."""
    place_weights: Mapping[str, Any] | None = None
    """Identity of the place descriptor's weights, JSON values; only recorded."""
    poses: str | None = None
    """Identity of the known poses."""
    poses_in_metres: bool = False
    """The unit of the known poses is the metre."""
    masks: str | None = None
    """Identity of the masks."""


def open_run(
    root: Path, request: RunRequest, *, version: str, resume: bool = False, overwrite: bool = False
) -> Run:
    """Start a run in a new or empty folder, or continue one.

    Args:
        root: the run directory.
        request: what is to be done.
        version: of da3stream, for the manifest.
        resume: continue what is there; a missing or empty folder is a fresh start.
        overwrite: remove an older run's files first (nothing else).

    Raises:
        RunExistsError: the folder is not empty, and neither was asked for, or it is no run directory.
        RunMismatchError: what is there was made of another input or configuration.
        RunLockedError: another process works on it.
    """
    occupied = check_usable(root, resume=resume, overwrite=overwrite)
    files = RunFiles(root)
    lock = files.lock()
    try:
        files.clean_scratch()
        if occupied and overwrite and not resume:
            _empty(files)
            occupied = False
        if not occupied:
            run = Run(files, lock, _new_manifest(request, version))
            run.write_manifest()
        else:
            manifest = load_manifest(files)
            _check_same(root, manifest, request)
            run = _continued(files, lock, manifest, request)
        run.note_beginning()
        return run
    except BaseException:
        os.close(lock)
        raise


def check_usable(root: Path, *, resume: bool, overwrite: bool) -> bool:
    """Whether a run lies in the folder already; changes nothing.

    Raises:
        RunExistsError: the folder is not empty, and neither was asked for, or it is no run directory.
    """
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise RunExistsError(f"{existing} is a file", expected="a folder for the run")
    occupied = root.is_dir() and _is_occupied(root)
    if occupied and not is_run(RunFiles(root)):
        raise RunExistsError(
            f"{root} is not empty and no run directory",
            expected=f"a file {MANIFEST} in it",
            hint="Name another folder: what lies there stays as it is.",
        )
    if occupied and not (resume or overwrite):
        raise RunExistsError(
            f"the run directory {root} is not empty",
            hint="Add --resume to continue it, --overwrite to start again, or name another one.",
        )
    return occupied


def open_existing(root: Path) -> Run:
    """Open a run directory as it is, for exports.

    Raises:
        StoreError: there is none.
        RunLockedError: another process works on it.
    """
    manifest = read_manifest(root)
    files = RunFiles(root)
    lock = files.lock()
    try:
        files.clean_scratch()
        return Run(files, lock, manifest)
    except BaseException:
        os.close(lock)
        raise


def read_manifest(root: Path) -> dict[str, Any]:
    """What run.json says.

    Raises:
        StoreError: there is no run directory.
        RunCorruptError: run.json is damaged.
    """
    if not is_run(RunFiles(root)):
        raise StoreError(
            f"{root} is no run directory", expected=f"a folder with {MANIFEST}, as `da3stream run` makes it"
        )
    return load_manifest(RunFiles(root))


def _continued(files: RunFiles, lock: int, manifest: dict[str, Any], request: RunRequest) -> Run:
    """A run that is there. What is damaged of it is forgotten, so that it is made again."""
    journal = Journal(files)
    free = {name: request.config[name] for name in FREE_OPTIONS if name in request.config}
    manifest = {**manifest, "config": {**manifest["config"], **free}}
    damaged_at = journal.damaged_at
    if damaged_at is not None:
        logger.warning("%s is damaged at byte %d; it goes back to there", files.root / JOURNAL, damaged_at)
        if keeps_submaps(manifest):
            manifest["status"] = "running"
            files.write(MANIFEST, encode_manifest(manifest))
        journal.go_back_to(damaged_at)
    run = Run(files, lock, manifest)
    if run.is_finished and not run.is_whole:
        logger.warning("files of the finished run %s are lost or damaged; they are made anew", files.root)
        run.manifest["status"] = "running"
    if not files.exists(MANIFEST) or files.read(MANIFEST) != encode_manifest(run.manifest):
        run.write_manifest()
    return run


def _is_occupied(root: Path) -> bool:
    """Whether there is more than what a run leaves that was killed before it wrote its manifest."""
    names = {path.name for path in root.iterdir()}
    return not names <= {LOCK} and names != {LOCK, SCRATCH}


def _new_manifest(request: RunRequest, version: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "da3stream": version,
        "status": "running",
        "model": request.model,
        "weights": None if request.weights is None else dict(request.weights),
        "place": request.place,
        "place_weights": None if request.place_weights is None else dict(request.place_weights),
        "input": request.input,
        "source": request.source,
        "poses": request.poses,
        "poses_in_metres": request.poses_in_metres,
        "masks": request.masks,
        "timestamps_are_synthetic": request.timestamps_are_synthetic,
        "config": dict(request.config),
    }


def _check_same(root: Path, manifest: Mapping[str, Any], request: RunRequest) -> None:
    differences = [
        f"{option(name)} (was {manifest['config'].get(name)!r}, now {request.config.get(name)!r})"
        for name in sorted({*manifest["config"], *request.config} - {*FREE_OPTIONS})
        if manifest["config"].get(name) != request.config.get(name)
    ]
    if manifest["model"] != request.model:
        differences.append(f"{option('model')} (was {manifest['model']!r}, now {request.model!r})")
    if (place := manifest.get("place", "none")) != request.place:
        differences.append(f"place descriptor (was {place!r}, now {request.place!r})")
    if manifest["source"] != request.source:
        differences.append("the input or which of its frames are selected")
    if manifest.get("poses") != request.poses:
        differences.append("the content of the known poses")
    if manifest.get("masks") != request.masks:
        differences.append("the content of the masks")
    if differences:
        raise RunMismatchError(
            f"{root} was made with other settings: {'; '.join(differences)}",
            hint="Give the same ones to resume, or start again with --overwrite.",
        )


def _empty(files: RunFiles) -> None:
    """Remove what the journal lists and what every run has; whatever else lies there stays.

    The manifest stays until the new one replaces it: it is what makes the folder a run directory.
    """
    ours = [event["path"] for event in Journal(files).salvage() if event["event"] == "output"]
    for path in (TRAJECTORY, *ours, *OWN_FOLDERS, SCRATCH, JOURNAL):
        files.remove(path)
