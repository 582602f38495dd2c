"""What all networks ask of their input."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from da3stream.errors import EstimationError
from da3stream.estimation.da3.config import ModelConfig
from da3stream.transformer import PATCH_PX


def check_images(images: Tensor) -> None:
    """Raise EstimationError unless images are (B, N, 3, H, W) with sides that are multiples of a patch."""
    fits = images.ndim == 5 and images.shape[2] == 3 and 0 not in images.shape
    if not fits or images.shape[3] % PATCH_PX or images.shape[4] % PATCH_PX:
        raise EstimationError(
            "the network cannot take these images",
            got=f"shape {tuple(images.shape)}",
            expected=f"(B, N, 3, H, W) with H and W multiples of {PATCH_PX}",
        )


def check_layers(layers: Collection[int], config: ModelConfig) -> None:
    """Raise EstimationError unless all of these are blocks of the model."""
    wrong = [layer for layer in layers if not 0 <= layer < config.depth]
    if wrong:
        raise EstimationError(
            f"{config.name} has no such layers to export", got=wrong, expected=f"0 to {config.depth - 1}"
        )
