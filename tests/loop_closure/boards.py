"""A wall with boards before it, seen by cameras that move along it: depth is known in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Chunk, Submap, SubmapEdge

HEIGHT, WIDTH, FOCAL = 20, 40, 30.0
WALL, BOARD = 6.0, 5.0
LOOP = 9
"""Index of the loop chunk."""

Boards = Callable[[np.ndarray], np.ndarray]
"""Whether there is a board at some positions along the wall."""


def fence(period: float) -> Boards:
    return lambda x: np.mod(x, period) < period / 2


def no_boards(x: np.ndarray) -> np.ndarray:
    return np.zeros(np.shape(x), dtype=bool)


def uneven(x: np.ndarray) -> np.ndarray:
    """Boards that never repeat."""
    return np.sin(1.7 * x) + np.sin(2.9 * x + 1) + np.sin(4.3 * x + 2) > 0


def depth_at(x: float, boards: Boards, wall: float = WALL, board: float = BOARD) -> np.ndarray:
    """(H, W) z-depth of a camera at position x along the wall, which it faces."""
    ray = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL
    row = np.where(boards(x + board * ray), board, wall)
    return np.tile(row, (HEIGHT, 1))


def submap(depth: Sequence[np.ndarray], x: Sequence[float], frames: tuple[int, ...]) -> Submap:
    """Depth maps of cameras that claim to be at positions x along the wall."""
    cam_from_submap = np.tile(np.eye(3, 4), (len(frames), 1, 1))
    cam_from_submap[:, 0, 3] = -np.asarray(x)
    matrix = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1.0]])
    intrinsics = np.tile(matrix, (len(frames), 1, 1))
    return Submap(
        chunk=Chunk(index=LOOP, context=frames, new=()),
        depth=np.stack(depth).astype(np.float32),
        confidence=np.ones((len(frames), HEIGHT, WIDTH), np.float32),
        cam_from_submap=cam_from_submap,
        intrinsics=intrinsics,
        image_intrinsics=intrinsics,
        is_metric=False,
    )


def edge(
    a: int,
    b: int,
    frames: Sequence[int],
    *,
    scale: float = 1.0,
    turn_deg: float = 0.0,
    shift: float = 0.0,
    inlier_ratio: float = 0.9,
    residual: float = 0.01,
) -> SubmapEdge:
    """An edge from points as `alignment` makes it."""
    return SubmapEdge(
        a=a,
        b=b,
        a_from_b=Sim3(
            scale=scale,
            rotation=Rotation.from_euler("y", turn_deg, degrees=True).as_matrix(),
            translation=np.array([shift, 0.0, 0.0]),
        ),
        information=np.eye(7),
        kind="loop" if b == LOOP else "overlap",
        evidence={
            "method": "points",
            "points": 1000,
            "inlier_ratio": inlier_ratio,
            "relative_residual": residual,
            "frames": list(frames),
        },
    )
