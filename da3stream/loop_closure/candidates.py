"""Which pairs of frames are worth the verification of a loop between them.

From the results of the place search: a threshold for this video, agreement of neighbouring frames, one pair
for each group of hits (non-maximum suppression over the matrix of similarities), and a budget of
verifications that goes to the best pairs, spread over the video. Whatever is decided after a chunk depends on
the frames so far alone, so a finished video gives the same candidates as a live one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from da3stream.loop_closure.similarity import Histogram, loop_threshold
from da3stream.scene import LoopCandidate

_SPREAD_RADII = (8, 4, 2, 1)
"""Candidates are chosen far apart first, then closer together, in units of the spacing."""
_SAVINGS_PER_CHUNK = 0.25
"""At most this share of the saved budget is spent after one chunk, so that a long revisit gets its share."""
_MAX_WAITING = 1000
_BLOCK = 500
"""Hits that are compared with all others at a time, for bounded memory."""
_CONVINCING = 0.5
"""Before the end, only pairs are chosen that exceed the threshold by this share of what the best pair so far
does: on a first pass through a street nothing but chance has hits, and the budget is worth more later."""
_AS_GOOD = 0.8
"""Of visits that all exceed the threshold by this share of what the best does, the first is taken: there is
less drift in it, and a map in which all visits hang on one is quicker to optimise than a web."""
_FULL_RATE_CHUNKS = 500
"""Beyond so many chunks the number of verifications grows with the root of their number. Where every place is
seen again and again, loops make the optimisation's equations dense: on 90 laps of one block (3,600 chunks)
530 loops took it 15 s, 960 took 185 s and 1,440 more than ten minutes."""
_LAST_CHANCES = 3
"""At the end so many weak groups are chosen, too, if there is budget left. A short video has few unrelated
frames to compare with, so that what it returns to may not stand out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateOptions:
    """How many candidates are chosen, and how carefully."""

    spacing: int
    """Two candidates differ by at least this many frames, at one end at least; hits closer than that are one
    group. A quarter of a chunk, say."""
    false_alarms: float = 0.001
    """Probability that an unrelated frame has a hit, before the agreement of neighbours is asked for."""
    weak_false_alarms: float = 0.1
    """The same of a weak hit, which gets a chance at the end."""
    support: int = 2
    """Frames of a group that must have hits, of those within `spacing`."""
    per_100_chunks: float = 40.0
    """Verifications that 100 of the first 500 chunks pay for; what is not used is saved for later chunks."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameHits:
    """What the place search found for some frames."""

    frames: NDArray[np.int64]
    """(M,) queries, increasing."""
    matches: NDArray[np.int64]
    """(M, k) most similar frames among those far enough away; -1 where there are fewer than k."""
    similarities: NDArray[np.float32]
    """(M, k) theirs; NaN where there is no match."""
    unrelated: NDArray[np.float32]
    """(M, s) similarities to frames spread over the past; NaN where there are fewer than s."""
    consecutive: NDArray[np.float32]
    """(M,) similarity to the frame before; NaN for the first."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Hits, or groups of hits represented by their best."""

    later: NDArray[np.int64]
    earlier: NDArray[np.int64]
    similarity: NDArray[np.float32]
    support: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.later)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> _Pairs:
        return _Pairs(self.later[chosen], self.earlier[chosen], self.similarity[chosen], self.support[chosen])

    def best_first(self) -> _Pairs:
        return self.take(np.lexsort((self.earlier, self.later, -self.similarity)))

    def __add__(self, other: _Pairs) -> _Pairs:
        return _Pairs(
            np.concatenate([self.later, other.later]),
            np.concatenate([self.earlier, other.earlier]),
            np.concatenate([self.similarity, other.similarity]),
            np.concatenate([self.support, other.support]),
        )


