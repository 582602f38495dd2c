"""What a block hands to the heads, put together only for the views that are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.reference_view import ViewOrder


@dataclass(frozen=True, kw_only=True)
class LayerFeatures:
    """The tokens after one block.

    Tokens are (batch, views, 1 + rows * columns, C): the class or camera token, then the patches row by
    row. Valid until the next block runs.
    """

    index: int
    """Index of the block."""
    tokens: Tensor
    local_tokens: Tensor | None
    """Output of the latest block that saw one view at a time; None in a single-view model."""
    order: ViewOrder | None
    """The order in which the tokens' views stand; None: as they came."""
    rows: int
    columns: int
    norm: nn.Module
    """The final normalisation of the transformer."""

    @property
    def views(self) -> int:
        """Views of all batch items together."""
        return self.tokens.shape[0] * self.tokens.shape[1]

    def patches(self, start: int, stop: int) -> Tensor:
        """(stop - start, rows * columns, 2C or C) features of some views.

        Views count through the batch, in the order in which they came. The local half is raw, the other
        normalised.
        """
        normalised = self.norm(self._pick(self.tokens, start, stop)[:, 1:])
        if self.local_tokens is None:
            return normalised
        return torch.cat((self._pick(self.local_tokens, start, stop)[:, 1:], normalised), dim=-1)

    def camera_tokens(self) -> Tensor:
        """(batch, views, 2C or C) first token of each view, raw, views as they came."""
        parts = [self.tokens] if self.local_tokens is None else [self.local_tokens, self.tokens]
        first = torch.cat([part[:, :, 0] for part in parts], dim=-1)
        if self.order is None:
            return first
        return first.flatten(0, 1)[self.order.place].reshape(first.shape)

    def patch_grid(self) -> Tensor:
        """(batch, views, rows, columns, C) normalised patches in the order in which the views stand."""
        return torch.unflatten(self.norm(self.tokens[:, :, 1:]), 2, (self.rows, self.columns))

    def _pick(self, tokens: Tensor, start: int, stop: int) -> Tensor:
        views = tokens.flatten(0, 1)
        return views[start:stop] if self.order is None else views[self.order.place[start:stop]]
