"""`da3stream run` on real clips: trajectory error, focal length, CPU seconds a frame, seconds a stage.

    python benchmarks/real_clips.py                      # all cases
    python benchmarks/real_clips.py kitti fox-unknown    # some of them

The clips lie in the folder that DA3STREAM_SHARED names (default: ../shared beside the checkout). Cases
whose name ends in `-unseen` are clips that nothing was tuned on: another crop, speed and direction. Every
case is one command in a process of its own; CPU seconds are user + system of it and all its children, and
the SIFT figure is the CPU time of extracting the same frames' features in this process right after it.

`gap_percent` is the distance between the first and the last camera of a clip that returns to its first frame,
as a share of the path. Cases in `-alone` have neither loops nor coarse chunks: consecutive chunks only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from metadata import describe_environment

from da3stream.config import load_config
from da3stream.estimation.classical.features import extract_features
from da3stream.evaluation import evaluate, load_trajectory
from da3stream.geometry.rigid3 import to_4x4
from da3stream.source import open_source

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
KITTI, FOX, ROBOT = SHARED / "kitti_seq1", SHARED / "fox", SHARED / "robot_unitree.mp4"
# The calibration files count pixel centres from 0; ours lie at 0.5.
KITTI_CAMERA = (707.0912, 707.0912, 601.8873 + 0.5, 183.1104 + 0.5)
FOX_CAMERA = (1375.52, 1374.49, 554.558, 965.268)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """An input with what is known of it."""

    input: Path
    truth: Path | None = None
    camera: tuple[float, float, float, float] | None = None
    """True fx, fy, cx, cy in pixels of the input."""
    returns: bool = False
    """The last frame is the first one."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One command."""

    make: Callable[[Path], Clip]
    knows_camera: bool = False
    options: tuple[str, ...] = ()
    targets: dict[str, float] = field(default_factory=dict)


def kitti(folder: Path) -> Clip:
    return Clip(input=KITTI / "image_l", truth=KITTI / "poses.txt", camera=KITTI_CAMERA)


def fox(folder: Path) -> Clip:
    return Clip(input=FOX / "images", truth=FOX / "transforms.json", camera=FOX_CAMERA)


def robot(folder: Path) -> Clip:
    return Clip(input=ROBOT)


def kitti_there_and_back(folder: Path) -> Clip:
    order = [*range(51), *range(49, -1, -1)]
    return replace(_kitti_variant(folder, order, crop=(0, 0, 1226, 370)), returns=True)


def fox_there_and_back(folder: Path) -> Clip:
    images = sorted((FOX / "images").iterdir())
    for number, path in enumerate([*images, *images[-2::-1]]):
        (folder / f"{number:04d}.jpg").symlink_to(path)
    return Clip(input=folder, camera=FOX_CAMERA, returns=True)


def kitti_unseen(folder: Path) -> Clip:
    """Backwards, every second frame, the right three quarters of the picture."""
    return _kitti_variant(folder, list(range(50, -1, -2)), crop=(300, 20, 920, 340))


def fox_unseen(folder: Path) -> Clip:
    """Backwards, three of four frames, a landscape crop."""
    left, top, width, height = 0, 500, 1080, 810
    images = [path for n, path in enumerate(sorted((FOX / "images").iterdir(), reverse=True)) if n % 4]
    for number, path in enumerate(images):
        picture = cv2.imread(str(path))[top : top + height, left : left + width]
        cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    document = json.loads((FOX / "transforms.json").read_text())
    pose_of = {Path(frame["file_path"]).name: frame["transform_matrix"] for frame in document["frames"]}
    document["frames"] = [
        {"file_path": f"{number:04d}.png", "transform_matrix": pose_of[path.name]}
        for number, path in enumerate(images)
    ]
    truth = folder.parent / "truth.json"
    truth.write_text(json.dumps(document))
    fx, fy, cx, cy = FOX_CAMERA
    return Clip(input=folder, truth=truth, camera=(fx, fy, cx - left, cy - top))


def _kitti_variant(folder: Path, order: list[int], crop: tuple[int, int, int, int]) -> Clip:
    left, top, width, height = crop
    images = sorted((KITTI / "image_l").iterdir())
    for number, index in enumerate(order):
        picture = cv2.imread(str(images[index]))[top : top + height, left : left + width]
        cv2.imwrite(str(folder / f"{number:06d}.png"), picture)
    poses = to_4x4(np.loadtxt(KITTI / "poses.txt").reshape(-1, 3, 4))
    truth = folder.parent / "truth.txt"
    np.savetxt(truth, poses[order][:, :3].reshape(-1, 12))
    fx, fy, cx, cy = KITTI_CAMERA
    return Clip(input=folder, truth=truth, camera=(fx, fy, cx - left, cy - top))


