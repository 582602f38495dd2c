"""Similarity transforms from point correspondences: the only such code in the tree.

N weighted correspondences are reduced to a handful of moments, and one float64 solver turns moments into a
`Sim3` (Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI
1991). The robust fit repeats this with re-weighted correspondences (IRLS).

`sim3`, which needs scipy, is imported by what makes a `Sim3`: the networks import this file on machines that
have no scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from da3stream.geometry.sim3 import Sim3

Array = NDArray[np.float64]
ScaleRule = Literal["least_squares", "symmetric", "one"]

_MEDIAN_LENGTH = 1.5382
"""Median length of a vector of three independent normal numbers of variance 1."""
_CAUCHY = 2.385
"""Width of the kernel in standard deviations: 95 % efficient for normal residuals (Rey 1983)."""
_ROUNDING = 1e-24
"""The rounding of a mean over many points stays below this: squared spread over squared distance from 0."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moments:
    """What a weighted set of correspondences (a_i, b_i) contributes to a fit of a_from_b."""

    mean_a: Array
    """(3,)"""
    mean_b: Array
    """(3,)"""
    covariance: Array
    """(3, 3) weighted mean of (a - mean_a)(b - mean_b)^T."""
    variance_a: float
    """Weighted mean of |a - mean_a|^2."""
    variance_b: float
    """Weighted mean of |b - mean_b|^2."""

    @classmethod
    def of(cls, points_in_b: NDArray[Any], points_in_a: NDArray[Any], weights: NDArray[Any]) -> Moments:
        """Moments of (N, 3) points with (N,) weights >= 0. ValueError if all weights vanish."""
        total = float(weights.sum(dtype=np.float64))
        if not total > 0:
            raise ValueError("no correspondence has a positive weight")
        share = (weights / total).astype(np.float64)
        mean_a, mean_b = share @ points_in_a, share @ points_in_b
        a, b = points_in_a - mean_a, points_in_b - mean_b
        weighted_a = a * share[:, None]
        return cls(
            mean_a=mean_a,
            mean_b=mean_b,
            covariance=weighted_a.T @ b,
            variance_a=float(np.vdot(weighted_a, a)),
            variance_b=float(share @ np.einsum("ij,ij->i", b, b)),
        )

    @property
    def coincide(self) -> bool:
        """Whether the points of one side spread no further than the rounding of their mean."""
        sides = ((self.variance_a, self.mean_a), (self.variance_b, self.mean_b))
        return any(variance <= _ROUNDING * float(mean @ mean) for variance, mean in sides)


def solve(moments: Moments, scale_rule: ScaleRule = "least_squares") -> Sim3:
    """The a_from_b that fits best.

    Args:
        moments: of the correspondences.
        scale_rule: least_squares: Umeyama's, errors in a only (biased towards small scales by errors in b);
            symmetric: the ratio of the spreads, for errors in a that are s times those in b (Horn 1987);
            one: a rigid transform.

    Raises:
        ValueError: the points coincide, so that no scale can be told.
    """
    from da3stream.geometry.sim3 import Sim3

    u, singular, vt = np.linalg.svd(moments.covariance)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = (u * sign) @ vt
    if scale_rule == "one":
        scale = 1.0
    elif moments.coincide:
        raise ValueError("the points coincide; no scale can be told")
    elif scale_rule == "symmetric":
        scale = float(np.sqrt(moments.variance_a / moments.variance_b))
    else:
        scale = float(singular @ sign) / moments.variance_b
    if not scale > 0:
        raise ValueError("the points of the two sides are unrelated; no positive scale fits")
    translation = moments.mean_a - scale * rotation @ moments.mean_b
    return Sim3(scale=scale, rotation=rotation, translation=translation)