class LoopCandidates:
    """Collects hits and chooses candidates after every chunk: `add`, `decide`, ..., `finish`."""

    def __init__(self, options: CandidateOptions) -> None:
        self.options = options
        self._unrelated, self._consecutive = Histogram(), Histogram()
        self._hits = _no_pairs()  # whose neighbours may still come
        self._waiting = self._weak = _no_pairs()  # groups that were not chosen
        self._chosen = np.zeros((0, 2), np.int64)
        self._chunks = 0
        self._budget = 0.0
        self._newest, self._best = -1, -1.0

    @property
    def threshold(self) -> float:
        """Similarity that a hit must exceed, by what is known so far."""
        return self._threshold(self.options.false_alarms)

    def add(self, hits: FrameHits) -> None:
        """Take the search results of the next frames."""
        self._unrelated.add(hits.unrelated)
        self._consecutive.add(hits.consecutive)
        found = hits.matches >= 0
        later = np.broadcast_to(hits.frames[:, None], hits.matches.shape)[found]
        self._hits += _Pairs(
            later, hits.matches[found], hits.similarities[found], np.ones(len(later), np.int64)
        )
        self._newest = max(self._newest, int(hits.frames.max(initial=-1)))

    def decide(self, *, new_chunks: int = 1) -> tuple[LoopCandidate, ...]:
        """What to verify now that `new_chunks` more chunks are there.

        Hits of the last `spacing` frames wait for their neighbours.
        """
        before = self._earned(self._chunks)
        self._chunks += new_chunks
        self._budget += self._earned(self._chunks) - before
        quota = min(self._budget, max(1.0, _SAVINGS_PER_CHUNK * self._budget))
        return self._decide(self._newest - self.options.spacing, int(quota), final=False)

    def finish(self) -> tuple[LoopCandidate, ...]:
        """What to verify at the end of the video: the rest of the budget."""
        chosen = self._decide(self._newest, int(self._budget), final=True)
        groups = self._grouped(self._weak, self._threshold(self.options.weak_false_alarms))
        return chosen + self._choose(groups, np.arange(min(len(groups), int(self._budget), _LAST_CHANCES)))

    def _earned(self, chunks: int) -> float:
        """Verifications that so many chunks pay for."""
        counted = min(chunks, math.sqrt(chunks * _FULL_RATE_CHUNKS))
        return self.options.per_100_chunks / 100 * counted

    def _threshold(self, false_alarms: float) -> float:
        rivals = (self._newest + 1) / self.options.spacing
        return loop_threshold(self._unrelated, self._consecutive, rivals=rivals, false_alarms=false_alarms)

    def _decide(self, last: int, quota: int, *, final: bool) -> tuple[LoopCandidate, ...]:
        threshold, weak = self.threshold, self._threshold(self.options.weak_false_alarms)
        if not np.isfinite(threshold):
            return ()
        spacing = self.options.spacing
        self._weak = self._grouped(self._weak + self._supported(weak, last), weak)
        groups = self._grouped(self._waiting + self._supported(threshold, last), threshold)
        # Hits of frames that are decided on stay as long as they can support those that wait.
        self._hits = self._hits.take(self._hits.later > last - spacing)
        self._best = max(self._best, float(groups.similarity.max(initial=-1)))
        level = threshold + _CONVINCING * max(0.0, self._best - threshold)
        rank = np.where(groups.similarity < level, 2, self._is_later_visit(groups, threshold).astype(np.intp))
        groups = groups.take(np.argsort(rank, kind="stable"))
        tiers = np.bincount(rank, minlength=3)
        picked = spread_choice(
            groups.later, groups.earlier, quota, tiers=tiers, spacing=spacing, taken=self._chosen
        )
        if not final:
            picked = picked[picked < tiers[:2].sum()]
        self._waiting = groups.take(np.setdiff1d(np.arange(len(groups)), picked))
        return self._choose(groups, picked)

    def _supported(self, threshold: float, last: int) -> _Pairs:
        """Hits above a threshold of frames up to `last`, if enough of their neighbours have some, too."""
        hits = _with_support(self._hits.take(self._hits.similarity > threshold), self.options.spacing)
        return hits.take((hits.later <= last) & (hits.support >= self.options.support))

    def _grouped(self, hits: _Pairs, threshold: float) -> _Pairs:
        """The best of each group of hits that exceed a threshold, best first."""
        hits = hits.take(hits.similarity > threshold).best_first()
        kept = suppress(hits.later, hits.earlier, radius=self.options.spacing, taken=self._chosen)
        return hits.take(kept[:_MAX_WAITING])

    def _is_later_visit(self, groups: _Pairs, threshold: float) -> NDArray[np.bool_]:
        """(N,) where another pair joins the same frames to an earlier visit, and is as good or was chosen."""
        spacing = self.options.spacing
        visit = max(_SPREAD_RADII) * spacing
        near = self._chosen[self._chosen[:, 0] > groups.later.min(initial=0) - spacing]
        later = np.concatenate([groups.later, near[:, 0]])
        earlier = np.concatenate([groups.earlier, near[:, 1]])
        above = np.concatenate([groups.similarity - threshold, np.full(len(near), np.inf)])
        is_later = np.zeros(len(groups), np.bool_)
        for rows in np.array_split(np.arange(len(groups)), -(-len(groups) // _BLOCK) or 1):
            same = np.abs(groups.later[rows, None] - later) < spacing
            before = earlier <= groups.earlier[rows, None] - visit
            as_good = above >= _AS_GOOD * (groups.similarity[rows, None] - threshold)
            is_later[rows] = (same & before & as_good).any(axis=1)
        return is_later

    def _choose(self, groups: _Pairs, picked: NDArray[np.int64]) -> tuple[LoopCandidate, ...]:
        """Take these rows of the groups."""
        chosen = groups.take(picked)
        self._chosen = np.concatenate([self._chosen, np.stack([chosen.later, chosen.earlier], 1)])
        self._budget -= len(chosen)
        return tuple(
            LoopCandidate(
                later=int(later),
                earlier=int(earlier),
                similarity=float(similarity),
                threshold=self.threshold,
                support=int(support),
            )
            for later, earlier, similarity, support in zip(
                chosen.later, chosen.earlier, chosen.similarity, chosen.support, strict=True
            )
        )


def suppress(
    later: NDArray[np.int64], earlier: NDArray[np.int64], *, radius: int, taken: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows of the pairs that are local maxima: further than `radius` from all better ones in either frame.

    Args:
        later, earlier: (N,) frames of the pairs, best first.
        radius: in frames.
        taken: (T, 2) pairs that were chosen before and suppress too.
    """
    if not len(later):
        return np.zeros(0, np.int64)
    pairs, reach = np.stack([later, earlier], axis=1), radius - 0.5  # frames are whole numbers
    alive = np.ones(len(pairs), np.bool_)
    if len(taken):
        alive = np.isinf(KDTree(taken).query(pairs, p=np.inf, distance_upper_bound=reach)[0])
    near = KDTree(pairs).query_pairs(reach, p=np.inf, output_type="ndarray")  # the better one first
    near = near[np.argsort(near[:, 0], kind="stable")]
    starts = np.searchsorted(near[:, 0], np.arange(len(pairs) + 1))
    kept = []
    for row in range(len(pairs)):
        if alive[row]:
            kept.append(row)
            alive[near[starts[row] : starts[row + 1], 1]] = False
    return np.array(kept, dtype=np.int64)


def spread_choice(
    later: NDArray[np.int64],
    earlier: NDArray[np.int64],
    quota: int,
    *,
    tiers: Sequence[int] | NDArray[np.int64],
    spacing: int,
    taken: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Rows of at most `quota` of N pairs, given best first, spread over the video.

    Far from each other and from what was taken first, then closer; only when nothing of a tier is left, the
    next one in the same manner.

    Args:
        later, earlier: (N,) frames of the pairs.
        quota: how many are wanted.
        tiers: number of pairs in each tier, N together.
        spacing: smallest distance of two chosen pairs, in frames.
        taken: (T, 2) later and earlier frames of pairs that were chosen before.
    """
    pairs, chosen = np.stack([later, earlier], axis=1), np.zeros(0, np.int64)
    for tier in np.split(np.arange(len(pairs)), np.cumsum(tiers)[:-1]):
        for factor in _SPREAD_RADII:
            if len(chosen) == quota:
                return chosen
            rest = np.setdiff1d(tier, chosen)
            so_far = np.concatenate([taken, pairs[chosen]])
            rows = suppress(later[rest], earlier[rest], radius=factor * spacing, taken=so_far)
            chosen = np.concatenate([chosen, rest[rows][: quota - len(chosen)]])
    return chosen


def _near(
    later: NDArray[np.int64],
    earlier: NDArray[np.int64],
    other_later: NDArray[np.int64],
    other_earlier: NDArray[np.int64],
    radius: int,
) -> NDArray[np.bool_]:
    """Where pairs are closer than the radius in both frames; arrays and single frames broadcast."""
    return (np.abs(later - other_later) < radius) & (np.abs(earlier - other_earlier) < radius)


def _with_support(hits: _Pairs, radius: int) -> _Pairs:
    """How many frames have hits near each hit."""
    if not len(hits):
        return hits
    frames, column = np.unique(hits.later, return_inverse=True)
    order = np.argsort(column, kind="stable")
    starts = np.searchsorted(column[order], np.arange(len(frames)))
    support = []
    for rows in np.array_split(np.arange(len(hits)), -(-len(hits) // _BLOCK)):
        later, earlier = hits.later[rows, None], hits.earlier[rows, None]
        near = _near(later, earlier, hits.later[order], hits.earlier[order], radius)
        support.append(np.logical_or.reduceat(near, starts, axis=1).sum(axis=1))
    return _Pairs(hits.later, hits.earlier, hits.similarity, np.concatenate(support))


def _no_pairs() -> _Pairs:
    none = np.zeros(0, np.int64)
    return _Pairs(none, none, np.zeros(0, np.float32), none)
