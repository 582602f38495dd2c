"""Place descriptors of a video, chunk by chunk, whichever kind makes them.

Three stages with one interface: `ObjectStage` asks a `PlaceDescriptor` (SALAD or a user's own), `VladStage`
learns its vocabulary from the first frames and holds them back until then, `BackboneStage` takes what the
estimator says of each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import EstimationError
from da3stream.place.base import PlaceDescriptor
from da3stream.place.vlad import VladDescriptor, random_direction
from da3stream.place.vocabulary import TRAINING_FRAMES, VladVocabulary

_UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FramesToDescribe:
    """The frames that a chunk owns."""

    chunk: int
    """Index of the chunk."""
    images: NDArray[np.uint8]
    """(M, H, W, 3) RGB."""
    indices: NDArray[Any]
    """(M,) frame indices."""
    predicted: NDArray[np.float32] | None
    """(M, D) what the estimator said of these frames; None if it said nothing, or was not asked again."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DescribedChunk:
    """The descriptors of the frames that a chunk owns."""

    chunk: int
    """Index of the chunk."""
    vectors: NDArray[np.float32]
    """(M, dim) of unit length."""


class DescribingStage(Protocol):
    """Takes chunks in their order, and gives them back described, perhaps later, in the same order."""

    @property
    def needs_every_chunk(self) -> bool:
        """Whether it has to see the frames of chunks, too, whose descriptors are there already."""
        ...

    def add(self, frames: FramesToDescribe) -> Sequence[DescribedChunk]:
        """What can be described now that these frames are here."""
        ...

    def ahead(self, images: NDArray[np.uint8], indices: NDArray[Any]) -> NDArray[np.float32] | None:
        """(Q, dim) of images (Q, H, W, 3) that no chunk has yet; None if images alone do not tell (yet)."""
        ...

    def finish(self) -> Sequence[DescribedChunk]:
        """What was held back until the video's end."""
        ...


class ObjectStage:
    """Asks a descriptor, which is made when the first frames come."""

    needs_every_chunk = False

    def __init__(self, load: Callable[[], PlaceDescriptor]) -> None:
        self._load = load

    def add(self, frames: FramesToDescribe) -> Sequence[DescribedChunk]:
        """The chunk, described.

        Raises:
            EstimationError: the descriptor broke its contract.
        """
        return (DescribedChunk(chunk=frames.chunk, vectors=self.ahead(frames.images, frames.indices)),)

    def ahead(self, images: NDArray[np.uint8], indices: NDArray[Any]) -> NDArray[np.float32]:
        """(Q, dim) of images (Q, H, W, 3). Errors as of `add`."""
        descriptor = self._load()
        vectors = descriptor.describe(images, indices=indices)
        check_vectors(vectors, descriptor.name, (len(images), descriptor.dim))
        return vectors

    def finish(self) -> Sequence[DescribedChunk]:
        """Nothing: nothing is held back."""
        return ()


class BackboneStage:
    """Takes the descriptors that the estimator has made beside the geometry."""

    needs_every_chunk = False

    def __init__(self, estimator: str) -> None:
        """`estimator` is its name, for the error."""
        self._estimator = estimator

    def add(self, frames: FramesToDescribe) -> Sequence[DescribedChunk]:
        """The chunk, described.

        Raises:
            EstimationError: the estimator gives no descriptors.
        """
        if frames.predicted is None:
            raise no_backbone(self._estimator)
        return (DescribedChunk(chunk=frames.chunk, vectors=unit_vectors(frames.predicted, frames.indices)),)

    def ahead(self, images: NDArray[np.uint8], indices: NDArray[Any]) -> None:
        """None: only an estimate describes."""

    def finish(self) -> Sequence[DescribedChunk]:
        """Nothing: nothing is held back."""
        return ()


def no_backbone(estimator: str) -> EstimationError:
    """The error of `--place backbone` with an estimator of this name, which describes nothing."""
    return EstimationError(
        "--place backbone needs a network that describes what it sees",
        got=f"the estimator {estimator!r}, which does not",
        expected="a da3 model that reconstructs, such as da3-base",
        hint="Use --place vlad, or --model da3-base",
    )


