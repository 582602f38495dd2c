"""Which of the network's Gaussians are kept, and how they lie before the cameras that see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from da3stream.estimation.base import GaussianOptions
from da3stream.estimation.da3.gaussians import Gaussians as NetworkGaussians
from da3stream.estimation.da3.gaussians import trajectory_scale
from da3stream.estimation.da3.raw_geometry import RawGeometry
from da3stream.geometry.rigid3 import nearest_rotation
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import FrameGaussians, Gaussians

BORDER = 8 / 256
"""Share of rows and of columns that is dropped on each side: Gaussians at the border are unreliable."""
NEAR_SHARE = 0.9
OPACITY_MARGIN = 1e-6
"""Opacities are kept so far from 0 and 1, whose logits are infinite."""
LARGEST = 6e4
"""Of numbers that half precision holds."""
STRETCH = 1e-6
"""What differs less from a multiple of the identity is one."""


def frame_gaussians(
    result: Mapping[str, Tensor],
    said: RawGeometry,
    indices: NDArray[Any],
    options: GaussianOptions,
    given_cam_from_world: Tensor | None,
) -> FrameGaussians:
    """The Gaussians of N frames, each in the camera of its frame.

    Args:
        result: of the network's forward pass of one scene.
        said: the geometry that was made of it: its depth, intrinsics and confidence are what counts. Frames
            without any confidence have no Gaussians.
        indices: (N,) frame indices. They seed the choice. A run has at least as many frames as the highest
            one says, so that no frame needs more than its part of `options.most`.
        options: how many, and with which colours.
        given_cam_from_world: (N, 3, 4) known poses as the network was given them.
    """
    network = NetworkGaussians(
        **{field.name: result[f"gaussians.{field.name}"][0] for field in fields(NetworkGaussians)}
    )
    per_frame = -(-options.most // (int(np.max(indices)) + 1))
    keep = worth_keeping(network, result["depth"][0])
    cameras, intrinsics = (result[name][0].double().cpu().numpy() for name in ("extrinsics", "intrinsics"))
    unit = _submap_units(result, given_cam_from_world)
    stretches = _stretches(result["depth"][0], intrinsics, said)
    frames = []
    for row, index in enumerate(np.asarray(indices).tolist()):
        if not (said.confidence[row] > 0).any():
            frames.append(Gaussians.none(options.coefficients).compact())
            continue
        chosen = _sample(keep[row].flatten(), network.opacities[row].flatten(), per_frame, seed=index)
        in_world = _table(network, row, chosen, options.coefficients)
        rotation = nearest_rotation(cameras[row, :, :3])
        in_camera = in_world.moved(Sim3(scale=unit, rotation=rotation, translation=cameras[row, :, 3]))
        frames.append(_stretched(in_camera, stretches[row]).compact())
    return FrameGaussians.of(frames, options.coefficients)


def worth_keeping(gaussians: NetworkGaussians, depth: Tensor) -> Tensor:
    """(N, H, W) whether a Gaussian is kept, by the rules of the published export.

    A border of 1/32 of the image on each side is left out (none of images below 32 pixels), and what lies
    beyond the 0.9 quantile of the depth of its view. So are Gaussians that are not numbers, and those without
    a positive size, which a depth offset below minus the depth makes.

    Args:
        gaussians: of N views.
        depth: (N, H, W) of the same views.
    """
    views = []
    for view, some in enumerate(depth):  # one at a time: the colours of all of them are large
        keep = _inside(some) & (some <= torch.quantile(some, NEAR_SHARE))
        keep &= (gaussians.scales[view] > 0).all(dim=-1)
        for field in fields(gaussians):
            values = getattr(gaussians, field.name)[view].reshape(*some.shape, -1)
            keep &= (values.abs() < LARGEST).all(dim=-1)
        views.append(keep)
    return torch.stack(views)


def _inside(depth: Tensor) -> Tensor:
    """(H, W) whether a pixel is off the border."""
    height, width = depth.shape
    rows, columns = int(height * BORDER), int(width * BORDER)
    inside = torch.zeros_like(depth, dtype=torch.bool)
    inside[rows : height - rows, columns : width - columns] = True
    return inside


def _sample(keep: Tensor, opacities: Tensor, most: int, seed: int) -> Tensor:
    """At most so many of the pixels to keep, (K,); the more opaque one is, the more likely it comes early.

    Arrival times of independent exponential variables with the opacities as rates: the first k are a weighted
    random sample without replacement, for every k (Efraimidis and Spirakis 2006).
    """
    waiting = np.random.default_rng(seed).exponential(size=len(keep))
    rates = torch.where(keep, opacities.clamp(min=OPACITY_MARGIN), 0).double().cpu().numpy()
    candidates = np.flatnonzero(rates)
    order = np.argsort(waiting[candidates] / rates[candidates], kind="stable")
    return torch.from_numpy(candidates[order[:most]])


def _table(network: NetworkGaussians, row: int, pixels: Tensor, coefficients: int) -> Gaussians:
    """Some Gaussians of one view, in the network's world.

    Their quaternions are taken for w x y z, as renderers take them and took them when the network was
    trained, whatever their numbers once meant (see `gaussians.Gaussians`).
    """
    pixels = pixels.to(network.means.device)

    def picked(values: Tensor) -> Tensor:
        return values[row].flatten(0, 1)[pixels].float()

    return Gaussians(
        means=picked(network.means).cpu().numpy(),
        log_scales=picked(network.scales).log().cpu().numpy(),
        rotations_wxyz=picked(network.rotations).cpu().numpy(),
        harmonics=picked(network.harmonics)[..., :coefficients].cpu().numpy(),
        opacity_logits=picked(network.opacities).logit(eps=OPACITY_MARGIN).cpu().numpy(),
    )


def _submap_units(result: Mapping[str, Tensor], given: Tensor | None) -> float:
    """Units of the result's depth per unit of its Gaussians.

    Those of the nested network are in the unit of its any-view network; known poses have rescaled them.
    """
    scale = float(result["scale_factor"][0]) if "scale_factor" in result else 1.0
    if given is None:
        return scale
    cameras = result["extrinsics"][0].clone()
    cameras[..., 3] /= scale
    return scale / trajectory_scale(cameras, given)


def _stretches(depth: Tensor, intrinsics: NDArray[np.float64], said: RawGeometry) -> NDArray[np.float64]:
    """(N, 3, 3) what happened to the points of each camera between the network's word and what was made of
    it: another intrinsic matrix, and depth times a factor."""
    heard = depth.double().cpu().numpy()
    usable = np.isfinite(heard) & (heard > 0) & (said.confidence > 0)
    factors = [
        np.median(kept[rows] / own[rows]) if rows.any() else 1.0
        for kept, own, rows in zip(said.depth, heard, usable, strict=True)
    ]
    return np.array(factors)[:, None, None] * np.linalg.solve(said.intrinsics, intrinsics)


def _stretched(gaussians: Gaussians, stretch: NDArray[np.float64]) -> Gaussians:
    factor = stretch[2, 2]
    if np.abs(stretch / factor - np.eye(3)).max() < STRETCH:
        at_home = Sim3(scale=factor, rotation=np.eye(3), translation=np.zeros(3))
        return gaussians if abs(factor - 1) < STRETCH else gaussians.moved(at_home)
    return gaussians.stretched(stretch)
