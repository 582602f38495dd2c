"""Rotary position embedding in two dimensions: half of a head turns with the row, half with the column.

Su et al., "RoFormer", 2021, with the pairs (j, j + D/2) of a half of D channels and frequencies
100^(-2j/D). Only differences of positions reach the attention, which is why a block that sees all views
needs next to no work: see `ClassTokenRotation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

BASE = 100.0


class Rotation(Protocol):
    """Turns queries or keys (views, heads, tokens, d) by the positions of their tokens."""

    def __call__(self, vectors: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class GridRotation:
    """Patches at (row + 1, column + 1), the class token at (0, 0): for blocks that see one view."""

    cosines: Tensor
    """(tokens, d), float32."""
    sines: Tensor
    """(tokens, d), float32, negative for the first member of each pair."""

    def __call__(self, vectors: Tensor) -> Tensor:
        return _turn(vectors, self.cosines, self.sines)


@dataclass(frozen=True, kw_only=True)
class ClassTokenRotation:
    """All patches at (1, 1), the class tokens at (0, 0): for blocks that see all views.

    Shifting every position by (-1, -1) changes no attention weight and leaves only the class tokens, one a
    view, to be turned.
    """

    cosines: Tensor
    """(1, d), float32."""
    sines: Tensor
    """(1, d), float32."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Turn the first token of each view in place: the vectors are the attention's own, fresh ones."""
        class_tokens = vectors[:, :, :1]
        class_tokens.copy_(_turn(class_tokens, self.cosines, self.sines))
        return vectors


@lru_cache(maxsize=16)
def grid_rotation(rows: int, columns: int, head_width: int, device: torch.device) -> GridRotation:
    """The rotation of a class token and rows x columns patches, row by row."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    patches = torch.stack((row, column), dim=-1).reshape(-1, 2) + 1
    cosines, sines = _tables(torch.cat((torch.zeros(1, 2), patches)), head_width)
    return GridRotation(cosines=cosines.to(device), sines=sines.to(device))


@lru_cache(maxsize=16)
def class_token_rotation(head_width: int, device: torch.device) -> ClassTokenRotation:
    """The rotation of the tokens of views, each with its class token first."""
    cosines, sines = _tables(torch.full((1, 2), -1.0), head_width)
    return ClassTokenRotation(cosines=cosines.to(device), sines=sines.to(device))


@torch.inference_mode(False)
@torch.no_grad()
def _tables(positions: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines (tokens, d) of positions (tokens, 2), each value once for both of its pair."""
    half = head_width // 2
    exponents = torch.arange(0, half, 2, dtype=torch.float64) / half
    angles = positions.double()[:, :, None] * BASE**-exponents  # (tokens, 2, half / 2)
    cosines = angles.cos()[:, :, None].expand(-1, -1, 2, -1)
    sines = torch.stack((-angles.sin(), angles.sin()), dim=2)
    return cosines.flatten(1).float(), sines.flatten(1).float()


def _turn(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    partners = torch.unflatten(vectors, -1, (2, 2, -1)).flip(-2).flatten(-3)
    return torch.addcmul(vectors * cosines, partners, sines)
