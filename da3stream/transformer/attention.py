"""The one function through which all attention goes, in two makes. Neither forms the matrix of all pairs.

Dao et al., "FlashAttention", 2022; Rabe and Staats, "Self-attention Does Not Need O(n^2) Memory", 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from da3stream.errors import ConfigError, MissingDependencyError

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys, values (batch, heads, tokens, d) of one type -> (batch, heads, tokens, d)."""

FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]


def fused_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Torch's own kernels; an error instead of the plain formula where none of them fits."""
    with sdpa_kernel(FUSED):
        return functional.scaled_dot_product_attention(queries, keys, values)


def _xformers_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    from xformers.ops import memory_efficient_attention

    tokens_first = (vectors.transpose(1, 2) for vectors in (queries, keys, values))
    return memory_efficient_attention(*tokens_first).transpose(1, 2)


def attention_named(name: str, device: torch.device | str, dtype: torch.dtype) -> Attention:
    """The attention of this name, tried once on this device.

    Args:
        name: sdpa or xformers.
        device: where it will run.
        dtype: type of queries, keys and values.

    Raises:
        ConfigError: there is no attention of this name.
        MissingDependencyError: xformers is not installed, or has no kernel for this device and type.
    """
    if name == "sdpa":
        return fused_attention
    if name != "xformers":
        raise ConfigError("there is no such attention", got=repr(name), expected="sdpa or xformers")
    probe = torch.zeros(1, 1, 8, 64, device=device, dtype=dtype)
    try:
        _xformers_attention(probe, probe, probe)
    except ImportError as error:
        raise MissingDependencyError(
            "xformers is not installed", hint="pip install 'da3stream[xformers]', or use --attention sdpa"
        ) from error
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise MissingDependencyError(
            f"xformers has no attention kernel for {torch.device(device).type} and {dtype}",
            got=str(error).strip().splitlines()[0],
            hint="Use --attention sdpa, which needs no extra package",
        ) from error
    return _xformers_attention
