"""Keyframe memory: a chunk is reconstructed together with earlier frames that show the same places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.loop_search import LoopSearch
from da3stream.places import PlaceRecorder
from da3stream.scene import ChunkSizes, Frame
from da3stream.store import Run

QUERIES = 6
"""New frames of a chunk whose likes are looked for, evenly spread: they are described twice."""


class KeyframeMemory:
    """Recalls stored keyframes for the next chunk.

    What a stored chunk recalled is read, not chosen again. A choice depends on what earlier chunks stored and
    on the chunk's own first frames: those that are new in it however much it recalls. With descriptors that
    only an estimate gives (`backbone`), on the frames of the chunk before instead.
    """

    def __init__(self, run: Run, places: PlaceRecorder, most: int) -> None:
        """`most` keyframes a chunk, but fewer than half of the frames that would be new."""
        self._run, self._places, self._most = run, places, most

    def recall(self, sizes: ChunkSizes, new: Sequence[Frame], search: LoopSearch | None) -> tuple[Frame, ...]:
        """Keyframes from their JPEGs, at least a chunk away, in their order.

        Args:
            sizes: of the next chunk.
            new: the frames that are new in it if it recalls nothing.
            search: knows the frames of earlier chunks; None if none is described yet.
        """
        stored = self._run.chunk_with(new[0].index)
        if stored is not None:
            return self._run.stored_frames(stored.chunk.recalled)
        most = min(self._most, (sizes.size - sizes.overlap - 1) // 2)
        if search is None or not most:
            return ()
        certain = new[: max(1, len(new) - most)]
        vectors = self._queries(certain)
        return self._run.stored_frames(
            search.keyframes(vectors, before=new[0].index - sizes.size + 1, most=most)
        )

    def _queries(self, new: Sequence[Frame]) -> NDArray[np.float32]:
        """(Q, dim) descriptors of frames evenly spread over these, else over those of the chunk before."""
        described = self._places.ahead([new[row] for row in _spread(len(new))])
        if described is not None:
            return described
        before = self._run.descriptors(self._run.owner(new[0].index - 1).chunk.index)
        assert before is not None, "the search knows it"
        return before[_spread(len(before))]


def _spread(count: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, count - 1, QUERIES).round().astype(np.intp))
