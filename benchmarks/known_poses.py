"""`da3stream run --poses` on kitti_seq1: is the scale of the depth right?

    python benchmarks/known_poses.py
    python benchmarks/known_poses.py --model da3-base --chunk-size 60
    python benchmarks/known_poses.py --as prior --noise 0.3 --wrong 0.1

The reference has nothing to do with the run: COLMAP extracts SIFT features of the images at full size,
matches them, and triangulates tracks with the given poses (pycolmap's point_triangulator, poses kept). Every
track of at least three images is compared with the depth of every chunk in every image that sees it:
`median_log_ratio` is the median of log(depth of the chunk / depth of the point), 0.03 being 3 %;
`spread_of_frames` is the standard deviation of that of single frames: what a scale for each could win. The
run's own COLMAP folder is what pycolmap reads the poses from. The round trip runs that folder again, as
input.

`--as prior`: the true poses with noise, moved to a frame of their own, are priors. Errors of positions: of
the priors and of the run with them as they come out, and of the run without, whose frame and unit are fitted
to the truth first.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from metadata import describe_environment
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

import da3stream
from da3stream.evaluation import evaluate, load_trajectory
from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.placed_map import PlacedMap
from da3stream.scene.submap import NEGLIGIBLE_CONFIDENCE
from da3stream.store import Run, open_existing

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
KITTI = SHARED / "kitti_seq1"
# The calibration file counts pixel centres from 0; ours lie at 0.5.
KITTI_CAMERA = (707.0912, 707.0912, 601.8873 + 0.5, 183.1104 + 0.5)
MIN_TRACK = 3
MIN_ANGLE_DEG = 1.0
"""Between rays of a track; with less, its depth is a guess."""
TARGET = 0.03
PRIORS_FROM_TRUTH = Sim3.exp(np.array([0.3, -1.0, 0.2, 5000.0, -800.0, 30.0, 0.0]))
"""Priors lie in a frame of their own, in metres."""

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="classical")
    parser.add_argument("--chunk-size", type=int, default=24)
    parser.add_argument("--frames", type=int, default=None)
    parser.add_argument("--as", dest="poses_as", choices=("fixed", "prior"), default="fixed")
    parser.add_argument("--noise", type=float, default=0.3, help="Of each coordinate of a prior, in metres.")
    parser.add_argument("--turn", type=float, default=1.0, help="Of each axis of a prior, in degrees.")
    parser.add_argument("--wrong", type=float, default=0.0, help="Share of priors that are wrong by 100 m.")
    parser.add_argument("--every", type=int, default=1, help="Every so many frames have a prior.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "-o", "--output", type=Path, default=None, help="JSON file; default: standard output."
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asked = {name: value for name, value in vars(arguments).items() if name != "output"}
        measured = (measure if arguments.poses_as == "fixed" else measure_priors)(Path(folder), arguments)
        report = {**measured, "environment": describe_environment(asked)}
    text = json.dumps(report, indent=2) + "\n"
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.write_text(text, encoding="utf-8")


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as JSON values."""
    options = {"model": arguments.model, "chunk_size": arguments.chunk_size}
    own = {"max_frames": arguments.frames, "poses": str(KITTI / "poses.txt"), "intrinsics": KITTI_CAMERA}
    start = time.perf_counter()
    da3stream.reconstruct(
        KITTI / "image_l", folder / "run", config=da3stream.load_config(None, {**options, **own})
    )
    seconds = time.perf_counter() - start
    truth = load_trajectory(KITTI / "poses.txt")
    estimate = load_trajectory(folder / "run")
    points = triangulated(folder / "run" / "colmap", folder / "reference")
    run = open_existing(folder / "run")
    try:
        chunks = chunk_scales(run, points)
        optimisation = run.manifest["optimisation"]
    finally:
        run.close()
    return {
        "seconds": round(seconds, 1),
        "frames": len(estimate),
        "ate_without_alignment_m": evaluate(estimate, truth, alignment="none").ate.rmse,
        "reference_points": len(points.points3D),
        "chunks": chunks,
        "worst_median_log_ratio": max(abs(chunk["median_log_ratio"]) for chunk in chunks),
        "target": TARGET,
        "optimisation": optimisation,
        "round_trip": round_trip(folder, options),
    }


