"""From search results to pairs of frames that are worth a verification."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from da3stream.loop_closure.candidates import (
    CandidateOptions,
    FrameHits,
    LoopCandidates,
    spread_choice,
    suppress,
)
from da3stream.loop_closure.exclusion import TravelledPath, search_limits
from da3stream.place.index import PlaceIndex
from da3stream.scene import LoopCandidate
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedWorld
from da3stream.synthetic.paths import street_laps

STEP = 30
OPTIONS = CandidateOptions(spacing=15)
NONE = np.zeros((0, 2), np.int64)


def hits_of(vectors: np.ndarray, centres: np.ndarray) -> list[FrameHits]:
    """Search results of a whole video, chunk by chunk."""
    index, path, found = PlaceIndex(lambda frames: vectors[frames]), TravelledPath(60), []
    path.add(centres)
    limits = search_limits(np.arange(len(vectors)), min_gap=90, travelled=path.in_chunks, min_travelled=1.0)
    for start in range(0, len(vectors), STEP):
        frames = np.arange(start, min(start + STEP, len(vectors)))
        index.add(frames)
        result = index.search(vectors[frames], 20, before=limits[frames])
        found.append(
            FrameHits(
                frames=frames,
                matches=result.indices,
                similarities=result.similarities,
                unrelated=index.background(vectors[frames], 32, before=int(limits[start])),
                consecutive=np.einsum("nd,nd->n", vectors[frames], vectors[np.maximum(frames - 1, 0)]),
            )
        )
    return found


@cache
def laps(frames: int) -> tuple[np.ndarray, list[FrameHits]]:
    """Street laps of 400 frames of 3.6 m, described, searched."""
    poses = street_laps(frames, lap_frames=400, step_m=3.6)
    world = SimulatedWorld(poses, 7)
    vectors = SimulatedDescriptor(world, scale_m=12.0).describe(
        np.zeros(0, np.uint8), indices=np.arange(frames)
    )
    centres = poses[:, :3, 3]
    return centres, hits_of(vectors, centres)


def choose(hits: list[FrameHits], options: CandidateOptions = OPTIONS) -> list[list[LoopCandidate]]:
    candidates, chosen = LoopCandidates(options), []
    for one in hits:
        candidates.add(one)
        chosen.append(list(candidates.decide()))
    return [*chosen, list(candidates.finish())]


def test_a_second_lap_is_found_and_little_else() -> None:
    centres, hits = laps(700)
    everything = [one for group in choose(hits) for one in group]
    chosen = [one for one in everything if one.similarity > one.threshold]
    assert len(everything) - len(chosen) <= 3  # the weak ones of the end
    distances = [np.linalg.norm(centres[one.later] - centres[one.earlier]) for one in chosen]
    assert 5 <= len(chosen) <= 0.4 * len(hits)
    right = np.array(distances) < 20
    assert np.sum(~right) <= 1
    later = np.sort(np.array([one.later for one in chosen])[right])
    assert later[0] < 480
    assert later[-1] > 620
    assert np.diff(later).max() <= 120  # spread over the revisit
    assert all(one.support >= 2 for one in everything)


def test_without_a_revisit_next_to_nothing_is_proposed() -> None:
    _, hits = laps(380)
    *earlier, last = choose(hits)
    assert sum(map(len, earlier)) <= 1
    assert len(last) <= 3  # the last chances


def test_at_the_end_the_best_weak_hits_that_agree_get_a_chance() -> None:
    """A short video: what it returns to does not stand out, but three frames in a row say the same."""
    hits = [single_hit(frame, -1, np.nan) for frame in range(40)]
    hits += [single_hit(40 + k, 5 + k, similarity) for k, similarity in enumerate((0.13, 0.15, 0.12))]
    hits += [single_hit(43, 20, 0.14)]
    options = CandidateOptions(spacing=4, per_100_chunks=5.0)
    chosen = choose(hits, options)
    assert not any(chosen[:-1])
    assert [(one.later, one.earlier, one.support) for one in chosen[-1]] == [(41, 6, 3)]
    assert chosen[-1][0].similarity < chosen[-1][0].threshold


def test_a_longer_video_does_not_change_what_was_decided() -> None:
    _, hits = laps(700)
    assert choose(hits[:18])[:18] == choose(hits)[:18]
    assert any(choose(hits)[:18])  # the second lap has begun


def test_the_threshold_follows_the_descriptors() -> None:
    """Similarities squeezed towards 1, as other networks have them, give the same candidates."""
    _, hits = laps(700)

    def squeezed(values: np.ndarray) -> np.ndarray:
        return (0.8 + 0.15 * values).astype(np.float32)

    others = [
        FrameHits(
            frames=one.frames,
            matches=one.matches,
            similarities=squeezed(one.similarities),
            unrelated=squeezed(one.unrelated),
            consecutive=squeezed(one.consecutive),
        )
        for one in hits
    ]
    plain = {(one.later, one.earlier) for group in choose(hits) for one in group}
    other = {(one.later, one.earlier) for group in choose(others) for one in group}
    assert len(plain & other) >= 0.7 * len(plain)


@pytest.mark.parametrize("per_100_chunks", [8.0, 20.0, 200.0])
def test_the_budget_holds_after_every_chunk(per_100_chunks: float) -> None:
    _, hits = laps(700)
    options = CandidateOptions(spacing=15, per_100_chunks=per_100_chunks)
    spent = np.cumsum([len(group) for group in choose(hits, options)])
    earned = per_100_chunks / 100 * np.minimum(np.arange(1, len(spent) + 1), len(hits))
    assert (spent <= earned + 1e-9).all()
    assert spent[-1] > 0


def single_hit(frame: int, match: int, similarity: float) -> FrameHits:
    return FrameHits(
        frames=np.array([frame]),
        matches=np.array([[match]]),
        similarities=np.array([[similarity]], np.float32),
        unrelated=np.random.default_rng(frame).normal(0, 0.05, (1, 50)).astype(np.float32),
        consecutive=np.array([0.9], np.float32),
    )


def propose(*hits: FrameHits) -> list[tuple[int, int, int]]:
    candidates = LoopCandidates(CandidateOptions(spacing=10))
    for frame in range(400, 410):
        candidates.add(single_hit(frame, 0, 0.0))
    for hit in hits:
        candidates.add(hit)
    found = (*candidates.decide(new_chunks=20), *candidates.finish())
    return [(one.later, one.earlier, one.support) for one in found]


def test_a_hit_without_agreeing_neighbours_is_no_candidate() -> None:
    assert propose(single_hit(500, 100, 0.8)) == []
    assert propose(single_hit(500, 100, 0.8), single_hit(501, 300, 0.7)) == []
    assert propose(single_hit(500, 100, 0.8), single_hit(503, 98, 0.7)) == [(500, 100, 2)]


def test_consecutive_hits_are_one_candidate_the_best() -> None:
    run = [single_hit(500 + n, 100 + n, 0.6 + (0.2 if n == 4 else 0)) for n in range(9)]
    assert propose(*run) == [(504, 104, 9)]


def test_too_few_samples_decide_nothing() -> None:
    candidates = LoopCandidates(CandidateOptions(spacing=10))
    candidates.add(single_hit(500, 100, 0.9))
    assert candidates.threshold == np.inf
    assert candidates.finish() == ()


def test_suppression_keeps_local_maxima() -> None:
    later, earlier = np.array([100, 104, 100, 130, 112]), np.array([10, 12, 40, 10, 10])
    assert suppress(later, earlier, radius=10, taken=NONE).tolist() == [0, 2, 3, 4]
    assert suppress(later, earlier, radius=10, taken=np.array([[101, 41]])).tolist() == [0, 3, 4]


def test_the_choice_is_spread_and_prefers_the_convincing() -> None:
    later = np.array([100, 112, 300, 124, 900])
    chosen = spread_choice(later, later - 90, 4, tiers=(4, 1), spacing=10, taken=NONE)
    assert chosen.tolist() == [0, 2, 3, 1]
    assert spread_choice(later, later - 90, 2, tiers=(4, 1), spacing=10, taken=NONE).tolist() == [0, 2]
    assert spread_choice(later, later - 90, 9, tiers=(4, 1), spacing=10, taken=NONE).tolist() == [
        0,
        2,
        3,
        1,
        4,
    ]


def test_every_visit_is_joined_to_the_first() -> None:
    """Lap after lap of the same 200 frames; all before look as much alike."""
    candidates = LoopCandidates(CandidateOptions(spacing=5, per_100_chunks=200.0))
    chosen: list[LoopCandidate] = []
    for frame in range(800):
        visits = np.arange(frame % 200, frame - 100, 200)
        alike = 0.8 + 0.1 * np.random.default_rng(frame).uniform(size=len(visits))
        candidates.add(
            FrameHits(
                frames=np.array([frame]),
                matches=visits[None],
                similarities=alike.astype(np.float32)[None],
                unrelated=np.random.default_rng(frame).normal(0, 0.05, (1, 50)).astype(np.float32),
                consecutive=np.array([0.9], np.float32),
            )
        )
        if frame % 40 == 39:
            chosen += candidates.decide()
    assert len(chosen) >= 20
    assert max(one.later for one in chosen) > 750
    assert all(one.earlier < 200 for one in chosen)


@pytest.mark.parametrize(("chunks", "most"), [(400, 200), (980, 350)])
def test_long_videos_verify_in_proportion_to_the_root_of_their_length(chunks: int, most: int) -> None:
    """There is always something to verify; half a verification a chunk at first."""
    candidates = LoopCandidates(CandidateOptions(spacing=2, per_100_chunks=50.0))
    for frame in range(6):
        candidates.add(single_hit(frame, -1, np.nan))
    chosen = 0
    for chunk in range(chunks):
        first = 100 + 20 * chunk
        for frame in range(first, first + 2):
            candidates.add(single_hit(frame, frame - 90, 0.9))
        chosen += len(candidates.decide())
    assert most - 8 <= chosen <= most
