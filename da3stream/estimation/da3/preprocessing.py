"""Images as they are decoded -> what the networks take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from da3stream.errors import EstimationError
from da3stream.transformer import PATCH_PX

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet, red green blue, for values from 0 to 1."""


def to_network_input(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Normalised images on a device, where the arithmetic is done too: bytes are what travels.

    Args:
        images: (N, H, W, 3) uint8 RGB; H and W are multiples of 14.
        device: where the network runs.

    Returns:
        (1, N, 3, H, W) float32.

    Raises:
        EstimationError: the images have another form or size.
    """
    check_images(images)
    pixels = _on_device(images, torch.device(device)).permute(0, 3, 1, 2).contiguous().float()
    shape = (3, 1, 1)
    pixels.div_(255).sub_(pixels.new_tensor(MEAN).view(shape))
    return pixels.div_(pixels.new_tensor(STANDARD_DEVIATION).view(shape))[None]


def check_images(images: NDArray[Any]) -> None:
    """Raise EstimationError unless images are uint8 (N, H, W, 3) with sides that are multiples of 14."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise EstimationError(
            "the images have a wrong form",
            got=f"{images.dtype} {images.shape}",
            expected="uint8 (N, H, W, 3)",
        )
    height, width = images.shape[1:3]
    if height % PATCH_PX or width % PATCH_PX:
        raise EstimationError(
            "the network cannot take images of this size",
            got=f"{width} x {height} pixels",
            expected=f"sides that are multiples of {PATCH_PX}",
            hint="Resize them with da3stream.imaging.resize_for_processing",
        )


def _on_device(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    host = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)
