"""Networks that say what a test wants, and remember what they were asked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from da3stream.errors import EstimationError
from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.config import NestedModelConfig, preset
from da3stream.estimation.da3.nested_network import NestedNetwork

FOCAL_PX = 40.0


def plain_result(views: int, height: int, width: int) -> dict[str, Tensor]:
    """Cameras that move along x before a wall at depth 2 to 3, in float32 as a network gives them."""
    extrinsics = torch.eye(4)[:3].repeat(views, 1, 1)
    extrinsics[:, 0, 3] = -0.5 * torch.arange(views)
    extrinsics[:, 1, 3] = 0.1 * torch.arange(views) ** 2
    intrinsics = torch.tensor([[FOCAL_PX, 0, width / 2], [0, FOCAL_PX, height / 2], [0, 0, 1]])
    depth = torch.linspace(2, 3, views * height * width).reshape(1, views, height, width)
    features = torch.randn(1, views, height // 14, width // 14, 8, generator=torch.Generator().manual_seed(1))
    return {
        "depth": depth,
        "depth_conf": depth + 1,
        "extrinsics": extrinsics[None],
        "intrinsics": intrinsics.repeat(1, views, 1, 1),
        "feat_layer_5": features,
    }


class _Scripted:
    """Gives `plain_result` with some entries replaced."""

    calls: list[dict[str, Any]]
    changes: dict[str, Tensor]
    fails_with_rays: bool
    fails: bool

    def script(self, changes: dict[str, Tensor], fails: bool, fails_with_rays: bool) -> None:
        self.calls, self.changes = [], changes
        self.fails, self.fails_with_rays = fails, fails_with_rays

    def answer(self, images: Tensor, **options: Any) -> dict[str, Tensor]:
        self.calls.append({"images": images, **options})
        if self.fails or (self.fails_with_rays and options["use_ray_pose"]):
            raise EstimationError("no fit")
        _, views, _, height, width = images.shape
        return plain_result(views, height, width) | self.changes


class ScriptedNetwork(_Scripted, AnyViewNetwork):
    """An any-view network in name."""

    def __init__(self, *, fails: bool = False, fails_with_rays: bool = False, **changes: Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.config = preset("tiny")  # type: ignore[assignment]
        self.script(changes, fails, fails_with_rays)

    def forward(self, images: Tensor, extrinsics: Any = None, intrinsics: Any = None, **options: Any) -> Any:
        return self.answer(images, extrinsics=extrinsics, intrinsics=intrinsics, **options)


class ScriptedNestedNetwork(_Scripted, NestedNetwork):
    """A nested network in name."""

    def __init__(self, *, fails: bool = False, **changes: Tensor) -> None:
        torch.nn.Module.__init__(self)
        tiny: Any = preset("tiny")
        self.config = NestedModelConfig(name="tiny-nested", any_view=tiny, metric=tiny)
        self.script(changes, fails, False)

    def forward(self, images: Tensor, extrinsics: Any = None, intrinsics: Any = None, **options: Any) -> Any:
        return self.answer(images, extrinsics=extrinsics, intrinsics=intrinsics, **options)
