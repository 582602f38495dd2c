"""The timeline: which frame is shown when, and how a flight along the path is smoothed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Playback:
    """A clock that turns seconds into frames. Times come from the caller."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.fps = 10.0
        self._frame = 0.0
        self._playing_since: float | None = None
        """Seconds of the caller's clock at which `_frame` was right."""

    @property
    def is_playing(self) -> bool:
        """Whether frames go by."""
        return self._playing_since is not None

    def play(self, now_s: float) -> None:
        """Go on; from the start if the end is reached."""
        if self._frame >= self.frames - 1:
            self._frame = 0.0
        self._playing_since = now_s

    def pause(self, now_s: float) -> None:
        """Stay where it is."""
        self._frame = float(self.frame_at(now_s))
        self._playing_since = None

    def seek(self, frame: int, now_s: float) -> None:
        """Jump to a frame; if it plays, it plays on."""
        self._frame = float(min(max(frame, 0), max(0, self.frames - 1)))
        if self.is_playing:
            self._playing_since = now_s

    def set_fps(self, fps: float, now_s: float) -> None:
        """Play so many frames a second from now on."""
        self.seek(self.frame_at(now_s), now_s)
        self.fps = fps

    def frame_at(self, now_s: float) -> int:
        """Which frame is shown. At the last one it stops by itself."""
        if self._playing_since is None:
            return int(self._frame)
        frame = self._frame + (now_s - self._playing_since) * self.fps
        if frame >= self.frames - 1:
            self._frame, self._playing_since = float(max(0, self.frames - 1)), None
            return int(self._frame)
        return int(frame)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """Where a user's camera is and looks, in the world."""

    position: Array
    """(3,)"""
    look_at: Array
    """(3,)"""
    up: Array
    """(3,) unit"""


def flying_view(world_from_cam: Array, frame: int, distance: float, half_window: int = 8) -> View:
    """What is seen from a little behind a frame's camera, on a path without its jitter.

    Args:
        world_from_cam: (N, 3, 4) all cameras.
        frame: which one flies.
        distance: how far ahead the user looks, in world units; the camera is a fifth of it behind.
        half_window: so many frames before and after are averaged, the nearer the more.
    """
    start, stop = max(0, frame - half_window), min(len(world_from_cam), frame + half_window + 1)
    offsets = (np.arange(start, stop) - frame) / max(1, half_window)
    weights = np.exp(-4 * offsets**2)
    mean = np.average(world_from_cam[start:stop], axis=0, weights=weights)
    ahead, up = _unit(mean[:, 2]), _unit(-mean[:, 1])
    position = mean[:, 3] - 0.2 * distance * ahead + 0.05 * distance * up
    return View(position=position, look_at=position + distance * ahead, up=up)


def starting_view(world_from_cam: Array, distance: float, up: Array) -> View:
    """Behind and above the first cameras, looking where they look."""
    first = world_from_cam[: max(1, min(5, len(world_from_cam)))].mean(axis=0)
    ahead = _unit(first[:, 2])
    position = first[:, 3] - 0.2 * distance * ahead + 0.15 * distance * up
    return View(position=position, look_at=first[:, 3] + distance * ahead, up=up)


def view_from_above(centres: Array, distance: float, up: Array, fov_rad: float = 1.0) -> View:
    """High enough above the whole path to see it all.

    Args:
        centres: (N, 3) of all cameras.
        distance: typical depth of the scene, which is seen around the path.
        up: (3,) unit.
        fov_rad: of the user's camera, vertical.
    """
    low, high = centres.min(axis=0), centres.max(axis=0)
    radius = float(np.linalg.norm(high - low)) / 2 + distance
    middle = (low + high) / 2
    # A little from the side: straight down there is no direction that is up in the picture.
    aside = _unit(np.cross(up, [1.0, 0.0, 0.0] if abs(up[0]) < 0.9 else [0.0, 0.0, 1.0]))
    direction = _unit(up - 0.3 * aside)
    return View(position=middle + direction * radius / float(np.tan(fov_rad / 2)), look_at=middle, up=up)


def _unit(vector: Array) -> Array:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
