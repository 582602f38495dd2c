"""The rotary embedding against its definition, and the identity that its shortcut rests on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da3stream.transformer.rope import class_token_rotation, grid_rotation

CPU = torch.device("cpu")


def rotate_one(vector: Tensor, row: float, column: float) -> Tensor:
    """The definition: pair (j, j + D/2) of each half turned by position * 100^(-2j/D)."""
    turned = vector.clone()
    half = len(vector) // 2
    for start, position in ((0, row), (half, column)):
        for j in range(half // 2):
            angle = position * 100 ** (-2 * j / half)
            first, second = start + j, start + j + half // 2
            turned[first] = vector[first] * math.cos(angle) - vector[second] * math.sin(angle)
            turned[second] = vector[second] * math.cos(angle) + vector[first] * math.sin(angle)
    return turned


def test_rotation_is_the_one_of_the_definition() -> None:
    vectors = torch.randn(1, 1, 7, 64, generator=torch.Generator().manual_seed(0))
    turned = grid_rotation(2, 3, 64, CPU)(vectors)[0, 0]
    positions = [(0, 0), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    for token, (row, column) in enumerate(positions):
        torch.testing.assert_close(turned[token], rotate_one(vectors[0, 0, token], row, column))


def test_turning_class_tokens_back_is_turning_patches_forth() -> None:
    """Attention weights of a block over all views: patches at (1, 1) and class tokens at the origin."""
    generator = torch.Generator().manual_seed(0)
    views, tokens = 3, 5
    queries, keys = torch.randn(2, 1, 2, views * tokens, 64, generator=generator)

    def at_positions(vectors: Tensor) -> Tensor:
        turned = [
            vector if index % tokens == 0 else rotate_one(vector, 1, 1)
            for head in vectors[0]
            for index, vector in enumerate(head)
        ]
        return torch.stack(turned).view(vectors.shape)

    expected = at_positions(queries) @ at_positions(keys).mT
    rotation = class_token_rotation(64, CPU)

    def turned(vectors: Tensor) -> Tensor:
        by_view = vectors.view(2, views, tokens, 64).transpose(0, 1)
        return rotation(by_view.clone()).transpose(0, 1).reshape(vectors.shape)

    ours = turned(queries) @ turned(keys).mT
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    unrotated = queries @ keys.mT
    assert not torch.allclose(unrotated, expected, atol=0.1)