def umeyama(
    points_in_b: NDArray[Any],
    points_in_a: NDArray[Any],
    weights: NDArray[Any] | None = None,
    with_scale: bool = True,
) -> Sim3:
    """a_from_b that minimises the (weighted) squared distances in frame a of (N, 3) corresponding points.

    Raises:
        ValueError: fewer than one point, no positive weight, or coinciding points where a scale is asked for.
    """
    if weights is None:
        weights = np.ones(len(points_in_a))
    return solve(Moments.of(points_in_b, points_in_a, weights), "least_squares" if with_scale else "one")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RobustFit:
    """Result of `fit_robust`."""

    a_from_b: Sim3
    weights: Array
    """(N,) final weights: prior times kernel, in units of 1 / residual_unit^2."""
    sigma: float
    """Robust standard deviation of the residuals per coordinate, in units of `residual_unit`."""
    inlier_ratio: float
    """Share of the prior weight whose residual is below `inlier_residual`."""
    iterations: int


def fit_robust(
    points_in_b: NDArray[Any],
    points_in_a: NDArray[Any],
    *,
    weights: NDArray[Any],
    residual_unit: NDArray[Any],
    initial: Sim3,
    scale_rule: ScaleRule = "symmetric",
    inlier_residual: float = 0.1,
    max_iterations: int = 20,
    tolerance: float = 1e-6,
) -> RobustFit:
    """Fit a_from_b to correspondences with outliers by iteratively re-weighted least squares (Cauchy kernel).

    Residuals are lengths in frame a divided by `residual_unit` (the depth of the point, say): the scale of a
    submap is arbitrary, so nothing here is an absolute length.

    Args:
        points_in_b: (N, 3).
        points_in_a: (N, 3).
        weights: (N,) prior weights >= 0, e.g. confidences.
        residual_unit: (N,) > 0, the length in frame a that a residual of 1 means.
        initial: where the iteration starts.
        scale_rule: see `solve`.
        inlier_residual: below this residual, in units of `residual_unit`, a point counts as an inlier.
        max_iterations: bound.
        tolerance: stop when neither log-scale nor rotation changes by more.
    """
    fit, sigma = initial, 1.0
    prior = weights / np.square(residual_unit)
    reweighted = prior
    for iteration in range(1, max_iterations + 1):  # noqa: B007
        difference = points_in_a - fit.apply(points_in_b)
        residual = np.sqrt(np.einsum("ij,ij->i", difference, difference)) / residual_unit
        sigma = max(_weighted_median(residual, weights) / _MEDIAN_LENGTH, 1e-9)
        reweighted = prior / (1.0 + np.square(residual / (_CAUCHY * sigma)))
        previous, fit = fit, solve(Moments.of(points_in_b, points_in_a, reweighted), scale_rule)
        if _change(previous, fit) < tolerance:
            break
    inliers = residual < inlier_residual
    return RobustFit(
        a_from_b=fit,
        weights=reweighted,
        sigma=float(sigma),
        inlier_ratio=float(weights[inliers].sum() / weights.sum()),
        iterations=iteration,
    )


def fit_information(
    points_in_b: NDArray[Any], scale: float, weights: NDArray[Any], sigma: float, effective_samples: float
) -> Array:
    """(7, 7) information of a right perturbation of a fitted a_from_b.

    Args:
        points_in_b: (N, 3).
        scale: of a_from_b.
        weights: (N,) final weights, in units of 1 / residual_unit^2.
        sigma: robust standard deviation of the residuals in units of residual_unit, per coordinate.
        effective_samples: how many independent correspondences the N points amount to.
    """
    from da3stream.geometry.sim3 import skew

    # The sums of J^T J with J = [-skew(b), I, b], block by block.
    total = float(weights.sum())
    first = weights @ points_in_b
    second = (points_in_b * weights[:, None]).T @ points_in_b
    square = np.trace(second)
    information = np.zeros((7, 7))
    information[:3, :3] = square * np.eye(3) - second
    information[:3, 3:6] = skew(first)
    information[3:6, :3] = -skew(first)
    information[3:6, 3:6] = total * np.eye(3)
    information[3:6, 6] = information[6, 3:6] = first
    information[6, 6] = square
    return information * (scale**2 / sigma**2 * effective_samples / len(points_in_b))


def _change(previous: Sim3, fit: Sim3) -> float:
    """How far two fits differ in log-scale and rotation (largest entry of the rotation's difference)."""
    return float(max(abs(np.log(fit.scale / previous.scale)), np.abs(fit.rotation - previous.rotation).max()))


def _weighted_median(values: NDArray[Any], weights: NDArray[Any]) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulative, cumulative[-1] / 2)]])
