"""The courtyard of the demo: textured rectangles in space, in metres, y down, the floor at y = 0."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.synthetic import textures
from da3stream.synthetic.textures import Colour, Image

Array = NDArray[np.float64]

_LIGHT = np.array([0.45, -0.75, -0.48])
"""Direction towards the sun."""
_HALF_SIZE = (5.2, 4.6)
_WALL_HEIGHT = 6.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Surface:
    """A textured rectangle, visible from its front."""

    corner: Array
    """(3,) where the texture's top-left corner lies."""
    right: Array
    """(3,) from that corner along the texture's top edge."""
    down: Array
    """(3,) from that corner along the texture's left edge, perpendicular to `right`."""
    texture: Image
    """(H, W, 3) uint8 RGB, light included."""

    @property
    def normal(self) -> Array:
        """(3,) unit vector towards the viewer who sees the texture upright."""
        normal = np.cross(self.down, self.right)
        return normal / np.linalg.norm(normal)

    @property
    def corners(self) -> Array:
        """(4, 3) in order around the rectangle."""
        return self.corner + np.stack([0 * self.right, self.right, self.right + self.down, self.down])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """A box on the floor plan."""

    x: float
    z: float
    turn_deg: float
    width: float
    depth: float
    height: float
    base: float = 0.0
    """Height of its bottom above the floor."""


_CRATES = (
    _Plan(x=0.15, z=0.05, turn_deg=17, width=0.62, depth=0.58, height=2.15),
    _Plan(x=-0.75, z=0.35, turn_deg=-24, width=0.85, depth=0.7, height=0.75),
    _Plan(x=-0.72, z=0.38, turn_deg=9, width=0.5, depth=0.48, height=0.45, base=0.75),
    _Plan(x=0.85, z=-0.45, turn_deg=38, width=0.7, depth=0.9, height=0.95),
    _Plan(x=0.35, z=0.95, turn_deg=-8, width=0.75, depth=0.6, height=0.55),
    _Plan(x=-0.35, z=-0.85, turn_deg=52, width=0.6, depth=0.65, height=1.2),
    _Plan(x=0.95, z=0.55, turn_deg=-33, width=0.45, depth=0.5, height=1.45),
)
_PILLARS = (
    _Plan(x=-3.9, z=3.3, turn_deg=12, width=0.55, depth=0.55, height=5.5),
    _Plan(x=3.7, z=3.5, turn_deg=-20, width=0.5, depth=0.6, height=5.5),
    _Plan(x=4.1, z=-3.3, turn_deg=31, width=0.6, depth=0.5, height=5.5),
    _Plan(x=-3.8, z=-3.4, turn_deg=-7, width=0.5, depth=0.5, height=5.5),
)
_WOOD: tuple[tuple[Colour, Colour], ...] = (
    ((92, 62, 38), (214, 172, 118)), ((54, 74, 92), (170, 196, 208)), ((110, 44, 34), (222, 150, 112)),
    ((58, 78, 48), (184, 198, 132)), ((120, 92, 40), (236, 208, 130)), ((70, 58, 84), (196, 178, 204)),
    ((84, 84, 80), (212, 208, 196)),
)  # fmt: skip
_WALLS: tuple[tuple[Colour, Colour], ...] = (
    ((150, 96, 66), (240, 202, 158)), ((120, 118, 104), (232, 226, 204)),
    ((142, 82, 74), (236, 178, 160)), ((98, 116, 122), (212, 222, 216)),
)  # fmt: skip


def courtyard(seed: int = 0) -> tuple[Surface, ...]:
    """Four walls with pictures, a paved floor, a group of crates in the middle and pillars in the corners.

    The camera may move anywhere between the crates and the pillars. No two surfaces look alike.
    """
    rng = np.random.default_rng(seed)
    surfaces = [_floor(rng)]
    for side in range(4):
        surfaces += _wall(side, rng)
    for plan, palette in zip(_CRATES, _WOOD, strict=True):
        surfaces += _box(plan, palette, texel_m=0.0035, rng=rng)
    for plan, palette in zip(_PILLARS, reversed(_WALLS), strict=True):
        surfaces += _box(plan, palette, texel_m=0.006, rng=rng)
    return tuple(surfaces)


