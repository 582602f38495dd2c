"""Fills the keyframes of a scene with points, coarsely first, up to a budget."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.viewing.frames import FrameReader
from da3stream.viewing.keyframe_points import KeyframePoints, keyframe_points
from da3stream.viewing.keyframes import coarse_to_fine
from da3stream.viewing.level_of_detail import LEVELS, VoxelTable, finest_footprint, side_for
from da3stream.viewing.map_state import MapState
from da3stream.viewing.scene import MapScene
from da3stream.viewing.viewed_run import ViewedRun

FIRST_SHARE = 0.15
"""Of the budget that the first pass aims at, so that the whole path appears soon."""
_AIM, _FILLED = 0.9, 0.7
"""What later passes aim at; and a budget that is used to this share is not tried to be used better."""
_FINEST = 0.25
"""Side of the finest voxels over the width of the pixels: beyond that more points show the same."""
_SAMPLE = 8
_MAX_PASSES = 4
_SAY_EVERY = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudOptions:
    """What a user may choose of the points."""

    budget: int = 1_000_000
    """How many there may be."""
    confidence_percentile: float = 40.0
    """So many percent of each keyframe's pixels, the least confident, are left out."""


class CloudBuilder:
    """Fills a scene.

    Args:
        run: whose points.
        scene: what to fill.
        edge_angle_deg: as the run's clouds have it.
    """

    def __init__(self, run: ViewedRun, scene: MapScene, edge_angle_deg: float) -> None:
        self._run, self._scene, self._edge_angle_deg = run, scene, edge_angle_deg
        self._frames = FrameReader(run)
        self._table: VoxelTable | None = None
        """Of the last pass."""
        self._footprint = 1.0
        """Width of the pixels of level 0 at their points, in world units."""

    def build(
        self,
        state: MapState,
        keyframes: Sequence[int],
        options: CloudOptions,
        is_stale: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        """Show these keyframes and no others: in passes over all of them, each finer than the last.

        Yields the number of points in the page, now and then.

        Args:
            state: where the cameras are.
            keyframes: frames.
            options: of the points.
            is_stale: asked before every keyframe; once true, what is there stays, and nothing more comes.

        Raises:
            RunCorruptError: files of a keyframe cannot be read.
        """
        self._remove_all_but(keyframes)
        order = [keyframes[place] for place in coarse_to_fine(len(keyframes))]
        side = self._first_side(state, order, options)
        for _ in range(_MAX_PASSES):
            if not (yield from self._pass(state, order, options, side, is_stale)):
                break
            finest = _FINEST * self._footprint
            if self._scene.points >= _FILLED * options.budget or side <= finest:
                break
            side = max(finest, side_for(side, self._scene.points, _AIM * options.budget))
        if not is_stale():
            self._drop_coarse(state)
            yield self._scene.points

    def extend(self, state: MapState, keyframes: Sequence[int], options: CloudOptions) -> bool:
        """Show these keyframes, those that are new as finely as the last pass did, the others as they are.

        Returns False, and not all of them are shown, if the budget does not hold them or none were built yet.
        """
        if self._table is None:
            return False
        self._remove_all_but(keyframes)
        new = [frame for frame in keyframes if not self._scene.has(frame)]
        return all(self._show(frame, state, options, self._table) for frame in new)

    def _remove_all_but(self, keyframes: Sequence[int]) -> None:
        for frame in set(self._scene.keyframes) - set(keyframes):
            self._scene.remove_keyframe(frame)

    def _first_side(self, state: MapState, order: Sequence[int], options: CloudOptions) -> float:
        """Side of the voxels of the first pass. Sets how wide pixels are."""
        sample = order[:_SAMPLE]
        clouds = [self._points(frame, options) for frame in sample]
        scales = [
            state.depth_scale[frame] * cloud.depth_unit for frame, cloud in zip(sample, clouds, strict=True)
        ]
        self._footprint = finest_footprint(
            [cloud.footprint * scale for cloud, scale in zip(clouds, scales, strict=True)]
        )
        table = VoxelTable(self._footprint, self._footprint)
        shown = sum(
            len(
                table.add(
                    cloud.in_world(state.world_from_cam[frame], state.depth_scale[frame]),
                    cloud.footprint * scale,
                )
            )
            for frame, cloud, scale in zip(sample, clouds, scales, strict=True)
        )
        expected = shown / len(sample) * len(order)
        side = side_for(self._footprint, expected, FIRST_SHARE * options.budget)
        return max(_FINEST * self._footprint, side)

    def _pass(
        self,
        state: MapState,
        order: Sequence[int],
        options: CloudOptions,
        side: float,
        is_stale: Callable[[], bool],
    ) -> Generator[int, None, bool]:
        """Show all keyframes with voxels of this side; False if that ended before the last one."""
        table = self._table = VoxelTable(side, self._footprint)
        for number, frame in enumerate(order):
            if is_stale() or not self._show(frame, state, options, table):
                return False
            if number % _SAY_EVERY == _SAY_EVERY - 1:
                yield self._scene.points
        yield self._scene.points
        return True

    def _drop_coarse(self, state: MapState) -> None:
        """Take away what was shown coarsely before a nearer keyframe has shown it finely."""
        assert self._table is not None
        for frame in self._scene.keyframes:
            self._scene.drop_points(frame, state, self._table.is_coarse)

    def _show(self, frame: int, state: MapState, options: CloudOptions, table: VoxelTable) -> bool:
        """Show a keyframe; False, and nothing is changed, if the budget does not hold it."""
        points = self._points(frame, options)
        pose, scale = state.world_from_cam[frame], float(state.depth_scale[frame])
        levels = table.add(points.in_world(pose, scale), points.footprint * (scale * points.depth_unit))
        if self._scene.points - self._scene.points_of(frame) + len(levels) > options.budget:
            return False
        if not self._scene.has(frame):
            self._scene.add_keyframe(frame, state, self._frames.camera(frame))
        sizes = [table.drawn(level) for level in range(LEVELS)]
        self._scene.set_points(frame, state, points, levels, sizes)
        return True

    def _points(self, frame: int, options: CloudOptions) -> KeyframePoints:
        return keyframe_points(
            self._run,
            frame,
            confidence_percentile=options.confidence_percentile,
            edge_angle_deg=self._edge_angle_deg,
        )


def typical_depth(run: ViewedRun, state: MapState, keyframes: Sequence[int]) -> float:
    """Median depth of some keyframes in world units: the size of the scene; 1 if there is none."""
    some = [keyframes[place] for place in coarse_to_fine(len(keyframes))[:_SAMPLE]]
    depths: list[NDArray[np.floating]] = []
    for frame in some:
        maps = run.maps_of(frame)
        depths.append(maps.depth[maps.confidence > 0] * state.depth_scale[frame])
    together = np.concatenate([np.empty(0), *depths])
    return float(np.median(together)) if len(together) else 1.0
