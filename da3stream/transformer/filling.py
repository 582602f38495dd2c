"""Tensors by name -> a network that was built on the meta device, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from da3stream.errors import WeightsError


class TensorSource(Protocol):
    """Anything that has tensors by name."""

    def read(self, name: str) -> Tensor: ...


DtypeRule = Callable[[str], torch.dtype]
"""Name in the network -> type in which the tensor is kept."""


def fill_network(
    network: nn.Module,
    order: Iterable[tuple[str, str]],
    reader: TensorSource,
    rule: DtypeRule,
    device: torch.device | str,
) -> None:
    """Replace the parameters and buffers of a network, one tensor at a time.

    Args:
        network: changed in place; tied tensors stay tied.
        order: pairs of the name in the network and the name by which `reader` knows it.
        reader: where the tensors come from.
        rule: the type that each name gets.
        device: where they go; what the network computed when it was built goes there too.

    Raises:
        WeightsError: a tensor does not fit its type.
    """
    slots = network.state_dict(keep_vars=True)
    filled: dict[int, Tensor] = {}  # by the identity of the parameter that was there: tied ones have one
    for name, source in order:
        slot = slots[name]
        if id(slot) not in filled:
            value = _converted(reader.read(source), rule(name), source).to(device)
            is_parameter = isinstance(slot, nn.Parameter)
            filled[id(slot)] = nn.Parameter(value, requires_grad=False) if is_parameter else value
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, filled[id(slot)])
    _place_constants(network, torch.device(device))


def _converted(stored: Tensor, dtype: torch.dtype, source: str) -> Tensor:
    """A copy in another type, as the reader's memory is written over."""
    if stored.numel() and torch.finfo(dtype).max < torch.finfo(stored.dtype).max:
        low, high = map(float, torch.aminmax(stored))
        if max(-low, high) > torch.finfo(dtype).max:
            raise WeightsError(f"{source} does not fit {dtype}", got=f"values from {low:g} to {high:g}")
    return stored.to(dtype, copy=True)


def _place_constants(network: nn.Module, device: torch.device) -> None:
    """Move what checkpoints do not hold: constants that the network computes when it is built."""
    for module in network.modules():
        for name, buffer in module._buffers.items():
            if buffer is None or buffer.device == device:
                continue
            if buffer.is_meta:
                raise RuntimeError(
                    f"the constant {name} of {type(module).__name__} was built on the meta device"
                )
            setattr(module, name, buffer.to(device))
