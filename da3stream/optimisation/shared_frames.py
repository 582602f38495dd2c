"""What the edges say frame by frame: every frame that two submaps share is one comparison of two cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry import rigid3
from da3stream.scene import SubmapCameras, SubmapEdge

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CameraTable:
    """The cameras of all submaps, submap after submap."""

    start: Indices
    """(N + 1,) first row of every submap, and the number of all."""
    submap_from_cam: Array
    """(R, 4, 4) each in its own submap's frame and unit."""

    @classmethod
    def of(cls, submaps: Sequence[SubmapCameras]) -> CameraTable:
        """In the order given."""
        lengths = [len(submap.chunk.frames) for submap in submaps]
        cam_from_submap = np.concatenate([submap.cam_from_submap for submap in submaps])
        return cls(
            start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp),
            submap_from_cam=rigid3.invert(rigid3.to_4x4(cam_from_submap)),
        )

    @property
    def lengths(self) -> Indices:
        """(N,) cameras of every submap."""
        return np.diff(self.start)

    @property
    def submap(self) -> Indices:
        """(R,) whose camera a row is."""
        return np.repeat(np.arange(len(self.start) - 1), self.lengths)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SharedFrames:
    """All shared frames of all edges, edge after edge, in the order in which submap b holds them."""

    edge: Indices
    """(M,) position of the edge among those given."""
    a: Indices
    """(M,) earlier submap."""
    b: Indices
    """(M,) later submap."""
    row_a: Indices
    """(M,) row of the frame in submap a."""
    row_b: Indices
    """(M,)"""
    log_ratio: Array
    """(M,) log of depth in a over depth in b."""

    @classmethod
    def of(cls, submaps: Sequence[SubmapCameras], edges: Sequence[SubmapEdge]) -> SharedFrames:
        """Read from the evidence of the edges.

        Raises:
            ValueError: an edge has no shared frames, not one depth ratio for each, or names a frame that one
                of its submaps lacks.
        """
        for edge in edges:
            _check(submaps, edge)
        rows = [{frame: row for row, frame in enumerate(submap.chunk.frames)} for submap in submaps]
        count = [len(edge.evidence["frames"]) for edge in edges]
        shared = cls(
            edge=np.repeat(np.arange(len(edges)), count),
            a=np.repeat(np.array([edge.a for edge in edges], dtype=np.intp), count),
            b=np.repeat(np.array([edge.b for edge in edges], dtype=np.intp), count),
            row_a=np.array(
                [row for edge in edges for row in map(rows[edge.a].get, edge.evidence["frames"])],
                dtype=np.intp,
            ),
            row_b=np.array(
                [row for edge in edges for row in map(rows[edge.b].get, edge.evidence["frames"])],
                dtype=np.intp,
            ),
            log_ratio=np.log([ratio for edge in edges for ratio in edge.evidence["depth_ratios"]]),
        )
        return shared.take(np.lexsort((shared.row_b, shared.edge)))

    def __len__(self) -> int:
        return len(self.edge)

    def take(self, chosen: Indices | NDArray[np.bool_]) -> SharedFrames:
        """Some of them."""
        return SharedFrames(
            edge=self.edge[chosen],
            a=self.a[chosen],
            b=self.b[chosen],
            row_a=self.row_a[chosen],
            row_b=self.row_b[chosen],
            log_ratio=self.log_ratio[chosen],
        )


def _check(submaps: Sequence[SubmapCameras], edge: SubmapEdge) -> None:
    frames, ratios = edge.evidence.get("frames", ()), edge.evidence.get("depth_ratios", ())
    name = f"edge {edge.a} - {edge.b}"
    if not frames or len(frames) != len(ratios):
        raise ValueError(
            f"{name} needs a depth ratio for each shared frame, got {len(ratios)}, {len(frames)}"
        )
    for node in (edge.a, edge.b):
        missing = set(frames) - set(submaps[node].chunk.frames)
        if missing:
            raise ValueError(f"{name} shares frames that submap {node} lacks: {sorted(missing)}")
