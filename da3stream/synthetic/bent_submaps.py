"""Cameras of submaps that bend, and the edges between them, without any pixels: for thousands of submaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Chunk, SubmapCameras, SubmapEdge
from da3stream.scene.pose_graph import EdgeKind

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bending:
    """Standard deviations of the errors inside a submap.

    Channels: rotation in radians, translation relative to depth, log-scale.
    """

    drift: Array = field(default_factory=lambda: np.array([0.006, 0.006, 0.015]))
    """(3,) of a smooth curve along the submap."""
    jitter: Array = field(default_factory=lambda: np.array([4e-4, 6e-4, 8e-3]))
    """(3,) of every camera by itself; of the log-scale, of every depth map."""


EXACT = Bending(drift=np.zeros(3), jitter=np.zeros(3))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BentSubmap:
    """A submap and how its depth really relates to the world's."""

    cameras: SubmapCameras
    world_from_depth: Array
    """(N,) true depth over depth in the submap, frame by frame, without jitter."""
    depth_jitter: Array
    """(N,) log of how much larger the depth map of a frame is than that."""


def sliding_chunks(frames: int, *, size: int, overlap: int) -> list[Chunk]:
    """Fine chunks, each sharing `overlap` frames with the one before; the last may be shorter."""
    chunks: list[Chunk] = []
    seen = 0
    while seen < frames:
        start = max(0, seen - overlap)
        stop = min(start + size, frames)
        context, new = tuple(range(start, seen)), tuple(range(seen, stop))
        chunks.append(Chunk(index=len(chunks), context=context, new=new))
        seen = stop
    return chunks


def bend_submap(
    world_from_cam: Array, chunk: Chunk, rng: np.random.Generator, *, bending: Bending, depth_m: float
) -> BentSubmap:
    """The chunk's cameras with smooth errors, in a frame and scale of its own.

    Args:
        world_from_cam: (F, 4, 4) truth of all frames.
        chunk: which of them.
        rng: what the errors are drawn from.
        bending: their size.
        depth_m: typical depth of the scene, in the truth's unit.
    """
    n = len(chunk.frames)
    curve = _smooth(n, rng) * np.repeat(bending.drift, [3, 3, 1])
    noise = rng.normal(size=(n, 7)) * np.repeat(bending.jitter, [3, 3, 1])
    poses = world_from_cam[list(chunk.frames)].copy()
    steps = np.diff(poses[:, :3, 3], axis=0) * np.exp(curve[1:, 6] / 2 + curve[:-1, 6] / 2)[:, None]
    poses[1:, :3, 3] = poses[0, :3, 3] + np.cumsum(steps, axis=0)
    poses[:, :3, 3] += depth_m * (curve[:, 3:6] + noise[:, 3:6])
    poses[:, :3, :3] = Rotation.from_rotvec(curve[:, :3] + noise[:, :3]).as_matrix() @ poses[:, :3, :3]
    own = Sim3.exp(
        np.concatenate([rng.normal(size=3), depth_m * rng.normal(size=3), 0.5 * rng.normal(size=1)])
    )
    submap_from_cam = (
        own @ Sim3(rotation=poses[0, :3, :3], translation=poses[0, :3, 3]).inverse()
    ).move_pose(poses)
    cameras = SubmapCameras(
        chunk=chunk,
        cam_from_submap=np.ascontiguousarray(rigid3.invert(submap_from_cam)[:, :3]),
        typical_depth=depth_m * float(own.scale),
    )
    world_from_depth = np.exp(-curve[:, 6]) / float(own.scale)
    return BentSubmap(cameras=cameras, world_from_depth=world_from_depth, depth_jitter=noise[:, 6])


def measure_edge(a: BentSubmap, b: BentSubmap, kind: EdgeKind = "overlap") -> SubmapEdge:
    """The edge that alignment would find from the shared frames' cameras and depths."""
    rows_a = {frame: row for row, frame in enumerate(a.cameras.chunk.frames)}
    rows_b = {frame: row for row, frame in enumerate(b.cameras.chunk.frames) if frame in rows_a}
    in_a, in_b = [rows_a[frame] for frame in rows_b], list(rows_b.values())
    ratios = _depth(a)[in_a] / _depth(b)[in_b]
    poses_a = rigid3.invert(rigid3.to_4x4(a.cameras.cam_from_submap[in_a]))
    poses_b = rigid3.invert(rigid3.to_4x4(b.cameras.cam_from_submap[in_b]))
    scale = float(np.exp(np.mean(np.log(ratios))))
    turns = poses_a[:, :3, :3] @ np.swapaxes(poses_b[:, :3, :3], 1, 2)
    rotation = rigid3.nearest_rotation(turns.sum(axis=0))
    shift = (poses_a[:, :3, 3] - scale * poses_b[:, :3, 3] @ rotation.T).mean(axis=0)
    depth = b.cameras.typical_depth
    sigma = np.array([1e-3] * 3 + [2e-3 * depth] * 3 + [4e-3]) / np.sqrt(len(ratios))
    centred = Sim3(rotation=np.eye(3), translation=-poses_b[:, :3, 3].mean(axis=0)).adjoint() / sigma[:, None]
    return SubmapEdge(
        a=a.cameras.chunk.index,
        b=b.cameras.chunk.index,
        a_from_b=Sim3(scale=scale, rotation=rotation, translation=shift),
        information=centred.T @ centred,
        kind=kind,
        evidence={"method": "points", "frames": list(rows_b), "depth_ratios": ratios.tolist()},
    )


def measure_edges(submaps: Sequence[BentSubmap], *, least_shared: int = 4) -> list[SubmapEdge]:
    """One edge for every two submaps that share enough frames."""
    holders: dict[int, list[int]] = {}
    for number, submap in enumerate(submaps):
        for frame in submap.cameras.chunk.frames:
            holders.setdefault(frame, []).append(number)
    shared: dict[tuple[int, int], int] = {}
    for numbers in holders.values():
        for position, b in enumerate(numbers):
            for a in numbers[:position]:
                shared[a, b] = shared.get((a, b), 0) + 1
    pairs = sorted(pair for pair, count in shared.items() if count >= least_shared)
    return [measure_edge(submaps[a], submaps[b], _kind(submaps[a], submaps[b])) for a, b in pairs]


def _kind(a: BentSubmap, b: BentSubmap) -> EdgeKind:
    chunks = a.cameras.chunk, b.cameras.chunk
    if any(chunk.scale > 1 for chunk in chunks):
        return "coarse"
    return "overlap" if all(chunk.new for chunk in chunks) else "loop"


def _depth(submap: BentSubmap) -> Array:
    """(N,) what a depth of 1 in the world is in the submap."""
    return np.asarray(np.exp(submap.depth_jitter) / submap.world_from_depth)


def _smooth(n: int, rng: np.random.Generator) -> Array:
    """(N, 7) curves of two slow sines."""
    x = np.linspace(0, 1, n)[:, None]
    phases, heights = rng.uniform(0, 2 * np.pi, (2, 7)), rng.normal(size=(2, 7))
    return heights[0] * np.sin(np.pi * x + phases[0]) + heights[1] * np.sin(2 * np.pi * x + phases[1]) / 2
