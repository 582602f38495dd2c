"""Whether the COLMAP folders of finished runs bundle-adjust.

    python benchmarks/colmap_models.py RUN [--truth POSES] [RUN [--truth POSES] ...]

For each run directory (`da3stream run ... --export colmap`, `da3stream demo`): the model as it is, after
pycolmap's `bundle_adjustment` with its defaults, and, on the same model, after one with a share of our depth
added as observations, projected by our own poses into three to five images: why the dense points have no
tracks. `observations_kept` are those that pass COLMAP's own filter afterwards (4 px, 1.5 degrees). The truth
is whatever `da3stream eval` reads; ATE is the RMS after the best similarity. `paired` counts the images that
a reader of the sorted listing pairs with the right name (gsplat).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from metadata import describe_environment
from plyfile import PlyData

from da3stream.evaluation import evaluate, load_trajectory

DENSE_POINTS = 20_000
MAX_TRACK = 5


def measure(run: Path, truth: Path | None, scratch: Path) -> dict[str, Any]:
    """All figures of one run directory."""
    sparse = run / "colmap" / "sparse" / "0"
    dense = sparse / "points3D.ply"
    result = {"paired": paired(run / "colmap"), "model": figures(pycolmap.Reconstruction(sparse))}
    result["model"]["ate"] = ate(pycolmap.Reconstruction(sparse), truth, scratch)
    result["adjusted"] = adjusted(pycolmap.Reconstruction(sparse), truth, scratch)
    if dense.exists():
        result["adjusted_with_dense_tracks"] = adjusted(with_dense_tracks(sparse, dense), truth, scratch)
    return result


def paired(colmap: Path) -> str:
    """Images whose place in the sorted listing is that of their name in the model, of all."""
    folder = colmap / "images"
    listed = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = sorted(image.name for image in pycolmap.Reconstruction(colmap / "sparse" / "0").images.values())
    return f"{sum(one == other for one, other in zip(listed, names, strict=False))}/{len(listed)}"


def figures(model: pycolmap.Reconstruction) -> dict[str, Any]:
    """Counts and errors of a model."""
    return {
        "images": model.num_reg_images(),
        "points": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "mean_track_length": model.compute_mean_track_length(),
        "mean_error_px": model.compute_mean_reprojection_error(),
    }


def adjusted(model: pycolmap.Reconstruction, truth: Path | None, scratch: Path) -> dict[str, Any]:
    """The figures after bundle adjustment and COLMAP's filter."""
    observations = model.compute_num_observations()
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    began = time.perf_counter()
    pycolmap.bundle_adjustment(model, options)
    seconds = time.perf_counter() - began
    pycolmap.ObservationManager(model).filter_all_points3D(4.0, 1.5)
    kept = model.compute_num_observations() / max(observations, 1)
    return {
        **figures(model),
        "observations_kept": kept,
        "ate": ate(model, truth, scratch),
        "seconds": round(seconds, 2),
    }


def ate(model: pycolmap.Reconstruction, truth: Path | None, scratch: Path) -> float | None:
    """RMS distance of the camera centres to the truth, as `da3stream eval` measures it."""
    if truth is None:
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    model.write_binary(scratch)
    return evaluate(load_trajectory(scratch), load_trajectory(truth)).ate.rmse


def with_dense_tracks(sparse: Path, dense: Path) -> pycolmap.Reconstruction:
    """The model with observations of our depth that our own poses predict."""
    old, new = pycolmap.Reconstruction(sparse), pycolmap.Reconstruction()
    vertex = PlyData.read(dense)["vertex"]
    points = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64)
    chosen = points[np.random.default_rng(0).permutation(len(points))[:DENSE_POINTS]]
    keypoints = {i: [point.xy for point in old.images[i].points2D] for i in sorted(old.images)}
    tracks = [track for track in (project(old, point, keypoints) for point in chosen) if len(track[1]) >= 3]
    for camera in old.cameras.values():
        new.add_camera_with_trivial_rig(camera)
    for image_id, xy in keypoints.items():
        image = old.images[image_id]
        copy = pycolmap.Image(image.name, np.array(xy).reshape(-1, 2), image.camera_id, image_id)
        new.add_image_with_trivial_frame(copy, image.cam_from_world())
    for point in old.points3D.values():
        new.add_point3D(point.xyz, pycolmap.Track(list(point.track.elements)))
    for position, elements in tracks:
        new.add_point3D(position, pycolmap.Track(elements))
    return new


def project(
    model: pycolmap.Reconstruction, point: np.ndarray, keypoints: dict[int, list[Any]]
) -> tuple[np.ndarray, list[pycolmap.TrackElement]]:
    """A point and its key points in the last images that it falls into, which are appended."""
    seen = []
    for image_id in keypoints:
        image = model.images[image_id]
        place = image.project_point(point)
        size = np.array([image.camera.width, image.camera.height])
        if place is not None and (place > 0).all() and (place < size).all():
            seen.append((image_id, place))
    elements = []
    for image_id, place in seen[-MAX_TRACK:] if len(seen) >= 3 else []:
        elements.append(pycolmap.TrackElement(image_id, len(keypoints[image_id])))
        keypoints[image_id].append(place)
    return point, elements


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run directories with colmap/")
    parser.add_argument("--truth", action="append", type=Path, help="one for each run, in their order")
    parser.add_argument("--scratch", type=Path, default=Path("colmap_models_scratch"))
    arguments = parser.parse_intermixed_args()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    truths = [*(arguments.truth or []), *[None] * len(arguments.runs)]
    results = {
        run.name: measure(run, truth, arguments.scratch)
        for run, truth in zip(arguments.runs, truths, strict=False)
    }
    print(json.dumps({"environment": describe_environment({}), "runs": results}, indent=2))


if __name__ == "__main__":
    main()
