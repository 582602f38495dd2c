"""npz/ and mini_npz/ of a run: all frames in one file of numpy's format, written without holding them."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import MixedImageSizesError
from da3stream.geometry.camera import pixel_rays
from da3stream.geometry.rigid3 import invert
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.cloud import colors_along
from da3stream.writers.kept_depth import FrameDepth, depth_of
from da3stream.writers.pending import PendingOutputs

_PIECE_BYTES = 1 << 20
_NO_TIME = (1980, 1, 1, 0, 0, 0)


class MiniNpzWriter(Writer):
    """mini_npz/results.npz, with the names of DA3's own tools; read it with `numpy.load`:

    - depth: (N, H, W) float32 z-depth in world units, 0 where there is none.
    - conf: (N, H, W) float32 >= 0, 0 = never use (DA3's own starts at 1).
    - extrinsics: (N, 3, 4) float32 world to camera, OpenCV axes.
    - intrinsics: (N, 3, 3) float32 in pixels of the depth map; the first pixel's centre is (0.5, 0.5).

    Full-size depth where it was kept, otherwise the reduced one. A zip takes one array after the other, so
    that the frames wait in a scratch file for each, uncompressed.
    """

    name: ClassVar = "mini_npz"
    with_images: ClassVar = False

    has_full_depth = True

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._scratch = PendingOutputs(context.outputs)
        self._stream = self._pending.file(f"{self.name}/results.npz")
        try:
            self._arrays = _WaitingArrays(self._scratch.folder(f"{self.name}/scratch"))
        except BaseException:
            self._pending.abort()
            raise

    def add(self, block: FrameBlock) -> None:
        """Write the frames of one block.

        Raises:
            MixedImageSizesError: not all depth maps of the run have one size.
        """
        for row in range(len(block)):
            found = depth_of(block, row)
            images = {"image": _image_at(block, row, found)} if self.with_images else {}
            camera = {
                "extrinsics": invert(block.world_from_cam[row])[:3].astype(np.float32),
                "intrinsics": found.intrinsics.astype(np.float32),
            }
            self._arrays.add({**images, "depth": found.depth, "conf": found.confidence, **camera})

    def finish(self) -> None:
        self._arrays.write_to(self._stream)
        self._scratch.abort()
        self._pending.commit()

    def abort(self) -> None:
        self._scratch.abort()
        self._pending.abort()


class NpzWriter(MiniNpzWriter):
    """npz/results.npz: as `mini_npz`, and `image`: (N, H, W, 3) uint8 RGB, at the size of the depth maps."""

    name: ClassVar = "npz"
    with_images: ClassVar = True


def _image_at(block: FrameBlock, row: int, found: FrameDepth) -> NDArray[np.uint8]:
    """(H, W, 3) colours of the pixels of a depth map."""
    image = block.images[row]
    if found.depth.shape == image.shape[:2]:
        return image
    rays = pixel_rays(found.intrinsics, *found.depth.shape).reshape(-1, 3)
    return colors_along(image, block.intrinsics[row], rays).reshape(*found.depth.shape, 3)


class _WaitingArrays:
    """Arrays of a row for each frame, on their way into a zip."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._frames = 0
        self._rows: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        """Shape and type of one row."""

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take one frame; its arrays are those of the frames before it in name, shape and type."""
        for name, array in arrays.items():
            shape, _ = self._rows.setdefault(name, (array.shape, array.dtype))
            if shape != array.shape:
                raise MixedImageSizesError(
                    f"all frames of an .npz must have one size, but `{name}` does not",
                    got=f"{array.shape} after {shape}",
                    hint="Export `results` or `depth_png` instead, which have a file for each frame.",
                )
            with self._path(name).open("ab") as stream:
                stream.write(np.ascontiguousarray(array).tobytes())
        self._frames += 1

    def write_to(self, stream: Any) -> None:
        """Write a zip of .npy files as `numpy.savez_compressed` does; the same bytes at any time."""
        with zipfile.ZipFile(stream, "w") as archive:
            for name, (shape, dtype) in self._rows.items():
                entry = zipfile.ZipInfo(f"{name}.npy", _NO_TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                header = {"descr": dtype.str, "fortran_order": False, "shape": (self._frames, *shape)}
                with archive.open(entry, "w", force_zip64=True) as packed, self._path(name).open("rb") as raw:
                    np.lib.format.write_array_header_1_0(packed, header)
                    shutil.copyfileobj(raw, packed, _PIECE_BYTES)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.raw"
