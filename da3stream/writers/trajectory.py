"""trajectory.png: the path from above, before and after loops were closed."""

from __future__ import annotations

from da3stream.scene import FrameBlock, LoopClosure
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs


class TrajectoryWriter(Writer):
    """One picture, see `trajectory_picture.draw_optimised`. It needs camera centres only, no pixels."""

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._stream = self._pending.file("trajectory.png")

    def add(self, block: FrameBlock) -> None:
        """Nothing: the context knows all positions."""

    def finish(self) -> None:
        import cv2

        from da3stream.writers.trajectory_picture import draw_optimised

        context = self.context
        after = context.positions_in_world
        image = draw_optimised(
            after if context.positions_before is None else context.positions_before,
            after,
            accepted=[_frames(loop) for loop in context.loops if loop.is_accepted],
            refused=[_frames(loop) for loop in context.loops if not loop.is_accepted],
            is_metric=context.is_metric,
        )
        _, png = cv2.imencode(".png", image[..., ::-1])
        self._stream.write(png.tobytes())
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()


def _frames(loop: LoopClosure) -> tuple[int, int]:
    return loop.candidate.later, loop.candidate.earlier
