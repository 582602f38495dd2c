"""Sines and cosines of where a map's cells lie in the image, added to the maps inside a head.

The image spans a rectangle of diagonal 2 around the origin; a map of any size samples its centres. The
first half of the channels depends on the column only, the second on the row only, so that two small tables
are all there is.
"""

from __future__ import annotations

from functools import lru_cache
from math import hypot

import torch
from torch import Tensor

BASE = 100.0
STRENGTH = 0.1


def add_uv_embedding(maps: Tensor, aspect: float) -> Tensor:
    """Add the embedding to maps (views, channels, rows, columns) of images of this width / height, in place.

    For maps that the caller has just made. Returns them.
    """
    channels, rows, columns = maps.shape[1:]
    along_columns, along_rows = maps[:, : channels // 2], maps[:, channels // 2 :]
    length = hypot(aspect, 1.0)
    along_columns += _table(columns, aspect / length, channels // 2, maps.device)[:, None, :]
    along_rows += _table(rows, 1 / length, channels // 2, maps.device)[:, :, None]
    return maps


@lru_cache(maxsize=64)
@torch.inference_mode(False)
@torch.no_grad()
def _table(cells: int, half_side: float, channels: int, device: torch.device) -> Tensor:
    """(channels, cells) sines, then cosines, of the centres of cells that span [-half_side, half_side]."""
    end = half_side * (cells - 1) / cells
    centres = torch.linspace(-end, end, cells, dtype=torch.float64)
    exponents = torch.arange(channels // 2, dtype=torch.float64) / (channels // 2)
    angles = BASE ** -exponents[:, None] * centres
    return (STRENGTH * torch.cat((angles.sin(), angles.cos()))).float().to(device)
