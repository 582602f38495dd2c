"""Transformer blocks: attention and feed-forward, each normalised before and scaled after.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; LayerScale of Touvron et al., "Going deeper with
Image Transformers", 2021; SwiGLU of Shazeer, "GLU Variants Improve Transformer", 2020.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from da3stream.estimation.da3.rope import Rotation

QK_NORM_EPSILON = 1e-5


class Attention(nn.Module):
    """Multi-head self-attention without a mask."""

    def __init__(self, width: int, heads: int, *, normalise_qk: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = _head_norm(width // heads, normalise_qk)
        self.k_norm = _head_norm(width // heads, normalise_qk)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """(batch, tokens, C) -> (batch, tokens, C); every token sees all tokens of its batch item."""
        queries, keys, values = torch.unflatten(self.qkv(x), -1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys = self.q_norm(queries), self.k_norm(keys)
        if rotation is not None:
            queries, keys = rotation(queries), rotation(keys)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers around the exact (erf) GELU; of any width in and out."""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width_in, hidden)
        self.fc2 = nn.Linear(hidden, width_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class SwiGlu(nn.Module):
    """w3(silu(a) * b) with a, b = w12(x); two thirds of an MLP's hidden width, rounded up to 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-(8 * width // 3) // 8) * 8
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(functional.silu(gate) * value)


class LayerScale(nn.Module):
    """One learned factor a channel for what a residual branch adds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """x + gamma * branch."""
        return torch.addcmul(x, self.gamma, branch)


class Block(nn.Module):
    """x + ls1 * attention(norm1(x)), then x + ls2 * feed_forward(norm2(x))."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        norm_epsilon: float,
        feed_forward: Literal["mlp", "swiglu"] = "mlp",
        normalise_qk: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_epsilon)
        self.attn = Attention(width, heads, normalise_qk=normalise_qk)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=norm_epsilon)
        self.mlp = SwiGlu(width) if feed_forward == "swiglu" else Mlp(width, 4 * width, width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """(batch, tokens, C) -> (batch, tokens, C)."""
        x = self.ls1(x, self.attn(self.norm1(x), rotation))
        return self.ls2(x, self.mlp(self.norm2(x)))


def _head_norm(head_width: int, wanted: bool) -> nn.Module:
    return nn.LayerNorm(head_width, eps=QK_NORM_EPSILON) if wanted else nn.Identity()
