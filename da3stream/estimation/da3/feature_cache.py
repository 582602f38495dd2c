"""What the network made of each frame by itself, kept for the chunk that shares the frame."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FrameKey = tuple[int, tuple[int, ...], int]
"""Index of a frame, shape of its image, CRC-32 of its bytes: other pixels under a known index are another
frame."""


class FeatureCache:
    """Features of the frames of one chunk: those of the last call.

    They lie in the memory of the host: for each frame (1 + H/14 * W/14) * C + C float32, and with the nested
    network two maps of H * W more. That is 4.4 MB a frame for da3-giant (C = 1536) at 504x280, and 270 MB for
    60 frames; 5.6 and 330 MB for da3nested-giant-large.

    A frame goes through the network alone, in memory of its own. So its features depend on its image and on
    nothing else, and a chunk comes out bit for bit the same whether the cache knows its frames or is empty,
    as it is in a resumed run. Without a cache the network takes `Execution.views` frames at a time: with one,
    the default, features are the same bits (tested on the CPU); with more they may be rounded otherwise.
    """

    def __init__(self, per_view: Callable[[Tensor], Mapping[str, Tensor]]) -> None:
        """`per_view` is the network's: (V, 3, H, W) normalised images -> tensors of V rows each."""
        self._per_view = per_view
        self._rows: dict[FrameKey, dict[str, Tensor]] = {}

    def features(self, keys: Sequence[FrameKey], pixels: Tensor) -> dict[str, Tensor]:
        """What `per_view` makes of all frames of a chunk. From now on these are the frames that are known.

        Args:
            keys: of the N frames, by `frame_keys`.
            pixels: (N, 3, H, W), normalised, on the network's device.

        Returns:
            Tensors of N rows on that device. They are copies: a forward pass may change them.
        """
        self._rows = {key: self._rows[key] for key in keys if key in self._rows}
        for view, key in enumerate(keys):
            if key not in self._rows:
                self._rows[key] = self._features_of(pixels[view : view + 1])
        return {name: self._on_device(name, keys, pixels.device) for name in self._rows[keys[0]]}

    def _features_of(self, image: Tensor) -> dict[str, Tensor]:
        """Rows of one frame (1, 3, H, W), on the host.

        Of a copy, which is aligned in memory as all copies are, wherever in its chunk the frame stands.
        """
        return {name: rows[0].cpu() for name, rows in self._per_view(image.clone()).items()}

    def _on_device(self, name: str, keys: Sequence[FrameKey], device: torch.device) -> Tensor:
        first = self._rows[keys[0]][name]
        together = first.new_empty((len(keys), *first.shape), device=device)
        for row, key in zip(together, keys, strict=True):
            row.copy_(self._rows[key][name])
        return together


def frame_keys(images: NDArray[np.uint8], indices: NDArray[Any]) -> list[FrameKey]:
    """Keys of the frames of a chunk: images (N, H, W, 3) under indices (N,)."""
    return [
        (int(index), image.shape, zlib.crc32(image.tobytes()))
        for index, image in zip(indices, images, strict=True)
    ]
