"""Similarity transforms from correspondences: exactness, bias, outliers, degeneracy, claimed information."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.geometry.registration import Moments, fit_information, fit_robust, solve, umeyama
from da3stream.geometry.sim3 import Sim3

LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
A_FROM_B = Sim3.exp([0.4, -1.1, 0.7, 3.0, -2.0, 5.0, np.log(1.7)])


def random_transform(rng: np.random.Generator) -> Sim3:
    return Sim3.exp(rng.normal(size=7) * [1, 1, 1, 10, 10, 10, 1])


def error_of(fit: Sim3, truth: Sim3) -> np.ndarray:
    """(7,) tangent between a fit and the truth."""
    return (truth.inverse() @ fit).log()


@LAW
@given(SEEDS, st.sampled_from(["least_squares", "symmetric"]), st.integers(3, 50))
def test_exact_points_give_the_exact_transform(seed: int, rule: Any, count: int) -> None:
    rng = np.random.default_rng(seed)
    truth, points_in_b, weights = (
        random_transform(rng),
        rng.normal(size=(count, 3)),
        rng.uniform(0.1, 9, count),
    )
    fit = solve(Moments.of(points_in_b, truth.apply(points_in_b), weights), rule)
    np.testing.assert_allclose(error_of(fit, truth), np.zeros(7), atol=1e-6)


@LAW
@given(SEEDS)
def test_a_locked_scale_stays_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = Sim3(rotation=random_transform(rng).rotation, translation=rng.normal(size=3))
    points_in_b = rng.normal(size=(20, 3))
    fit = umeyama(points_in_b, truth.apply(points_in_b), with_scale=False)
    assert fit.scale == 1.0
    np.testing.assert_allclose(error_of(fit, truth), np.zeros(7), atol=1e-9)


def test_least_squares_minimises_the_squared_distances() -> None:
    """No step in any of the seven directions makes it better."""
    rng = np.random.default_rng(0)
    points_in_b, weights = rng.normal(size=(30, 3)), rng.uniform(0.1, 2, 30)
    points_in_a = A_FROM_B.apply(points_in_b) + rng.normal(scale=0.5, size=(30, 3))

    def cost(transform: Sim3) -> float:
        return float(weights @ np.square(points_in_a - transform.apply(points_in_b)).sum(1))

    fit = umeyama(points_in_b, points_in_a, weights)
    for direction in np.eye(7):
        for step in (-1e-3, 1e-3):
            assert cost(fit @ Sim3.exp(step * direction)) > cost(fit)


def test_weights_of_zero_silence_a_point() -> None:
    rng = np.random.default_rng(1)
    points_in_b = rng.normal(size=(20, 3))
    points_in_a = A_FROM_B.apply(points_in_b)
    points_in_a[5:8] += 100
    weights = np.ones(20)
    weights[5:8] = 0
    np.testing.assert_allclose(
        error_of(umeyama(points_in_b, points_in_a, weights), A_FROM_B), np.zeros(7), atol=1e-9
    )


@pytest.mark.parametrize("swap", [False, True])
def test_noise_on_both_sides_biases_least_squares_and_not_the_symmetric_rule(swap: bool) -> None:
    """Errors in b inflate its spread: Umeyama's scale is low by 1 + (noise / spread)^2, from either side."""
    rng = np.random.default_rng(2)
    truth = A_FROM_B.inverse() if swap else A_FROM_B
    scales: dict[str, list[float]] = {"least_squares": [], "symmetric": []}
    for _ in range(40):
        clean = rng.normal(size=(2000, 3))
        points_in_b = clean + 0.3 * rng.normal(size=clean.shape)
        points_in_a = truth.apply(clean + 0.3 * rng.normal(size=clean.shape))
        moments = Moments.of(points_in_b, points_in_a, np.ones(2000))
        for rule in ("least_squares", "symmetric"):
            scales[rule].append(float(solve(moments, rule).scale / truth.scale))  # type: ignore[arg-type]
    assert np.mean(scales["least_squares"]) == pytest.approx(1 / (1 + 0.3**2), abs=0.004)
    assert np.mean(scales["symmetric"]) == pytest.approx(1.0, abs=0.004)


@LAW
@given(SEEDS)
def test_the_symmetric_rule_gives_the_inverse_when_the_sides_are_swapped(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, weights = rng.normal(size=(30, 3)), rng.normal(size=(30, 3)), rng.uniform(0.1, 1, 30)
    forward = solve(Moments.of(first, second, weights), "symmetric")
    backward = solve(Moments.of(second, first, weights), "symmetric")
    assert float(forward.scale * backward.scale) == pytest.approx(1.0, rel=1e-12)


@LAW
@given(SEEDS)
def test_a_mirrored_cloud_is_answered_with_a_rotation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(12, 3))
    for rule in ("least_squares", "symmetric", "one"):
        fit = solve(Moments.of(points, points * [1.0, 1.0, -1.0], np.ones(12)), rule)
        assert np.linalg.det(fit.rotation) == pytest.approx(1.0, abs=1e-9)


