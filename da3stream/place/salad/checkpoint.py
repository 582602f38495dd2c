"""The tensors of `dino_salad.ckpt`, and whether they are what the network expects."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from da3stream.errors import WeightsError
from da3stream.place.salad.network import SaladNetwork
from da3stream.place.salad.weights import CHECKPOINT_FILE, FETCH_AGAIN
from da3stream.transformer.key_match import KeyMatch, match_keys

UNUSED = ("backbone.model.mask_token",)
"""Stored, but of use in DINOv2's training only."""


class CheckpointTensors:
    """The tensors of a checkpoint file, mapped into memory and checked one by one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tensors = read_checkpoint(file)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def match(self, network: SaladNetwork) -> KeyMatch:
        """How names and shapes fit a network."""
        return match_keys(tensor_shapes(network), self.shapes, skip=UNUSED)

    def read(self, name: str) -> Tensor:
        """A tensor as stored.

        Raises:
            WeightsError: it holds what no trained network would: NaN, infinities, a matrix of zeros.
        """
        stored = self._tensors[name]
        low, high = map(float, torch.aminmax(stored.detach()))
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            problem = "holds NaN or infinities"
        elif low == high == 0 and stored.ndim >= 2:
            problem = "is all zero"
        else:
            return stored
        raise WeightsError(f"{name} in {self._file} {problem}: it is damaged", hint=FETCH_AGAIN)


def empty_network() -> SaladNetwork:
    """The network on the meta device: names and shapes, no memory."""
    with torch.device("meta"):
        return SaladNetwork()


def tensor_shapes(network: SaladNetwork) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a network, by name."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def check_salad(file: Path) -> int:
    """Read all that the network needs of a checkpoint, and return how many values there are.

    Raises:
        WeightsError: the file is damaged, or does not fit the network exactly.
    """
    tensors = CheckpointTensors(file)
    match = tensors.match(empty_network())
    match.require(str(file))
    return sum(tensors.read(name).numel() for name in match.source_of.values())


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The state dict that a file holds, its values still on the disk. No code of the file can run.

    Raises:
        WeightsError: there is no such file, it is truncated or damaged, or holds anything but named tensors.
    """
    if not file.is_file():
        raise WeightsError(f"there is no file {file}", expected=CHECKPOINT_FILE)
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # for damaged bytes, torch raises nearly every type that there is
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise WeightsError(
            f"{file} is no checkpoint, or incomplete or damaged ({reason})", hint=FETCH_AGAIN
        ) from error
    if not isinstance(stored, dict) or not stored or not all(map(_is_named_tensor, stored.items())):
        raise WeightsError(f"{file} is no state dict", expected="float tensors by name")
    return stored


def _is_named_tensor(item: tuple[object, object]) -> bool:
    name, value = item
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and value.is_floating_point()
        and value.numel() > 0
    )
