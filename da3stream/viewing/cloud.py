"""Fills the keyframes of a scene with points, coarsely first, up to a budget."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from da3stream.viewing.keyframe_points import KeyframePoints, keyframe_points
from da3stream.viewing.keyframes import coarse_to_fine
from da3stream.viewing.level_of_detail import LEVELS, VoxelTable, finest_footprint, side_for
from da3stream.viewing.map_state import MapState
from da3stream.viewing.scene import MapScene
from da3stream.viewing.viewed_run import ViewedRun

FIRST_POINTS = 60_000
"""What the first pass aims at, so that the whole path appears soon, in a slow browser, too."""
_AIM, _FILLED = 0.9, 0.7
"""What later passes aim at; and a budget that is used to this share is not tried to be used better."""
_FINEST = 0.25
"""Side of the finest voxels over the width of the pixels: beyond that more points show the same."""
_COARSER = 1.2
"""How much larger voxels become if the budget did not hold all keyframes."""
_PASSING = 1.5
"""How many times more points there may be meanwhile."""
_SAMPLE = 8
_MAX_PASSES = 8
_SAY_EVERY = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudOptions:
    """What a user may choose of the points."""

    budget: int = 1_000_000
    """How many there may be."""
    confidence_percentile: float = 40.0
    """So many percent of each keyframe's pixels, the least confident, are left out."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Probe:
    """A point that stands for all points of a keyframe."""

    frame: int
    in_cam: NDArray[np.float64]
    """(3,) their median, in units of the depth of the keyframe's submap."""
    marked: NDArray[np.float64]
    """(3,) where it was in the world when voxels were marked."""

    @classmethod
    def of(cls, points: KeyframePoints, frame: int, state: MapState) -> _Probe:
        in_cam = np.median(points.points_in_cam.astype(np.float64), axis=0) * points.depth_unit
        return cls(frame=frame, in_cam=in_cam, marked=_in_world(in_cam, frame, state))

    def in_world(self, state: MapState) -> NDArray[np.float64]:
        """(3,)"""
        return _in_world(self.in_cam, self.frame, state)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pass:
    """What a pass has shown."""

    keyframes: tuple[int, ...]
    confidence_percentile: float
    side: float
    """Of its voxels."""
    points: int
    is_finest: bool
    """There are no finer voxels."""
    is_whole: bool
    """It was not ended by the budget."""

    def is_of(self, keyframes: Sequence[int], options: CloudOptions) -> bool:
        """Whether it was to show these, whatever the budget."""
        is_same = self.confidence_percentile == options.confidence_percentile
        return is_same and self.keyframes == tuple(keyframes)

    def side_for(self, budget: int) -> float:
        """Of the voxels that fill a budget, by this pass."""
        if not self.is_whole:
            return self.side * _COARSER
        return side_for(self.side, self.points, (_AIM if self.points <= budget else _FILLED) * budget)


