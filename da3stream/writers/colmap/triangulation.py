"""Points with tracks from the matches in the database and our poses. Imported by the worker process only."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pycolmap

SEED = 0


def triangulate(model: Any, folder: Path, scratch: Path) -> Any:
    """The model with points that at least three images see; poses and cameras stay as they are.

    Points that move by less than 1.5 degrees between their images, or miss a pixel by more than 4 pixels,
    are left out: COLMAP's own thresholds.

    Args:
        model: a `pycolmap.Reconstruction` of the images of the database; its points are replaced.
        folder: holds database.db and images/.
        scratch: where a folder for the library to write to is made and removed again.
    """
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 1
    options.random_seed = options.triangulation.random_seed = options.mapper.random_seed = SEED
    written = scratch / "triangulated"
    written.mkdir()
    found = pycolmap.triangulate_points(
        model, folder / "database.db", folder / "images", written, options=options
    )
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value  # its adjustment resets that
    shutil.rmtree(written)
    return found
