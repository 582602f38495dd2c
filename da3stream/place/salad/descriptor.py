"""SALAD as a `PlaceDescriptor`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from da3stream.errors import EstimationError
from da3stream.place.salad.loading import load_salad, weights_identity
from da3stream.place.salad.memory import IMAGES_ON_CPU, IMAGES_ON_GPU, SIDE_PX, describing_bytes
from da3stream.place.salad.network import SaladNetwork
from da3stream.transformer.back_off import halve_until_it_fits
from da3stream.transformer.execution import pieces, trunk_dtype_for

logger = logging.getLogger(__name__)

MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet, red green blue, for values from 0 to 1."""


class SaladDescriptor:
    """Describes images by the SALAD network. Fulfils `PlaceDescriptor`.

    Attributes:
        name: `salad`.
        dim: values of a descriptor, 8448.
        weights: identity of the weights, for the manifest of a run.
    """

    name = "salad"

    def __init__(
        self,
        network: SaladNetwork,
        *,
        device: torch.device | str = "cpu",
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        """`network` from `load_salad`, loaded on the same device."""
        self._network, self._device, self.weights = network.eval(), torch.device(device), weights
        at_a_time = IMAGES_ON_GPU if self._device.type == "cuda" else IMAGES_ON_CPU
        network.execution = replace(network.execution, views=at_a_time, heads=1)  # heads are not cut here
        self.dim = network.config.descriptor_width

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        *,
        device: torch.device | str = "cpu",
        notify: Callable[[str], None] | None = None,
    ) -> SaladDescriptor:
        """The descriptor with its network; arguments and errors are those of `load_salad`."""
        network = load_salad(weights, device=device, notify=notify)
        return cls(network, device=device, weights=weights_identity(weights))

    def device_bytes(self) -> int:
        """What weights and describing take on the device, as planned."""
        return describing_bytes(self._network.execution.views, trunk_dtype_for(self._device))

    def describe(self, images: NDArray[np.uint8], *, indices: NDArray[Any]) -> NDArray[np.float32]:
        """Describe images, a few at a time, and fewer from then on where the GPU's memory is full.

        Args:
            images: (N, H, W, 3) uint8 RGB of any size.
            indices: (N,) frame indices; they do not matter here.

        Returns:
            (N, 8448) float32 of unit length.

        Raises:
            EstimationError: the images have another form, a descriptor is not finite, or the GPU's memory
                does not even hold the work on one image.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise EstimationError(
                "the images have a wrong form",
                got=f"{images.dtype} {images.shape}",
                expected="uint8 (N, H, W, 3)",
            )
        found, smaller = halve_until_it_fits(lambda: self._describe(images), self._network, _too_small)
        if smaller is not None:
            logger.warning("out of GPU memory: SALAD now describes %d image(s) at a time", smaller.views)
        wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(wrong):
            raise EstimationError(
                "SALAD gives no finite descriptor", got=f"frame {indices[wrong[0]]}, {len(wrong)} in all"
            )
        return found

    @torch.inference_mode()
    def _describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = np.empty((len(images), self.dim), np.float32)
        for some in pieces(len(images), self._network.execution.views):
            resized = resize_to_square(images[some]).to(self._device)
            found[some] = self._network(_normalised(resized)).cpu().numpy()
        return found


def _too_small(complaint: str) -> EstimationError:
    """No `DeviceMemoryError`, which would make chunks shorter: that gives SALAD no memory."""
    return EstimationError(
        "the GPU's memory is too small for SALAD beside the estimator",
        got=complaint,
        expected="room for one image at a time",
        hint="Use --place vlad, a smaller --chunk-size or --resolution, or allow more memory with --vram.",
    )


def resize_to_square(images: NDArray[np.uint8]) -> Tensor:
    """(N, H, W, 3) -> (N, 3, 336, 336) uint8: bilinear, widened for shrinking as Pillow does.

    On the CPU also for a GPU: only there does torch round in between like Pillow, and bytes travel faster.
    """
    host = torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2)
    return functional.interpolate(host, size=(SIDE_PX, SIDE_PX), mode="bilinear", antialias=True)


def _normalised(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> float32 as the network was trained on."""
    pixels = images.contiguous().float().div_(255)
    shape = (3, 1, 1)
    return pixels.sub_(pixels.new_tensor(MEAN).view(shape)).div_(
        pixels.new_tensor(STANDARD_DEVIATION).view(shape)
    )
