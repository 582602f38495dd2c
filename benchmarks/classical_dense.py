"""Dense depth of the classical estimator on two real clips with given poses: cost and agreement with sparse
points.

    python benchmarks/classical_dense.py --clips kitti_seq1,fox --frames 24 > dense.json

The clips lie in the folder that the environment variable DA3STREAM_SHARED names (see tests). The points that
depth is compared with are triangulated here, from SIFT matches at full resolution over many frames with the
given poses; only points with an estimated relative standard deviation of at most 2 % count. Half of them (the
even ones) are given to the method, the other half measures it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.dense import DenseMaps, SparseDepth, dense_depth
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.geometry.rigid3 import invert, to_4x4

LONG_SIDE_PX = 504
MATCH_OFFSETS = (1, 2, 3, 4, 6, 8)
MAX_RELATIVE_STD = 0.02
CONFIDENT = 2.0


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames at full resolution with known cameras."""

    name: str
    images: list[NDArray[np.uint8]]
    intrinsics: NDArray[np.float64]
    cam_from_world: NDArray[np.float64]


def load_kitti(folder: Path, frames: int) -> Clip:
    """kitti_seq1: true poses (KITTI format), one calibration."""
    paths = sorted((folder / "image_l").glob("*.png"))[:frames]
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)[: len(paths)]
    fx, cx, cy = 707.0912, 601.8873 + 0.5, 183.1104 + 0.5
    matrix = np.array([[fx, 0, cx], [0, fx, cy], [0, 0, 1]])
    return Clip(
        name="kitti_seq1",
        images=[read_rgb(p) for p in paths],
        intrinsics=np.stack([matrix] * len(paths)),
        cam_from_world=invert(poses),
    )


def load_fox(folder: Path, frames: int) -> Clip:
    """fox: COLMAP poses in OpenGL axes; the small distortion is ignored."""
    record = json.loads((folder / "transforms.json").read_text())
    entries = sorted(record["frames"], key=lambda entry: entry["file_path"])
    entries = [e for e in entries if (folder / e["file_path"]).exists()][:frames]
    matrix = np.array([[record["fl_x"], 0, record["cx"]], [0, record["fl_y"], record["cy"]], [0, 0, 1]])
    world_from_cam = np.array([e["transform_matrix"] for e in entries]) @ np.diag([1.0, -1.0, -1.0, 1.0])
    return Clip(
        name="fox",
        images=[read_rgb(folder / e["file_path"]) for e in entries],
        intrinsics=np.stack([matrix] * len(entries)),
        cam_from_world=invert(world_from_cam)[:, :3],
    )


def read_rgb(path: Path) -> NDArray[np.uint8]:
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


LOADERS = {"kitti_seq1": load_kitti, "fox": load_fox}


@dataclass(frozen=True, kw_only=True)
class Keypoints:
    positions: NDArray[np.float64]
    descriptors: NDArray[np.float32]


def keypoints_of(image: NDArray[np.uint8]) -> Keypoints:
    found, descriptors = cv2.SIFT_create(nfeatures=3000, contrastThreshold=0.02).detectAndCompute(image, None)
    descriptors = np.sqrt(descriptors / descriptors.sum(axis=1, keepdims=True))
    return Keypoints(positions=np.array([k.pt for k in found]) + 0.5, descriptors=descriptors)


def matches_of(a: Keypoints, b: Keypoints) -> NDArray[np.int64]:
    """(M, 2) mutual nearest neighbours that pass the ratio test at 0.8."""
    similarity = a.descriptors @ b.descriptors.T
    best = similarity.argmax(axis=1)
    top = -np.partition(-similarity, 1, axis=1)[:, :2]
    distinct = (1 - top[:, 0]) < 0.8**2 * (1 - top[:, 1])
    mutual = similarity.argmax(axis=0)[best] == np.arange(len(best))
    rows = np.flatnonzero(distinct & mutual)
    return np.stack([rows, best[rows]], axis=1)


def triangulate(clip: Clip) -> SparseDepth:
    """Depth of every keypoint that at least two other frames confirm, in pixels of the full images."""
    n = len(clip.images)
    keypoints = [keypoints_of(image) for image in clip.images]
    poses = to_4x4(clip.cam_from_world)
    observations: list[list[Any]] = [[] for _ in range(n)]
    for i in range(n):
        for j in (i + offset for offset in MATCH_OFFSETS if i + offset < n):
            pairs = matches_of(keypoints[i], keypoints[j])
            observations[i].append((j, pairs))
            observations[j].append((i, pairs[:, ::-1]))
    positions, depths = [], []
    for i in range(n):
        inverse_depth, keep = depth_of_keypoints(i, observations[i], keypoints, clip.intrinsics, poses)
        positions.append(keypoints[i].positions[keep])
        depths.append(1 / inverse_depth[keep])
    return SparseDepth(positions_px=tuple(positions), depths=tuple(depths))


