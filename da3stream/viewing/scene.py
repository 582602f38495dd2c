"""What the page shows in space: keyframes with their points, the path, loops, the current camera."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.rigid3 import quaternion_wxyz
from da3stream.viewing.colours import Colouring, frame_colours
from da3stream.viewing.keyframe_points import KeyframePoints
from da3stream.viewing.level_of_detail import LEVELS, LevelledPoints
from da3stream.viewing.map_state import MapState

if TYPE_CHECKING:
    from da3stream.viewing.library import (
        CameraFrustumHandle,
        FrameHandle,
        LineSegmentsHandle,
        PointCloudHandle,
        ViserServer,
    )

Array = NDArray[np.float64]
Colour = tuple[int, int, int]

CURRENT: Colour = (255, 120, 0)
LOOP: Colour = (20, 170, 70)
_FRUSTUM_OF_SCENE = 0.025
"""Length of a frustum over the typical depth of the scene."""
POINT_SIZE = 1.0
"""Over what closes the gaps between neighbours."""
_MAX_PATH_POINTS = 4000
_MAX_LOOPS = 2000
_FLOAT16_MAX = 6e4


@dataclass(slots=True)
class _Node:
    """One keyframe in the page. `camera` and the clouds are below `frame`."""

    frame: FrameHandle
    camera: CameraFrustumHandle | None = None
    """Made when it is shown first: a browser needs long for hundreds."""
    clouds: list[PointCloudHandle | None] = field(default_factory=lambda: [None] * LEVELS)
    sizes: list[float] = field(default_factory=lambda: [0.0] * LEVELS)
    """How large the points of each cloud are drawn, in world units."""
    depth_unit: float = 1.0
    points: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameCamera:
    """How a frame looks as a frustum."""

    fov_rad: float
    """Vertical."""
    aspect: float
    """Width over height."""
    thumbnail: NDArray[np.uint8]
    """(h, w, 3) RGB."""


class MapScene:
    """The nodes of a map in the page. Methods may be called from several threads.

    Args:
        server: the page.
        typical_depth: of the scene in world units: the size of things, frusta among them.
        camera_of: how a keyframe looks as a frustum.
        on_click: what to do with a keyframe whose frustum was clicked.
    """

    def __init__(
        self,
        server: ViserServer,
        typical_depth: float,
        camera_of: Callable[[int], FrameCamera],
        on_click: Callable[[int], None],
    ) -> None:
        self._scene, self._server = server.scene, server
        self._camera_of, self._on_click = camera_of, on_click
        self._nodes: dict[int, _Node] = {}
        self._path: LineSegmentsHandle | None = None
        self._loops: LineSegmentsHandle | None = None
        self._current: CameraFrustumHandle | None = None
        self._lock = threading.RLock()
        self.restart(typical_depth)
        self.point_size, self.frustum_size = POINT_SIZE, 1.0
        """Over what closes the gaps between neighbours, and over the default."""
        self.shows_frusta, self.shows_path, self.shows_loops = True, True, True
        self.is_flying = False
        """A user's camera is where the cameras are: no frustum is shown, it would stand in the way."""
        self.every, self.colouring = 1, Colouring.TIME
        """Every so many-th keyframe has a frustum."""

    def restart(self, typical_depth: float) -> None:
        """Take everything away, for another map of this typical depth. What was chosen stays."""
        with self._lock, self._server.atomic():
            self._frustum_length = _FRUSTUM_OF_SCENE * typical_depth
            for frame in self.keyframes:
                self.remove_keyframe(frame)
            for handle in (self._path, self._loops, self._current):
                if handle is not None:
                    handle.remove()
            self._path = self._loops = self._current = None

    # Keyframes ------------------------------------------------------------------------------------

    @property
    def keyframes(self) -> list[int]:
        """Frames that have a node, ascending."""
        with self._lock:
            return sorted(self._nodes)

    @property
    def frusta(self) -> list[int]:
        """Keyframes whose frustum is shown, ascending."""
        with self._lock:
            cameras = {frame: self._nodes[frame].camera for frame in self.keyframes}
            return [frame for frame, camera in cameras.items() if camera is not None and camera.visible]

    @property
    def points(self) -> int:
        """How many points the page has."""
        with self._lock:
            return sum(node.points for node in self._nodes.values())

    def points_of(self, frame: int) -> int:
        """How many points hang on a keyframe; 0 if it is none."""
        with self._lock:
            return self._nodes[frame].points if frame in self._nodes else 0

    def has(self, frame: int) -> bool:
        """Whether a frame has a node."""
        return frame in self._nodes

    def add_keyframe(self, frame: int, state: MapState) -> None:
        """Make the node of a keyframe, without points."""
        wxyz, position = _pose(state.world_from_cam[frame])
        with self._lock:
            parent = self._scene.add_frame(_name(frame), show_axes=False, wxyz=wxyz, position=position)
            self._nodes[frame] = _Node(frame=parent)

    def remove_keyframe(self, frame: int) -> None:
        """Take a keyframe and its points away."""
        with self._lock:
            self._nodes.pop(frame).frame.remove()

    def set_points(
        self,
        frame: int,
        state: MapState,
        points: KeyframePoints,
        levels: LevelledPoints,
        sizes: Sequence[float],
    ) -> None:
        """Replace the points of a keyframe.

        Args:
            frame: which.
            state: with its scale.
            points: of the keyframe.
            levels: which of them, by level.
            sizes: how large the points of each level are drawn, in world units.
        """
        with self._lock, self._server.atomic():
            node = self._nodes[frame]
            node.depth_unit, node.points, node.sizes = points.depth_unit, 0, list(sizes)
            scale = float(state.depth_scale[frame]) * points.depth_unit
            for level, rows in enumerate(levels.rows):
                chosen = points.take(rows)
                chosen = chosen.take(np.all(np.abs(chosen.points_in_cam) < _FLOAT16_MAX, axis=1))
                self._set_cloud(frame, node, level, chosen.points_in_cam, chosen.colors, scale)
                node.points += len(chosen)

    def drop_points(
        self,
        frame: int,
        state: MapState,
        is_dropped: Callable[[NDArray[np.floating], int], NDArray[np.bool_]],
    ) -> None:
        """Take points of a keyframe away.

        Args:
            frame: which.
            state: where it is.
            is_dropped: tells of (K, 3) points in the world, of one level, which go.
        """
        with self._lock, self._server.atomic():
            node, pose = self._nodes[frame], state.world_from_cam[frame]
            scale = float(state.depth_scale[frame]) * node.depth_unit
            for level, handle in enumerate(node.clouds):
                if handle is None:
                    continue
                world = scale * handle.points.astype(np.float64) @ pose[:, :3].T + pose[:, 3]
                kept = ~is_dropped(world, level)
                if kept.all():
                    continue
                points, colors = handle.points[kept], handle.colors[kept]
                node.points -= len(kept) - len(points)
                self._set_cloud(frame, node, level, points, colors, scale)

    def _set_cloud(
        self,
        frame: int,
        node: _Node,
        level: int,
        points: NDArray[np.floating],
        colors: NDArray[np.uint8],
        scale: float,
    ) -> None:
        handle = node.clouds[level]
        if len(points):
            node.clouds[level] = self._scene.add_point_cloud(
                f"{_name(frame)}/points{level}",
                points=points,
                colors=colors,
                point_size=self.point_size * node.sizes[level] / scale,
                point_shape="rounded",
                point_shading="flat",
                precision="float16",
                scale=scale,
            )
        elif handle is not None:
            handle.remove()
            node.clouds[level] = None

    def move(self, state: MapState) -> None:
        """Put all keyframes where a state has them; points stay as they are in their cameras."""
        with self._lock, self._server.atomic():
            for frame, node in self._nodes.items():
                node.frame.wxyz, node.frame.position = _pose(state.world_from_cam[frame])
                scale = float(state.depth_scale[frame]) * node.depth_unit
                for handle, size in zip(node.clouds, node.sizes, strict=True):
                    if handle is not None:
                        handle.scale, handle.point_size = scale, self.point_size * size / scale

    def resize_points(self) -> None:
        """Draw points as large as `point_size` says."""
        with self._lock, self._server.atomic():
            for node in self._nodes.values():
                for handle, size in zip(node.clouds, node.sizes, strict=True):
                    if handle is not None:
                        assert isinstance(handle.scale, float)
                        handle.point_size = self.point_size * size / handle.scale

    def show_frusta(self, state: MapState) -> None:
        """Show every so many-th frustum, in its size and colour. RunCorruptError: an image cannot be read."""
        shown = self.shows_frusta and not self.is_flying
        with self._lock, self._server.atomic():
            keyframes = self.keyframes
            colours = frame_colours(state, self.colouring, keyframes)
            for place, frame in enumerate(keyframes):
                node = self._nodes[frame]
                if shown and place % self.every == 0:
                    node.camera = node.camera or self._add_frustum(frame)
                    node.camera.visible = True
                    node.camera.scale = self._frustum_length * self.frustum_size
                    node.camera.color = _rgb(colours[place])
                elif node.camera is not None:
                    node.camera.visible = False

    def _add_frustum(self, frame: int) -> CameraFrustumHandle:
        camera = self._camera_of(frame)
        frustum = self._scene.add_camera_frustum(
            f"{_name(frame)}/camera",
            fov=camera.fov_rad,
            aspect=camera.aspect,
            thickness=1.5,
            thickness_units="screen",
            image=camera.thumbnail,
            jpeg_quality=70,
            cast_shadow=False,
            receive_shadow=False,
        )
        frustum.on_click(lambda _: self._on_click(frame))
        return frustum

    # Path -----------------------------------------------------------------------------------------

    def show_path(self, state: MapState) -> None:
        """Draw the line through all cameras."""
        rows = np.unique(np.linspace(0, len(state) - 1, min(len(state), _MAX_PATH_POINTS)).astype(int))
        vertices, colours = state.centres[rows], frame_colours(state, self.colouring, rows)
        with self._lock:
            if len(rows) < 2:
                return
            self._path = self._scene.add_line_segments(
                "/path",
                points=np.stack([vertices[:-1], vertices[1:]], axis=1),
                colors=np.stack([colours[:-1], colours[1:]], axis=1),
                thickness=3.0,
                thickness_units="screen",
                visible=self.shows_path,
            )

    def show_loops(self, state: MapState, pairs: Sequence[tuple[int, int]]) -> None:
        """Draw a line for each of these pairs of frames."""
        within = [pair for pair in pairs if max(pair) < len(state)][:_MAX_LOOPS]
        with self._lock:
            if not within:
                return
            self._loops = self._scene.add_line_segments(
                "/loops",
                points=state.centres[np.array(within)],
                colors=LOOP,
                thickness=2.0,
                thickness_units="screen",
                visible=self.shows_loops,
            )

    def set_line_visibility(self) -> None:
        """Show path and loops, or hide them."""
        with self._lock:
            if self._path is not None:
                self._path.visible = self.shows_path
            if self._loops is not None:
                self._loops.visible = self.shows_loops

    # The current camera ---------------------------------------------------------------------------

    def show_current(self, frame: int, state: MapState, camera: FrameCamera) -> None:
        """Put the large orange frustum where a frame's camera is."""
        wxyz, position = _pose(state.world_from_cam[frame])
        with self._lock, self._server.atomic():
            if self._current is None:
                self._current = self._scene.add_camera_frustum(
                    "/current",
                    fov=camera.fov_rad,
                    aspect=camera.aspect,
                    color=CURRENT,
                    thickness=3.0,
                    thickness_units="screen",
                    cast_shadow=False,
                    receive_shadow=False,
                )
            self._current.visible = not self.is_flying
            self._current.scale = 1.5 * self._frustum_length * self.frustum_size
            self._current.image = camera.thumbnail
            self._current.wxyz, self._current.position = wxyz, position


def _name(frame: int) -> str:
    return f"/keyframes/{frame:06d}"


def _pose(world_from_cam: Array) -> tuple[Array, Array]:
    """(4,) quaternion w x y z and (3,) position of a (3, 4) pose."""
    return quaternion_wxyz(world_from_cam[:, :3]), world_from_cam[:, 3]


def _rgb(colour: NDArray[np.uint8]) -> Colour:
    red, green, blue = colour.tolist()
    return red, green, blue
