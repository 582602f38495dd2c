"""What the worker process is asked to do: a JSON file and the points beside it, in a folder of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import Camera
from da3stream.scene import PoseUncertainty
from da3stream.writers.colmap.model import ModelImage


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ColmapJob:
    """The model that is to be written."""

    cameras: Sequence[Camera]
    """At the size of the images."""
    images: Sequence[ModelImage]
    """In the order of their numbers."""
    typical_depths: Sequence[float]
    """Median depth of each image in world units; infinite if unknown."""
    chunks: Sequence[int]
    """Which chunk owns each image, ascending."""
    uncertainties: Mapping[int, PoseUncertainty]
    """Chunk -> how well its cameras are known; empty if that is not known."""
    pairs: Sequence[tuple[int, int]]
    """Numbers of images that are matched, from 0."""
    points_in_world: NDArray[np.float32]
    """(K, 3) of our depth."""
    colors: NDArray[np.uint8]
    """(K, 3) RGB of these points."""
    camera_model: str
    file_format: str
    """`binary`, `text` or `both`."""
    dense: bool
    """The points of our depth go into the model, too."""
    refine: bool
    """Adjust poses, points and cameras."""
    workers: int
    """Threads that find and match features."""
    earlier: str | None = None
    """A folder colmap/ that was written before, and is as it was written."""
    earlier_settings: str | None = None
    """`matching.settings` of that time."""


def save_job(path: Path, job: ColmapJob) -> None:
    """Write a job into an empty folder."""
    fields = {
        "cameras": [asdict(camera) for camera in job.cameras],
        "images": [
            {"name": image.name, "world_from_cam": image.world_from_cam.tolist(), "camera": image.camera}
            for image in job.images
        ],
        "typical_depths": list(job.typical_depths),
        "chunks": list(job.chunks),
        "uncertainties": [[chunk, asdict(each)] for chunk, each in job.uncertainties.items()],
        "pairs": list(job.pairs),
        **{name: getattr(job, name) for name in _PLAIN},
    }
    (path / "job.json").write_text(json.dumps(fields), encoding="utf-8")
    np.save(path / "points.npy", job.points_in_world, allow_pickle=False)
    np.save(path / "colors.npy", job.colors, allow_pickle=False)


def load_job(path: Path) -> ColmapJob:
    """Read what `save_job` wrote."""
    fields: dict[str, Any] = json.loads((path / "job.json").read_text(encoding="utf-8"))
    return ColmapJob(
        cameras=[Camera(**camera) for camera in fields["cameras"]],
        images=[
            ModelImage(**{**image, "world_from_cam": np.array(image["world_from_cam"])})
            for image in fields["images"]
        ],
        typical_depths=fields["typical_depths"],
        chunks=fields["chunks"],
        uncertainties={chunk: PoseUncertainty(**each) for chunk, each in fields["uncertainties"]},
        pairs=[(first, second) for first, second in fields["pairs"]],
        points_in_world=np.load(path / "points.npy", allow_pickle=False),
        colors=np.load(path / "colors.npy", allow_pickle=False),
        **{name: fields[name] for name in _PLAIN},
    )


_PLAIN = ("camera_model", "file_format", "dense", "refine", "workers", "earlier", "earlier_settings")
