"""3D Gaussians: small coloured ellipsoids, as 3D Gaussian Splatting draws them (Kerbl et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.rigid3 import quaternion_wxyz, rotation_from_quaternion_wxyz
from da3stream.geometry.sim3 import Sim3
from da3stream.geometry.spherical_harmonics import COEFFICIENTS, harmonics_turn
from da3stream.scene._checks import check_array

_SLICE = 100_000
"""Gaussians that are decomposed at a time."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gaussians:
    """K Gaussians in some frame. The covariance of one is R S S R^T, S the diagonal of its scales."""

    means: NDArray[np.floating[Any]]
    """(K, 3) centres."""
    log_scales: NDArray[np.floating[Any]]
    """(K, 3) natural logarithms of the standard deviations along its axes, in the unit of the means."""
    rotations_wxyz: NDArray[np.floating[Any]]
    """(K, 4) unit quaternions, frame from axes."""
    harmonics: NDArray[np.floating[Any]]
    """(K, 3, C) red, green, blue as spherical harmonics: C is 1 (the same from everywhere) or 9 (degrees 0 to
    2), without the shift by 0.5."""
    opacity_logits: NDArray[np.floating[Any]]
    """(K,) logits of the opacities."""

    def __post_init__(self) -> None:
        k = len(self.means)
        check_array("means", self.means, (k, 3), np.floating)
        check_array("log_scales", self.log_scales, (k, 3), np.floating)
        check_array("rotations_wxyz", self.rotations_wxyz, (k, 4), np.floating)
        check_array("harmonics", self.harmonics, (k, 3, None), np.floating)
        check_array("opacity_logits", self.opacity_logits, (k,), np.floating)
        if self.harmonics.shape[2] not in (1, COEFFICIENTS):
            raise ValueError(f"harmonics have {self.harmonics.shape[2]} coefficients, expected 1 or 9")

    def __len__(self) -> int:
        return len(self.means)

    def take(self, rows: slice | NDArray[Any]) -> Gaussians:
        """Those of some rows."""
        return Gaussians(**{name: getattr(self, name)[rows] for name in self.__slots__})

    @classmethod
    def concatenate(cls, parts: Sequence[Gaussians]) -> Gaussians:
        """All of one or more tables, in order."""
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__}
        )

    @classmethod
    def none(cls, coefficients: int) -> Gaussians:
        """No Gaussians, with so many coefficients a colour."""
        shapes = ((0, 3), (0, 3), (0, 4), (0, 3, coefficients), (0,))
        empty = (np.zeros(shape, np.float32) for shape in shapes)
        return cls(**dict(zip(cls.__slots__, empty, strict=True)))

    def moved(self, target_from_source: Sim3) -> Gaussians:
        """The same Gaussians in another frame; float32.

        Centres move, sizes are scaled, axes and the directions from which colours are seen turn.
        """
        turn = quaternion_wxyz(target_from_source.rotation)
        harmonics = self.harmonics
        if harmonics.shape[2] > 1:
            matrix = harmonics_turn(target_from_source.rotation).astype(np.float32)
            harmonics = harmonics.astype(np.float32) @ matrix.T
        return Gaussians(
            means=target_from_source.apply(self.means).astype(np.float32),
            log_scales=self.log_scales.astype(np.float32) + np.float32(np.log(target_from_source.scale)),
            rotations_wxyz=_product_wxyz(turn, self.rotations_wxyz.astype(np.float64)).astype(np.float32),
            harmonics=harmonics,
            opacity_logits=self.opacity_logits,
        )

    def stretched(self, linear: NDArray[np.float64]) -> Gaussians:
        """The Gaussians that a linear map (3, 3) makes of these; colours stay as they are."""
        log_scales, rotations = np.empty((len(self), 3), np.float32), np.empty((len(self), 4), np.float32)
        for start in range(0, len(self), _SLICE):
            part = slice(start, start + _SLICE)
            axes = rotation_from_quaternion_wxyz(self.rotations_wxyz[part])
            square_root = linear @ axes * np.exp(self.log_scales[part].astype(np.float64))[:, None]
            turned, sizes, _ = np.linalg.svd(square_root)
            turned[:, :, 2] *= np.linalg.det(turned)[:, None]
            log_scales[part], rotations[part] = np.log(sizes), quaternion_wxyz(turned)
        return replace(
            self,
            means=(self.means @ linear.T).astype(np.float32),
            log_scales=log_scales,
            rotations_wxyz=rotations,
        )

    def compact(self) -> Gaussians:
        """With half precision in everything but the means.

        Sizes stay within 0.4 percent, axes within 0.06 degrees, colours within a tenth of a grey level.
        """
        halves = {name: getattr(self, name).astype(np.float16) for name in self.__slots__ if name != "means"}
        return Gaussians(means=self.means.astype(np.float32), **halves)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameGaussians:
    """Gaussians that N frames have seen, each in the frame of its camera, so that they go where it goes.

    Those of one frame lie in an order in which the first few are a fair sample of all.
    """

    counts: NDArray[np.int64]
    """(N,) how many each frame has. The rows of frame 0 come first."""
    gaussians: Gaussians
    """All of them; centres and sizes in the unit of the depth that they come with."""

    def __post_init__(self) -> None:
        check_array("counts", self.counts, (None,), np.integer)
        if self.counts.sum() != len(self.gaussians):
            raise ValueError(f"{len(self.gaussians)} Gaussians, expected {self.counts.sum()}")

    @classmethod
    def of(cls, frames: Sequence[Gaussians], coefficients: int) -> FrameGaussians:
        """Those of some frames, with so many coefficients a colour."""
        return cls(
            counts=np.array([len(frame) for frame in frames], dtype=np.int64),
            gaussians=Gaussians.concatenate([Gaussians.none(coefficients).compact(), *frames]),
        )

    def of_frame(self, row: int, most: int | None = None) -> Gaussians:
        """The first Gaussians, at most so many, of one frame."""
        start = int(self.counts[:row].sum())
        count = int(self.counts[row])
        return self.gaussians.take(slice(start, start + (count if most is None else min(count, most))))

    def after(self, frames: int) -> FrameGaussians:
        """Those of all frames but the first ones."""
        start = int(self.counts[:frames].sum())
        return FrameGaussians(counts=self.counts[frames:], gaussians=self.gaussians.take(slice(start, None)))

    def scaled(self, factors: NDArray[Any]) -> FrameGaussians:
        """In another unit: sizes and distances of frame i times `factors[i]`, (N,)."""
        each = np.repeat(np.asarray(factors, dtype=np.float32), self.counts)[:, None]
        own = self.gaussians
        larger = replace(own, means=own.means * each, log_scales=own.log_scales + np.log(each))
        return replace(self, gaussians=larger)


def _product_wxyz(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, 4) quaternion products of one quaternion (4,) and (K, 4) others."""
    w, x, y, z = left
    matrix = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return right @ matrix.T
