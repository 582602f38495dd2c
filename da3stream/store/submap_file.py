"""A submap as safetensors: depth float16 and confidence uint8 at a third of the size, cameras float64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from da3stream.errors import RunCorruptError
from da3stream.geometry.camera import rescale_intrinsics, subsample_intrinsics
from da3stream.scene import Chunk, Prediction, Submap, SubmapCameras

REDUCTION = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameMaps:
    """The maps of one frame of a submap, in the submap's unit."""

    depth: NDArray[np.float32]
    """(h, w) z-depth, 0 where there is none."""
    depth_unit: float
    """Median of the submap's depths > 0: the size of the scene."""
    confidence: NDArray[np.float32]
    """(h, w) >= 0."""
    intrinsics: NDArray[np.float64]
    """(3, 3) in pixels of `depth`."""
    image_intrinsics: NDArray[np.float64]
    """(3, 3) in pixels of the processing-resolution image."""
    sky: NDArray[np.bool_] | None
    """(h, w), or None if the estimator does not tell."""


def reduce_prediction(chunk: Chunk, prediction: Prediction, image_size: tuple[int, int]) -> Submap:
    """What is kept of a prediction: every k-th pixel, about a third of the image's width and height.

    Pixels are picked, not averaged: an average across a depth edge is a point that is nowhere.

    Args:
        chunk: the plan of the prediction.
        prediction: of the chunk's frames, in their order.
        image_size: (width, height) of the processing-resolution images.
    """
    height, width = prediction.depth.shape[1:]
    step = max(1, round(REDUCTION * width / image_size[0]))
    pick = slice(step // 2, None, step)
    usable = np.isfinite(prediction.depth) & (prediction.depth > 0) & np.isfinite(prediction.confidence)
    confidence = np.where(usable, np.maximum(prediction.confidence, 0.0), 0.0)
    return Submap(
        chunk=chunk,
        depth=np.where(usable, prediction.depth, 0.0)[:, pick, pick].astype(np.float32),
        confidence=confidence[:, pick, pick].astype(np.float32),
        cam_from_submap=np.asarray(prediction.cam_from_submap, dtype=np.float64),
        intrinsics=subsample_intrinsics(prediction.intrinsics, step),
        image_intrinsics=rescale_intrinsics(prediction.intrinsics, (width, height), image_size),
        is_metric=prediction.is_metric,
        sky=None if prediction.sky is None else prediction.sky[:, pick, pick],
    )


def median_positive(values: NDArray[np.float32]) -> float:
    """Median of the values > 0; 0 if there are none."""
    positive = values[values > 0]
    return float(np.median(positive)) if positive.size else 0.0


def encode_submap(submap: Submap) -> bytes:
    """Bytes of a submap. Depth is relative to its median, so that no scale over- or underflows float16.

    Confidence c becomes 0 for 0 and otherwise 1 .. 255 by c / (c + median): monotonic at any scale.
    """
    depth_unit = median_positive(submap.depth) or 1.0
    confidence_unit = median_positive(submap.confidence) or 1.0
    relative = np.clip(submap.depth / depth_unit, 0, 6e4)
    # Below the smallest normal float16 precision is lost, and zero would make a usable depth unusable.
    relative = np.where(submap.depth > 0, np.maximum(relative, 6.2e-5), 0.0)
    share = submap.confidence / (submap.confidence + confidence_unit)
    code = np.where(submap.confidence > 0, np.clip(np.floor(share * 255) + 1, 1, 255), 0)
    tensors: dict[str, NDArray[Any]] = {
        "depth": np.ascontiguousarray(relative, dtype=np.float16),
        "confidence": np.ascontiguousarray(code, dtype=np.uint8),
        "cam_from_submap": np.ascontiguousarray(submap.cam_from_submap),
        "intrinsics": np.ascontiguousarray(submap.intrinsics),
        "image_intrinsics": np.ascontiguousarray(submap.image_intrinsics),
        "units": np.array([depth_unit, confidence_unit]),
    }
    if submap.sky is not None:
        tensors["sky"] = np.packbits(submap.sky, axis=None)
    return save(tensors)


def decode_submap(content: bytes, chunk: Chunk, is_metric: bool) -> Submap:
    """The submap of `encode_submap`'s bytes, with their precision.

    Raises:
        RunCorruptError: the bytes are no submap of this chunk.
    """
    try:
        tensors = load(content)
        depth_unit, confidence_unit = tensors["units"]
        depth = tensors["depth"].astype(np.float32) * np.float32(depth_unit)
        confidence = _decode_confidence(tensors["confidence"], confidence_unit)
        sky = None
        if "sky" in tensors:
            sky = np.unpackbits(tensors["sky"], count=depth.size).astype(bool).reshape(depth.shape)
        return Submap(
            chunk=chunk,
            depth=depth,
            confidence=confidence,
            cam_from_submap=tensors["cam_from_submap"],
            intrinsics=tensors["intrinsics"],
            image_intrinsics=tensors["image_intrinsics"],
            is_metric=is_metric,
            sky=sky,
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunCorruptError(f"the stored submap {chunk.index} cannot be read: {error}") from error


def _decode_confidence(code: NDArray[np.uint8], unit: float) -> NDArray[np.float32]:
    share = (code.astype(np.float32) - 0.5) / 255.0
    return np.where(code > 0, unit * share / (1.0 - share), 0.0).astype(np.float32)


def read_frame_maps(path: Path, row: int) -> FrameMaps:
    """The maps of one frame of a stored submap; the others are not read.

    Args:
        path: the submap's file.
        row: the frame's place among the frames of the chunk.

    Raises:
        RunCorruptError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            depth_unit, confidence_unit = file.get_tensor("units")
            depth = file.get_slice("depth")[row].astype(np.float32) * np.float32(depth_unit)
            return FrameMaps(
                depth=depth,
                depth_unit=float(depth_unit),
                confidence=_decode_confidence(file.get_slice("confidence")[row], confidence_unit),
                intrinsics=file.get_slice("intrinsics")[row],
                image_intrinsics=file.get_slice("image_intrinsics")[row],
                sky=_sky_of(file.get_tensor("sky"), row, depth.shape) if "sky" in file.keys() else None,  # noqa: SIM118
            )
    except (SafetensorError, OSError, IndexError) as error:
        raise RunCorruptError(f"the stored submap {path.name} cannot be read: {error}") from error


def _sky_of(packed: NDArray[np.uint8], row: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    pixels = int(np.prod(shape))
    first = row * pixels
    bits = np.unpackbits(packed[first // 8 : (first + pixels + 7) // 8])
    return bits[first % 8 : first % 8 + pixels].astype(bool).reshape(shape)


def read_cameras(path: Path, chunk: Chunk) -> SubmapCameras:
    """The cameras of a stored submap, without reading its pixels.

    Raises:
        RunCorruptError: the file cannot be read.
    """
    cam_from_submap, typical_depth = read_all_cameras(path)
    return SubmapCameras(chunk=chunk, cam_from_submap=cam_from_submap, typical_depth=typical_depth)


def read_all_cameras(path: Path) -> tuple[NDArray[np.float64], float]:
    """(N, 3, 4) submap frame to camera of a stored submap, and its median depth > 0.

    Raises:
        RunCorruptError: the file cannot be read.
    """
    cam_from_submap, units = _tensors(path, "cam_from_submap", "units")
    return cam_from_submap, float(units[0])


def read_image_intrinsics(path: Path) -> NDArray[np.float64]:
    """(N, 3, 3) `image_intrinsics` of a stored submap. RunCorruptError if the file cannot be read."""
    return _tensors(path, "image_intrinsics")[0]


def _tensors(path: Path, *names: str) -> list[NDArray[np.float64]]:
    try:
        with safe_open(path, framework="numpy") as file:
            return [file.get_tensor(name) for name in names]
    except (SafetensorError, OSError) as error:
        raise RunCorruptError(f"the stored submap {path.name} cannot be read: {error}") from error
