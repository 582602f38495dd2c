"""The worker process: `python -m da3stream.writers.colmap.worker FOLDER JOB`.

It says on stdout, one JSON object a line, how far it is (`say`), and in the end what came of it: `report`,
`error` (a known one, with its parts) or `failed`. It leaves as soon as its stdin ends, so it never outlives
the process that started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pycolmap

from da3stream.child_process import take_signals_back
from da3stream.errors import Da3StreamError
from da3stream.geometry.rigid3 import invert
from da3stream.writers.colmap.earlier import EarlierFolder
from da3stream.writers.colmap.job import ColmapJob, load_job
from da3stream.writers.colmap.leeway import Leeway
from da3stream.writers.colmap.matching import View, follow_poses, match_images, settings
from da3stream.writers.colmap.model import (
    add_points,
    build_model,
    open_database,
    write_cameras_and_images,
    write_model,
)
from da3stream.writers.colmap.refinement import refine
from da3stream.writers.colmap.triangulation import triangulate

_NEWS_EVERY = 50
"""Images."""


def main() -> None:
    """Do the job in the folders named by the arguments."""
    folder, scratch = map(Path, sys.argv[1:3])
    take_signals_back()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what native code prints

    def reply(**message: Any) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    try:
        reply(report=work(folder, scratch, load_job(scratch), lambda line: reply(say=line)))
    except Da3StreamError as error:
        parts = {"what": error.what, "got": error.got, "expected": error.expected, "hint": error.hint}
        reply(error={"type": type(error).__name__, **parts})
    except (RuntimeError, ValueError, LookupError, ArithmeticError, cv2.error) as error:
        reply(failed=" ".join(f"{type(error).__name__}: {error}".split()))


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def work(folder: Path, scratch: Path, job: ColmapJob, say: Any) -> dict[str, Any]:
    """Make folder/database.db and folder/sparse/0 of folder/images; returns figures for the report.

    Args:
        folder: holds images/.
        scratch: a folder for what is removed afterwards.
        job: what to make.
        say: is told how far it is.
    """
    model = build_model(job.cameras, job.images, job.camera_model)
    with open_database(folder) as database:
        write_cameras_and_images(database, model)
        matched = _match(database, folder, job, say)
    say(f"colmap: {matched} pairs of images match; triangulating")
    model = triangulate(model, folder, scratch)
    report = {"features": settings(), "pairs": len(job.pairs), "pairs_matched": matched, **_figures(model)}
    if job.refine:
        say("colmap: adjusting")
        leeway = Leeway.of(job.chunks, job.uncertainties, job.typical_depths)
        model, report["refinement"] = refine(model, leeway, lambda each: triangulate(each, folder, scratch))
        report |= _figures(model)
        with open_database(folder) as database:
            for camera in model.cameras.values():
                database.update_camera(camera)
            if report["refinement"]["kept"]:
                follow_poses(database, _refined_views(model, job))
    if job.dense or not len(model.points3D):
        add_points(model, job.points_in_world, job.colors)
    write_model(folder, model, job.file_format)
    return report


def _match(database: Any, folder: Path, job: ColmapJob, say: Any) -> int:
    """Find features and match them; returns the number of pairs that match."""

    def tell(done: int) -> None:
        if done % _NEWS_EVERY == 0:
            say(f"colmap: {done}/{len(job.images)} images matched")

    cv2.setNumThreads(1)  # the cores are taken by one image each
    paths = {image.name: folder / "images" / image.name for image in job.images}
    with _earlier(job) as earlier:
        return match_images(
            database, paths, _views(job), job.pairs, earlier=earlier, workers=job.workers, say=tell
        )


def _earlier(job: ColmapJob) -> AbstractContextManager[EarlierFolder | None]:
    if job.earlier is None or job.earlier_settings != settings():
        return nullcontext()
    return EarlierFolder(Path(job.earlier))


def _views(job: ColmapJob) -> list[View]:
    return [
        View(
            cam_from_world=invert(image.world_from_cam)[:3],
            intrinsics=job.cameras[image.camera].matrix(),
            longest_side=max(job.cameras[image.camera].width, job.cameras[image.camera].height),
            typical_depth=depth,
        )
        for image, depth in zip(job.images, job.typical_depths, strict=True)
    ]


def _refined_views(model: Any, job: ColmapJob) -> list[View]:
    """Those of a model, distortion left out."""
    images = [model.images[image_id] for image_id in sorted(model.images)]
    return [
        replace(
            view,
            cam_from_world=image.cam_from_world().matrix(),
            intrinsics=model.cameras[image.camera_id].calibration_matrix(),
        )
        for view, image in zip(_views(job), images, strict=True)
    ]


def _figures(model: Any) -> dict[str, Any]:
    """Of the points with tracks."""
    return {
        "images": model.num_reg_images(),
        "points_with_tracks": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "mean_track_length": round(model.compute_mean_track_length(), 3),
        "mean_reprojection_error_px": round(model.compute_mean_reprojection_error(), 4),
    }


if __name__ == "__main__":
    main()
