"""The video of `da3stream demo`, with its truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import Camera
from da3stream.geometry.rigid3 import quaternion_wxyz
from da3stream.synthetic.paths import hand_held_orbit
from da3stream.synthetic.render import render_depth, render_image
from da3stream.synthetic.scene import Surface, courtyard
from da3stream.synthetic.video import encode_video


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DemoCapture:
    """A walk around the crates of a courtyard that comes back to where it began."""

    surfaces: tuple[Surface, ...]
    camera: Camera
    """The same for all frames, in pixels of the video."""
    world_from_cam: NDArray[np.float64]
    """(N, 4, 4) camera to world in metres, OpenCV axes, y down, the floor at y = 0."""
    fps: int

    def __len__(self) -> int:
        return len(self.world_from_cam)

    @property
    def timestamp_s(self) -> NDArray[np.float64]:
        """(N,) presentation times in the video."""
        return np.arange(len(self)) / self.fps

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Render frame after frame, (H, W, 3) uint8 RGB."""
        return (render_image(self.surfaces, self.camera, pose) for pose in self.world_from_cam)

    def true_depth(self, index: int, *, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """(H, W) z-depth of a frame in metres, at (width, height) or the size of the video."""
        camera = self.camera if size is None else self.camera.resized(*size)
        return render_depth(self.surfaces, camera, self.world_from_cam[index])

    def write_video(self, path: Path) -> None:
        """Render and encode."""
        encode_video(path, self.images(), self.fps)

    def write_truth(self, path: Path) -> None:
        """Write the poses as lines of `timestamp tx ty tz qx qy qz qw`."""
        xyzw = quaternion_wxyz(self.world_from_cam[:, :3, :3])[:, [1, 2, 3, 0]]
        table = np.column_stack([self.timestamp_s, self.world_from_cam[:, :3, 3], xyzw])
        np.savetxt(path, table, fmt="%.9f", header="timestamp tx ty tz qx qy qz qw")


def demo_capture(
    *, frames: int = 72, size: tuple[int, int] = (640, 360), hfov_deg: float = 70.0, fps: int = 10
) -> DemoCapture:
    """The capture of the demo; size is (width, height) of the video."""
    width, height = size
    focal = width / 2 / np.tan(np.radians(hfov_deg) / 2)
    camera = Camera(fx=focal, fy=focal, cx=width / 2, cy=height / 2, width=width, height=height)
    return DemoCapture(surfaces=courtyard(), camera=camera, world_from_cam=hand_held_orbit(frames), fps=fps)
