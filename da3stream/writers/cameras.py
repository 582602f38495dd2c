"""cameras.json: everything known of every frame's camera, for programs."""

from __future__ import annotations

import json
from typing import Any

from da3stream.geometry.camera import Camera
from da3stream.geometry.lens import LensCamera
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs


class CamerasWriter(Writer):
    """One JSON object with a list of frames, a frame a line; numbers read back as the same float64.

    A frame's `width`, `height` and `intrinsics` are those of the user's image, `processing` holds those of
    the image that the run worked on: the same camera at two resolutions. `world_from_cam` is camera to world,
    row by row. `distortion` is null, or says what was taken out of the input's images: the frames' intrinsics
    are those of the undistorted images then. `numbered_in` is null if the frames' names are those of files;
    else they are only numbers of frames, and it says of which video: names agree between two files only if
    this does. Files of older versions do not have it.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._stream = self._pending.file("cameras.json")
        self._separator = b"\n"
        head = json.dumps(_head(context), allow_nan=False)
        self._stream.write(head[:-1].encode() + b', "frames": [')

    def add(self, block: FrameBlock) -> None:
        for row in range(len(block)):
            line = json.dumps(_frame(block, row), allow_nan=False)
            self._stream.write(self._separator + line.encode())
            self._separator = b",\n"

    def finish(self) -> None:
        self._stream.write(b"\n]}\n")
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()


def _head(context: WriterContext) -> dict[str, Any]:
    return {
        "format": "da3stream cameras",
        "version": 1,
        "timestamps": "synthetic" if context.timestamps_are_synthetic else "container",
        "numbered_in": context.numbered_in,
        "is_metric": bool(context.is_metric),
        "pixel_convention": "the centre of the top-left pixel is (0.5, 0.5)",
        "camera_frame": "OpenCV (x right, y down, z forward)",
        "distortion": None if context.lens is None else _distortion(context.lens),
    }


def _distortion(lens: LensCamera) -> dict[str, Any]:
    """What was taken out of the images: `given_camera` is that of the input, in its pixels."""
    assert lens.distortion is not None
    return {
        "model": lens.distortion.model,
        "coefficients": lens.distortion.named(),
        "given_camera": dict(zip(("fx", "fy", "cx", "cy"), lens.numbers, strict=True)),
        "images": "undistorted: all intrinsics here, depth and the images of colmap/ are of pinhole cameras",
    }


def _frame(block: FrameBlock, row: int) -> dict[str, Any]:
    height, width = block.images.shape[1:3]
    processing = Camera.from_matrix(block.intrinsics[row], width, height)
    original = processing.resized(*(int(side) for side in block.original_size[row]))
    return {
        "index": int(block.index[row]),
        "source_index": int(block.source_index[row]),
        "name": block.names[row],
        "timestamp_s": float(block.timestamp_s[row]),
        "width": original.width,
        "height": original.height,
        "intrinsics": _intrinsics(original),
        "processing": {"width": width, "height": height, **_intrinsics(processing)},
        "world_from_cam": block.world_from_cam[row].tolist(),
    }


def _intrinsics(camera: Camera) -> dict[str, float]:
    return {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy}
