"""What an input is, and what a run would take of it: for `da3stream info`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from da3stream.config import SourceConfig
from da3stream.imaging import processing_size
from da3stream.source.image_file import read_rgb
from da3stream.source.image_folder import ImageFolderSource
from da3stream.source.live import LiveSource
from da3stream.source.opening import open_source
from da3stream.source.video import VideoSource


@dataclass(frozen=True, kw_only=True, slots=True)
class InputDescription:
    """An input, without reading more than its first frame."""

    kind: Literal["video", "images", "live"]
    container: str
    """FFmpeg's name of the container; for images the suffix of the first one."""
    codec: str | None
    """FFmpeg's name of the decoder; None: images."""
    width: int
    """Upright, in pixels."""
    height: int
    """Upright, in pixels."""
    rotation_deg: int
    """Clockwise turn that the container asks for: 0, 90, 180 or 270. Always 0 for images."""
    duration_s: float | None
    """Length of the video, or time between the first and the last image; None: not known."""
    frames: int | None
    """Number of frames or images; None: not known."""
    frames_are_counted: bool
    """The container states the number; otherwise it is length times rate."""
    average_fps: float | None
    """Average frame rate; None: not known."""
    is_variable_rate: bool | None
    """The frame rate varies; None: not known."""
    timestamps: Literal["container", "exif", "synthetic"]
    """Where the times of the frames come from."""
    selected_frames: int | None
    """Estimated number of frames that a run takes; None: not known."""
    processing_width: int
    """In pixels."""
    processing_height: int
    """In pixels."""


def probe(path: str | Path | ImageFolderSource, config: SourceConfig) -> InputDescription:
    """Describe an input, and what a run with `config` would take of it. A live one is connected to.

    An image folder may be open already.

    Raises:
        InputError: it cannot be used; the subclass says why.
    """
    source = path if isinstance(path, ImageFolderSource) else open_source(path, config)
    if isinstance(source, ImageFolderSource):
        return _describe_images(source, config)
    return _describe_video(source, config)


def _describe_video(source: VideoSource | LiveSource, config: SourceConfig) -> InputDescription:
    video = source.describe()
    processing_width, processing_height = processing_size(video.width, video.height, config.resolution)
    return InputDescription(
        kind="live" if isinstance(source, LiveSource) else "video",
        container=video.container,
        codec=video.codec,
        width=video.width,
        height=video.height,
        rotation_deg=video.rotation_deg,
        duration_s=video.duration_s,
        frames=video.estimated_frames,
        frames_are_counted=video.frames is not None,
        average_fps=video.average_fps,
        is_variable_rate=video.is_variable_rate,
        timestamps="container" if video.has_times else "synthetic",
        selected_frames=source.size_hint(),
        processing_width=processing_width,
        processing_height=processing_height,
    )


def _describe_images(source: ImageFolderSource, config: SourceConfig) -> InputDescription:
    images = source.listed()
    height, width = read_rgb(images[0].path).shape[:2]
    processing_width, processing_height = processing_size(width, height, config.resolution)
    span_s = images[-1].timestamp_s - images[0].timestamp_s
    return InputDescription(
        kind="images",
        container=images[0].path.suffix.lower().removeprefix("."),
        codec=None,
        width=width,
        height=height,
        rotation_deg=0,
        duration_s=None if source.timestamps_are_synthetic else span_s,
        frames=len(images),
        frames_are_counted=True,
        average_fps=None if source.timestamps_are_synthetic or not span_s else (len(images) - 1) / span_s,
        is_variable_rate=None,
        timestamps="synthetic" if source.timestamps_are_synthetic else "exif",
        selected_frames=source.size_hint(),
        processing_width=processing_width,
        processing_height=processing_height,
    )
