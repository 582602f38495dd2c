"""What formats of a depth image a frame share: the loop, and depth.json, which says what the images hold."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from da3stream.geometry.camera import Camera
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.kept_depth import FrameDepth, depth_of
from da3stream.writers.pending import PendingOutputs


class DepthImagesWriter(Writer):
    """NAME/000042.SUFFIX for frame index 42, and NAME/depth.json.

    Full-size depth where it was kept, otherwise the reduced one; depth.json holds the size of each image and
    its own camera, so that either un-projects as it is.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    has_full_depth = True

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._folder = self._pending.folder(self.name)
        try:
            self._json = (self._folder / "depth.json").open("xb")
        except BaseException:
            self._pending.abort()
            raise
        self._json.write(b'{"frames": [')
        self._separator = b"\n"

    @abstractmethod
    def _write(self, path: Path, found: FrameDepth) -> None:
        """Write one image."""

    @abstractmethod
    def _scale(self) -> dict[str, Any]:
        """What a value of the images means; asked in the end."""

    def add(self, block: FrameBlock) -> None:
        for row, index in enumerate(block.index.tolist()):
            found, file_name = depth_of(block, row), f"{index:06d}{self.suffix}"
            self._write(self._folder / file_name, found)
            line = json.dumps({"file": file_name, **_described(block, row, found)}, allow_nan=False)
            self._json.write(self._separator + line.encode())
            self._separator = b",\n"

    def finish(self) -> None:
        head = {
            "format": "da3stream depth",
            "version": 1,
            "is_metric": bool(self.context.is_metric),
            "unknown": 0,
            **self._scale(),
            "depth": "along the optical axis (z)",
            "pixel_convention": "the centre of the top-left pixel is (0.5, 0.5)",
        }
        self._json.write(b"\n], " + json.dumps(head, allow_nan=False).encode()[1:] + b"\n")
        self._json.close()
        self._pending.commit()

    def abort(self) -> None:
        self._json.close()
        self._pending.abort()


def _described(block: FrameBlock, row: int, found: FrameDepth) -> dict[str, Any]:
    height, width = found.depth.shape
    camera = Camera.from_matrix(found.intrinsics, width, height)
    return {
        "index": int(block.index[row]),
        "name": block.names[row],
        "timestamp_s": float(block.timestamp_s[row]),
        "width": width,
        "height": height,
        "fx": camera.fx,
        "fy": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
    }
