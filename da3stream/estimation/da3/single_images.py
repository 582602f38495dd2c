"""Single images or small unordered sets -> depth and what else a model knows, at the network's size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.catalogue import find_model
from da3stream.estimation.da3.config import NestedModelConfig
from da3stream.estimation.da3.estimator import in_input_order
from da3stream.estimation.da3.metric_scale import PUBLISHED_SKY_THRESHOLD
from da3stream.estimation.da3.nested import CANONICAL_FOCAL_PX
from da3stream.estimation.da3.nested_network import NestedNetwork
from da3stream.estimation.da3.network import Network
from da3stream.estimation.da3.preprocessing import to_network_input
from da3stream.estimation.da3.single_view_network import SingleViewNetwork
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.imaging import resize_for_processing, resize_to_patches

Resize = Literal["upper", "lower"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageGeometry:
    """What a network says of one image."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB as the network saw it; everything else is in its pixels."""
    depth: NDArray[np.float32]
    """(H, W) z-depth: metres if `is_metric`, else in a unit of its own, the same for all images of a set."""
    is_metric: bool
    confidence: NDArray[np.float32] | None
    """(H, W) as the network gives it: >= 1, larger is better. None for single-view models."""
    sky: NDArray[np.bool_] | None
    """(H, W), None for any-view models."""
    intrinsics: NDArray[np.float64] | None
    """(3, 3), None if neither the model nor anyone else knows them."""
    cam_from_world: NDArray[np.float64] | None
    """(3, 4), None for single-view models."""
    features: Mapping[int, NDArray[np.float32]]
    """Block -> (H/14, W/14, C) normalised patches."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What there is, under the names of DA3's own npz files."""
        single: dict[str, NDArray[Any] | None] = {
            "image": self.image,
            "depth": self.depth,
            "conf": self.confidence,
            "extrinsics": _single(self.cam_from_world),
            "intrinsics": _single(self.intrinsics),
            "sky": self.sky,
            "is_metric": np.array(self.is_metric),
        }
        features = {f"feat_layer_{layer}": grid for layer, grid in self.features.items()}
        return {name: array for name, array in single.items() if array is not None} | features


def resize_image(image: NDArray[np.uint8], resolution: int, resize: Resize) -> NDArray[np.uint8]:
    """An image (H, W, 3) with its longest (`upper`) or shortest (`lower`) side near `resolution` pixels.

    Then both sides are multiples of 14. The rules are those of the published preprocessing.
    """
    if resize == "upper":
        return resize_for_processing(image, resolution)
    import cv2

    height, width = image.shape[:2]
    factor = resolution / min(height, width)
    size = round(width * factor), round(height * factor)  # half to even, as in `imaging`
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor <= 1 else cv2.INTER_CUBIC)
    return resize_to_patches(image)


def centred_camera(focal_px: float, size: tuple[int, int], new_size: tuple[int, int]) -> NDArray[np.float64]:
    """(3, 3) intrinsics in pixels of an image of `new_size`, which had `size` and a focal length of its own.

    Args:
        focal_px: in pixels of the image of `size`; its principal point is the middle.
        size, new_size: (width, height).
    """
    matrix = np.array([[focal_px, 0.0, size[0] / 2], [0.0, focal_px, size[1] / 2], [0.0, 0.0, 1.0]])
    return rescale_intrinsics(matrix, size, new_size)


@torch.inference_mode()
def estimate_alone(
    network: SingleViewNetwork,
    images: Iterable[NDArray[np.uint8]],
    cameras: Iterable[NDArray[np.float64] | None],
    *,
    layers: Collection[int] = (),
) -> list[ImageGeometry]:
    """Depth and sky, each image on its own.

    The metric model's depth is in metres where the camera is known, else for a focal length of 300 pixels.

    Args:
        network: from `load_network`.
        images: (H, W, 3) uint8 RGB, sides multiples of 14; sizes may differ.
        cameras: for each image, (3, 3) in its pixels, or None.
        layers: blocks whose patches are wanted.

    Raises:
        EstimationError: the network has no such block.
    """
    model, device = find_model(network.config.name), _device_of(network)
    found = []
    for image, camera in zip(images, cameras, strict=True):
        result = network(to_network_input(image[None], device), export_feat_layers=layers)
        is_metric = camera is not None and model is not None and model.is_metric
        depth = _numpy(result["depth"][0, 0])
        if camera is not None and is_metric:
            depth *= np.float32((camera[0, 0] + camera[1, 1]) / 2 / CANONICAL_FOCAL_PX)
        found.append(
            ImageGeometry(
                image=image,
                depth=depth,
                is_metric=is_metric,
                confidence=None,
                sky=_numpy(result["sky"][0, 0]) >= PUBLISHED_SKY_THRESHOLD,
                intrinsics=camera,
                cam_from_world=None,
                features={layer: _numpy(result[f"feat_layer_{layer}"][0, 0]) for layer in layers},
            )
        )
    return found


@torch.inference_mode()
def estimate_together(
    network: AnyViewNetwork | NestedNetwork,
    images: Sequence[NDArray[np.uint8]],
    *,
    layers: Collection[int] = (),
    use_rays: bool = False,
) -> list[ImageGeometry]:
    """Depth, confidence and cameras of views of one scene, in one frame and unit.

    Args:
        network: from `load_network`; with its ray branch if `use_rays`.
        images: (H, W, 3) uint8 RGB, sides multiples of 14; larger ones are cropped to the smallest sides,
            around the middle.
        layers: blocks whose patches are wanted.
        use_rays: take the cameras from the rays instead of the camera head.

    Raises:
        EstimationError: the network has no such block, the rays fit no camera, or nearly all is sky where
            metres are wanted.
    """
    views = cropped_to_smallest(images)
    result = network(
        to_network_input(views, _device_of(network)), use_ray_pose=use_rays, export_feat_layers=layers
    )
    features = {layer: _numpy(_features(result, network, layer)) for layer in layers}
    return [
        ImageGeometry(
            image=view,
            depth=_numpy(result["depth"][0, row]),
            is_metric=isinstance(network, NestedNetwork),
            confidence=_numpy(result["depth_conf"][0, row]),
            sky=None,
            intrinsics=_numpy(result["intrinsics"][0, row]).astype(np.float64),
            cam_from_world=_numpy(result["extrinsics"][0, row]).astype(np.float64),
            features={layer: grids[row] for layer, grids in features.items()},
        )
        for row, view in enumerate(views)
    ]


def cropped_to_smallest(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(N, H, W, 3): the middles of images (h, w, 3) whose sides are multiples of 14."""
    height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
    return np.stack([_middle(image, height, width) for image in images])


def _middle(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    # Differences are multiples of 14, so the halves are exact and the centre stays the centre.
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _features(result: Mapping[str, Tensor], network: AnyViewNetwork | NestedNetwork, layer: int) -> Tensor:
    """(N, H/14, W/14, C) in the order of the images; in late blocks the network puts the reference first."""
    config = network.config.any_view if isinstance(network.config, NestedModelConfig) else network.config
    grids = result[f"feat_layer_{layer}"][0]
    if config.alternation_start is None or layer < config.alternation_start - 1:
        return grids
    return in_input_order(grids, int(result["reference"][0]))


def _device_of(network: Network) -> torch.device:
    return next(network.parameters()).device


def _single(matrix: NDArray[np.float64] | None) -> NDArray[np.float32] | None:
    return None if matrix is None else matrix.astype(np.float32)


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)
