"""loop_closures.txt (DA3-Streaming's name and format) and loop_closures.json (everything known of them)."""

from __future__ import annotations

import json
from typing import Any

from da3stream.scene import FrameBlock, LoopClosure
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs

_TEXT_HEAD = """\
# Loop closures: frame, earlier frame of the same place, similarity of their descriptors
# Frames count from 0, as the lines of camera_poses.txt. Refused loops and reasons: loop_closures.json
"""


class LoopClosuresWriter(Writer):
    """The loops of a run, in the order in which they were found; both files are there without loops, too.

    - loop_closures.txt: comment lines that start with `#`, then `i, j, similarity` a line for each accepted
      loop, larger frame first, four decimals.
    - loop_closures.json: one object with a list of all loops, accepted and refused, a loop a line. Its fields
      are those of `LoopCandidate` and `LoopClosure`; `used` says whether the optimisation kept an accepted
      loop, null for a refused one.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._text = self._pending.file("loop_closures.txt")
        self._json = self._pending.file("loop_closures.json")

    def add(self, block: FrameBlock) -> None:
        """Nothing: the context knows all loops."""

    def finish(self) -> None:
        loops = self.context.loops
        self._text.write(_TEXT_HEAD.encode())
        for loop in loops:
            if loop.is_accepted:
                candidate = loop.candidate
                line = f"{candidate.later}, {candidate.earlier}, {candidate.similarity:.4f}\n"
                self._text.write(line.encode())
        rows = ["\n" + json.dumps(self._row(loop), allow_nan=False) for loop in loops]
        head = json.dumps({"format": "da3stream loop closures", "version": 1})
        self._json.write(f'{head[:-1]}, "loops": [{",".join(rows)}\n]}}\n'.encode())
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()

    def _row(self, loop: LoopClosure) -> dict[str, Any]:
        candidate = loop.candidate
        used = None if loop.chunk is None else self.context.loops_used[loop.chunk]
        return {
            "later": candidate.later,
            "earlier": candidate.earlier,
            "similarity": candidate.similarity,
            "threshold": candidate.threshold,
            "support": candidate.support,
            "accepted": loop.is_accepted,
            "reason": loop.reason,
            "used": used,
            "chunk": loop.chunk,
            "evidence": dict(loop.evidence),
        }
