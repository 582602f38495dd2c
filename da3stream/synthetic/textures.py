"""Procedural textures with detail at every scale and no repetition: every place is unlike all others."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
FloatImage: TypeAlias = NDArray[np.float32]
Colour: TypeAlias = tuple[int, int, int]

_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ23456789&?!"
_FINEST_CELL = 3


def plaster(size: tuple[int, int], palette: tuple[Colour, Colour], rng: np.random.Generator) -> Image:
    """A stained wall of two colours with cracks and chips; size is (width, height) in texels."""
    noise = fractal_noise(size, coarsest_cell=max(size) // 3, rng=rng)
    image = _mix(palette, noise)
    area = size[0] * size[1]
    for _ in range(area // 4000):
        _draw_chip(image, rng)
    for _ in range(area // 90000):
        _draw_crack(image, rng)
    return cv2.GaussianBlur(image, (0, 0), 0.7)


def paving(
    size: tuple[int, int], palette: tuple[Colour, Colour], stones: int, rng: np.random.Generator
) -> Image:
    """Irregular stones (Voronoi cells) of different shades with joints between them."""
    width, height = size
    label = _voronoi(size, stones, rng)
    shade = rng.uniform(-0.35, 0.35, stones).astype(np.float32)[label]
    noise = np.clip(fractal_noise(size, coarsest_cell=max(size) // 5, rng=rng) + shade, 0, 1)
    image = _mix(palette, noise)
    joint = cv2.morphologyEx(label.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    soft = cv2.GaussianBlur(joint.astype(np.float32), (0, 0), 1.0)[..., None]
    image = (image * (1 - 0.6 * soft)).astype(np.uint8)
    for _ in range(width * height // 4000):
        _draw_chip(image, rng)
    return cv2.GaussianBlur(image, (0, 0), 0.7)


def painting(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """An abstract picture in a dark frame."""
    width, height = size
    palette = (_random_colour(rng), _random_colour(rng))
    image = _mix(palette, fractal_noise(size, coarsest_cell=max(size) // 2, rng=rng))
    for _ in range(45):
        _draw_shape(image, rng, largest=min(size) * 0.22)
    for _ in range(12):
        _draw_letters(image, rng, height_px=min(size) * rng.uniform(0.06, 0.16))
    border = max(3, min(size) // 28)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), (52, 36, 26), 2 * border)
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def crate(size: tuple[int, int], palette: tuple[Colour, Colour], rng: np.random.Generator) -> Image:
    """Weathered planks with stickers and stencilled letters."""
    width, height = size
    image = _mix(palette, fractal_noise(size, coarsest_cell=max(size) // 2, rng=rng, stretch=4.0))
    for edge in np.cumsum(rng.uniform(0.12, 0.3, 8)) * height:
        cv2.line(image, (0, int(edge)), (width, int(edge + rng.uniform(-3, 3))), (40, 30, 24), 2, cv2.LINE_AA)
    for _ in range(22):
        _draw_shape(image, rng, largest=min(size) * 0.13)
    for _ in range(10):
        _draw_letters(image, rng, height_px=min(size) * rng.uniform(0.07, 0.2))
    for _ in range(width * height // 1500):
        _draw_chip(image, rng)
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def shaded(texture: Image, factor: float, darkness_below: float = 0.0) -> Image:
    """The texture under light of this strength; the lower edge is darker by the share `darkness_below`."""
    height = texture.shape[0]
    distance_to_edge = (height - np.arange(height)) / height
    light = factor * (1 - darkness_below * np.exp(-distance_to_edge / 0.12))
    return np.clip(texture * light[:, None, None], 0, 255).astype(np.uint8)


def fractal_noise(
    size: tuple[int, int], *, coarsest_cell: int, rng: np.random.Generator, stretch: float = 1.0
) -> FloatImage:
    """(H, W) noise in 0 .. 1: random grids from `coarsest_cell` texels down to the finest, each half as
    coarse.

    Cells are `stretch` times as wide as they are high.
    """
    width, height = size
    noise = np.zeros((height, width), np.float32)
    cell = float(coarsest_cell)
    while cell >= _FINEST_CELL:
        grid = (int(height / cell) + 3, int(width / (cell * stretch)) + 3)
        values = rng.normal(size=grid).astype(np.float32)
        noise += np.float32((cell / coarsest_cell) ** 0.35) * cv2.resize(
            values, size, interpolation=cv2.INTER_CUBIC
        )
        cell /= 2
    return np.clip(0.5 + 0.22 * noise / noise.std(), 0, 1)


def _voronoi(size: tuple[int, int], cells: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """(H, W) label of the nearest of `cells` random seeds."""
    width, height = size
    seeds = np.full((height, width), 255, np.uint8)
    x, y = rng.integers(0, width, cells), rng.integers(0, height, cells)
    seeds[y, x] = 0
    _, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return np.asarray(label, dtype=np.int32) % cells


def _mix(palette: tuple[Colour, Colour], share: FloatImage) -> Image:
    low, high = np.array(palette, np.float32)
    return (low + (high - low) * share[..., None]).astype(np.uint8)


def _draw_chip(image: Image, rng: np.random.Generator) -> None:
    """A small convex flake, darker or lighter than what it lies on."""
    height, width = image.shape[:2]
    centre = rng.uniform((0, 0), (width, height))
    base = image[int(centre[1]), int(centre[0])].astype(np.float64)
    colour = np.clip(base * rng.uniform(0.45, 1.55), 0, 255)
    _fill(image, centre, rng.uniform(2, 11), colour, rng)


def _draw_shape(image: Image, rng: np.random.Generator, largest: float) -> None:
    height, width = image.shape[:2]
    centre, colour = rng.uniform((0, 0), (width, height)), _random_colour(rng)
    radius = largest * rng.uniform(0.15, 1.0)
    if rng.random() < 0.35:
        axes = (int(radius), int(radius * rng.uniform(0.4, 1.0)))
        turn = float(rng.uniform(0, 180))
        thickness = -1 if rng.random() < 0.6 else 3
        cv2.ellipse(image, _pixel(centre), axes, turn, 0, 360, colour, thickness, cv2.LINE_AA)
    else:
        _fill(image, centre, radius, np.array(colour), rng)


def _fill(
    image: Image,
    centre: NDArray[np.float64],
    radius: float,
    colour: NDArray[np.floating],
    rng: np.random.Generator,
) -> None:
    """A random polygon around `centre`."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
    corners = centre + (radius * rng.uniform(0.5, 1.0, len(angles)))[:, None] * np.stack(
        [np.cos(angles), np.sin(angles)], 1
    )
    cv2.fillPoly(image, [np.round(corners * 16).astype(np.int32)], [float(c) for c in colour], cv2.LINE_AA, 4)


def _draw_crack(image: Image, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    steps = rng.normal(size=(30, 2)) * 5 + rng.normal(size=2) * 5
    line = rng.uniform((0, 0), (width, height)) + np.cumsum(steps, axis=0)
    cv2.polylines(image, [np.round(line * 16).astype(np.int32)], False, (46, 40, 36), 1, cv2.LINE_AA, 4)


def _draw_letters(image: Image, rng: np.random.Generator, height_px: float) -> None:
    height, width = image.shape[:2]
    text = "".join(rng.choice(list(_LETTERS), int(rng.integers(2, 6))))
    corner = _pixel(rng.uniform((0, height_px), (width * 0.8, height)))
    font = int(rng.choice([cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
    thickness = max(1, int(height_px / 10))
    cv2.putText(image, text, corner, font, height_px / 22, _random_colour(rng), thickness, cv2.LINE_AA)


def _random_colour(rng: np.random.Generator) -> Colour:
    """A muted colour: half-way between a random one and its grey."""
    vivid = rng.integers(10, 246, 3)
    red, green, blue = (int(c) for c in (vivid + vivid.mean()) / 2)
    return red, green, blue


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    return int(point[0]), int(point[1])
