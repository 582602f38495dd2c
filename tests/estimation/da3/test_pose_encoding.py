"""Cameras to nine numbers and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.pose_encoding import (
    Cameras,
    decode_cameras,
    encode_cameras,
    invert_rigid,
    quaternion_xyzw,
    rotation_from_quaternion_xyzw,
)
from tests.estimation.da3.golden import FOLDER, load
from tests.estimation.da3.networks import close

HEIGHT_PX, WIDTH_PX = 280, 504


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load(FOLDER / "pose_encoding.npz")


def test_decoding_agrees(golden: dict[str, Tensor]) -> None:
    cameras = decode_cameras(golden["enc"], HEIGHT_PX, WIDTH_PX)
    close(cameras.extrinsics, golden["w2c"])
    close(invert_rigid(cameras.extrinsics), golden["c2w"])
    # Fields of view from 0 to more than pi: focal lengths over eight decades.
    torch.testing.assert_close(cameras.intrinsics, golden["intrinsics"], rtol=1e-5, atol=1e-5)


def test_encoding_agrees(golden: dict[str, Tensor]) -> None:
    """The golden poses are camera-to-world."""
    cameras = Cameras(extrinsics=invert_rigid(golden["ext"]), intrinsics=golden["K"])
    close(encode_cameras(cameras, HEIGHT_PX, WIDTH_PX), golden["enc_of_ext"])


@pytest.mark.parametrize("name", ["tiny_n2_cam", "tiny_n5_cam"])
def test_camera_tokens_agree(tiny: AnyViewNetwork, name: str) -> None:
    known = load(FOLDER / f"{name}.npz")
    cameras = Cameras(extrinsics=known["in.extrinsics"][None], intrinsics=known["in.intrinsics"][None])
    close(tiny.cam_enc(cameras, 70, 98)[0], known["cam_token"])


def test_quaternions_agree(golden: dict[str, Tensor]) -> None:
    close(quaternion_xyzw(golden["mats"]), golden["quats_xyzw"])


def test_quaternions_come_back() -> None:
    """Near half turns, too, where w is near 0 and each of the other components is the largest in turn."""
    generator = torch.Generator().manual_seed(0)
    quaternions = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    quaternions[:100, 3] *= 1e-9
    rotations = rotation_from_quaternion_xyzw(quaternions)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).double().expand_as(rotations))
    again = quaternion_xyzw(rotations)
    assert float(again[:, 3].min()) >= 0
    torch.testing.assert_close(rotation_from_quaternion_xyzw(again), rotations)
    torch.testing.assert_close(again.norm(dim=-1), torch.ones(300, dtype=torch.float64))


def test_cameras_come_back() -> None:
    generator = torch.Generator().manual_seed(0)
    encoding = torch.randn(2, 5, 9, generator=generator, dtype=torch.float64)
    encoding[..., 3:7] /= encoding[..., 3:7].norm(dim=-1, keepdim=True)
    encoding[..., 3:7] *= encoding[..., 6:7].sign()
    encoding[..., 7:] = 0.5 + encoding[..., 7:].sigmoid()
    cameras = decode_cameras(encoding, 70, 98)
    assert cameras.extrinsics.shape == (2, 5, 3, 4)
    torch.testing.assert_close(encode_cameras(cameras, 70, 98), encoding)
