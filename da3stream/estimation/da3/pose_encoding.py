"""Cameras as nine numbers: the translation and rotation of camera-to-world, and two fields of view.

An encoding is (..., 9): translation (3), quaternion x y z w (4), vertical and horizontal field of view in
radians. The principal point is the middle of the image. Extrinsics are world-to-camera, OpenCV axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_TANGENT = 1e-6


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """Pinhole cameras."""

    extrinsics: Tensor
    """(..., 3, 4) world-to-camera."""
    intrinsics: Tensor
    """(..., 3, 3) in pixels."""


def decode_cameras(encoding: Tensor, height_px: int, width_px: int) -> Cameras:
    """Cameras of images of this size from encodings (..., 9)."""
    rotation = rotation_from_quaternion_xyzw(encoding[..., 3:7])
    cam_from_world = invert_rigid(torch.cat((rotation, encoding[..., :3, None]), dim=-1))
    tangents = torch.tan(encoding[..., 7:9] / 2).clamp(min=SMALLEST_TANGENT)
    intrinsics = encoding.new_zeros((*encoding.shape[:-1], 3, 3))
    intrinsics[..., 0, 0] = width_px / 2 / tangents[..., 1]
    intrinsics[..., 1, 1] = height_px / 2 / tangents[..., 0]
    intrinsics[..., 0, 2] = width_px / 2
    intrinsics[..., 1, 2] = height_px / 2
    intrinsics[..., 2, 2] = 1.0
    return Cameras(extrinsics=cam_from_world, intrinsics=intrinsics)


def encode_cameras(cameras: Cameras, height_px: int, width_px: int) -> Tensor:
    """Encodings (..., 9) of the cameras of images of this size; the principal point is not kept."""
    world_from_cam = invert_rigid(cameras.extrinsics)
    quaternion = quaternion_xyzw(world_from_cam[..., :3])
    half_sizes = cameras.intrinsics.new_tensor([height_px / 2, width_px / 2])
    focal = torch.stack((cameras.intrinsics[..., 1, 1], cameras.intrinsics[..., 0, 0]), dim=-1)
    return torch.cat((world_from_cam[..., 3], quaternion, 2 * torch.atan(half_sizes / focal)), dim=-1)


def invert_rigid(b_from_a: Tensor) -> Tensor:
    """(..., 3, 4) a_from_b of (..., 3 or 4, 4)."""
    rotation = b_from_a[..., :3, :3].mT
    return torch.cat((rotation, -(rotation @ b_from_a[..., :3, 3:])), dim=-1)


def rotation_from_quaternion_xyzw(quaternion: Tensor) -> Tensor:
    """(..., 3, 3) rotations of (..., 4) quaternions of any length > 0."""
    x, y, z, w = quaternion.unbind(-1)
    s = 2 / quaternion.square().sum(-1)
    flat = (
        *(1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        *(s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        *(s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.unflatten(torch.stack(flat, dim=-1), -1, (3, 3))


def quaternion_xyzw(rotation: Tensor) -> Tensor:
    """(..., 4) unit quaternions with w >= 0 of (..., 3, 3) rotations.

    Of the four ways to get a quaternion, the one that divides by the largest component.
    """
    trace = rotation.diagonal(dim1=-2, dim2=-1) @ rotation.new_tensor(
        [[1.0, -1.0, -1.0, 1.0], [-1.0, 1.0, -1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]]
    )
    doubled = (1 + trace).clamp(min=0).sqrt()  # twice the absolute x, y, z, w
    symmetric, skew = rotation + rotation.mT, rotation - rotation.mT
    xy, xz, yz = symmetric[..., 0, 1], symmetric[..., 0, 2], symmetric[..., 1, 2]
    xw, yw, zw = skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]
    xx, yy, zz, ww = doubled.square().unbind(-1)
    products = torch.stack((xx, xy, xz, xw, xy, yy, yz, yw, xz, yz, zz, zw, xw, yw, zw, ww), dim=-1)
    candidates = torch.unflatten(products, -1, (4, 4)) / (2 * doubled.clamp(min=0.1)[..., None])
    best = doubled.argmax(-1)[..., None, None].expand(*doubled.shape[:-1], 1, 4)
    quaternion = candidates.gather(-2, best).squeeze(-2)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)
