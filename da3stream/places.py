"""The place descriptors of a run: made in the same pass as the estimation, stored, and not made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.chunking import LoadedChunk
from da3stream.errors import EstimationError
from da3stream.place.base import PlaceDescriptor, TakesDeviceMemory
from da3stream.place.describing import (
    BackboneStage,
    DescribedChunk,
    DescribingStage,
    FramesToDescribe,
    ObjectStage,
    VladStage,
)
from da3stream.place.vocabulary import VladVocabulary
from da3stream.scene import Frame
from da3stream.store import Run


class PlaceRecorder:
    """Describes the new frames of every chunk and stores the vectors.

    Every chunk of a run passes through `add` in order, those that were stored earlier, too. What is stored is
    not made again, but given out when it was given out first: what follows from it must come out the same.
    """

    def __init__(self, run: Run, estimator: str, load: Callable[[], PlaceDescriptor] | None) -> None:
        """Nothing is made or loaded before the first chunk needs it.

        Args:
            run: its manifest's `place` names the descriptor.
            estimator: name of the estimator.
            load: makes a descriptor that is an object, SALAD or a user's own; None: `place` is another kind.
        """
        self._run, self._estimator, self._load = run, estimator, load
        self._stage: DescribingStage | None = None
        self._waiting: list[int] = []
        self._current: int | None = None

    def device_bytes(self) -> int:
        """What the descriptor takes on the estimator's device; 0 if it does not say."""
        descriptor = None if self._load is None else self._load()
        return descriptor.device_bytes() if isinstance(descriptor, TakesDeviceMemory) else 0

    def needs_estimate(self, index: int) -> bool:
        """Whether a stored chunk must be estimated again, because only that describes its frames."""
        from_estimate = self._load is None and self._run.manifest["place"] == "backbone"
        return from_estimate and not self._run.has_descriptors(index)

    def add(self, loaded: LoadedChunk, predicted: NDArray[np.float32] | None) -> list[int]:
        """Describe and store what can be now. Returns the chunks whose descriptors are due with this one.

        Args:
            loaded: a stored chunk.
            predicted: (N, D) what the estimator said of all its frames; None if nothing, or it was not asked.

        Raises:
            EstimationError: a descriptor broke its contract, or `backbone` was asked for in vain.
        """
        index = loaded.chunk.index
        if not self._run.needs_descriptors(index):
            return []
        self._current = index
        self._waiting.append(index)
        self._stage = self._stage or self._make_stage()
        if self._stage.needs_every_chunk or not self._run.has_descriptors(index):
            own = slice(len(loaded.chunk.context), None)
            frames = FramesToDescribe(
                chunk=index,
                images=np.stack([frame.image for frame in loaded.new_frames]),
                indices=np.array(loaded.chunk.new, dtype=np.int64),
                predicted=None if predicted is None else predicted[own],
            )
            self._store(self._stage.add(frames))
        return self._due() if self._is_due(index) else []

    def ahead(self, frames: Sequence[Frame]) -> NDArray[np.float32] | None:
        """(Q, dim) descriptors of frames that are not stored yet, rounded as they would be stored.

        None if images alone do not tell: with `backbone`, and before anything is described.

        Raises:
            EstimationError: a descriptor broke its contract.
        """
        if self._stage is None:
            return None
        images, indices = np.stack([frame.image for frame in frames]), [frame.index for frame in frames]
        vectors = self._stage.ahead(images, np.array(indices, dtype=np.int64))
        return None if vectors is None else vectors.astype(np.float16).astype(np.float32)

    def finish(self) -> list[int]:
        """Describe and store what waited for the end of the stream. Returns the chunks that are due now.

        If this cannot be done, `Run.no_places` says why.
        """
        self._current = None
        if self._stage is None:
            return []
        try:
            self._store(self._stage.finish())
        except EstimationError as error:
            self._run.put_no_places(f"no loops are looked for: {error.what}")
            return []
        return self._due()

    def _is_due(self, index: int) -> bool:
        """Whether descriptors are given out with this chunk, by what is journaled of the vocabulary."""
        if self._load is not None or self._run.manifest["place"] != "vlad":
            return True
        learnt_with = self._run.vocabulary_chunk if self._run.has_vocabulary else None
        return learnt_with is not None and index >= learnt_with

    def _due(self) -> list[int]:
        due, self._waiting = self._waiting, []
        return due

    def _make_stage(self) -> DescribingStage:
        if self._load is not None:
            return ObjectStage(self._load)
        if self._run.manifest["place"] == "backbone":
            return BackboneStage(self._estimator)
        centres = self._run.vocabulary() if self._run.has_vocabulary else None
        vocabulary = None if centres is None else VladVocabulary(centres=centres)
        return VladStage(vocabulary, self._keep_vocabulary)

    def _keep_vocabulary(self, learnt: VladVocabulary) -> None:
        self._run.put_vocabulary(learnt.centres, self._current)

    def _store(self, described: Iterable[DescribedChunk]) -> None:
        """Those that are not stored yet."""
        for chunk in described:
            if not self._run.has_descriptors(chunk.chunk):
                self._run.put_descriptors(chunk.chunk, chunk.vectors)
