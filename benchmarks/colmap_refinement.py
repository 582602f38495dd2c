"""`--refine ba` on a capture of several windows, and matching by several workers.

    python benchmarks/colmap_refinement.py [--frames 400] [--workers 1 2 1 2] > results/colmap_refinement.json

A walk around the demo's courtyard that comes back to where it began is rendered. Its poses come from
simulated submaps that bend like those of networks, and from the map optimised over them, loop included; so
does their uncertainty. The focal length is 2 % off. The COLMAP worker then makes the folder once for each of
`--workers`, in this order, in a process of its own; `same_bytes` tells whether all have written the same
files. `all_at_once` is once more with the matches of the first and a window of all images, which has no
bounds; that is what the windows are held against.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pycolmap
from metadata import describe_environment

from da3stream.assembly import assemble
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import place, pose_uncertainties
from da3stream.scene import Chunk, PoseUncertainty
from da3stream.synthetic.bent_submaps import Bending, bend_submap, measure_edges, sliding_chunks
from da3stream.synthetic.demo_video import DemoCapture, demo_capture
from da3stream.writers.colmap.job import ColmapJob, save_job
from da3stream.writers.colmap.leeway import similarity
from da3stream.writers.colmap.model import ModelImage
from da3stream.writers.colmap.pairs import loop_pairs, sequence_pairs

CHUNK, OVERLAP, LOOP_FRAMES = 60, 30, 12
DEPTH_M = 3.0
FOCAL_ERROR = 1.02
TURN_DEG = 385.0


def estimated(capture: DemoCapture, seed: int, level: float) -> tuple[np.ndarray, dict[str, Any]]:
    """(N, 4, 4) poses as a run would have them, and what the job says of their uncertainty."""
    rng, count = np.random.default_rng(seed), len(capture)
    chunks = sliding_chunks(count, size=CHUNK, overlap=OVERLAP)
    fine = len(chunks)
    again = round((count - 1) * 360 / TURN_DEG)
    sides = (*range(LOOP_FRAMES), *range(again, min(again + LOOP_FRAMES, count)))
    chunks.append(Chunk(index=fine, context=sides, new=()))
    bending = Bending(drift=level * Bending().drift, jitter=level * Bending().jitter)
    submaps = [
        bend_submap(capture.world_from_cam, chunk, rng, bending=bending, depth_m=DEPTH_M) for chunk in chunks
    ]
    cameras = [submap.cameras for submap in submaps]
    first = Sim3(
        rotation=cameras[0].cam_from_submap[0][:, :3], translation=cameras[0].cam_from_submap[0][:, 3]
    )
    placement = place(cameras, measure_edges(submaps), first)
    poses = assemble(range(count), placement.cameras[:fine]).world_from_cam
    found = pose_uncertainties(cameras, placement.distortion, placement.report.variance_factor)
    depth = DEPTH_M * float(similarity(capture.world_from_cam, poses).scale)
    owner = [chunk.index for chunk in chunks for _ in chunk.new]
    return poses, {
        "chunks": owner,
        "uncertainties": dict(enumerate(found[:fine])),
        "typical_depths": [depth] * count,
        "pairs": sorted(
            {
                *sequence_pairs(count),
                *loop_pairs([(LOOP_FRAMES // 2, again + LOOP_FRAMES // 2)], np.arange(count), poses),
            }
        ),
    }


def job_of(capture: DemoCapture, seed: int, level: float) -> ColmapJob:
    """What the worker is asked for."""
    poses, known = estimated(capture, seed, level)
    off = replace(capture.camera, fx=capture.camera.fx * FOCAL_ERROR, fy=capture.camera.fy * FOCAL_ERROR)
    return ColmapJob(
        cameras=[off],
        images=[ModelImage(name=f"{i:05d}.png", world_from_cam=pose) for i, pose in enumerate(poses)],
        points_in_world=np.zeros((0, 3), np.float32),
        colors=np.zeros((0, 3), np.uint8),
        camera_model="PINHOLE",
        file_format="binary",
        dense=False,
        refine=True,
        workers=1,
        **known,
    )


def made(folder: Path, images: Path, job: ColmapJob, window: int) -> dict[str, Any]:
    """Have the folder made in a process of its own: figures, seconds and peak memory."""
    folder.mkdir()
    (folder / "images").symlink_to(images)
    scratch = folder.parent / "job"
    scratch.mkdir()
    save_job(scratch, job)
    began = time.perf_counter()
    measured = subprocess.run(
        [sys.executable, __file__, "--child", str(folder), str(scratch), "--window", str(window)],
        check=True,
        stdout=subprocess.PIPE,
    )
    seconds = time.perf_counter() - began
    for path in sorted(scratch.rglob("*"), reverse=True):
        path.unlink()
    scratch.rmdir()
    return {**json.loads(measured.stdout), "workers": job.workers, "seconds": round(seconds, 2)}


def child(folder: Path, scratch: Path, window: int) -> None:
    """The worker's work, with the time of each stage and the peak of memory."""
    from resource import RUSAGE_SELF, getrusage

    from da3stream.writers.colmap import refinement
    from da3stream.writers.colmap.job import load_job
    from da3stream.writers.colmap.worker import work

    refinement.WINDOW = window
    began, times = time.perf_counter(), {}

    def note(line: str) -> None:
        stage = line.rsplit(" ", 1)[-1]
        if stage in ("triangulating", "adjusting"):
            times[f"before_{stage}_s"] = round(time.perf_counter() - began, 2)

    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    report = work(folder, scratch, load_job(scratch), note)
    report |= {"stages": times, "peak_rss_bytes": getrusage(RUSAGE_SELF).ru_maxrss * 1024}
    sys.__stdout__.write(json.dumps(report))


