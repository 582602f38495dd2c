"""The one resize between the user's images and the images that are processed.

Depth Anything 3 works on images whose sides are multiples of its patch size. Its preprocessing ("upper bound
resize") takes two steps, and both are repeated here exactly, pixel for pixel:

1. the longest side becomes `resolution`, the other one keeps the aspect ratio, rounded half to even;
2. each side goes to the nearest multiple of 14, halves upwards; the aspect ratio changes a little.

Intrinsics follow by `geometry.camera.rescale_intrinsics(K, (width, height), processing_size(width, height,
resolution))`: both resizes keep the corners of the image in place, so only the ratio of the sizes counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PATCH_SIZE_PX = 14


def processing_size(width: int, height: int, resolution: int) -> tuple[int, int]:
    """(width, height) in pixels at which an image of `width` x `height` is processed: multiples of 14.

    Args:
        width, height: size of the upright image in pixels.
        resolution: length of the longest side in pixels, before it is rounded to a multiple of 14.
    """
    bounded_width, bounded_height = bounded_size(width, height, resolution)
    return _nearest_multiple(bounded_width), _nearest_multiple(bounded_height)


def bounded_size(width: int, height: int, resolution: int) -> tuple[int, int]:
    """(width, height) in pixels after the first step. `round` goes half to even, as DA3's does."""
    factor = resolution / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def resize_for_processing(image: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) or (H, W) uint8 to its processing size; an image that has it is returned itself.

    Shrinking averages areas, growing interpolates bicubically (OpenCV's INTER_AREA and INTER_CUBIC).
    """
    height, width = image.shape[:2]
    shrinks = resolution <= max(width, height)
    return resize_to_patches(_resized(image, bounded_size(width, height, resolution), area=shrinks))


def resize_to_patches(bounded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The second step, for an image that has its bounded size."""
    height, width = bounded.shape[:2]
    size = _nearest_multiple(width), _nearest_multiple(height)
    return _resized(bounded, size, area=size[0] <= width and size[1] <= height)


def _nearest_multiple(side_px: int) -> int:
    return max(1, (side_px + PATCH_SIZE_PX // 2) // PATCH_SIZE_PX) * PATCH_SIZE_PX


def _resized(image: NDArray[np.uint8], size: tuple[int, int], *, area: bool) -> NDArray[np.uint8]:
    import cv2  # a tenth of a second, which `da3stream --help` must not pay

    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if area else cv2.INTER_CUBIC)