class CloudBuilder:
    """Fills a scene.

    Args:
        run: whose points.
        scene: what to fill.
        edge_angle_deg: as the run's clouds have it.
    """

    def __init__(self, run: ViewedRun, scene: MapScene, edge_angle_deg: float) -> None:
        self._run, self._scene, self._edge_angle_deg = run, scene, edge_angle_deg
        self._table: VoxelTable | None = None
        """Of the last pass."""
        self._probes: dict[int, _Probe] = {}
        """By keyframe, of the last pass."""
        self._footprint = 1.0
        """Width of the pixels of level 0 at their points, in world units."""
        self._last: _Pass | None = None
        """The last one; None before the first, and while one goes on."""

    def build(
        self,
        state: MapState,
        keyframes: Sequence[int],
        options: CloudOptions,
        is_stale: Callable[[], bool] = lambda: False,
        budget_after: Callable[[int], int] | None = None,
    ) -> Iterator[int]:
        """Show these keyframes and no others: in passes over all of them, each finer than the last
        (coarser, if the budget has become smaller).

        Yields the number of points in the page, now and then.

        Args:
            state: where the cameras are.
            keyframes: frames.
            options: of the points.
            is_stale: asked before every keyframe; once true, what is there stays, and nothing more comes.
            budget_after: asked after each pass, with the number of points in the page: the next one's budget.

        Raises:
            RunCorruptError: files of a keyframe cannot be read.
        """
        if self._is_there(state, keyframes, options):
            return
        self._remove_all_but(keyframes)
        order = [keyframes[place] for place in coarse_to_fine(len(keyframes))]
        side = self._first_side(state, order, keyframes, options)
        for _ in range(_MAX_PASSES):
            self._last = None
            is_whole = yield from self._pass(state, order, options, side, is_stale)
            if is_stale():
                break
            if is_whole:
                self._drop_coarse(state)
            points, finest = self._scene.points, _FINEST * self._footprint
            self._last = _Pass(
                keyframes=tuple(keyframes),
                confidence_percentile=options.confidence_percentile,
                side=side,
                points=points,
                is_finest=is_whole and side <= finest,
                is_whole=is_whole,
            )
            if is_whole and budget_after is not None:
                options = replace(options, budget=budget_after(points))
            if is_whole and points <= options.budget and self.is_enough(options.budget):
                break
            side = max(finest, self._last.side_for(options.budget))
        yield self._scene.points

    @property
    def is_finest(self) -> bool:
        """Whether there is nothing more to show."""
        return self._last is not None and self._last.is_finest

    def is_enough(self, budget: int) -> bool:
        """Whether a budget is used, or would show nothing more than what is there."""
        last = self._last
        return last is not None and (last.is_finest or not last.is_whole or last.points >= _FILLED * budget)

    def _is_there(self, state: MapState, keyframes: Sequence[int], options: CloudOptions) -> bool:
        """Whether that is shown already."""
        last = self._last
        is_same = last is not None and last.is_whole and last.is_of(keyframes, options)
        is_held = self._scene.points <= options.budget and self.is_enough(options.budget)
        return is_same and is_held and not self._has_moved(state)

    def extend(self, state: MapState, keyframes: Sequence[int], options: CloudOptions) -> bool:
        """Show these keyframes, those that are new as finely as the last pass did, the others as they are.

        Returns False if all must be built anew, and shows not all of them: the budget does not hold them,
        none were built yet, some are to go (what they showed is marked as shown, and nobody else would show
        it), or the map was bent so that what is marked lies elsewhere.
        """
        if self._table is None or set(self._scene.keyframes) - set(keyframes) or self._has_moved(state):
            return False
        new = [frame for frame in keyframes if not self._scene.has(frame)]
        return all(self._show(frame, state, options, self._table) for frame in new)

    def _has_moved(self, state: MapState) -> bool:
        """Whether a keyframe's points lie more than the largest voxel from where they were marked."""
        assert self._table is not None
        most = self._table.side(LEVELS - 1)
        return any(
            np.linalg.norm(probe.in_world(state) - probe.marked) > most
            for frame, probe in self._probes.items()
            if self._scene.has(frame)
        )

    def _remove_all_but(self, keyframes: Sequence[int]) -> None:
        for frame in set(self._scene.keyframes) - set(keyframes):
            self._scene.remove_keyframe(frame)

    def _first_side(
        self, state: MapState, order: Sequence[int], keyframes: Sequence[int], options: CloudOptions
    ) -> float:
        """Side of the voxels of the first pass. Sets how wide pixels are."""
        if self._last is not None and self._last.is_of(keyframes, options) and not self._has_moved(state):
            return max(_FINEST * self._footprint, self._last.side_for(options.budget))
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
        side = side_for(self._footprint, expected, min(FIRST_POINTS, _AIM * options.budget))
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
        self._probes.clear()
        # If there are too many, they become fewer one by one, and the first ones take what others have shown.
        most = (
            options.budget if self._scene.points <= options.budget else round(_PASSING * self._scene.points)
        )
        for number, frame in enumerate(order):
            if is_stale() or not self._show(frame, state, replace(options, budget=most), table):
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
            self._scene.add_keyframe(frame, state)
        sizes = [table.drawn(level) for level in range(LEVELS)]
        self._scene.set_points(frame, state, points, levels, sizes)
        if len(points):
            self._probes[frame] = _Probe.of(points, frame, state)
        return True

    def _points(self, frame: int, options: CloudOptions) -> KeyframePoints:
        return keyframe_points(
            self._run,
            frame,
            confidence_percentile=options.confidence_percentile,
            edge_angle_deg=self._edge_angle_deg,
        )


def _in_world(in_cam: NDArray[np.float64], frame: int, state: MapState) -> NDArray[np.float64]:
    """(3,) where a point of a camera is; in units of the depth of its submap."""
    pose = state.world_from_cam[frame]
    return np.asarray(state.depth_scale[frame] * (pose[:, :3] @ in_cam) + pose[:, 3])


def typical_depth(run: ViewedRun, state: MapState, keyframes: Sequence[int]) -> float:
    """Median depth of some keyframes in world units: the size of the scene; 1 if there is none."""
    some = [keyframes[place] for place in coarse_to_fine(len(keyframes))[:_SAMPLE]]
    depths: list[NDArray[np.floating]] = []
    for frame in some:
        maps = run.maps_of(frame)
        depths.append(maps.depth[maps.confidence > 0] * state.depth_scale[frame])
    together = np.concatenate([np.empty(0), *depths])
    return float(np.median(together)) if len(together) else 1.0
