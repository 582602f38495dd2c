"""How much memory SALAD takes on its device, counted on the meta device."""

from __future__ import annotations

from dataclasses import replace

import torch

from da3stream.place.salad.loading import shaped_salad
from da3stream.transformer.live_bytes import LiveBytes, fused_shapes, weights_bytes

SIDE_PX = 336
"""Images are described at 336 x 336 pixels, whatever their aspect ratio."""
IMAGES_ON_GPU = 8
IMAGES_ON_CPU = 2


def describing_bytes(images: int = IMAGES_ON_GPU, trunk_dtype: torch.dtype = torch.bfloat16) -> int:
    """Weights, and what is alive beside them at the peak of describing so many images at a time.

    Args:
        images: how many go through the network together.
        trunk_dtype: type of the matrices of the transformer.
    """
    network = shaped_salad(trunk_dtype)
    network.execution = replace(network.execution, views=images, attention=fused_shapes)
    with LiveBytes(network.parameters()) as live, torch.inference_mode():
        network(torch.empty(images, 3, SIDE_PX, SIDE_PX, device="meta"))
    return weights_bytes(network) + max(live.highest.values())
