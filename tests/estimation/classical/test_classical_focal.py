"""Which focal is taken, and when it counts as settled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.estimation.classical.focal import FOCAL_GUESS, find_focal, guess_intrinsics
from da3stream.estimation.classical.mapping import Attempt, Candidate, Mapping, scale_focal
from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.rotation import parallax_px

GUESS_PX = 400.0


def _candidate(focal_px, score):
    matrix = np.array([[focal_px, 0.0, 250.0], [0.0, focal_px, 150.0], [0.0, 0.0, 1.0]])
    nothing = Reconstruction(
        cam_from_submap=np.zeros((3, 3, 4)),
        registered=np.ones(3, bool),
        intrinsics=np.repeat(matrix[None], 3, axis=0),
        points=np.zeros((0, 3)),
        observations=np.zeros((0, 3), np.int32),
    )
    return Candidate(mapper="global", reconstruction=nothing, score=score)


class ScriptedMapping:
    """Scores are a function of the focal; freeing the focal goes to `found_px`, from the starts that can
    reach it."""

    def __init__(self, score_of, found_px, reachable=lambda start_px: True):
        self.score_of, self.found_px, self.reachable = score_of, found_px, reachable
        self.hypotheses = []

    def reconstruct(self, focal_factors=(1.0,)):
        self.hypotheses += focal_factors
        focals = [GUESS_PX * factor for factor in focal_factors]
        return Attempt(candidates=tuple(_candidate(each, self.score_of(each)) for each in focals))

    def adjust(self, candidates, *, free_focal):
        focals = [
            self.found_px if free_focal and self.reachable(each.focal_px) else each.focal_px
            for each in candidates
        ]
        return Attempt(candidates=tuple(_candidate(each, self.score_of(each)) for each in focals))


def peak(at_px, width, level=0.9):
    """A score that falls on both sides of a focal."""
    return lambda focal_px: level - min(0.5, (np.log(focal_px / at_px) / width) ** 2)


def test_known_focal_is_no_question():
    mapping = ScriptedMapping(peak(300.0, 0.3), 300.0)
    choice = find_focal(mapping, known=True)
    assert choice.chosen.focal_px == GUESS_PX
    assert not choice.settled
    assert mapping.hypotheses == [1.0]


def test_clear_peak_is_settled_with_one_hypothesis():
    mapping = ScriptedMapping(peak(300.0, 0.6), 300.0)
    choice = find_focal(mapping, known=False)
    assert choice.settled
    assert choice.chosen.focal_px == 300.0
    assert mapping.hypotheses == [1.0]


def test_tie_keeps_the_guess_unsettled():
    """A straight drive: every focal explains the matches, the adjusted one by a hair better."""
    choice = find_focal(ScriptedMapping(peak(300.0, 20.0), 300.0), known=False)
    assert not choice.settled
    assert choice.chosen.focal_px == GUESS_PX


def test_one_sided_doubt_is_not_settled_but_clearly_better_is_kept():
    def falls_below(focal_px):
        return 0.9 - max(0.0, np.log(700.0 / focal_px)) * 0.5

    choice = find_focal(ScriptedMapping(falls_below, 700.0), known=False)
    assert not choice.settled
    assert choice.chosen.focal_px == 700.0


def test_bad_explanation_tries_the_other_hypotheses():
    """The guess is stuck in a wrong minimum; only a start above 500 px finds the true 900 px."""

    def score(focal_px):
        return peak(900.0, 0.6)(focal_px) if focal_px > 500.0 else 0.6

    mapping = ScriptedMapping(score, 900.0, reachable=lambda start_px: start_px > 500.0)
    choice = find_focal(mapping, known=False)
    assert choice.settled
    assert choice.chosen.focal_px == 900.0
    assert len(mapping.hypotheses) == 3


def test_nothing_reconstructed():
    class Hopeless(ScriptedMapping):
        def reconstruct(self, focal_factors=(1.0,)):
            return Attempt(warnings=("lost",))

    choice = find_focal(Hopeless(peak(300.0, 0.5), 300.0), known=False)
    assert choice.chosen is None
    assert not choice.settled
    assert "lost" in choice.attempt.warnings


def test_guess_is_centred():
    matrix = guess_intrinsics((504, 280))
    assert matrix[0, 0] == matrix[1, 1] == pytest.approx(FOCAL_GUESS * 504)
    assert matrix[:2, 2].tolist() == [252.0, 140.0]


def test_scaling_the_focal_leaves_the_argument():
    matrix = np.repeat(guess_intrinsics((504, 280))[None], 2, axis=0)
    scaled = scale_focal(matrix, 2.0)
    assert scaled[1, 0, 0] == pytest.approx(2 * matrix[1, 0, 0])
    assert scaled[1, 0, 2] == matrix[1, 0, 2]
    assert matrix[0, 0, 0] == pytest.approx(FOCAL_GUESS * 504)


@pytest.mark.parametrize("factor", [0.75, 1.5])
def test_walk_around_an_object_settles_a_wrong_guess(pool, make_world, orbit_poses, factor):
    world = make_world(orbit_poses(10, step_deg=5.0), noise_px=0.4, known=False)
    wrong = replace(world.calibration, intrinsics=scale_focal(world.calibration.intrinsics, factor))
    mapping = Mapping(pool, world.graph, wrong, seed=0)
    choice = find_focal(mapping, known=False)
    assert choice.settled
    assert choice.chosen.focal_px == pytest.approx(380.0, rel=0.01)


def test_straight_drive_settles_nothing(pool, make_world, turning_poses):
    straight = turning_poses(10, step_deg=0.0)
    straight[:, 2, 3] = -0.15 * np.arange(10)
    world = make_world(straight, noise_px=0.4, known=False)
    assert parallax_px(world.graph, world.truth.intrinsics) > 1.5
    wrong = replace(world.calibration, intrinsics=scale_focal(world.calibration.intrinsics, 1.3))
    choice = find_focal(Mapping(pool, world.graph, wrong, seed=0), known=False)
    assert not choice.settled
    assert choice.chosen.focal_px == pytest.approx(1.3 * 380.0)
