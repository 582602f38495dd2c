"""Arrays that the published network's own post-processing gave, and how near ours come to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDER = Path(__file__).parents[2] / "fixtures" / "da3"


def load(path: Path) -> dict[str, Tensor]:
    """The arrays of a golden file."""
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files if name != "meta"}


def load_meta(path: Path) -> dict[str, Any]:
    """What the file says of itself."""
    with np.load(path) as file:
        return json.loads(str(file["meta"]))


def relative_error(ours: Tensor | NDArray[Any] | float, golden: Tensor) -> float:
    """Largest difference relative to the largest golden value; the shapes must be equal."""
    a, b = np.asarray(ours, dtype=np.float64), golden.double().numpy()
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())
