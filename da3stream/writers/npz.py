"""npz/ and mini_npz/: what a network said of single images, in numpy's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def save_results(folder: Path, images: Sequence[Arrays], names: Sequence[str], *, with_images: bool) -> None:
    """Write results.npz, under the names that DA3's own tools use; read it without `allow_pickle`.

    All arrays begin with an axis for the images. Which exist depends on the model:

    - image: (N, H, W, 3) uint8 RGB as the network saw it; only `with_images`.
    - depth: (N, H, W) float32 z-depth.
    - conf: (N, H, W) float32 >= 1, larger is better.
    - extrinsics: (N, 3, 4) float32 world to camera.
    - intrinsics: (N, 3, 3) float32 in pixels of the image; NaN for an image whose camera is not known.
    - sky: (N, H, W) bool.
    - is_metric: (N,) bool, depth is in metres.
    - feat_layer_I: (N, H/14, W/14, C) float32.

    Images of different sizes, which only single-view models leave so, get a file each: results_NAME.npz.

    Args:
        folder: where the file goes.
        images: for each image, its arrays without the first axis.
        names: for each image, a name of its own.
        with_images: include `image`.
    """
    if len({image["depth"].shape for image in images}) == 1:
        _save(folder / "results.npz", images, with_images)
        return
    for name, image in zip(names, images, strict=True):
        _save(folder / f"results_{name}.npz", [image], with_images)


def _save(path: Path, images: Sequence[Arrays], with_images: bool) -> None:
    keys = dict.fromkeys(key for image in images for key in image if with_images or key != "image")
    arrays: dict[str, Any] = {key: _stacked(images, key) for key in keys}
    np.savez_compressed(path, **arrays)


def _stacked(images: Sequence[Arrays], key: str) -> NDArray[Any]:
    """(N, ...); NaN where an image has no such array."""
    like = next(image[key] for image in images if key in image)
    return np.stack([image[key] if key in image else np.full_like(like, np.nan) for image in images])