def depth_of_keypoints(
    i: int, observations: list[Any], keypoints: list[Keypoints], intrinsics: Any, poses: Any
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Inverse depth by robust 1-D least squares on the reprojections, and which ones are good."""
    count = len(keypoints[i].positions)
    x = np.concatenate([keypoints[i].positions, np.ones((count, 1))], axis=1)
    rows, targets, rays, shifts = [], [], [], []
    for j, pairs in observations:
        relative = poses[j] @ invert(poses[i])
        rays.append((x @ (intrinsics[j] @ relative[:3, :3] @ np.linalg.inv(intrinsics[i])).T)[pairs[:, 0]])
        shifts.append(np.broadcast_to(intrinsics[j] @ relative[:3, 3], (len(pairs), 3)))
        rows.append(pairs[:, 0])
        targets.append(keypoints[j].positions[pairs[:, 1]])
    row, target = np.concatenate(rows), np.concatenate(targets)
    ray, shift = np.concatenate(rays), np.concatenate(shifts)
    weight, inverse_depth = np.ones(len(row)), np.zeros(count)
    for _ in range(8):
        a = shift[:, :2] - target * shift[:, 2:]
        b = target * ray[:, 2:] - ray[:, :2]
        z = ray[:, 2:] + inverse_depth[row, None] * shift[:, 2:]
        information = np.bincount(row, weight * ((a / z) ** 2).sum(1), count)
        inverse_depth = np.bincount(row, weight * ((a * b) / z**2).sum(1), count) / np.maximum(
            information, 1e-12
        )
        projected = ray + inverse_depth[row, None] * shift
        residual = np.linalg.norm(projected[:, :2] / projected[:, 2:] - target, axis=1)
        weight = 1 / (1 + residual**2) ** 2
    good = (residual < 1.5) & (projected[:, 2] > 0)
    votes = np.bincount(row, good, count)
    information = np.bincount(row, good * ((a / z) ** 2).sum(1), count)
    relative_std = 0.5 / np.sqrt(np.maximum(information, 1e-12)) / np.maximum(inverse_depth, 1e-12)
    agreed = votes >= np.maximum(2, 0.7 * np.bincount(row, minlength=count))
    return inverse_depth, agreed & (inverse_depth > 0) & (relative_std < MAX_RELATIVE_STD)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A clip at processing resolution."""

    images: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    given: SparseDepth
    held_out: SparseDepth


def prepare(clip: Clip) -> Inputs:
    height, width = clip.images[0].shape[:2]
    factor = LONG_SIDE_PX / max(height, width)
    size = (round(width * factor), round(height * factor))
    points = triangulate(clip)
    scale = np.array([size[0] / width, size[1] / height])
    halves = [
        SparseDepth(
            positions_px=tuple(p[k::2] * scale for p in points.positions_px),
            depths=tuple(d[k::2] for d in points.depths),
        )
        for k in (0, 1)
    ]
    return Inputs(
        images=np.stack([cv2.resize(i, size, interpolation=cv2.INTER_AREA) for i in clip.images]),
        intrinsics=rescale_intrinsics(clip.intrinsics, (width, height), size),
        given=halves[0],
        held_out=halves[1],
    )


def agreement(maps: DenseMaps, points: SparseDepth, image_size: tuple[int, int]) -> dict[str, float]:
    """Relative errors of the depth maps at sparse points."""
    n, height, width = maps.depth.shape
    errors, confidences = [], []
    for i in range(n):
        column = (points.positions_px[i][:, 0] * width / image_size[0]).astype(int).clip(0, width - 1)
        row = (points.positions_px[i][:, 1] * height / image_size[1]).astype(int).clip(0, height - 1)
        errors.append(np.abs(maps.depth[i][row, column] / points.depths[i] - 1))
        confidences.append(maps.confidence[i][row, column])
    error, confidence = np.concatenate(errors), np.concatenate(confidences)
    confident = confidence >= CONFIDENT
    return {
        "points": len(error),
        "median_error_all": float(np.median(error)),
        "median_error_confident": float(np.median(error[confident])),
        "p90_error_confident": float(np.quantile(error[confident], 0.9)),
        "outliers_over_10_percent": float((error[confident] > 0.1).mean()),
        "points_confident": float(confident.mean()),
        "pixels_confident": float((maps.confidence >= CONFIDENT).mean()),
        "median_error_times_confidence": float(np.median((error * confidence)[confident])),
    }


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(clip: Clip, use_sparse: bool) -> dict[str, Any]:
    inputs = prepare(clip)
    started_cpu, started = cpu_seconds(), time.perf_counter()
    maps = dense_depth(
        inputs.images, inputs.intrinsics, clip.cam_from_world, sparse=inputs.given if use_sparse else None
    )
    n, height, width = maps.depth.shape
    return {
        "clip": clip.name,
        "frames": n,
        "image": list(inputs.images.shape[1:3]),
        "depth": [height, width],
        "sparse_given": use_sparse,
        "cpu_s_per_frame": (cpu_seconds() - started_cpu) / n,
        "wall_s_per_frame": (time.perf_counter() - started) / n,
        **agreement(maps, inputs.held_out, (inputs.images.shape[2], inputs.images.shape[1])),
    }


def commit() -> str | None:
    """Commit of the working tree that this file lies in, None outside git."""
    folder = Path(__file__).parent
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True
    )
    return answer.stdout.strip() or None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", default="kitti_seq1,fox")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--no-sparse", action="store_true")
    options = parser.parse_args()
    shared = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    clips = [LOADERS[name](shared / name, options.frames) for name in options.clips.split(",")]
    results = [measure(clip, not options.no_sparse) for clip in clips]
    record = {
        "commit": commit(),
        "machine": {"machine": platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()},
        "versions": {"numpy": np.__version__, "opencv": cv2.__version__},
        "config": vars(options),
        "results": results,
    }
    json.dump(record, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
