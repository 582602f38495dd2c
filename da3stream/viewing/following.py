"""A run that is still being written, as a map that grows."""

from __future__ import annotations

from da3stream.config import load_config
from da3stream.placed_map import PlacedMap
from da3stream.store import FollowedRun
from da3stream.viewing.map_state import MapState, state_of


class GrowingMap:
    """Places the chunks of a run as its writer stores them, in the way in which `da3stream.stream` does.

    Memory grows with the run, by 1.6 KB a frame.
    """

    def __init__(self, run: FollowedRun) -> None:
        self._run = run
        self._placed = PlacedMap(run, load_config(None, run.manifest["config"]).scale_prior)
        self._was_finished = False

    @property
    def is_finished(self) -> bool:
        """Whether the last state that `update` gave was the final one."""
        return self._was_finished

    @property
    def is_metric(self) -> bool:
        """Whether lengths are in metres, by what is there."""
        return self._placed.is_metric

    def update(self) -> MapState | None:
        """Read what is new, and place it. None if nothing has changed.

        Raises:
            RunRestartedError: the run was begun anew, or went back to an earlier state.
            RunCorruptError: its files are damaged.
        """
        self._run.catch_up()
        before = len(self._placed)
        while self._is_there(len(self._placed)):
            self._placed.add(len(self._placed))
        is_new = len(self._placed) > before
        ends_now = self._run.is_finished and not self._was_finished
        if ends_now:
            self._was_finished = True
            self._placed.settle()
        elif is_new and self._placed.needs_optimisation():
            self._placed.optimise()
        has_frames = bool(self._placed.fine)
        return state_of(self._run, self._placed) if has_frames and (is_new or ends_now) else None

    def _is_there(self, index: int) -> bool:
        """Whether a chunk and its edges are stored; they come one after the other."""
        if index not in self._run.chunks:
            return False
        return index == 0 or index in self._run.edges
