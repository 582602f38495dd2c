"""From a path to a source of frames."""

from __future__ import annotations

from pathlib import Path

from da3stream.config import SourceConfig
from da3stream.errors import InputNotFoundError
from da3stream.source.image_file import is_image_file
from da3stream.source.image_folder import ImageFolderSource
from da3stream.source.video import VideoSource


def open_source(path: str | Path, config: SourceConfig) -> VideoSource | ImageFolderSource:
    """The source for a folder of images, an image file, or anything else as a video file.

    Nothing is decoded yet: what is no video is found out when the source is first used.

    Raises:
        InputNotFoundError: there is nothing at `path`.
        NoFramesError: a folder without images.
    """
    path = Path(path).expanduser()
    if path.is_dir() or is_image_file(path):
        return ImageFolderSource(path, config)
    if not path.exists():
        raise InputNotFoundError(
            f"there is no file or folder {path}", expected="a video, an image or a folder of images"
        )
    return VideoSource(path, config)
