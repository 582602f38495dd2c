"""From a path, a URL or a webcam to a source of frames."""

from __future__ import annotations

from pathlib import Path

from da3stream.config import SourceConfig
from da3stream.errors import InputNotFoundError
from da3stream.source.image_file import is_image_file
from da3stream.source.image_folder import ImageFolderSource
from da3stream.source.live import LiveSource, PipedSource
from da3stream.source.live_address import STANDARD_INPUT, live_address
from da3stream.source.video import VideoSource


def open_source(path: str | Path, config: SourceConfig) -> VideoSource | ImageFolderSource | LiveSource:
    """The source for an input.

    `-` is a container on standard input; rtsp, rtmp, http(s), udp, tcp, srt and rtp URLs, `/dev/video0` and a
    bare number (unless there is a file of that name) are live. Else it is a folder of images, an image file,
    or anything else as a video file.

    Nothing is decoded or connected yet: what is no video is found out when the source is first used.

    Raises:
        InputNotFoundError: there is nothing at `path`.
        NoFramesError: a folder without images.
    """
    if str(path) == STANDARD_INPUT:
        return PipedSource(config)
    if (address := live_address(str(path))) is not None:
        return LiveSource(address, config)
    path = Path(path).expanduser()
    if path.is_dir() or is_image_file(path):
        return ImageFolderSource(path, config)
    if not path.exists():
        raise InputNotFoundError(
            f"there is no file or folder {path}",
            expected="a video, an image, a folder of images, a URL, a webcam or -",
        )
    return VideoSource(path, config)
