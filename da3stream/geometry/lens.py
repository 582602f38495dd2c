"""Lens distortion: where a real lens draws what a pinhole camera would draw elsewhere.

Two models, written as text so that options, journals and processes can hold them:
`radtan:k1,k2,p1,p2[,k3]` is the radial-tangential model of OpenCV and Kalibr (Brown-Conrady),
`equidistant:k1,k2,k3,k4` is the fisheye model of OpenCV (Kannala-Brandt). Both act on rays (x, y, 1), so
they do not depend on where pixels have their centres, nor on the size of the image.

Equations: https://docs.opencv.org/4.x/d9/d0c/group__calib3d.html and .../db/d58/group__calib3d__fisheye.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import Camera

Array = NDArray[np.float64]

COEFFICIENTS = {"radtan": ("k1", "k2", "p1", "p2", "k3"), "equidistant": ("k1", "k2", "k3", "k4")}
"""Models and the names of their coefficients, in order."""
FEWEST_COEFFICIENTS = 4

WIDEST_HALF_ANGLE_DEG = 75.0
"""Between the optical axis and the corners of an undistorted image: beyond, a plane stretches too much."""
_LARGEST_ZOOM, _ZOOM_STEP = 3.0, 0.98
_BISECTIONS = 60
_BORDER_POINTS = 128
_TOLERANCE_PX = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Distortion:
    """A model and its coefficients. ValueError for an unknown model or a wrong number of coefficients."""

    model: str
    """`radtan` or `equidistant`."""
    coefficients: tuple[float, ...]
    """In the order of `COEFFICIENTS`; the last one of radtan may be missing."""

    def __post_init__(self) -> None:
        names = COEFFICIENTS.get(self.model)
        if names is None:
            raise ValueError(f"distortion model {self.model!r} is none of {', '.join(COEFFICIENTS)}")
        if not FEWEST_COEFFICIENTS <= len(self.coefficients) <= len(names):
            raise ValueError(
                f"{self.model} has the coefficients {', '.join(names)}, got {len(self.coefficients)} numbers"
            )

    @classmethod
    def parse(cls, text: str) -> Distortion:
        """The distortion of `radtan:0.1,0,0,0`; without a model it is radtan. ValueError as of the class."""
        model, _, numbers = text.rpartition(":")
        return cls(model=model or "radtan", coefficients=tuple(float(part) for part in numbers.split(",")))

    def __str__(self) -> str:
        return f"{self.model}:{','.join(map(repr, self.coefficients))}"

    @property
    def is_nothing(self) -> bool:
        """Whether it is that of a pinhole camera."""
        return self.model == "radtan" and not any(self.coefficients)

    def named(self) -> dict[str, float]:
        """Coefficients by name."""
        return dict(zip(COEFFICIENTS[self.model], self.coefficients, strict=False))

    def distort(self, points: Array) -> Array:
        """Where the lens draws points of the plane z = 1: (..., 2) -> (..., 2), both free of units."""
        return self._radtan(points) if self.model == "radtan" else self._equidistant(points)

    def _radtan(self, points: Array) -> Array:
        k1, k2, p1, p2, k3 = (*self.coefficients, 0.0)[:5]
        x, y = points[..., 0], points[..., 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=-1,
        )

    def _equidistant(self, points: Array) -> Array:
        k1, k2, k3, k4 = self.coefficients
        radius = np.hypot(points[..., 0], points[..., 1])
        theta = np.arctan(radius)
        t2 = theta * theta
        distorted = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        factor = np.divide(distorted, radius, out=np.ones_like(radius), where=radius > 0)
        return points * factor[..., None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LensCamera:
    """A camera with a lens: focal lengths and principal point in pixels, and how it distorts."""

    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Distortion | None
    """None: a pinhole camera."""

    @classmethod
    def of(cls, intrinsics: Sequence[float], distortion: str | None) -> LensCamera:
        """The camera of fx, fy, cx, cy and a distortion as text. ValueError as of `Distortion`."""
        fx, fy, cx, cy = intrinsics
        parsed = None if distortion in (None, "none") else Distortion.parse(distortion)
        return cls(fx=fx, fy=fy, cx=cx, cy=cy, distortion=parsed)

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy."""
        return self.fx, self.fy, self.cx, self.cy

    def resized(self, size: tuple[int, int], new_size: tuple[int, int]) -> LensCamera:
        """The same camera after its images of `size` (width, height) were resized to `new_size`."""
        x, y = new_size[0] / size[0], new_size[1] / size[1]
        return replace(self, fx=self.fx * x, fy=self.fy * y, cx=self.cx * x, cy=self.cy * y)

    def project(self, points: Array) -> Array:
        """(..., 2) pixels of points (..., 2) of the plane z = 1."""
        distorted = points if self.distortion is None else self.distortion.distort(points)
        return distorted * (self.fx, self.fy) + (self.cx, self.cy)

    def pinhole(self, width: int, height: int) -> Camera:
        """The camera of the undistorted images, which are width x height as the distorted ones are.

        It keeps the principal point, and both focal lengths are multiplied by the smallest zoom with which
        every pixel shows something that the lens saw: no black border (what OpenCV calls alpha = 0), and the
        shape of pixels stays. No corner is more than `WIDEST_HALF_ANGLE_DEG` off the axis: what a fisheye
        lens sees beyond is cut off.

        Raises:
            ValueError: there is none, since the distortion folds the image or leads out of it.
        """
        zoom = 1.0 if self.distortion is None else _smallest_zoom(self, width, height)
        return Camera(
            fx=self.fx * zoom, fy=self.fy * zoom, cx=self.cx, cy=self.cy, width=width, height=height
        )

    def pixel_map(self, width: int, height: int) -> NDArray[np.float32]:
        """(H, W, 2) where the pixels of the undistorted image lie in the distorted one.

        Both as cv2.remap counts: x, y, and the centre of the top-left pixel is (0, 0). ValueError as of
        `pinhole`.
        """
        camera = self.pinhole(width, height)
        found = np.empty((height, width, 2), dtype=np.float32)
        x = (np.arange(width) + 0.5 - camera.cx) / camera.fx
        for row in range(height):  # row by row: of 4K frames float64 would be 300 MB
            y = (row + 0.5 - camera.cy) / camera.fy
            found[row] = self.project(np.stack([x, np.full(width, y)], axis=-1)) - 0.5
        return found


