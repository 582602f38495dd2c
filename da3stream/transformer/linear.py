"""The linear layer of the networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """`nn.Linear` that takes any floating type and computes in the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b, (..., in) -> (..., out).

    On a CPU, float32 products go to oneDNN as a 1 x 1 convolution: `functional.linear` takes BLAS, and that
    of the published wheels reaches less than half of oneDNN's speed on AMD processors.
    """
    x = x.to(weight.dtype)
    if x.device.type != "cpu" or x.dtype != torch.float32 or not torch._C._has_mkldnn:
        return functional.linear(x, weight, bias)
    rows = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    product = functional.conv2d(rows, weight[:, :, None, None], bias)
    return product.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))
