"""Rotation of colours that depend on the viewing direction."""

from __future__ import annotations

import torch
from torch import Tensor

COEFFICIENTS = 9
"""Degrees 0, 1 and 2."""


def rotate_harmonics(coefficients: Tensor, target_from_source: Tensor) -> Tensor:
    """Express functions on the sphere in a rotated frame: f_target(d) = f_source(R^T d).

    The basis is the real one of 3D Gaussian Splatting: 1; -y, z, -x; xy, -yz, 2zz-xx-yy, -xz, xx-yy, each
    times its constant. Degree 1 turns like a vector. Degree 2 is a quadratic form d^T A d with a symmetric
    traceless A, which turns into R A R^T; with their constants the five A are orthogonal and of equal length,
    so the coefficients of the turned form are scalar products.

    Args:
        coefficients: (..., C, 9) in the source frame.
        target_from_source: (..., 3, 3) rotations R, broadcasting with the leading axes of the coefficients.

    Returns:
        (..., C, 9) in the target frame.
    """
    vectors, forms = _vectors(target_from_source), _forms(target_from_source)
    linear = vectors @ target_from_source @ vectors.mT
    turned = target_from_source[..., None, :, :] @ forms @ target_from_source[..., None, :, :].mT
    quadratic = torch.einsum("jab,...kab->...jk", forms, turned)
    return torch.cat(
        [
            coefficients[..., :1],
            coefficients[..., 1:4] @ linear.mT,
            coefficients[..., 4:] @ quadratic.mT,
        ],
        dim=-1,
    )


def _vectors(like: Tensor) -> Tensor:
    """(3, 3) one row per basis function of degree 1."""
    return like.new_tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])


def _forms(like: Tensor) -> Tensor:
    """(5, 3, 3) symmetric traceless matrices of the basis functions of degree 2, of unit Frobenius norm."""
    half, sixth = 0.5**0.5, (1 / 6) ** 0.5
    forms = like.new_zeros(5, 3, 3)
    for form, (i, j), value in ((0, (0, 1), half), (1, (1, 2), -half), (3, (0, 2), -half)):
        forms[form, i, j] = forms[form, j, i] = value
    forms[2] = torch.diag(like.new_tensor([-sixth, -sixth, 2 * sixth]))
    forms[4] = torch.diag(like.new_tensor([half, -half, 0.0]))
    return forms