@lru_cache(maxsize=16)
def _smallest_zoom(camera: LensCamera, width: int, height: int) -> float:
    """From the centre outwards until the border of the image leads out of the picture, or folds."""
    border = _border(width, height)
    good = _LARGEST_ZOOM
    if not _is_seen(camera, border, (width, height), good):
        raise ValueError(
            f"the distortion {camera.distortion} leaves nothing of images of {width}x{height} pixels"
        )
    while _is_seen(camera, border, (width, height), good * _ZOOM_STEP):
        good *= _ZOOM_STEP
    bad = good * _ZOOM_STEP
    for _ in range(_BISECTIONS):
        middle = (good + bad) / 2
        if _is_seen(camera, border, (width, height), middle):
            good = middle
        else:
            bad = middle
    return good


def _border(width: int, height: int) -> Array:
    """(M, 2) points along the border of an image, in pixels."""
    share = np.linspace(0, 1, _BORDER_POINTS)
    x, y = share * width, share * height
    zeros = np.zeros(_BORDER_POINTS)
    sides = [(x, zeros), (x, zeros + height), (zeros, y), (zeros + width, y)]
    return np.concatenate([np.stack(side, axis=-1) for side in sides])


def _is_seen(camera: LensCamera, border: Array, size: tuple[int, int], zoom: float) -> bool:
    """Whether the border of the undistorted image lies in the distorted one, and nothing folds there."""
    points = (border - (camera.cx, camera.cy)) / (zoom * camera.fx, zoom * camera.fy)
    pixels = camera.project(points)
    is_inside = (pixels >= -_TOLERANCE_PX).all() and (pixels <= np.array(size) + _TOLERANCE_PX).all()
    is_narrow = np.linalg.norm(points, axis=-1).max() <= np.tan(np.radians(WIDEST_HALF_ANGLE_DEG))
    return bool(is_inside and is_narrow and (_orientation(camera, points) > 0).all())


def _orientation(camera: LensCamera, points: Array) -> Array:
    """Determinants of the derivative of `project`; below zero the image is folded over."""
    step = 1e-6
    along_x, along_y = (
        (camera.project(points + shift) - camera.project(points - shift)) / (2 * step)
        for shift in (np.array([step, 0.0]), np.array([0.0, step]))
    )
    return along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
