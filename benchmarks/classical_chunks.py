"""The sparse half of the classical estimator on real clips, chunk by chunk, and
merged along the chain.

    python benchmarks/classical_chunks.py              # all clips, with and without intrinsics
    python benchmarks/classical_chunks.py --clips kitti,kitti-back --intrinsics known --chunk-size 24

The clips lie in the folder that DA3STREAM_SHARED names (default: ../shared beside the checkout). For each
chunk: error of the camera centres after a Sim(3) alignment, as a share of the chunk's path; focal; candidates
with their epipolar scores; seconds and CPU seconds, those of the worker processes included (Linux only). The
merge aligns each chunk to the one before on the sparse points of their shared frames and ramps between them,
without any pose graph.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from metadata import describe_environment
from numpy.typing import NDArray

from da3stream.estimation.classical.matching import Calibration, ChunkMatcher
from da3stream.estimation.classical.sparse import SparseEstimator, SparseSolution
from da3stream.estimation.classical.worker_pool import WorkerPool
from da3stream.evaluation import load_trajectory
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.geometry.registration import fit_robust, umeyama
from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.geometry.sim3 import Sim3
from da3stream.imaging import resize_for_processing

Array = NDArray[np.float64]

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
RESOLUTION = 504
ROBOT_STEP = 5


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames at processing resolution; `intrinsics` (3, 3) and `centres` (N, 3) are the truth, or None."""

    images: NDArray[np.uint8]
    intrinsics: Array | None
    centres: Array | None


def load_kitti(*, there_and_back: bool = False) -> Clip:
    """kitti_seq1; its calibration counts pixel centres from 0."""
    matrix = np.array([[707.0912, 0.0, 601.8873 + 0.5], [0.0, 707.0912, 183.1104 + 0.5], [0.0, 0.0, 1.0]])
    images = _read_folder(SHARED / "kitti_seq1" / "image_l")
    centres = np.loadtxt(SHARED / "kitti_seq1" / "poses.txt").reshape(-1, 3, 4)[:, :, 3]
    order = [*range(len(images)), *range(len(images) - 2, -1, -1)] if there_and_back else range(len(images))
    return _clip([images[i] for i in order], matrix, centres[list(order)])


def load_fox() -> Clip:
    """fox: COLMAP's poses; the distortion is ignored."""
    folder = SHARED / "fox"
    given = json.loads((folder / "transforms.json").read_text())
    matrix = np.array([[given["fl_x"], 0.0, given["cx"]], [0.0, given["fl_y"], given["cy"]], [0.0, 0.0, 1.0]])
    truth = load_trajectory(folder / "transforms.json")
    centre_of = {
        Path(name).name: pose[:3, 3] for name, pose in zip(truth.names, truth.world_from_cam, strict=True)
    }
    names = [path.name for path in sorted((folder / "images").iterdir())]
    return _clip(_read_folder(folder / "images"), matrix, np.array([centre_of[name] for name in names]))


def load_robot() -> Clip:
    """robot_unitree.mp4, every 5th frame; nothing is known of it."""
    capture, images = cv2.VideoCapture(str(SHARED / "robot_unitree.mp4")), []
    while (read := capture.read())[0]:
        images.append(read[1][..., ::-1])
    return _clip(images[::ROBOT_STEP], None, None)


CLIPS: dict[str, Callable[[], Clip]] = {
    "kitti": load_kitti,
    "kitti-back": lambda: load_kitti(there_and_back=True),
    "fox": load_fox,
    "robot": load_robot,
}


def measure_clip(clip: Clip, *, known: bool, chunk_size: int, overlap: int) -> dict[str, Any]:
    """All chunks of a clip in order, as the pipeline would run them, and their merge."""
    matrix = clip.intrinsics if known else None
    pool, solutions, records = WorkerPool(), [], []
    try:
        sparse = SparseEstimator(pool, seed=0)
        for start in chunk_starts(len(clip.images), chunk_size, overlap):
            rows = np.arange(start, min(start + chunk_size, len(clip.images)))
            given = None if matrix is None else np.repeat(matrix[None], len(rows), axis=0)
            clock = Clock(pool)
            solution = sparse.solve(clip.images[rows], rows, given)
            records.append(
                {"start": int(start), **clock.per_frame(len(rows)), **describe(solution, clip, rows)}
            )
            solutions.append((rows, solution))
            if matrix is None:
                matrix = solution.settled_intrinsics
    finally:
        pool.close()
    merged = merge(solutions, len(clip.images))
    total = {key: float(np.mean([record[key] for record in records])) for key in ("wall_s", "cpu_s")}
    return {
        "finite": bool(np.isfinite(merged).all()),
        "merged_ate_percent": None if clip.centres is None else ate_percent(merged, clip.centres),
        "mean_per_frame_and_chunk": total,
        "matching": time_matching(clip, chunk_size),
        "chunks": records,
    }


def time_matching(clip: Clip, chunk_size: int) -> dict[str, float]:
    """Seconds a frame for features, matches and verification of a first chunk, nothing remembered."""
    images = clip.images[:chunk_size]
    matrix = np.eye(3) if clip.intrinsics is None else clip.intrinsics
    size = (images.shape[2], images.shape[1])
    calibration = Calibration(
        intrinsics=np.repeat(matrix[None], len(images), axis=0), size=size, known=clip.intrinsics is not None
    )
    pool = WorkerPool()
    try:
        clock = Clock(pool)
        ChunkMatcher(pool, seed=0).match(images, np.arange(len(images)), calibration)
        return clock.per_frame(len(images))
    finally:
        pool.close()


