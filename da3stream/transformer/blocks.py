"""Transformer blocks: attention and feed-forward, each normalised before and scaled after.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; LayerScale of Touvron et al., "Going deeper with
Image Transformers", 2021; SwiGLU of Shazeer, "GLU Variants Improve Transformer", 2020.

Tokens are float32 and are changed in place. Matrices may be of a shorter type, in which products and
attention are computed; normalisation and rotation are float32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from da3stream.transformer import attention
from da3stream.transformer.execution import Execution, pieces
from da3stream.transformer.linear import Linear, linear
from da3stream.transformer.rope import Rotation

QK_NORM_EPSILON = 1e-5


class Attention(nn.Module):
    """Multi-head self-attention without a mask."""

    def __init__(self, width: int, heads: int, *, normalise_qk: bool) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.qkv = Linear(width, 3 * width)
        self.q_norm = _head_norm(self.head_width, normalise_qk)
        self.k_norm = _head_norm(self.head_width, normalise_qk)
        self.proj = Linear(width, width)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        attend: attention.Attention = attention.fused_attention,
    ) -> Tensor:
        """(batch, tokens, C) -> (batch, tokens, C); every token sees all tokens of its batch item."""
        queries, keys, values = self.project(x, rotation, slice(0, self.heads))
        return self.proj(attend(queries, keys, values).transpose(1, 2).flatten(2))

    def project(self, x: Tensor, rotation: Rotation | None, heads: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, some heads, tokens, d), of (batch, tokens, C)."""
        parts = (3, self.heads, self.head_width)
        weight, bias = (torch.unflatten(some, 0, parts) for some in (self.qkv.weight, self.qkv.bias))
        if heads.stop - heads.start < self.heads:
            weight, bias = weight[:, heads], bias[:, heads]
        projected = linear(x, weight.flatten(0, 2), bias.flatten())
        queries, keys, values = torch.unflatten(projected, -1, (3, -1, self.head_width)).unbind(-3)
        return (
            _prepared(queries, self.q_norm, rotation),
            _prepared(keys, self.k_norm, rotation),
            values.transpose(1, 2),
        )


class Mlp(nn.Module):
    """Two linear layers around the exact (erf) GELU; of any width in and out."""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.fc1 = Linear(width_in, hidden)
        self.fc2 = Linear(hidden, width_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class SwiGlu(nn.Module):
    """w3(silu(a) * b) with a, b = w12(x); two thirds of an MLP's hidden width, rounded up to 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-(8 * width // 3) // 8) * 8
        self.w12 = Linear(width, 2 * hidden)
        self.w3 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(functional.silu(gate).mul_(value))


class LayerScale(nn.Module):
    """One learned factor a channel for what a residual branch adds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """x + gamma * branch, into x."""
        return x.addcmul_(branch.to(x.dtype), self.gamma)


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

    def update(self, x: Tensor, rotation: Rotation | None, execution: Execution) -> None:
        """Update sequences (batch, tokens, C) in place, each by itself, some at a time."""
        for some in pieces(len(x), execution.views):
            part = x[some]
            self.ls1(part, self.attn(self.norm1(part), rotation, execution.attention))
            self.ls2(part, self.mlp(self.norm2(part)))

    def update_jointly(self, x: Tensor, rotation: Rotation | None, execution: Execution) -> None:
        """Update sequences (views, tokens, C) in place as one: every token sees all tokens of all views.

        Beside the tokens, all that exists at a time is the attention's result, and queries, keys and values
        of some heads.
        """
        attended = self._attend_jointly(x, rotation, execution)
        for some in pieces(len(x), execution.views):
            part = x[some]
            self.ls1(part, self.attn.proj(attended[some]))
            self.ls2(part, self.mlp(self.norm2(part)))

    def _attend_jointly(self, x: Tensor, rotation: Rotation | None, execution: Execution) -> Tensor:
        """Result of the attention (views, tokens, C), before its last matrix."""
        attn = self.attn
        shape = (*x.shape[:2], attn.heads, attn.head_width)
        attended = x.new_empty(shape, dtype=attn.qkv.weight.dtype)
        for heads in pieces(attn.heads, execution.heads):
            attended[:, :, heads] = self._attend_heads(x, rotation, heads, execution)
        return attended.flatten(2)

    def _attend_heads(
        self, x: Tensor, rotation: Rotation | None, heads: slice, execution: Execution
    ) -> Tensor:
        """Result (views, tokens, some heads, d) of some heads."""
        attn, count = self.attn, heads.stop - heads.start
        shape = (3, count, *x.shape[:2], attn.head_width)
        projected = x.new_empty(shape, dtype=attn.qkv.weight.dtype)
        for some in pieces(len(x), execution.views):
            parts = attn.project(self.norm1(x[some]), rotation, heads)
            for whole, part in zip(projected, parts, strict=True):
                whole[:, some] = part.transpose(0, 1)
        queries, keys, values = projected.flatten(2, 3)[:, None]
        result = execution.attention(queries, keys, values)[0]
        return torch.unflatten(result, 1, x.shape[:2]).permute(1, 2, 0, 3)


def _prepared(vectors: Tensor, norm: nn.Module, rotation: Rotation | None) -> Tensor:
    """Queries or keys (batch, tokens, heads, d) -> (batch, heads, tokens, d), normalised and turned."""
    if isinstance(norm, nn.Identity) and rotation is None:
        return vectors.transpose(1, 2)
    turned = norm(vectors.float()).transpose(1, 2)
    return (turned if rotation is None else rotation(turned)).to(vectors.dtype)


def _head_norm(head_width: int, wanted: bool) -> nn.Module:
    return nn.LayerNorm(head_width, eps=QK_NORM_EPSILON) if wanted else nn.Identity()