class VladStage:
    """Describes by VLAD, once a vocabulary is learnt.

    It is learnt from the first `TRAINING_FRAMES` frames that show any local features, or at the end of a
    shorter video. Until then features (at most 128 KB a frame) are held, not images. The vocabulary depends
    on the frames and their order alone, not on how they are grouped into chunks.
    """

    def __init__(
        self, vocabulary: VladVocabulary | None, keep_vocabulary: Callable[[VladVocabulary], None]
    ) -> None:
        """Start, or go on with the vocabulary that an earlier run has learnt.

        Args:
            vocabulary: None: it is still to be learnt.
            keep_vocabulary: called once it is learnt, before anything that it describes is given out.
        """
        self._descriptor = None if vocabulary is None else VladDescriptor(vocabulary)
        self._keep_vocabulary = keep_vocabulary
        self._held: list[_Features] = []

    @property
    def needs_every_chunk(self) -> bool:
        """Until the vocabulary is learnt."""
        return self._descriptor is None

    def add(self, frames: FramesToDescribe) -> Sequence[DescribedChunk]:
        """The chunk, described; none while the vocabulary is not learnt; then all that were held back."""
        local = [VladDescriptor.local_features(image) for image in frames.images]
        self._held.append(_Features(frames.chunk, frames.indices, local))
        enough = self._descriptor is not None or len(self._textured()) >= TRAINING_FRAMES
        return self._describe_held() if enough else ()

    def ahead(self, images: NDArray[np.uint8], indices: NDArray[Any]) -> NDArray[np.float32] | None:
        """(Q, dim) of images (Q, H, W, 3); None while the vocabulary is not learnt."""
        return None if self._descriptor is None else self._descriptor.describe(images, indices=indices)

    def finish(self) -> Sequence[DescribedChunk]:
        """All that were held back.

        Raises:
            EstimationError: the whole video shows too little texture to learn a vocabulary from.
        """
        return self._describe_held() if self._held else ()

    def _describe_held(self) -> list[DescribedChunk]:
        if self._descriptor is None:
            vocabulary = VladVocabulary.train(self._textured()[:TRAINING_FRAMES])
            self._keep_vocabulary(vocabulary)
            self._descriptor = VladDescriptor(vocabulary)
        held, self._held = self._held, []
        return [
            DescribedChunk(
                chunk=each.chunk,
                vectors=self._descriptor.describe_features(each.local, indices=each.indices),
            )
            for each in held
        ]

    def _textured(self) -> list[NDArray[np.uint8]]:
        """Features of the held frames that have any: a dark beginning teaches nothing."""
        return [features for each in self._held for features in each.local if len(features)]


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """A chunk that waits for the vocabulary."""

    chunk: int
    indices: NDArray[Any]
    local: list[NDArray[np.uint8]]


def check_vectors(vectors: NDArray[np.float32], name: str, shape: tuple[int, int]) -> None:
    """Raise EstimationError unless descriptors are finite, of this shape (M, dim) and of unit length."""
    problem = None
    if vectors.shape != shape:
        problem = f"shape {vectors.shape}"
    elif not np.isfinite(vectors).all():
        problem = "a value that is not finite"
    elif np.abs(lengths := np.linalg.norm(vectors, axis=1) - 1).max(initial=0) > _UNIT_TOLERANCE:
        problem = f"a vector of length {lengths[np.abs(lengths).argmax()] + 1:.3g}"
    if problem is not None:
        raise EstimationError(
            f"the place descriptor {name!r} broke its contract",
            got=problem,
            expected=f"finite vectors of unit length, shape {shape}",
        )


def unit_vectors(vectors: NDArray[np.float32], indices: NDArray[Any]) -> NDArray[np.float32]:
    """(M, D) vectors at unit length. What is zero or not finite shows no place and gets a random direction,
    drawn from its frame index (M,), which is like no other."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    usable = np.isfinite(lengths) & (lengths > 0)
    units = np.where(usable, vectors, 1) / np.where(usable, lengths, 1)
    for row in np.flatnonzero(~usable):
        units[row] = random_direction(int(indices[row]), vectors.shape[1])
    return units.astype(np.float32)
