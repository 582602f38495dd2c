"""Camera poses and intrinsics from the rays that the network predicts for every cell of a grid.

A ray map holds the direction and the origin of the ray through each grid cell, in world coordinates. The
homography from image plane to directions, found by RANSAC and a weighted direct linear transform (Hartley and
Zisserman, "Multiple View Geometry", section 4.1), splits into rotation and intrinsics ("Depth Anything 3",
arXiv:2511.10647). Peculiarities of the published network's own post-processing are kept, because its results
are what users compare with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from da3stream.errors import EstimationError
from da3stream.estimation.da3.pose_encoding import Cameras, invert_rigid

HYPOTHESES = 100
SAMPLE_SIZE = 8
CANDIDATE_SHARE = 0.3
"""Hypotheses are drawn from this share of the grid cells, the most confident ones."""
INLIER_DISTANCE = 0.2
"""In the plane z = 1 of the world-aligned directions."""
MAX_REFIT_POINTS = 8000
REFIT_SHARE = 0.95
MIN_INLIERS = 4
"""A homography has eight degrees of freedom, a point gives two."""
MIN_DIRECTION_Z = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Correspondences:
    """What one view's rays say about its camera."""

    points: Tensor
    """(M, 3) homogeneous points of the image plane [-1, 1]^2."""
    directions: Tensor
    """(M, 2) directions x/z, y/z."""
    origins: Tensor
    """(M, 3)."""
    weights: Tensor
    """(M,) confidence, 0 where the ray is unusable."""

    def take(self, indices: Tensor) -> _Correspondences:
        """The correspondences of (..., K) indices, each field with these leading axes."""
        return _Correspondences(
            points=self.points[indices],
            directions=self.directions[indices],
            origins=self.origins[indices],
            weights=self.weights[indices],
        )


def candidate_count(cells: int) -> int:
    """How many of so many grid cells the hypotheses are drawn from."""
    return max(SAMPLE_SIZE, int(CANDIDATE_SHARE * cells))


def draw_sample_indices(cells: int, generator: torch.Generator) -> Tensor:
    """(100, 8) int64 positions among the candidates in order of falling confidence; for all views the same.

    A CPU generator in the state that `torch.manual_seed(s)` leaves gives the table of the published network
    run after that call.
    """
    candidates = candidate_count(cells)
    draws = [torch.randperm(candidates, generator=generator)[:SAMPLE_SIZE] for _ in range(HYPOTHESES)]
    return torch.stack(draws)


def pose_from_rays(
    ray: Tensor,
    ray_conf: Tensor,
    image_size: tuple[int, int],
    *,
    sample_indices: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Cameras:
    """Fit one camera to each view's rays.

    The principal point is exact for centred cameras only: the element of the triangular factor that the
    published network reads it from is -cx / fx^2 in units of half the image.

    Args:
        ray: (N, my, mx, 6) directions xyz and origins xyz in the world frame.
        ray_conf: (N, my, mx) confidence, >= 0.
        image_size: (width, height) in pixels of the image that the intrinsics are for.
        sample_indices: (K, 8) int64, see `draw_sample_indices`; drawn from `generator` if not given.
        generator: CPU generator of the samples; one with seed 0 if not given, so that equal rays always
            give equal poses.

    Returns:
        float32: extrinsics (N, 3, 4) and intrinsics (N, 3, 3).

    Raises:
        EstimationError: a grid has fewer than 8 cells, or the rays of a view fit no camera at all.
    """
    views, rows, columns = ray_conf.shape
    if rows * columns < SAMPLE_SIZE:
        raise EstimationError(
            "the ray map is too small for a pose",
            got=f"{columns} x {rows} rays",
            expected=f"at least {SAMPLE_SIZE} rays",
        )
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    if sample_indices is None:
        sample_indices = draw_sample_indices(rows * columns, generator)
    sample_indices = sample_indices.to(ray.device)
    plane = _image_plane(rows, columns, ray.device)
    cameras = []
    for view in range(views):
        seen = _correspondences(plane, ray[view], ray_conf[view])
        homography = _fit_homography(seen, sample_indices, generator, view)
        cameras.append(_camera(homography, _weighted_mean(seen.origins, seen.weights), image_size))
    return Cameras(
        extrinsics=torch.stack([camera.extrinsics for camera in cameras]),
        intrinsics=torch.stack([camera.intrinsics for camera in cameras]),
    )


def _image_plane(rows: int, columns: int, device: torch.device) -> Tensor:
    """(M, 3) centres of the cells of an image that spans [-1, 1]^2, row by row, homogeneous."""
    x = torch.linspace(-1 + 1 / columns, 1 - 1 / columns, columns, device=device)
    y = torch.linspace(-1 + 1 / rows, 1 - 1 / rows, rows, device=device)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y, torch.ones_like(grid_x)], dim=-1).reshape(-1, 3)


