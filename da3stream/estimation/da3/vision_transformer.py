"""The transformer that all models share: patches of the images -> features at four depths."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.layer_features import LayerFeatures
from da3stream.transformer import PATCH_PX
from da3stream.transformer.blocks import Block
from da3stream.transformer.execution import Execution, pieces
from da3stream.transformer.rope import Rotation, class_token_rotation, grid_rotation
from da3stream.transformer.vision_transformer import BLOCK_NORM_EPSILON, PlainVisionTransformer

FINAL_NORM_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class EarlyTokens:
    """What the blocks before the first that sees all views make of each view by itself."""

    tokens: Tensor
    """(views, 1 + rows * columns, C), float32."""
    class_tokens: Tensor
    """(views, C), one block earlier: what the reference view is chosen by."""


class VisionTransformer(PlainVisionTransformer):
    """DINOv2's transformer (Oquab et al., 2023), its later odd blocks attending over all views.

    What follows the early blocks is a generator: a head takes what it needs of a layer before the next block
    runs, so that the wide features of four layers never lie in memory together.
    """

    def __init__(self, config: ModelConfig) -> None:
        blocks = (_block(config, index) for index in range(config.depth))
        super().__init__(config.width, blocks, final_norm_epsilon=FINAL_NORM_EPSILON)
        self.config = config
        if config.is_any_view:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, config.width))

    def single_view_features(
        self, images: Tensor, execution: Execution, *, also: Collection[int] = ()
    ) -> Iterator[LayerFeatures]:
        """Run all blocks of a single-view model, stopping at each out layer and at the blocks `also`.

        Args:
            images: (views, 3, H, W) normalised; H and W multiples of 14. All of them are in memory at once.
            execution: how the work is cut.
            also: indices of further blocks.
        """
        wanted = {*self.config.out_layers, *also}
        tokens = self.embed(images, self.positions(*(side // PATCH_PX for side in images.shape[-2:])))
        for index in range(max(wanted) + 1):
            self._update_alone(index, tokens, images, execution)
            if index in wanted:
                yield self._features(index, tokens, None, images)

    def early(
        self, images: Tensor, execution: Execution, *, also: Collection[int] = ()
    ) -> tuple[EarlyTokens, dict[int, Tensor]]:
        """Run the blocks of an any-view model that come before its camera tokens.

        Args:
            images: (views, 3, H, W) normalised; H and W multiples of 14.
            execution: how the work is cut.
            also: indices of blocks whose normalised patches are wanted.

        Returns:
            The tokens, and for each wanted block before the camera tokens (views, rows, columns, C).
        """
        start = self._start
        rows, columns = (side // PATCH_PX for side in images.shape[-2:])
        tokens = self.cls_token.new_empty(len(images), 1 + rows * columns, self.config.width)
        class_tokens = tokens.new_empty(len(images), self.config.width)
        wanted: dict[int, list[Tensor]] = {index: [] for index in sorted(also) if index < start}
        positions = self.positions(rows, columns)
        for some in pieces(len(images), execution.views):
            part = self.embed(images[some], positions)
            for index in range(start):
                if index == start - 1:
                    class_tokens[some] = part[:, 0]
                self._update_alone(index, part, images, execution)
                if index in wanted:
                    wanted[index].append(self._features(index, part, None, images).patch_grid())
            tokens[some] = part
        early = EarlyTokens(tokens=tokens, class_tokens=class_tokens)
        return early, {index: torch.cat(parts) for index, parts in wanted.items()}

    def features(
        self,
        tokens: Tensor,
        camera_tokens: Tensor,
        images: Tensor,
        execution: Execution,
        *,
        also: Collection[int] = (),
    ) -> Iterator[LayerFeatures]:
        """Run the other blocks of an any-view model, stopping at each out layer and at the blocks `also`.

        Args:
            tokens: (batch * views, 1 + rows * columns, C) of the early blocks; changed in place.
            camera_tokens: (batch, views, C), which take the place of the class tokens.
            images: (batch, views, 3, H, W), for their shape.
            execution: how the work is cut.
            also: indices of further blocks.
        """
        start = self._start
        wanted = {*self.config.out_layers, *(index for index in also if index >= start)}
        tokens[:, 0] = camera_tokens.flatten(0, 1)
        for index in range(start, max(wanted) + 1):
            local = tokens
            if self.is_global(index):
                if index in self.config.out_layers:
                    local = tokens.clone()
                self._update_scenes(index, torch.unflatten(tokens, 0, images.shape[:2]), execution)
            else:
                self._update_alone(index, tokens, images, execution)
            if index in wanted:
                yield self._features(index, tokens, local, images)

    def is_global(self, index: int) -> bool:
        """Whether a block attends over all views jointly."""
        start = self.config.alternation_start
        return start is not None and index >= start and index % 2 == 1

    def learned_camera_tokens(self, reference: Tensor, views: int) -> Tensor:
        """(batch, views, C): the first camera token for the reference view (batch,), else the second."""
        index = torch.arange(views, device=reference.device) != reference[:, None]
        return self.camera_token[0][index.long()]

    def _update_alone(self, index: int, tokens: Tensor, images: Tensor, execution: Execution) -> None:
        """A block that sees one view at a time, on tokens (views, ..., C)."""
        rotation: Rotation | None = None
        if _is_rotated(self.config, index):
            rows, columns = (side // PATCH_PX for side in images.shape[-2:])
            rotation = grid_rotation(rows, columns, self._head_width, tokens.device)
        cast(Block, self.blocks[index]).update(tokens, rotation, execution)

    def _update_scenes(self, index: int, tokens: Tensor, execution: Execution) -> None:
        """A block that sees all views of a scene, on tokens (batch, views, ..., C)."""
        rotation = class_token_rotation(self._head_width, tokens.device)
        for scene in tokens:
            cast(Block, self.blocks[index]).update_jointly(scene, rotation, execution)

    def _features(self, index: int, tokens: Tensor, local: Tensor | None, images: Tensor) -> LayerFeatures:
        rows, columns = (side // PATCH_PX for side in images.shape[-2:])
        return LayerFeatures(
            index=index, tokens=tokens, local_tokens=local, rows=rows, columns=columns, norm=self.norm
        )

    @property
    def _head_width(self) -> int:
        return self.config.width // self.config.heads

    @property
    def _start(self) -> int:
        """Index of the first block behind the camera tokens, in an any-view model."""
        start = self.config.alternation_start
        if start is None:
            raise ValueError(f"{self.config.name} sees each view by itself")
        return start


class Backbone(nn.Module):
    """Only a name: the checkpoints' keys of the transformer begin with it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pretrained = VisionTransformer(config)


def _block(config: ModelConfig, index: int) -> Block:
    return Block(
        config.width,
        config.heads,
        norm_epsilon=BLOCK_NORM_EPSILON,
        feed_forward=config.feed_forward,
        normalise_qk=_is_rotated(config, index),
    )


def _is_rotated(config: ModelConfig, index: int) -> bool:
    start = config.alternation_start
    return start is not None and index >= start
