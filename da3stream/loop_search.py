"""The search for places seen before, frame by frame as they are described."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import StoreError
from da3stream.loop_closure.candidates import CandidateOptions, FrameHits, LoopCandidates
from da3stream.loop_closure.exclusion import search_limits, travelled_chunks
from da3stream.loop_closure.keyframes import choose_keyframes
from da3stream.place.index import PlaceIndex
from da3stream.scene import ChunkSizes, LoopCandidate

NEIGHBOURS = 20
"""Most similar frames that are looked at for each frame."""
KEYFRAME_NEIGHBOURS = 100
"""The same for keyframes, which are to be spread: the most similar ones are neighbours of each other."""
KEYFRAMES_PER_CHUNK = 4
"""Keyframes differ by at least a quarter of a chunk."""
UNRELATED = 32
"""Frames spread over the past that say what unrelated frames have in common."""
MIN_TRAVELLED_CHUNKS = 1.0
"""Between two visits of a place lies at least the path of a typical chunk."""
MIN_GAP = 8
"""Frames. Places that are nearer would share frames: a loop has at least 4 of each."""


class LoopSearch:
    """Takes the descriptors of all frames in their order, and says which pairs to verify."""

    def __init__(self, folder: Path, sizes: ChunkSizes, per_100_chunks: float) -> None:
        """Start.

        Args:
            folder: for a file of descriptors that may be thrown away when the run ends.
            sizes: of the chunks. Frames nearer than a chunk are joined anyway.
            per_100_chunks: verifications that 100 chunks pay for.
        """
        self._file = folder / "places.f16"
        self._chunk = sizes.size
        options = CandidateOptions(spacing=max(2, sizes.size // 4), per_100_chunks=per_100_chunks)
        self._candidates = LoopCandidates(options)
        self._index: PlaceIndex | None = None
        self._last: NDArray[np.float32] | None = None

    def add(
        self, frames: NDArray[np.int64], vectors: NDArray[np.float32], centres: NDArray[np.float64]
    ) -> None:
        """Take the descriptors of the next frames.

        Args:
            frames: (M,) indices, following those of the last call.
            vectors: (M, dim) of unit length.
            centres: (N, 3) camera centres of all frames so far, N > every index.
        """
        try:
            if self._index is None:
                self._index = PlaceIndex(self._file, vectors.shape[1])
            self._index.add(frames, vectors)
        except OSError as error:
            raise StoreError(
                f"cannot write {self._file}: {error.strerror}",
                hint="What is stored until here is kept; once the cause is removed, go on with --resume.",
            ) from error
        before = search_limits(
            frames,
            min_gap=max(self._chunk, MIN_GAP),
            travelled=travelled_chunks(centres, self._chunk),
            min_travelled=MIN_TRAVELLED_CHUNKS,
        )
        found = self._index.search(vectors, NEIGHBOURS, before=before)
        self._candidates.add(
            FrameHits(
                frames=frames,
                matches=found.indices,
                similarities=found.similarities,
                unrelated=self._index.background(vectors, UNRELATED, before=before),
                consecutive=self._to_previous(vectors),
            )
        )

    def keyframes(self, vectors: NDArray[np.float32], *, before: int, most: int) -> tuple[int, ...]:
        """Frames that show what some query shows, by the threshold of loops; spread over the past.

        Args:
            vectors: (Q, dim) queries of unit length.
            before: only frames with a smaller index.
            most: how many.
        """
        if self._index is None:
            return ()
        found = self._index.search(vectors, KEYFRAME_NEIGHBOURS, before=np.full(len(vectors), before))
        return choose_keyframes(
            found.indices,
            found.similarities,
            threshold=self._candidates.threshold,
            spacing=max(1, self._chunk // KEYFRAMES_PER_CHUNK),
            most=most,
        )

    def decide(self, chunks: int) -> tuple[LoopCandidate, ...]:
        """What to verify now that `chunks` more chunks were described."""
        return self._candidates.decide(new_chunks=chunks)

    def finish(self) -> tuple[LoopCandidate, ...]:
        """What to verify at the end of the video."""
        return self._candidates.finish()

    def _to_previous(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(M,) similarity to the frame before; NaN for the first of all."""
        first = np.full_like(vectors[:1], np.nan) if self._last is None else self._last[None]
        self._last = vectors[-1]
        previous = np.concatenate([first, vectors[:-1]])
        return np.einsum("nd,nd->n", vectors, previous).astype(np.float32)