def _correspondences(plane: Tensor, ray: Tensor, confidence: Tensor) -> _Correspondences:
    """Those of one view's (my, mx, 6) rays and (my, mx) confidence. A ray parallel to z = 0 has no weight."""
    rays, weights = ray.reshape(-1, 6).float(), confidence.reshape(-1).float()
    usable = (rays[:, 2].abs() > MIN_DIRECTION_Z) & rays.isfinite().all(dim=1) & weights.isfinite()
    rays = torch.where(usable[:, None], rays, rays.new_tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
    return _Correspondences(
        points=plane,
        directions=rays[:, :2] / rays[:, 2:3],
        origins=rays[:, 3:],
        weights=torch.where(usable, weights, 0.0),
    )


def _fit_homography(
    seen: _Correspondences, sample_indices: Tensor, generator: torch.Generator, view: int
) -> Tensor:
    """(3, 3) float64 homography with positive determinant from image plane to directions."""
    order = torch.argsort(seen.weights, descending=True, stable=True)
    hypotheses = _direct_linear_transform(seen.take(order[sample_indices]))
    inliers = _is_inlier(hypotheses, seen)
    best = int((inliers.float() @ seen.weights).argmax())
    chosen = torch.nonzero(inliers[best] & (seen.weights > 0))[:, 0]
    if len(chosen) < MIN_INLIERS:
        raise EstimationError(
            f"the predicted rays of view {view} fit no camera",
            got=f"{len(chosen)} consistent rays",
            expected=f"at least {MIN_INLIERS}",
            hint="Use the poses of the camera head instead",
        )
    homography = _direct_linear_transform(seen.take(_thinned(chosen, seen.weights, generator)))
    return torch.where(torch.linalg.det(homography) < 0, -homography, homography)


def _direct_linear_transform(seen: _Correspondences) -> Tensor:
    """(..., 3, 3) float64 homographies, last entry 1, that fit (..., K) correspondences best.

    With p a point and (u, v) its direction, a correspondence has the rows [-p, 0, u p] and [0, -p, v p].
    Their 9 x 9 normal matrix consists of moments of p, and its lowest eigenvector is the solution.
    """
    p, uv, weights = seen.points.double(), seen.directions.double(), seen.weights.double()
    outer = weights[..., None, None] * p[..., :, None] * p[..., None, :]
    factors = torch.stack([torch.ones_like(weights), uv[..., 0], uv[..., 1], uv.square().sum(-1)], dim=-1)
    plain, by_u, by_v, by_square = torch.einsum("...kf,...kij->f...ij", factors, outer)
    zero = torch.zeros_like(plain)
    normal = torch.cat(
        [
            torch.cat([plain, zero, -by_u], dim=-1),
            torch.cat([zero, plain, -by_v], dim=-1),
            torch.cat([-by_u, -by_v, by_square], dim=-1),
        ],
        dim=-2,
    )
    solution = torch.linalg.eigh(normal).eigenvectors[..., 0]
    return (solution / solution[..., 8:]).reshape(*solution.shape[:-1], 3, 3)


def _is_inlier(homographies: Tensor, seen: _Correspondences) -> Tensor:
    """(K, M) whether each of (K, 3, 3) homographies takes each of M points near its direction.

    Without dividing by w: |(u, v) / w - (x, y)| < d is |(u, v) - w (x, y)| < d |w|.
    """
    mapped = homographies.float().flatten(0, 1) @ seen.points.T
    u, v, w = mapped.reshape(-1, 3, len(seen.points)).unbind(dim=1)
    x, y = seen.directions.unbind(dim=1)
    return (u - w * x).square() + (v - w * y).square() < (INLIER_DISTANCE * w).square()


def _thinned(chosen: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
    """At most 8000 of the (n,) indices: drawn from the more confident 95 % if there are more."""
    if len(chosen) <= MAX_REFIT_POINTS:
        return chosen
    by_confidence = chosen[torch.argsort(weights[chosen], descending=True, stable=True)]
    kept = by_confidence[: max(int(REFIT_SHARE * len(chosen)), MAX_REFIT_POINTS)]
    drawn = torch.randperm(len(kept), generator=generator)[:MAX_REFIT_POINTS]
    return kept[drawn.to(kept.device)]


def _weighted_mean(origins: Tensor, weights: Tensor) -> Tensor:
    """(3,) float64 mean of (M, 3) origins."""
    return (weights.double() @ origins.double()) / weights.double().sum()


def _camera(homography: Tensor, origin: Tensor, image_size: tuple[int, int]) -> Cameras:
    """The camera, without the leading axis, of a (3, 3) homography and a (3,) centre."""
    rotation, lower = _split_orthogonal_lower(homography)
    lower = lower / lower[2, 2]
    width, height = image_size
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64, device=homography.device)
    intrinsics = torch.eye(3, dtype=torch.float64, device=homography.device)
    intrinsics[:2, :2] = torch.diag(half / lower.diagonal()[:2])
    intrinsics[:2, 2] = (lower[2, :2] + 1) * half
    extrinsics = invert_rigid(torch.cat([rotation, origin[:, None]], dim=1))
    return Cameras(extrinsics=extrinsics.float(), intrinsics=intrinsics.float())


def _split_orthogonal_lower(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(Q, L): matrix = Q L with Q orthogonal and L lower triangular with a positive diagonal.

    QR of the matrix with its columns reversed, everything reversed back (Golub and Van Loan, section 5.2).
    """
    orthogonal, upper = torch.linalg.qr(matrix.flip(1))
    orthogonal, lower = orthogonal.flip(1), upper.flip(0, 1)
    signs = torch.where(lower.diagonal() < 0, -1.0, 1.0).to(matrix.dtype)
    return orthogonal * signs, signs[:, None] * lower
