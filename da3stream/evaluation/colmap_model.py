"""COLMAP models, text or binary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from da3stream.errors import FormatError
from da3stream.evaluation.pose_sequence import PoseSequence
from da3stream.geometry.rigid3 import invert, to_4x4

_SUBFOLDERS = (".", "sparse/0", "sparse", "0")


def find_model(folder: Path) -> Path | None:
    """The folder at or below `folder` that holds images.bin or images.txt; None: there is none."""
    candidates = (folder / sub for sub in _SUBFOLDERS)
    return next((c for c in candidates if (c / "images.bin").is_file() or (c / "images.txt").is_file()), None)


def open_model(model: Path) -> Any:
    """The `pycolmap.Reconstruction` in a folder, with at least one registered image.

    Raises:
        FormatError: pycolmap cannot read it, or it has no registered image.
    """
    import pycolmap

    try:
        reconstruction = pycolmap.Reconstruction(str(model))
    except Exception as error:  # pycolmap raises whatever its C++ side throws
        raise FormatError(
            f"pycolmap cannot read the model in {model}: {' '.join(str(error).split())}"
        ) from error
    if not any(image.has_pose for image in reconstruction.images.values()):
        raise FormatError(f"the COLMAP model in {model} has no registered image")
    return reconstruction


def read_colmap(folder: Path) -> PoseSequence:
    """Read the poses of all registered images, in order of image name.

    Raises:
        FormatError: no model lies there, pycolmap cannot read it, or it has no registered image.
    """
    model = find_model(folder)
    if model is None:
        raise FormatError(
            f"{folder} holds no COLMAP model", expected="images.bin or images.txt, also in sparse/0"
        )
    registered = (image for image in open_model(model).images.values() if image.has_pose)
    cam_from_world = {image.name: image.cam_from_world().matrix() for image in registered}
    names = tuple(sorted(cam_from_world))
    poses = to_4x4(invert(np.array([cam_from_world[name] for name in names])))
    return PoseSequence(world_from_cam=poses, names=names, origin=str(folder))
