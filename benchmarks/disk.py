"""What a run takes on the disk for each frame, with real images: by kind of file, and at its peak.

    python -m benchmarks.disk              writes benchmarks/results/disk.json

Real clips of the folder that DA3STREAM_SHARED names (default: ../shared beside the checkout) at 504 px, in
chunks of 24 frames that share 12, coarse chunks over every fourth frame (twice as many as by default), places
by vlad. Depth comes from a stand-in (a plane, cameras on a line): how many bytes of it are stored does not
depend on its values, while the images' JPEGs are real. A live input has its recording beside that until the
run has finished; that is in the peak. Outputs are left out. Figures for 504x280 are scaled by the pixels.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import da3stream
from benchmarks.metadata import describe_environment
from da3stream import Frame, Prediction, Progress, load_config
from da3stream.disk import folder_bytes
from da3stream.source import open_source
from da3stream.source.base import FrameSource

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
RESULT = Path(__file__).parent / "results" / "disk.json"
INPUTS = {"robot": "robot_unitree.mp4", "fox": "fox/images", "kitti": "kitti_seq1/image_l"}
OPTIONS = {
    "resolution": 504, "select": "all", "chunk_size": 24, "coarse": 4, "place": "vlad", "export": "poses",
}  # fmt: skip
OWN = ("submaps", "frames", "descriptors", "place", "journal.jsonl", "full_depth")
PIXELS = 504 * 280


class PlaneEstimator:
    """Sees a plane from cameras on a line."""

    name, is_metric = "plane", True

    def estimate(
        self, images: np.ndarray, *, indices: np.ndarray, known_cameras: object = None
    ) -> Prediction:
        shape = images.shape[:3]
        cam_from_submap = np.tile(np.eye(4)[:3], (len(images), 1, 1))
        cam_from_submap[:, 0, 3] = -0.05 * (indices - indices[0])
        height, width = shape[1:]
        focal = float(width)
        camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return Prediction(
            depth=np.full(shape, 5.0, np.float32),
            confidence=np.ones(shape, np.float32),
            cam_from_submap=cam_from_submap,
            intrinsics=np.tile(camera, (len(images), 1, 1)),
            is_metric=True,
        )


class Live:
    """A clip that comes only once."""

    is_capturing = False

    def __init__(self, source: FrameSource) -> None:
        self._source = source

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._source)

    def stop(self) -> None:
        """Nothing waits."""

    def size_hint(self) -> int | None:
        return None

    def identity(self) -> str:
        return self._source.identity()


def measured(name: str, folder: Path, *, live: bool, keep: str) -> dict[str, Any]:
    """Bytes a frame of one run."""
    config = load_config(None, {**OPTIONS, "keep": keep})
    opened = open_source(SHARED / INPUTS[name], config)
    peak = 0

    def watch(progress: Progress) -> None:
        nonlocal peak
        if progress.stage in ("start", "estimation"):
            peak = max(peak, folder_bytes(folder))

    source = Live(opened) if live else opened
    result = da3stream.reconstruct(source, folder, config=config, estimator=PlaneEstimator(), progress=watch)
    frames = len(result.trajectory)
    width, height = next(iter(opened)).size
    manifest = json.loads((folder / "run.json").read_bytes())
    scale = PIXELS / (width * height)
    return {
        "clip": name, "live": live, "keep": keep, "frames": frames, "size": [width, height],
        "chunks": manifest["chunks"], "coarse_chunks": manifest["coarse_chunks"],
        "bytes_per_frame": {kind: round(size_of(folder / kind) / frames) for kind in OWN},
        "peak_bytes_per_frame": round(peak / frames),
        "peak_bytes_per_frame_at_504x280": round(peak / frames * scale),
    }  # fmt: skip


def size_of(path: Path) -> int:
    """Bytes on the disk of a file or folder; 0 if it does not exist."""
    return path.stat().st_blocks * 512 if path.is_file() else folder_bytes(path)


def main() -> None:
    cases = [(name, False, "reduced") for name in INPUTS]
    cases += [("fox", True, "reduced"), ("robot", True, "reduced"), ("fox", False, "full")]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, live, keep) in enumerate(cases):
            runs.append(measured(name, Path(folder) / str(number), live=live, keep=keep))
            print(json.dumps(runs[-1]), flush=True)
    content = {**describe_environment(OPTIONS), "runs": runs}
    RESULT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
