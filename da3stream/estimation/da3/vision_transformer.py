"""The transformer that all models share: patches of the images -> features at four depths."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from da3stream.estimation.da3.blocks import Block
from da3stream.estimation.da3.config import PATCH_PX, POSITION_GRID, ModelConfig
from da3stream.estimation.da3.layer_features import LayerFeatures
from da3stream.estimation.da3.reference_view import MINIMUM_VIEWS, ViewOrder, choose_reference, order_from
from da3stream.estimation.da3.rope import Rotation, class_token_rotation, grid_rotation

BLOCK_NORM_EPSILON = 1e-6
FINAL_NORM_EPSILON = 1e-5
POSITION_OFFSET = 0.1  # patches; the published weights were trained with it


class PatchEmbedding(nn.Module):
    """One linear map of the pixels of a patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH_PX, stride=PATCH_PX)

    def forward(self, images: Tensor) -> Tensor:
        """(views, 3, H, W) -> (views, rows * columns, C)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """DINOv2's transformer (Oquab et al., 2023), its later odd blocks attending over all views.

    `features` is a generator: a head takes what it needs of a layer before the next block runs, so that the
    wide features of four layers never lie in memory together.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + POSITION_GRID**2, width))
        if config.is_any_view:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, width))
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(self._block(index) for index in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=FINAL_NORM_EPSILON)

    def features(
        self,
        images: Tensor,
        *,
        camera_tokens: Tensor | None = None,
        ref_view_strategy: str = "saddle_balanced",
        also: Collection[int] = (),
    ) -> Iterator[LayerFeatures]:
        """Run the blocks, stopping at each out layer and at the blocks `also`, in their order.

        Args:
            images: (batch, views, 3, H, W) normalised; H and W multiples of 14.
            camera_tokens: (batch, views, C) of the camera encoder; None: none are known.
            ref_view_strategy: how the reference view is chosen if no cameras are known.
            also: indices of further blocks.
        """
        start, known = self.config.alternation_start, camera_tokens
        wanted = {*self.config.out_layers, *also}
        rows, columns = (side // PATCH_PX for side in images.shape[-2:])
        tokens = self.embed(images)
        local, order = tokens, None
        for index in range(max(wanted) + 1):
            if start is not None and index == start - 1 and known is None:
                tokens, order = _reordered(tokens, ref_view_strategy)
            if index == start:
                # In place, so seen through `local` too: the published network does the same.
                tokens[:, :, 0] = self._learned_camera_tokens(tokens) if known is None else known
            tokens = self._run_block(index, tokens, rows, columns)
            if not self.is_global(index):
                local = tokens
            if index in wanted:
                yield LayerFeatures(
                    index=index,
                    tokens=tokens,
                    local_tokens=None if start is None else local,
                    order=order,
                    rows=rows,
                    columns=columns,
                    norm=self.norm,
                )

    def embed(self, images: Tensor) -> Tensor:
        """(batch, views, 3, H, W) -> tokens (batch, views, T, C) with their positions added."""
        rows, columns = (side // PATCH_PX for side in images.shape[-2:])
        patches = self.patch_embed(images.flatten(0, 1))
        table = self.positions(rows, columns)
        class_token = (self.cls_token + table[:, :1]).expand(len(patches), -1, -1)
        tokens = torch.cat((class_token, patches + table[:, 1:]), dim=1)
        return torch.unflatten(tokens, 0, images.shape[:2])

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, C) positional table, the trained one resized.

        The scale factors, not the sizes, decide where it is sampled; they are those of training, a little too
        large. Not cached: it costs a thousandth of a forward pass.
        """
        if rows == columns == POSITION_GRID:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].float().reshape(1, POSITION_GRID, POSITION_GRID, -1).permute(0, 3, 1, 2)
        scales = [(side + POSITION_OFFSET) / POSITION_GRID for side in (rows, columns)]
        resized = functional.interpolate(grid, scale_factor=scales, mode="bicubic")
        return torch.cat((self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)), dim=1)

    def is_global(self, index: int) -> bool:
        """Whether a block attends over all views jointly."""
        start = self.config.alternation_start
        return start is not None and index >= start and index % 2 == 1

    def _learned_camera_tokens(self, tokens: Tensor) -> Tensor:
        """(1, views, C): the first camera token for the reference, the second for all other views."""
        index = (torch.arange(tokens.shape[1], device=tokens.device) > 0).long()
        return self.camera_token[:, index].to(tokens.dtype)

    def _block(self, index: int) -> Block:
        return Block(
            self.config.width,
            self.config.heads,
            norm_epsilon=BLOCK_NORM_EPSILON,
            feed_forward=self.config.feed_forward,
            normalise_qk=self._is_rotated(index),
        )

    def _run_block(self, index: int, tokens: Tensor, rows: int, columns: int) -> Tensor:
        rotation: Rotation | None = None
        head_width = self.config.width // self.config.heads
        if self.is_global(index):
            rotation = class_token_rotation(tokens.shape[2], head_width, tokens.device)
            return self.blocks[index](tokens.flatten(1, 2), rotation).view(tokens.shape)
        if self._is_rotated(index):
            rotation = grid_rotation(rows, columns, head_width, tokens.device)
        return self.blocks[index](tokens.flatten(0, 1), rotation).view(tokens.shape)

    def _is_rotated(self, index: int) -> bool:
        start = self.config.alternation_start
        return start is not None and index >= start


class Backbone(nn.Module):
    """Only a name: the checkpoints' keys of the transformer begin with it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pretrained = VisionTransformer(config)


def _reordered(tokens: Tensor, strategy: str) -> tuple[Tensor, ViewOrder | None]:
    """The tokens with the reference view first, and that order."""
    if tokens.shape[1] < MINIMUM_VIEWS:
        return tokens, None
    order = order_from(choose_reference(tokens[:, :, 0], strategy), tokens.shape[1])
    return (tokens if order is None else order.apply(tokens)), order
