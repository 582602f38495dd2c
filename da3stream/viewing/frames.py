"""One frame of a run for looking at: its image, its depth and its confidence."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.viewing.scene import FrameCamera
from da3stream.viewing.viewed_run import ViewedRun
from da3stream.writers.depth_vis import coloured_depth

Image = NDArray[np.uint8]

_THUMBNAIL_PX, _PICTURE_PX = 128, 384


class FrameReader:
    """Reads frames of a run, each alone. All methods raise RunCorruptError if a file cannot be read."""

    def __init__(self, run: ViewedRun) -> None:
        self._run = run

    def camera(self, frame: int) -> FrameCamera:
        """How a frame looks as a frustum."""
        image = self._run.image_of(frame)
        focal_px = float(self._run.maps_of(frame).image_intrinsics[1, 1])
        return FrameCamera(
            fov_rad=2 * float(np.arctan(image.shape[0] / (2 * focal_px))),
            aspect=image.shape[1] / image.shape[0],
            thumbnail=_within(image, _THUMBNAIL_PX),
        )

    def image(self, frame: int) -> Image:
        """(h, w, 3) RGB."""
        return _within(self._run.image_of(frame), _PICTURE_PX)

    def depth(self, frame: int) -> Image:
        """(h, w, 3) RGB: depth in the colours of Turbo, near is red; black where there is none."""
        maps = self._run.maps_of(frame)
        return _enlarged(coloured_depth(np.where(maps.confidence > 0, maps.depth, 0), maps.sky))

    def confidence(self, frame: int) -> Image:
        """(h, w, 3) RGB: confidence by its rank in the frame, from black (lowest) to yellow (highest)."""
        confidence = self._run.maps_of(frame).confidence
        _, code = np.unique(confidence, return_inverse=True)
        share = code.reshape(confidence.shape) / max(1, int(code.max()))
        levels = np.rint(255 * share).astype(np.uint8)
        colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
        return _enlarged(np.asarray(colours, dtype=np.uint8))


def _within(image: Image, longest_px: int) -> Image:
    """The image, shrunk if need be."""
    height, width = image.shape[:2]
    share = min(1.0, longest_px / max(height, width))
    size = (max(1, round(share * width)), max(1, round(share * height)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _enlarged(picture: Image) -> Image:
    """A picture of a small map in whole pixels, as wide as images are in the panel."""
    times = max(1, round(_PICTURE_PX / max(picture.shape[:2])))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