CPU = {"cpu_s_per_frame": 1.8}
CASES = {
    "kitti": Case(make=kitti, knows_camera=True, targets={"ate_percent": 0.15, **CPU}),
    "kitti-unknown": Case(make=kitti, targets={"ate_percent": 1.0, **CPU}),
    "kitti-back": Case(
        make=kitti_there_and_back,
        knows_camera=True,
        targets={"ate_percent": 0.3, "gap_percent": 0.5, **CPU},
    ),
    "kitti-back-unknown": Case(make=kitti_there_and_back, targets={"ate_percent": 1.0, **CPU}),
    "kitti-back-alone": Case(
        make=kitti_there_and_back, knows_camera=True, options=("--loop-budget", "0", "--coarse", "0")
    ),
    "kitti-back-coarse-2": Case(make=kitti_there_and_back, knows_camera=True, options=("--coarse", "2")),
    "fox-back": Case(make=fox_there_and_back, knows_camera=True, targets={"gap_percent": 0.5}),
    "fox-back-alone": Case(
        make=fox_there_and_back, knows_camera=True, options=("--loop-budget", "0", "--coarse", "0")
    ),
    "fox-alone": Case(make=fox, knows_camera=True, options=("--loop-budget", "0", "--coarse", "0")),
    "fox-coarse-2": Case(make=fox, knows_camera=True, options=("--coarse", "2")),
    "fox": Case(make=fox, knows_camera=True, targets={"ate_percent": 0.15, **CPU}),
    "fox-unknown": Case(make=fox, targets={"focal_error_percent": 3.0, **CPU}),
    "robot": Case(make=robot, options=("--fps", "10"), targets=CPU),
    "kitti-unseen": Case(make=kitti_unseen, knows_camera=True),
    "kitti-unknown-unseen": Case(make=kitti_unseen),
    "fox-unseen": Case(make=fox_unseen, knows_camera=True),
    "fox-unknown-unseen": Case(make=fox_unseen),
}


def run_case(case: Case, folder: Path, chunk_size: int) -> dict[str, Any]:
    (folder / "images").mkdir()
    clip, run = case.make(folder / "images"), folder / "run"
    command = [sys.executable, "-m", "da3stream", "run", str(clip.input), "-o", str(run), *case.options]
    command += ["--chunk-size", str(chunk_size), "--overlap", str(chunk_size // 2)]
    if case.knows_camera and clip.camera is not None:
        command += ["--intrinsics", ",".join(map(str, clip.camera))]
    began, cpu_began = time.perf_counter(), _children_cpu_s()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall_s, cpu_s = time.perf_counter() - began, _children_cpu_s() - cpu_began
    cameras = json.loads((run / "cameras.json").read_text())["frames"]
    manifest = json.loads((run / "run.json").read_text())
    sift_s = _sift_cpu_s(clip.input, case.options)
    report: dict[str, Any] = {
        "frames": len(cameras),
        "wall_s": wall_s,
        "cpu_s_per_frame": cpu_s / len(cameras),
        "sift_cpu_s_per_frame": sift_s / len(cameras),
        "cpu_over_sift": cpu_s / sift_s,
        "all_poses_finite": bool(np.isfinite([camera["world_from_cam"] for camera in cameras]).all()),
        "temporary_bytes_per_frame": _temporary_bytes(run) / len(cameras),
        "stages_s": manifest["measured"]["seconds"],
        "warnings": manifest["warnings"],
        "coarse_chunks": manifest["coarse_chunks"],
        "loops": [
            (loop["later"], loop["earlier"], loop["reason"] or "closed")
            for loop in json.loads((run / "loop_closures.json").read_text())["loops"]
        ],
    }
    if clip.returns:
        centres = np.array([camera["world_from_cam"] for camera in cameras])[:, :3, 3]
        path = np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()
        report["gap_percent"] = float(100 * np.linalg.norm(centres[-1] - centres[0]) / path)
    if clip.camera is not None and not case.knows_camera:
        focals = [camera["intrinsics"]["fx"] for camera in cameras]
        errors = 100 * (np.array(focals) / clip.camera[0] - 1)
        report["focal_error_percent"] = float(errors[np.abs(errors).argmax()])
    if clip.truth is not None:
        found = evaluate(load_trajectory(run), load_trajectory(clip.truth))
        report |= {
            "associated_frames": found.associated_frames,
            "ate": found.ate.rmse,
            "path": found.path_length,
            "ate_percent": found.ate_percent,
        }
    report["missed"] = {
        name: limit for name, limit in case.targets.items() if not abs(report.get(name, np.inf)) <= limit
    }
    return report


def _temporary_bytes(run: Path) -> int:
    """Bytes of everything in a run directory that is no output."""
    kept = [*run.glob("submaps/*"), *run.glob("frames/*"), run / "journal.jsonl"]
    return sum(path.stat().st_size for path in kept)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sift_cpu_s(path: Path, options: tuple[str, ...]) -> float:
    config = load_config(
        None,
        {name[2:].replace("-", "_"): value for name, value in zip(options[::2], options[1::2], strict=True)},
    )
    images = [frame.image for frame in open_source(path, config)]
    began = time.process_time()
    for image in images:
        extract_features(image)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--chunk-size", type=int, default=24)
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"unknown cases: {', '.join(sorted(unknown))}")
    reports = {}
    for name in arguments.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            reports[name] = run_case(CASES[name], Path(folder), arguments.chunk_size)
        print(name, json.dumps(reports[name]), file=sys.stderr, flush=True)
    print(json.dumps({**describe_environment(vars(arguments)), "cases": reports}, indent=2))


if __name__ == "__main__":
    main()
