"""DINOv2's vision transformer: images -> tokens, each view by itself.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; Oquab et al., "DINOv2", 2023 (without register
tokens).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from da3stream.transformer import PATCH_PX, POSITION_GRID
from da3stream.transformer.blocks import Block

BLOCK_NORM_EPSILON = 1e-6
POSITION_OFFSET = 0.1  # patches; the published weights were trained with it


class PatchEmbedding(nn.Module):
    """One linear map of the pixels of a patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH_PX, stride=PATCH_PX)

    def forward(self, images: Tensor) -> Tensor:
        """(views, 3, H, W) -> (views, rows * columns, C)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class PlainVisionTransformer(nn.Module):
    """The parameters of DINOv2's transformer under their published names, and its first step.

    How the blocks run is up to who uses it.
    """

    def __init__(self, width: int, blocks: Iterable[Block], *, final_norm_epsilon: float) -> None:
        """`width` is the number C of channels of a token."""
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + POSITION_GRID**2, width))
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=final_norm_epsilon)

    def embed(self, images: Tensor, positions: Tensor) -> Tensor:
        """(views, 3, H, W) -> tokens (views, 1 + rows * columns, C) with their positions added."""
        patches = self.patch_embed(images)
        class_token = (self.cls_token + positions[:, :1]).expand(len(patches), -1, -1)
        return torch.cat((class_token, patches.add_(positions[:, 1:])), dim=1)

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, C) positional table, the trained one resized.

        The scale factors, not the sizes, decide where it is sampled; they are those of training, a little too
        large.
        """
        if rows == columns == POSITION_GRID:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].float().reshape(1, POSITION_GRID, POSITION_GRID, -1).permute(0, 3, 1, 2)
        scales = [(side + POSITION_OFFSET) / POSITION_GRID for side in (rows, columns)]
        resized = functional.interpolate(grid, scale_factor=scales, mode="bicubic")
        return torch.cat((self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)), dim=1)
