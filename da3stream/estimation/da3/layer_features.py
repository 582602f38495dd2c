"""What a block hands to the heads, put together only for the views that are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class LayerFeatures:
    """The tokens after one block.

    Tokens are (views, 1 + rows * columns, C), views counting through the batch: the class or camera token,
    then the patches row by row. Valid until the next block runs.
    """

    index: int
    """Index of the block."""
    tokens: Tensor
    local_tokens: Tensor | None
    """Output of the latest block that saw one view at a time; None in a single-view model."""
    rows: int
    columns: int
    norm: nn.Module
    """The final normalisation of the transformer."""

    @property
    def views(self) -> int:
        """Views of all batch items together."""
        return len(self.tokens)

    def patches(self, views: slice) -> Tensor:
        """(some views, rows * columns, 2C or C) features. The local half is raw, the other normalised."""
        normalised = self.norm(self.tokens[views, 1:])
        if self.local_tokens is None:
            return normalised
        return torch.cat((self.local_tokens[views, 1:], normalised), dim=-1)

    def camera_tokens(self) -> Tensor:
        """(views, 2C or C) first token of each view, raw."""
        parts = [self.tokens] if self.local_tokens is None else [self.local_tokens, self.tokens]
        return torch.cat([part[:, 0] for part in parts], dim=-1)

    def patch_grid(self) -> Tensor:
        """(views, rows, columns, C) normalised patches."""
        return torch.unflatten(self.norm(self.tokens[:, 1:]), 1, (self.rows, self.columns))