@LAW
@given(SEEDS)
def test_points_on_a_plane_suffice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_transform(rng)
    plane = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 3))
    fit = umeyama(plane, truth.apply(plane))
    assert np.linalg.det(fit.rotation) == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(
        fit.apply(plane), truth.apply(plane), atol=1e-7 * np.abs(truth.apply(plane)).max()
    )


@pytest.mark.parametrize("place", [0.0, 0.1, 1234.567])
@pytest.mark.parametrize("rule", ["least_squares", "symmetric"])
def test_coinciding_points_have_no_scale(place: float, rule: Any) -> None:
    """Also where the rounding of their mean makes them seem to differ."""
    rng = np.random.default_rng(0)
    heap, cloud, weights = np.full((3000, 3), place), rng.normal(size=(3000, 3)), rng.uniform(0.1, 3, 3000)
    for points_in_b, points_in_a in ((heap, cloud), (cloud, heap), (heap, heap)):
        with pytest.raises(ValueError, match="coincide"):
            solve(Moments.of(points_in_b, points_in_a, weights), rule)


def test_a_small_cloud_far_from_the_origin_still_has_a_scale() -> None:
    points = 1e4 + 1e-3 * np.random.default_rng(0).normal(size=(50, 3))
    assert umeyama(points, 2 * points).scale == pytest.approx(2.0, rel=1e-6)


def test_one_point_still_fixes_a_rigid_translation() -> None:
    fit = umeyama(np.array([[1.0, 2, 3]]), np.array([[2.0, 2, 2]]), with_scale=False)
    np.testing.assert_allclose(fit.apply(np.array([1.0, 2, 3])), [2, 2, 2])


@pytest.mark.parametrize("count", [0, 5])
def test_no_weight_at_all_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="positive weight"):
        umeyama(np.ones((count, 3)), np.ones((count, 3)), np.zeros(count))


def disturbed(
    rng: np.random.Generator, *, sigma: float, outliers: float, scale: float = 1.0
) -> dict[str, Any]:
    """Arguments of `fit_robust` for points at depth 2 to 20 with relative noise and gross outliers."""
    points_in_b = rng.uniform([-5, -5, 2], [5, 5, 20], size=(3000, 3)) * scale
    unit = A_FROM_B.scale * points_in_b[:, 2]
    points_in_a = A_FROM_B.apply(points_in_b) + sigma * unit[:, None] * rng.normal(size=(3000, 3))
    wrong = rng.random(3000) < outliers
    points_in_a[wrong] += unit[wrong, None] * rng.uniform(0.5, 3, size=(wrong.sum(), 3))
    return {
        "points_in_b": points_in_b, "points_in_a": points_in_a, "weights": np.ones(3000),
        "residual_unit": np.asarray(unit),
    }  # fmt: skip


def test_a_third_of_outliers_does_not_move_the_robust_fit() -> None:
    case = disturbed(np.random.default_rng(3), sigma=0.01, outliers=0.3)
    start = A_FROM_B @ Sim3.exp([0.05, -0.03, 0.02, 0.1, 0.1, -0.1, 0.1])
    fit = fit_robust(**case, initial=start)
    naive = umeyama(
        case["points_in_b"], case["points_in_a"], case["weights"] / np.square(case["residual_unit"])
    )
    error, naive_error = np.abs(error_of(fit.a_from_b, A_FROM_B)), np.abs(error_of(naive, A_FROM_B))
    assert error[:3].max() < 3e-3
    assert error[6] < 5e-3
    assert error[3:6].max() < 0.05
    assert naive_error[6] > 10 * error[6]
    assert fit.inlier_ratio == pytest.approx(0.7, abs=0.05)


def test_the_information_of_a_robust_fit_predicts_its_scatter() -> None:
    """Noise on both sides, as between submaps; the mean squared error in claimed deviations is about one."""
    squared = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        case = disturbed(rng, sigma=0.02, outliers=0.0)
        noise = 0.02 * case["points_in_b"][:, 2:] * rng.normal(size=(3000, 3))
        case["points_in_b"] = case["points_in_b"] + noise
        fit = fit_robust(**case, initial=A_FROM_B)
        error = error_of(fit.a_from_b, A_FROM_B)
        scale = float(fit.a_from_b.scale)
        information = fit_information(case["points_in_b"], scale, fit.weights, fit.sigma, 3000.0)
        squared.append(error @ information @ error)
    assert 0.5 < np.mean(squared) / 7 < 1.5


def test_clean_points_are_all_inliers_and_met_exactly() -> None:
    case = disturbed(np.random.default_rng(4), sigma=0.0, outliers=0.0)
    fit = fit_robust(**case, initial=Sim3.identity())
    np.testing.assert_allclose(error_of(fit.a_from_b, A_FROM_B), np.zeros(7), atol=1e-5)
    assert fit.inlier_ratio == 1.0
    assert fit.sigma < 1e-5