def describe(solution: SparseSolution, clip: Clip, rows: NDArray[np.int64]) -> dict[str, Any]:
    """What one chunk gave, as JSON values."""
    found, side = solution.reconstruction, max(clip.images.shape[1:3])
    focal = float(found.intrinsics[0, 0, 0])
    truth = clip.intrinsics
    return {
        "ate_percent": None if clip.centres is None else ate_percent(centres_of(found), clip.centres[rows]),
        "focal_of_long_side": focal / side,
        "focal_error_percent": None if truth is None else 100.0 * (focal / float(truth[0, 0]) - 1.0),
        "settled": solution.settled_intrinsics is not None,
        "trusted_frames": int((solution.trust == 1.0).sum()),
        "points": len(found.points),
        "candidates": [
            {
                "mapper": each.mapper,
                "score": round(each.score, 4),
                "focal_of_long_side": round(each.focal_px / side, 4),
                "registered": each.reconstruction.num_registered,
            }
            for each in solution.candidates
        ],
        "warnings": list(solution.warnings),
    }


def merge(solutions: list[tuple[NDArray[np.int64], SparseSolution]], frames: int) -> Array:
    """(N, 3) camera centres in the frame of the first chunk."""
    total, weight = np.zeros((frames, 3)), np.zeros((frames, 1))
    first_from_chunk = Sim3.identity()
    for number, (rows, solution) in enumerate(solutions):
        if number:
            first_from_chunk = first_from_chunk @ _chunk_from_next(*solutions[number - 1], rows, solution)
        ramp = (
            np.minimum(np.arange(1, len(rows) + 1), np.arange(len(rows), 0, -1))[:, None]
            * solution.trust[:, None]
        )
        total[rows] += ramp * first_from_chunk.apply(centres_of(solution.reconstruction))
        weight[rows] += ramp
    return total / weight


def _chunk_from_next(
    rows_a: NDArray[np.int64], a: SparseSolution, rows_b: NDArray[np.int64], b: SparseSolution
) -> Sim3:
    """From the keypoints of shared frames that own a point in both chunks."""
    depth_of = [_camera_points(rows, solution) for rows, solution in ((rows_a, a), (rows_b, b))]
    shared = sorted(set(depth_of[0]) & set(depth_of[1]))
    if len(shared) < 10:
        return Sim3.identity()
    points = [np.array([each[key][:3] for key in shared]) for each in depth_of]
    unit = np.array([depth_of[0][key][3] for key in shared])
    weights = np.ones(len(shared))
    initial = umeyama(points[1], points[0], weights / unit**2)
    return fit_robust(points[1], points[0], weights=weights, residual_unit=unit, initial=initial).a_from_b


def _camera_points(
    rows: NDArray[np.int64], solution: SparseSolution
) -> dict[tuple[int, int], tuple[float, ...]]:
    """Point and depth by frame index and keypoint."""
    found, depths = solution.reconstruction, solution.reconstruction.observed_depths()
    return {
        (int(rows[image]), keypoint): (*found.points[point], float(depth))
        for (image, keypoint, point), depth in zip(found.observations.tolist(), depths, strict=True)
        if depth > 0 and solution.trust[image] == 1.0
    }


def chunk_starts(frames: int, chunk_size: int, overlap: int) -> list[int]:
    """Starts of chunks that cover all frames; the last one is as long as the others."""
    last = max(0, frames - chunk_size)
    return [*range(0, last, chunk_size - overlap), last]


def ate_percent(centres: Array, truth: Array) -> float:
    """Root mean square error after a Sim(3) alignment, in per cent of the path length."""
    error = np.linalg.norm(truth - umeyama(centres, truth).apply(centres), axis=1)
    path = np.linalg.norm(np.diff(truth, axis=0), axis=1).sum()
    return float(100.0 * np.sqrt(np.square(error).mean()) / path)


def centres_of(reconstruction: Any) -> Array:
    """(N, 3) camera centres."""
    return invert(to_4x4(reconstruction.cam_from_submap))[:, :3, 3]


class Clock:
    """Wall and CPU seconds since its start, of this process and the workers (from /proc: they stay alive)."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._wall, self._cpu = time.perf_counter(), self._cpu_s()

    def per_frame(self, frames: int) -> dict[str, float]:
        """Seconds by frame."""
        wall, cpu = time.perf_counter() - self._wall, self._cpu_s() - self._cpu
        return {"wall_s": round(wall / frames, 4), "cpu_s": round(cpu / frames, 4)}

    def _cpu_s(self) -> float:
        ticks = 0
        for pid in self._pool.pids:
            stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(stat[11]) + int(stat[12])
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _clip(images: list[NDArray[np.uint8]], matrix: Array | None, centres: Array | None) -> Clip:
    height, width = images[0].shape[:2]
    small = np.stack([resize_for_processing(np.ascontiguousarray(image), RESOLUTION) for image in images])
    size = (small.shape[2], small.shape[1])
    scaled = None if matrix is None else rescale_intrinsics(matrix, (width, height), size)
    return Clip(images=small, intrinsics=scaled, centres=centres)


def _read_folder(folder: Path) -> list[NDArray[np.uint8]]:
    return [cv2.imread(str(path))[..., ::-1] for path in sorted(folder.iterdir())]


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", default=",".join(CLIPS))
    parser.add_argument("--intrinsics", choices=["known", "unknown", "both"], default="both")
    parser.add_argument("--chunk-size", type=int, default=24)
    parser.add_argument("--overlap", type=int, default=12)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"environment": describe_environment(vars(arguments))}
    for name in arguments.clips.split(","):
        clip = CLIPS[name]()
        for mode in ("known", "unknown"):
            if arguments.intrinsics in (mode, "both") and not (mode == "known" and clip.intrinsics is None):
                results[f"{name}, {mode}"] = measure_clip(
                    clip, known=mode == "known", chunk_size=arguments.chunk_size, overlap=arguments.overlap
                )
    json.dump(results, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
