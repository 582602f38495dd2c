"""The blocks that merge maps of several sizes, coarse to fine.

RefineNet's (Lin et al., 2017) in the form of Ranftl et al., "Vision Transformers for Dense Prediction", 2021.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

Size = tuple[int, int]
"""Rows, columns."""


def resize_bilinear(maps: Tensor, size: Size) -> Tensor:
    """Maps (views, channels, rows, columns) at another size, corner centres on corner centres."""
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """x + conv2(relu(conv1(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x))))


class FusionBlock(nn.Module):
    """Adds a finer lateral map to a coarser result, and brings the sum to the next size."""

    def __init__(self, channels: int, *, has_lateral: bool = True) -> None:
        super().__init__()
        if has_lateral:
            self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, size: Size, lateral: Tensor | None = None) -> Tensor:
        """The 1 x 1 convolution comes before the enlargement: the same result for a quarter of the work."""
        if lateral is not None:
            x = x + self.resConfUnit1(lateral)
        return resize_bilinear(self.out_conv(self.resConfUnit2(x)), size)