def measure_priors(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same run with priors and without, as JSON values."""
    truth = load_trajectory(KITTI / "poses.txt").world_from_cam
    moved = PRIORS_FROM_TRUTH.move_pose(truth)
    times, priors = np.arange(len(truth)) / 10, noisy(moved, arguments)
    taken = np.arange(0, len(truth), arguments.every)
    write_tum(folder / "truth.txt", times, moved)
    write_tum(folder / "priors.txt", times[taken], priors[taken])
    options = {
        "model": arguments.model,
        "chunk_size": arguments.chunk_size,
        "max_frames": arguments.frames,
        "intrinsics": KITTI_CAMERA,
        "colmap_points": "dense",
        "fps": 10,
    }
    with_priors = {"poses": str(folder / "priors.txt"), "poses_as": "prior"}
    errors, runs = {}, {}
    reference = load_trajectory(folder / "truth.txt")
    for name, more, alignment in (("without", {}, "sim3"), ("with", with_priors, "none")):
        config = da3stream.load_config(None, {**options, **more})
        da3stream.reconstruct(KITTI / "image_l", folder / name, config=config)
        estimate = load_trajectory(folder / name)
        errors[name] = evaluate(estimate, reference, alignment=alignment).ate.rmse
        errors[f"{name}_after_alignment"] = evaluate(estimate, reference, alignment="sim3").ate.rmse
        runs[name] = json.loads((folder / name / "run.json").read_text())
    off = np.linalg.norm(priors[taken, :3, 3] - moved[taken, :3, 3], axis=1)
    return {
        "frames": runs["with"]["frames"],
        "priors": {"count": len(taken), "rmse_m": float(np.sqrt(np.square(off).mean()))},
        "ate_m": errors,
        "found": runs["with"]["optimisation"]["pose_priors"],
    }


def noisy(poses: Array, arguments: argparse.Namespace) -> Array:
    """(N, 4, 4) poses with the errors that are asked for."""
    rng = np.random.default_rng(arguments.seed)
    found = poses.copy()
    found[:, :3, 3] += arguments.noise * rng.normal(size=(len(poses), 3))
    turns = Rotation.from_rotvec(np.radians(arguments.turn) * rng.normal(size=(len(poses), 3)))
    found[:, :3, :3] = turns.as_matrix() @ found[:, :3, :3]
    is_wrong = rng.random(len(poses)) < arguments.wrong
    found[is_wrong, :3, 3] += 100 * rng.normal(size=(int(is_wrong.sum()), 3))
    return found


def write_tum(path: Path, times_s: Array, poses: Array) -> None:
    """Poses (N, 4, 4) as a TUM file."""
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    np.savetxt(path, np.column_stack([times_s, poses[:, :3, 3], quaternions]), fmt="%.9f")


def triangulated(colmap: Path, folder: Path) -> Any:
    """COLMAP's own points for the poses in a folder that a run has written."""
    folder.mkdir()
    database = folder / "database.db"
    reader = pycolmap.ImageReaderOptions()
    given = pycolmap.Reconstruction(str(colmap / "sparse" / "0"))
    camera = next(iter(given.cameras.values()))
    reader.camera_model, reader.camera_params = camera.model.name, camera.params_to_string()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    pycolmap.extract_features(
        database, colmap / "images", camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader
    )
    pycolmap.match_sequential(database)
    return pycolmap.triangulate_points(_numbered_as(database, given), database, colmap / "images", folder)


def _numbered_as(database: Path, given: Any) -> Any:
    """The poses of a model, with the numbers that images, frames and rigs have in a database."""
    poses = {image.name: image.cam_from_world() for image in given.images.values()}
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as opened:
        for camera in opened.read_all_cameras():
            model.add_camera(camera)
        for rig in opened.read_all_rigs():
            model.add_rig(rig)
        images = {image.image_id: image for image in opened.read_all_images()}
        frames = {image.frame_id: image for image in images.values()}
        for frame in opened.read_all_frames():
            frame.rig_from_world = poses[frames[frame.frame_id].name]
            model.add_frame(frame)
        for image in images.values():
            model.add_image(image)
        for frame_id in frames:
            model.register_frame(frame_id)
    return model


def chunk_scales(run: Run, points: Any) -> list[dict[str, Any]]:
    """How the depth of every fine chunk compares with the points."""
    placed = PlacedMap.of(run, None)
    images = {image.name: image for image in points.images.values()}
    trusted = {
        number: point.xyz
        for number, point in points.points3D.items()
        if point.track.length() >= MIN_TRACK and _angle_deg(points, point) >= MIN_ANGLE_DEG
    }
    negligible = NEGLIGIBLE_CONFIDENCE * run.typical_confidence
    report = []
    for record in run.fine_chunks:
        submap = run.submap(record.chunk.index)
        scale = placed.depth_scale_of(record.chunk.index)
        ratios: list[Array] = []
        for row, frame in enumerate(record.chunk.frames):
            owner = run.owner(frame)
            image = images[owner.frames.names[frame - owner.chunk.new[0]]]
            seen = [trusted[p.point3D_id] for p in image.points2D if p.point3D_id in trusted]
            world_from_cam = run.known_poses([frame])
            assert world_from_cam is not None
            if seen:
                in_cam = _in_camera(np.array(seen), world_from_cam[0])
                depth, known = _depth_at(
                    in_cam, submap.intrinsics[row], submap.depth[row], submap.confidence[row] > negligible
                )
                ratios.append(np.log(depth * scale / in_cam[:, 2])[known])
        logs = np.concatenate(ratios)
        report.append(
            {
                "chunk": record.chunk.index,
                "comparisons": len(logs),
                "median_log_ratio": float(np.median(logs)),
                "median_absolute_log_ratio": float(np.median(np.abs(logs))),
                "spread_of_frames": float(np.std([np.median(each) for each in ratios if len(each)])),
            }
        )
    return report


def _angle_deg(points: Any, point: Any) -> float:
    """Largest angle between the ray of the first image of a track and another one's."""
    centres = np.array(
        [points.images[element.image_id].projection_center() for element in point.track.elements]
    )
    rays = centres - point.xyz
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    return float(np.degrees(np.arccos(np.clip(rays @ rays[0], -1, 1))).max())


def _in_camera(points: Array, world_from_cam: Array) -> Array:
    return points @ rigid3.invert(world_from_cam)[:3, :3].T + rigid3.invert(world_from_cam)[:3, 3]


def _depth_at(in_cam: Array, intrinsics: Array, depth: Any, is_known: Any) -> tuple[Array, NDArray[np.bool_]]:
    """(N,) depth of the map at the pixels of points, and whether it is known there."""
    pixels = in_cam @ intrinsics.T
    x, y = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    height, width = depth.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    found = depth[y, x].astype(np.float64)
    known = inside & is_known[y, x] & (found > 0)
    return np.where(known, found, 1.0), known


def round_trip(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The COLMAP folder of the run as input of another one: the same trajectory has to come out."""
    result = da3stream.reconstruct(
        folder / "run" / "colmap",
        folder / "again",
        config=da3stream.load_config(None, {**options, "max_frames": options["chunk_size"]}),
    )
    again = result.trajectory.world_from_cam
    before = load_trajectory(folder / "run").world_from_cam[: len(again)]
    return {"frames": len(again), "largest_difference": float(np.abs(again - before).max())}


if __name__ == "__main__":
    main()
