"""One 3D Gaussian per pixel, from what the Gaussian head predicts ("Depth Anything 3", arXiv:2511.10647).

The numbers are those that the published network's users have: where that differs from what the names promise
(the order of the quaternion, the meaning of depth), the difference is kept and said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from da3stream.estimation.da3.pose_encoding import invert_rigid, quaternion_xyzw
from da3stream.estimation.da3.spherical_harmonics import COEFFICIENTS, rotate_harmonics
from da3stream.geometry.registration import umeyama

RAW_CHANNELS = 37
"""Offset in the image (2), scale (3), quaternion (4), spherical harmonics (3 x 9), depth offset."""
MIN_SCALE, MAX_SCALE = 1e-5, 30.0
"""In units of a tenth of a pixel's width, summed over both axes, at the Gaussian's distance."""
HARMONICS_DAMPING = (1.0, 0.025, 0.025, 0.025, *(0.00625,) * 5)
MAX_RESCALING = 3.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gaussians:
    """Gaussians of N views, one per pixel, in the world frame of the predicted poses."""

    means: Tensor
    """(N, H, W, 3)."""
    scales: Tensor
    """(N, H, W, 3) standard deviations, in the unit of the means."""
    rotations: Tensor
    """(N, H, W, 4) unit quaternions, stored with a last component >= 0. The head's output is read as x y z w
    after a roll by one; viewers of 3D Gaussian Splatting take the result for w x y z."""
    harmonics: Tensor
    """(N, H, W, 3, 9) RGB, spherical harmonics up to degree 2."""
    opacities: Tensor
    """(N, H, W) in [0, 1]."""


def gaussians_from_raw(
    raw: Tensor,
    opacity: Tensor,
    depth: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    *,
    given_cam_from_world: Tensor | None = None,
) -> Gaussians:
    """Place the Gaussians of N views in the world.

    Args:
        raw: (N, H, W, 37) output of the Gaussian head.
        opacity: (N, H, W) in [0, 1].
        depth: (N, H, W) predicted; used as the distance along the ray, which it is not quite.
        cam_from_world: (N, 3, 4) or (N, 4, 4) predicted.
        intrinsics: (N, 3, 3) predicted, in pixels; without skew.
        given_cam_from_world: poses known beforehand; only the scale of their trajectory is taken over.
    """
    world_from_cam = invert_rigid(cam_from_world)
    rotation, centres = world_from_cam[..., :3], world_from_cam[..., 3]
    rescaling = 1.0
    if given_cam_from_world is not None:
        rescaling = trajectory_scale(cam_from_world, given_cam_from_world)
    distance = (depth + raw[..., 36]) * rescaling
    directions = F.normalize(_rays(raw[..., :2], intrinsics), dim=-1)
    pixel = 0.1 * (1 / intrinsics[:, 0, 0] + 1 / intrinsics[:, 1, 1])
    return Gaussians(
        means=_per_view(directions * distance[..., None], rotation) + (centres * rescaling)[:, None, None],
        scales=(MIN_SCALE + (MAX_SCALE - MIN_SCALE) * raw[..., 2:5].sigmoid())
        * (distance * pixel[:, None, None])[..., None],
        rotations=_world_rotations(raw[..., 5:9], rotation),
        harmonics=_world_harmonics(raw[..., 9:36], rotation),
        opacities=opacity,
    )


def trajectory_scale(cam_from_world: Tensor, given_cam_from_world: Tensor) -> float:
    """Size of the given trajectory of N cameras relative to the predicted one, within [1/3, 3].

    1 where it cannot be told, from one camera for instance.
    """
    predicted, given = (
        invert_rigid(pose.detach().cpu().double())[..., 3].numpy()
        for pose in (cam_from_world, given_cam_from_world)
    )
    try:
        scale = umeyama(predicted, given).scale
    except (ValueError, np.linalg.LinAlgError):
        return 1.0
    return float(np.clip(scale, 1 / MAX_RESCALING, MAX_RESCALING))


def _rays(offsets_px: Tensor, intrinsics: Tensor) -> Tensor:
    """(N, H, W, 3) rays with z = 1 in the camera frame, through the pixel centres moved by the offsets."""
    height, width = offsets_px.shape[1:3]
    v, u = torch.meshgrid(
        torch.arange(height, device=offsets_px.device) + 0.5,
        torch.arange(width, device=offsets_px.device) + 0.5,
        indexing="ij",
    )
    focal = intrinsics[:, None, None].diagonal(dim1=-2, dim2=-1)[..., :2]
    centre = intrinsics[:, None, None, :2, 2]
    pixels = torch.stack([u, v], dim=-1)
    return F.pad((pixels + offsets_px - centre) / focal, (0, 1), value=1.0)


def _per_view(vectors: Tensor, rotation: Tensor) -> Tensor:
    """Turn (N, H, W, 3) vectors by (N, 3, 3) rotations."""
    return (vectors.flatten(1, 2) @ rotation.mT).view_as(vectors)


def _world_rotations(quaternions: Tensor, world_from_cam: Tensor) -> Tensor:
    """(N, H, W, 4) rotations in the world, x y z w, of (N, H, W, 4) ones in the cameras, w x y z."""
    unit = quaternions / (quaternions.norm(dim=-1, keepdim=True) + 1e-8)
    local = unit.roll(1, dims=-1)
    product = local.flatten(1, 2) @ _left_product(quaternion_xyzw(world_from_cam)).mT
    turned = F.normalize(product, dim=-1).view_as(local)
    return torch.where(turned[..., 3:] < 0, -turned, turned)


def _world_harmonics(raw: Tensor, world_from_cam: Tensor) -> Tensor:
    """(N, H, W, 3, 9) damped and in the world frame, of (N, H, W, 27) ones, red first, in the cameras."""
    damped = raw.reshape(*raw.shape[:-1], 3, COEFFICIENTS) * raw.new_tensor(HARMONICS_DAMPING)
    return rotate_harmonics(damped.flatten(1, 3), world_from_cam).view_as(damped)


def _left_product(quaternion: Tensor) -> Tensor:
    """(N, 4, 4) matrices that multiply a quaternion x y z w by (N, 4) others from the left."""
    x, y, z, w = quaternion.unbind(-1)
    rows = [w, -z, y, x, z, w, -x, y, -y, x, w, z, -x, -y, -z, w]
    return torch.stack(rows, dim=-1).reshape(-1, 4, 4)