def ate_m(poses: np.ndarray, truth: np.ndarray) -> float:
    """RMS distance of camera centres after the best similarity, in metres."""
    fit = pycolmap.estimate_sim3d(poses[:, :3, 3], truth[:, :3, 3])
    moved = np.array([fit * centre for centre in poses[:, :3, 3]])
    return float(np.sqrt(((moved - truth[:, :3, 3]) ** 2).sum(axis=1).mean()))


def poses_of(folder: Path) -> np.ndarray:
    """(N, 4, 4) world_from_cam of the model."""
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    cam_from_world = np.tile(np.eye(4), (len(model.images), 1, 1))
    cam_from_world[:, :3] = [model.images[i].cam_from_world().matrix() for i in sorted(model.images)]
    return np.linalg.inv(cam_from_world)


def digest(folder: Path) -> str:
    """Of the database and the model."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png")
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def measure(
    frames: int, size: tuple[int, int], workers: list[int], level: float, window: int, scratch: Path
) -> dict[str, Any]:
    """All figures."""
    capture = demo_capture(frames=frames, size=size)
    images = scratch / "images"
    images.mkdir()
    for index, image in enumerate(capture.images()):
        cv2.imwrite(str(images / f"{index:05d}.png"), image[..., ::-1])
    job = job_of(capture, 0, level)
    poses = np.array([image.world_from_cam for image in job.images])
    runs, digests = [], []
    for number, count in enumerate(workers):
        folder = scratch / f"colmap{number}"
        runs.append(made(folder, images, replace(job, workers=count), window))
        digests.append(digest(folder))
    known = replace(job, earlier=str(scratch / "colmap0"), earlier_settings=runs[0]["features"])
    all_at_once = made(scratch / "all", images, known, frames)
    focal = runs[0]["refinement"]["focal_length_px"]
    true = capture.camera.fx
    return {
        "ate_m": {
            "before": ate_m(poses, capture.world_from_cam),
            "after": ate_m(poses_of(scratch / "colmap0"), capture.world_from_cam),
            "all_at_once": ate_m(poses_of(scratch / "all"), capture.world_from_cam),
        },
        "focal_error": {
            "before": focal["before"] / true - 1,
            "after": focal["after"] / true - 1,
            "all_at_once": all_at_once["refinement"]["focal_length_px"]["after"] / true - 1,
        },
        "true_focal_length_px": true,
        "uncertainties": uncertainty_figures(list(job.uncertainties.values())),
        "same_bytes": len(set(digests)) == 1,
        "runs": runs,
        "all_at_once": all_at_once,
    }


def uncertainty_figures(found: list[PoseUncertainty]) -> dict[str, float]:
    """Medians over the chunks."""
    return {
        "turn_rad": float(np.median([each.turn_rad for each in found])),
        "shift_over_depth": float(np.median([each.shift_over_depth for each in found])),
        "log_scale": float(np.median([each.log_scale for each in found])),
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 270), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--level", type=float, default=1.0, help="errors over those of networks")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--window", type=int, default=300, help="images that are adjusted at once")
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, arguments.window)
        return
    with TemporaryDirectory() as scratch:
        result = measure(
            arguments.frames,
            tuple(arguments.size),
            arguments.workers,
            arguments.level,
            arguments.window,
            Path(scratch),
        )
    given = {name: value for name, value in vars(arguments).items() if name != "child"}
    print(json.dumps({"environment": describe_environment(given), **result}, indent=2))


if __name__ == "__main__":
    main()
