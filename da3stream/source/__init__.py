"""Sources of frames: videos, folders of images and live streams.

`open_source` picks the right one for a path, `probe` describes an input. Names are imported on first use: the
decoder process lies in this package too, and needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from da3stream.source.image_folder import ImageFolderSource
    from da3stream.source.input_description import InputDescription, probe
    from da3stream.source.live import LiveSource, PipedSource
    from da3stream.source.live_address import is_live
    from da3stream.source.opening import open_source
    from da3stream.source.video import VideoSource

_MODULE_OF = {
    "ImageFolderSource": "image_folder",
    "InputDescription": "input_description",
    "LiveSource": "live",
    "PipedSource": "live",
    "VideoSource": "video",
    "is_live": "live_address",
    "open_source": "opening",
    "probe": "input_description",
}

__all__ = [
    "ImageFolderSource",
    "InputDescription",
    "LiveSource",
    "PipedSource",
    "VideoSource",
    "is_live",
    "open_source",
    "probe",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
