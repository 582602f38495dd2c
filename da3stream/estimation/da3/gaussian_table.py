"""Gaussians as the columns of a 3D Gaussian Splatting PLY file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from da3stream.estimation.da3.gaussians import Gaussians

BORDER = 8 / 256
"""Share of rows and of columns that is dropped on each side: Gaussians at the border are unreliable."""
NEAR_SHARE = 0.9
EXTENT_QUANTILE = 0.95
OPACITY_MARGIN = 1e-6
"""Opacities are kept so far from 0 and 1, whose logits are infinite."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GaussianTable:
    """Result of `gaussian_table`."""

    columns: tuple[str, ...]
    """F names of PLY properties."""
    values: Tensor
    """(M, F) float32; opacities as logits, scales as natural logarithms, colours as coefficients of spherical
    harmonics without the shift by 0.5."""


def gaussian_table(
    gaussians: Gaussians,
    depth: Tensor,
    *,
    every: int = 1,
    near_share: float = NEAR_SHARE,
    drop_border: bool = True,
    all_harmonics: bool = False,
    normalise: bool = False,
) -> GaussianTable:
    """Select the Gaussians that are worth keeping and lay them out for a PLY file.

    Gaussians without a positive size, which a depth offset below minus the depth makes, are left out.

    Args:
        gaussians: of N views.
        depth: (N, H, W) of the same views.
        every: take every so many-th view only.
        near_share: keep the pixels whose depth is at most this quantile of their view.
        drop_border: drop a border of 1/32 of the image on each side; nothing for images below 32 pixels.
        all_harmonics: with the coefficients of degrees 1 and 2 (f_rest), channel by channel.
        normalise: move the median of all selected views to the origin and scale the bulk to [-1, 1].
    """
    keep = torch.zeros_like(depth, dtype=torch.bool)
    keep[::every] = _near(depth[::every], near_share)
    keep &= (gaussians.scales > 0).all(dim=-1)
    if drop_border:
        keep &= _inside(depth)
    means, scales = gaussians.means[keep], gaussians.scales[keep]
    if normalise:
        means = means - means.median(dim=0).values
        extent = torch.quantile(means.abs(), EXTENT_QUANTILE, dim=0).max()
        means, scales = means / extent, scales / extent
    harmonics, opacities = gaussians.harmonics[keep], gaussians.opacities[keep]
    parts = {
        ("x", "y", "z"): means,
        ("nx", "ny", "nz"): torch.zeros_like(means),
        _numbered("f_dc", 3): harmonics[..., 0],
        _numbered("f_rest", 24 if all_harmonics else 0): harmonics[..., 1:].flatten(1),
        ("opacity",): opacities.logit(eps=OPACITY_MARGIN)[:, None],
        _numbered("scale", 3): scales.log(),
        _numbered("rot", 4): gaussians.rotations[keep],
    }
    return GaussianTable(
        columns=tuple(name for names in parts for name in names),
        values=torch.cat([values[:, : len(names)] for names, values in parts.items()], dim=1).float(),
    )


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(count))


def _near(depth: Tensor, share: float) -> Tensor:
    """(N, H, W) whether a pixel's depth is at most this quantile of its view."""
    limits = torch.quantile(depth.flatten(1), share, dim=1)
    return depth <= limits[:, None, None]


def _inside(depth: Tensor) -> Tensor:
    """(N, H, W) whether a pixel is off the border."""
    height, width = depth.shape[1:]
    rows, columns = int(height * BORDER), int(width * BORDER)
    inside = torch.zeros_like(depth, dtype=torch.bool)
    inside[:, rows : height - rows, columns : width - columns] = True
    return inside
