"""How much memory a forward pass takes, counted on the meta device.

There, tensors have shapes and no values, and every storage that comes and goes is counted. At any one place
of the program, what is alive grows linearly with the number of images that go in. So two short passes give a
line for each place, and the highest line is the peak of any number of images.
"""

from __future__ import annotations

import sys
import weakref
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import da3stream

ALLOCATION_BYTES = 512
"""The caching allocator of CUDA rounds up to this."""
PACKAGE = str(Path(da3stream.__file__).parent)
Place = tuple[Any, ...]


class LiveBytes(TorchDispatchMode):
    """Counts the storages that come up on the meta device, and remembers the most at each place."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        """`weights` are there already, and do not count."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.highest: dict[Place, int] = defaultdict(int)
        self._known = {weight.untyped_storage()._cdata for weight in weights}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        before = self.now
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._add(value)
        if self.now > before:
            place = _place(sys._getframe(1))
            self.highest[place] = max(self.highest[place], self.now)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if not tensor.is_meta or key in self._known:
            return
        size = _rounded(storage.nbytes())
        self._known.add(key)
        self.now += size
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def fused_shapes(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What a fused kernel allocates: its result, and one number a query. Without CUDA, torch would form the
    matrix of all pairs."""
    queries.new_empty(queries.shape[:-1], dtype=torch.float32)
    return torch.empty_like(queries)


def weights_bytes(network: torch.nn.Module) -> int:
    """What the parameters of a network take."""
    return sum(_rounded(weight.nbytes) for weight in network.parameters())


def _place(frame: FrameType | None) -> Place:
    """Where the program is, as far as it is in this package."""
    place = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            place.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(place)


def _rounded(size: int) -> int:
    """Bytes of an allocation of so many bytes."""
    return -(-size // ALLOCATION_BYTES) * ALLOCATION_BYTES