def _floor(rng: np.random.Generator) -> Surface:
    x, z = _HALF_SIZE
    stones = textures.paving(_texels(2 * x, 2 * z, 0.008), ((88, 80, 72), (208, 200, 186)), 260, rng)
    return _surface((-x, 0, z), (2 * x, 0, 0), (0, 0, -2 * z), stones)


def _wall(side: int, rng: np.random.Generator) -> list[Surface]:
    """The wall on one side (0: the far one, z > 0; then clockwise from above) and its pictures."""
    turn = _turn(90.0 * side)
    half_width, distance = _HALF_SIZE if side % 2 == 0 else _HALF_SIZE[::-1]
    plaster = textures.plaster(_texels(2 * half_width, _WALL_HEIGHT, 0.006), _WALLS[side], rng)
    corner = np.array([-half_width, -_WALL_HEIGHT, distance])
    wall = _surface(
        turn @ corner, turn @ [2 * half_width, 0, 0], (0, _WALL_HEIGHT, 0), plaster, darkness_below=0.4
    )
    return [wall, *_pictures(turn, half_width, distance - 0.04, rng)]


def _pictures(turn: Array, half_width: float, distance: float, rng: np.random.Generator) -> list[Surface]:
    """Five pictures of different sizes, side by side, a little in front of the wall."""
    edges = np.linspace(-half_width + 0.5, half_width - 0.5, 6)
    pictures = []
    for left, right in itertools.pairwise(edges):
        width, height = (right - left) * rng.uniform(0.6, 0.88), rng.uniform(0.8, 1.5)
        corner = np.array([rng.uniform(left, right - width), -rng.uniform(2.5, 3.1), distance])
        image = textures.painting(_texels(width, height, 0.005), rng)
        pictures.append(_surface(turn @ corner, turn @ [width, 0, 0], (0, height, 0), image))
    return pictures


def _box(
    plan: _Plan, palette: tuple[Colour, Colour], *, texel_m: float, rng: np.random.Generator
) -> list[Surface]:
    """Four sides and the top."""
    position = np.array([plan.x, -plan.base, plan.z])
    sides = []
    for side in range(4):
        turn = _turn(plan.turn_deg + 90 * side)
        width, distance = (plan.width, plan.depth) if side % 2 == 0 else (plan.depth, plan.width)
        planks = textures.crate(_texels(width, plan.height, texel_m), palette, rng)
        # Seen from outside: the side that faces -z runs from left (-x) to right.
        corner = position + turn @ [-width / 2, -plan.height, -distance / 2]
        right, down = turn @ [width, 0, 0], (0, plan.height, 0)
        sides.append(_surface(corner, right, down, planks, darkness_below=0.35))
    turn = _turn(plan.turn_deg)
    lid = textures.crate(_texels(plan.width, plan.depth, texel_m), palette, rng)
    corner = position + turn @ [-plan.width / 2, -plan.height, plan.depth / 2]
    return [*sides, _surface(corner, turn @ [plan.width, 0, 0], turn @ [0, 0, -plan.depth], lid)]


def _surface(
    corner: tuple[float, ...] | Array, right: tuple[float, ...] | Array, down: tuple[float, ...] | Array,
    albedo: Image, darkness_below: float = 0.0,
) -> Surface:  # fmt: skip
    """A surface under the sun of the scene."""
    vectors = [np.array(v, dtype=np.float64) for v in (corner, right, down)]
    bare = Surface(corner=vectors[0], right=vectors[1], down=vectors[2], texture=albedo)
    light = 0.68 + 0.34 * max(0.0, float(bare.normal @ _LIGHT))
    lit = textures.shaded(albedo, light, darkness_below)
    return Surface(corner=vectors[0], right=vectors[1], down=vectors[2], texture=lit)


def _texels(width_m: float, height_m: float, texel_m: float) -> tuple[int, int]:
    return round(width_m / texel_m), round(height_m / texel_m)


def _turn(angle_deg: float) -> Array:
    """(3, 3) rotation about the vertical axis; 90 degrees take +z to +x."""
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
