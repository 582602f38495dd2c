"""results_output/: image, full-size depth and camera of every frame, as DA3-Streaming writes them."""

from __future__ import annotations

import numpy as np

from da3stream.errors import RunIncompleteError
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.upsampling import resize_depth


class ResultsWriter(Writer):
    """results_output/frame_N.npz for frame index N, not padded, without time stamps inside:

    - image: (H, W, 3) uint8 RGB at processing resolution.
    - depth: (H, W) float32 z-depth in world units, 0 where there is none.
    - conf: (H, W) float32 >= 0, 0 = never use.
    - intrinsics: (3, 3) float32 in pixels of the image; the centre of the top-left pixel is (0.5, 0.5).

    Depth of another size than the image is resized without moving the camera (`resize_depth`).
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._folder = self._pending.folder("results_output")

    def add(self, block: FrameBlock) -> None:
        """Write the frames of one block.

        Raises:
            RunIncompleteError: the block comes without full-size depth.
        """
        if block.full_depth is None or block.full_confidence is None:
            raise RunIncompleteError(
                "full-size depth was not kept",
                expected="a run with keep = full",
                hint="Run again with `--keep full` to get results_output/.",
            )
        height, width = block.images.shape[1:3]
        for row, index in enumerate(block.index.tolist()):
            full = resize_depth(block.full_depth[row], block.full_confidence[row], height, width)
            np.savez_compressed(
                self._folder / f"frame_{index}.npz",
                image=block.images[row],
                depth=full.depth,
                conf=full.confidence,
                intrinsics=block.intrinsics[row].astype(np.float32),
            )

    def finish(self) -> None:
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()
