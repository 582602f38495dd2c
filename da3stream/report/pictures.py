"""Thumbnails of frames, their depth and their confidence, as data: URIs."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.report.facts import Facts
from da3stream.report.thinning import evenly
from da3stream.scene.submap import NEGLIGIBLE_CONFIDENCE
from da3stream.writers.depth_vis import coloured_depth

MOST_STRIP_FRAMES = 14
_THUMBNAIL_PX = 200
_JPEG_QUALITY = 72

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class StripFrame:
    """One frame of the strip. The maps have colours."""

    frame: int
    seconds: float
    image: str
    """data: URI, as the two others."""
    depth: str
    confidence: str
    usable_share: float
    """Share of the pixels that are not sky, of those with depth that counts as known in the outputs."""


def strip_frames(facts: Facts) -> list[StripFrame]:
    """Frames that lie evenly in the run, as their own chunk has them."""
    if not facts.has_pixels:
        return []
    typical = facts.run.typical_confidence
    return [_strip_frame(facts, int(frame), typical) for frame in evenly(facts.frames, MOST_STRIP_FRAMES)]


def thumbnail(facts: Facts, frame: int) -> str:
    """A small image of a frame."""
    return _jpeg(facts.run.images_of([frame])[0])


def coloured_confidence(confidence: NDArray[np.float32], typical: float) -> Image:
    """(H, W, 3) RGB of confidence (H, W): the brighter the surer, half-way at the run's `typical` one, black
    where it is 0."""
    share = confidence / np.maximum(confidence + typical, 1e-12)
    levels = np.rint(255 * share).astype(np.uint8)
    colours = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1]).copy()
    colours[confidence <= 0] = 0
    return colours


def _strip_frame(facts: Facts, frame: int, typical: float) -> StripFrame:
    submap = facts.run.submap(facts.chunk_of(frame))
    row = submap.chunk.frames.index(frame)
    depth, confidence = submap.depth[row], submap.confidence[row]
    known = (depth > 0) & (confidence > 0) & (confidence >= NEGLIGIBLE_CONFIDENCE * typical)
    sky = None if submap.sky is None else submap.sky[row]
    ground = np.ones_like(known) if sky is None else ~sky
    return StripFrame(
        frame=frame,
        seconds=facts.seconds_of(frame),
        image=thumbnail(facts, frame),
        depth=_jpeg(coloured_depth(np.where(known, depth, np.float32(0)), sky)),
        confidence=_jpeg(coloured_confidence(confidence, typical)),
        usable_share=float((known & ground).sum() / max(ground.sum(), 1)),
    )


def _jpeg(image: Image) -> str:
    """A data: URI of an RGB image, made as wide as a thumbnail."""
    height, width = image.shape[:2]
    scale = _THUMBNAIL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    _, jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