def test_the_robust_fit_reports_the_noise_that_it_saw() -> None:
    sigmas = [
        fit_robust(**disturbed(np.random.default_rng(5), sigma=sigma, outliers=0.05), initial=A_FROM_B).sigma
        for sigma in (0.005, 0.02)
    ]
    assert sigmas[1] / sigmas[0] == pytest.approx(4.0, rel=0.05)
    assert sigmas[0] == pytest.approx(0.005, rel=0.1)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_robust_fit_knows_no_absolute_length(scale: float) -> None:
    case = disturbed(np.random.default_rng(6), sigma=0.02, outliers=0.2)
    fit = fit_robust(**case, initial=A_FROM_B)
    scaled = {
        **case,
        **{name: case[name] * scale for name in ("points_in_b", "points_in_a", "residual_unit")},
    }
    initial = Sim3(scale=A_FROM_B.scale, rotation=A_FROM_B.rotation, translation=A_FROM_B.translation * scale)
    same = fit_robust(**scaled, initial=initial)
    assert float(same.a_from_b.scale) == pytest.approx(float(fit.a_from_b.scale), rel=1e-9)
    np.testing.assert_allclose(same.a_from_b.translation, scale * fit.a_from_b.translation, rtol=1e-7)
    assert (same.inlier_ratio, same.iterations) == (fit.inlier_ratio, fit.iterations)
    assert same.sigma == pytest.approx(fit.sigma, rel=1e-9)


def test_the_iteration_is_bounded_and_writes_to_nothing() -> None:
    case = disturbed(np.random.default_rng(7), sigma=0.05, outliers=0.4)
    before = {name: array.copy() for name, array in case.items()}
    assert fit_robust(**case, initial=Sim3.identity(), max_iterations=3, tolerance=0.0).iterations == 3
    for name, array in case.items():
        np.testing.assert_array_equal(array, before[name])


def numeric_information(points_in_b: np.ndarray, a_from_b: Sim3, weights: np.ndarray) -> np.ndarray:
    """The sum of w J^T J by central differences of a right perturbation."""
    step, columns = 1e-6, []
    for direction in np.eye(7):
        ahead = (a_from_b @ Sim3.exp(step * direction)).apply(points_in_b)
        behind = (a_from_b @ Sim3.exp(-step * direction)).apply(points_in_b)
        columns.append((ahead - behind) / (2 * step))
    jacobian = np.stack(columns, axis=-1)
    return np.einsum("n,nik,nil->kl", weights, jacobian, jacobian)


@LAW
@given(SEEDS)
def test_the_information_is_that_of_a_numeric_jacobian(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a_from_b, points_in_b, weights = (
        random_transform(rng),
        rng.normal(size=(25, 3)) * 3,
        rng.uniform(0, 2, 25),
    )
    numeric = numeric_information(points_in_b, a_from_b, weights)
    information = fit_information(points_in_b, float(a_from_b.scale), weights, 1.0, 25.0)
    np.testing.assert_allclose(information, numeric, atol=1e-6 * np.abs(numeric).max())
    np.testing.assert_allclose(information, information.T)
    assert np.linalg.eigvalsh(information).min() > -1e-9 * np.abs(information).max()


def test_the_information_counts_effective_samples_and_not_points() -> None:
    rng = np.random.default_rng(8)
    points_in_b, weights = rng.normal(size=(50, 3)), rng.uniform(0.5, 2, 50)
    once = fit_information(points_in_b, 2.0, weights, 0.1, 16.0)
    repeated = fit_information(np.tile(points_in_b, (10, 1)), 2.0, np.tile(weights, 10), 0.1, 16.0)
    np.testing.assert_allclose(repeated, once)
    np.testing.assert_allclose(fit_information(points_in_b, 2.0, weights, 0.2, 16.0), once / 4)
    np.testing.assert_allclose(fit_information(points_in_b, 2.0, weights, 0.1, 48.0), once * 3)


def test_the_claimed_information_predicts_the_scatter_of_fits() -> None:
    """Independent noise of known size: the covariance of many fits is the inverse information."""
    rng = np.random.default_rng(9)
    points_in_b = rng.uniform([-3, -3, 2], [3, 3, 8], size=(40, 3))
    sigma = 0.01
    errors = np.array(
        [
            error_of(
                umeyama(points_in_b, A_FROM_B.apply(points_in_b) + sigma * rng.normal(size=(40, 3))), A_FROM_B
            )
            for _ in range(1500)
        ]
    )
    information = fit_information(points_in_b, float(A_FROM_B.scale), np.ones(40), sigma, 40.0)
    squared = np.einsum("ni,ij,nj->n", errors, information, errors)
    assert squared.mean() == pytest.approx(7.0, rel=0.1)
