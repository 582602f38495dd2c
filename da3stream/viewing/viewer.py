"""The viewer of one run: brings the run directory, the scene and the panel together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from da3stream.errors import (
    Da3StreamError,
    ProcessLostError,
    RunCorruptError,
    RunIncompleteError,
    RunRestartedError,
    StoreError,
    command_line,
)
from da3stream.store import FinishedRun, FollowedRun
from da3stream.store.run import REPORT
from da3stream.viewing.cloud import CloudBuilder, CloudOptions, typical_depth
from da3stream.viewing.colours import Colouring
from da3stream.viewing.describing import describe_run, escaped
from da3stream.viewing.frames import FrameReader
from da3stream.viewing.gallery import has_report
from da3stream.viewing.keyframes import choose_keyframes, growing_keyframes
from da3stream.viewing.library import check_installed, start_server, stop_server
from da3stream.viewing.map_state import MapState, first_state_of
from da3stream.viewing.pace import Pace
from da3stream.viewing.panel import Panel
from da3stream.viewing.playback import Playback, View, flying_view, starting_view, view_from_above
from da3stream.viewing.replay import replayed
from da3stream.viewing.scene import MapScene
from da3stream.viewing.viewed_run import (
    check_viewable,
    is_being_written,
    journal_and_manifest,
    open_to_view,
    up_of,
)

if TYPE_CHECKING:
    from da3stream.viewing.following import GrowingMap
    from da3stream.viewing.library import ClientHandle, ViserServer

logger = logging.getLogger(__name__)

FRUSTA_AT_FIRST = 20
BROWSER_WAIT_S = 5.0
"""How long a browser is waited for before more is worked out than what it shows first."""
_ANSWER_WAIT_S = 5.0
"""How long it is waited for what a browser draws; until then it gets no more points."""
_WORTH_MORE = 1.5
"""How many times more points a browser must draw quickly for all to be built anew."""
POLL_S = 1.0
_TICK_S = 1 / 60


class Viewer:
    """Shows a run in a page until it is closed. One thread works at the points, one at the timeline.

    Args:
        server: an empty page.
        root: the run directory.
        follow: take in what its writer adds.

    Raises:
        StoreError: there is no run directory.
        RunIncompleteError: it has not finished and is not to be followed, or was kept without depth maps.
        RunCorruptError: files of it cannot be read.
    """

    def __init__(self, server: ViserServer, root: Path, *, follow: bool = False) -> None:
        self._server, self._root, self._follows = server, root, follow
        self._lock = threading.RLock()
        self._scene: MapScene | None = None
        self._builder: CloudBuilder | None = None
        self._growing: GrowingMap | None = None
        self._open()
        config = self._run.manifest["config"]
        self._pace = Pace()
        self._budget: int | None = None
        """Chosen by a user; None: by the pace."""
        self._confidence_percentile: float = config["confidence_percentile"]
        self._closed, self._work = threading.Event(), threading.Event()
        self._stopped = threading.Event()
        self._is_due, self._looks_again = False, True
        self._awaits_browser = True
        self._shows_before, self._shown_frame = False, -1
        self._optimised: MapState | None = None
        self._playback = Playback(0)
        self._panel = Panel(server, self, confidence_percentile=self._confidence_percentile, every=1)
        self._depth, self._up = 1.0, np.array([0.0, -1.0, 0.0])
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True, name=name)
            for work, name in ((self._work_at_points, "points"), (self._work_at_timeline, "timeline"))
        ]
        server.on_client_connect(self._welcome)

    def start(self) -> None:
        """Begin to show; returns at once."""
        for thread in self._threads:
            thread.start()

    @property
    def port(self) -> int:
        """On which the page is."""
        return self._server.get_port()

    @property
    def is_stopped(self) -> bool:
        """Whether it cannot go on: what it shows stays as it is."""
        return self._stopped.is_set()

    def close(self) -> None:
        """Stop working, and take the page from the net."""
        self._closed.set()
        self._work.set()
        for thread in self._threads:
            thread.join()
        stop_server(self._server)

    @property
    def scene(self) -> MapScene | None:
        """What is shown; None before the first chunk."""
        return self._scene

    @property
    def clients(self) -> list[ClientHandle]:
        """Everybody who looks at the page."""
        return list(self._server.get_clients().values())

    @property
    def state(self) -> MapState | None:
        """Where everything is shown now; None before the first chunk."""
        with self._lock:
            if self._optimised is None or not self._shows_before:
                return self._optimised
            return self._optimised.before_optimisation()

    # What the panel asks for ----------------------------------------------------------------------

    def seek(self, frame: int) -> None:
        """Go to a frame."""
        self._playback.seek(frame, time.monotonic())

    def play_or_pause(self) -> None:
        """Begin to play, or stop it."""
        if self._playback.is_playing:
            self._playback.pause(time.monotonic())
        else:
            self._playback.play(time.monotonic())

    def set_fps(self, fps: float) -> None:
        """Play so many frames a second."""
        self._playback.set_fps(fps, time.monotonic())

    def begin_or_end_flight(self) -> None:
        """Move the users' cameras along with the current frame, or no longer."""
        if self._scene is not None and (state := self.state) is not None:
            self._scene.is_flying = self._panel.flies
            self._scene.show_frusta(state)
        self._looks_again = True

    def look_from_start(self) -> None:
        """Move the users' cameras behind the first frame."""
        if (state := self.state) is not None:
            self._move_users(starting_view(state.world_from_cam, self._depth, self._up))

    def look_from_above(self) -> None:
        """Move the users' cameras above the path."""
        if (state := self.state) is not None:
            self._move_users(view_from_above(state.centres, self._depth, self._up))

    def choose_points(self, budget: int | None, confidence_percentile: float) -> None:
        """Show so many points, None: as many as the browsers draw, without the least confident ones."""
        with self._lock:
            self._budget, self._confidence_percentile = budget, confidence_percentile
            self._ask_for_points()

    def set_point_size(self, size: float) -> None:
        """Draw points so large, over the side of their voxels."""
        if self._scene is not None:
            self._scene.point_size = size
            self._scene.resize_points()

    def set_frusta(self, *, shown: bool, size: float, every: int) -> None:
        """Show these frusta."""
        if self._scene is not None and (state := self.state) is not None:
            self._scene.shows_frusta, self._scene.frustum_size, self._scene.every = shown, size, every
            self._scene.show_frusta(state)
            self._looks_again = True

    def set_colouring(self, colouring: Colouring) -> None:
        """Colour path and frusta."""
        if self._scene is not None and (state := self.state) is not None:
            self._scene.colouring = colouring
            self._scene.show_path(state)
            self._scene.show_frusta(state)

    def set_lines(self, *, path: bool, loops: bool) -> None:
        """Show path and loops, or hide them."""
        if self._scene is not None:
            self._scene.shows_path, self._scene.shows_loops = path, loops
            self._scene.set_line_visibility()

    def set_before(self, before: bool) -> None:
        """Show the map as it was before it was optimised, or as it is."""
        self._shows_before = before
        self._move_scene()

    def report(self) -> bytes:
        """The run's report.html. RunIncompleteError if there is none."""
        if not has_report(self._root):
            raise RunIncompleteError(
                f"there is no {REPORT} in {self._root}",
                hint=f"Write it with `{command_line('report', self._root)}` once the run has finished.",
            )
        return (self._root / REPORT).read_bytes()

    # Points ---------------------------------------------------------------------------------------

    def _work_at_points(self) -> None:
        while not self._closed.is_set():
            try:
                self._show_run()
            except (RunRestartedError, RunIncompleteError):
                logger.info("the run was begun anew")
            except RunCorruptError as error:
                if not self._follows:
                    raise
                self._say_stopped(error)
                self._wait_for_change()
            self._reopen()

    def _show_run(self) -> None:
        """Show the run, and what comes of it, until the viewer is closed or another run takes its place.

        Raises:
            RunRestartedError, RunIncompleteError: that has happened.
            RunCorruptError: files of it cannot be read.
        """
        self._say_points()
        if isinstance(self._run, FinishedRun):
            first = first_state_of(self._run)
            self._adopt(first)
            self._build_points()
            self._place_again(first)
        while not self._closed.is_set():
            if self._growing is not None:
                self._follow(self._growing)
                self._say_points()
            elif self._follows and self._is_outdated():
                raise RunRestartedError(f"the run {self._root} was begun anew")
            if self._optimised is not None:
                self._keep_pace()
                if self._is_due:
                    self._build_points()
            self._work.wait(POLL_S)
            self._work.clear()

    def _open(self) -> None:
        """Take the run as it is now."""
        self._seen = journal_and_manifest(self._root)
        check_viewable(self._root, follow=self._follows)
        run = open_to_view(self._root)
        self._growing = None
        if isinstance(run, FollowedRun):
            from da3stream.viewing.following import GrowingMap  # needs a second to be imported

            self._growing = GrowingMap(run)
        self._read_from(run)

    def _read_from(self, run: FinishedRun | FollowedRun) -> None:
        self._run, self._frames = run, FrameReader(run)
        if self._scene is not None:
            self._builder = CloudBuilder(run, self._scene, run.manifest["config"]["edge_angle"])

    def _is_outdated(self) -> bool:
        return isinstance(self._run, FinishedRun) and self._run.is_outdated()

    def _reopen(self) -> None:
        """Show nothing, and take the run as it is now, as soon as it can be read."""
        while not self._closed.is_set():
            try:
                with self._lock:  # nobody asks the new run for frames of the old one
                    self._optimised, self._shown_frame, self._is_due = None, -1, False
                    self._playback.seek(0, time.monotonic())
                    self._panel.show_number(0)
                    if self._scene is not None:
                        self._scene.restart(self._depth)
                    self._open()
                return
            except StoreError as error:
                self._say_stopped(error)
                self._wait_for_change()

    def _wait_for_change(self) -> None:
        """Wait until somebody has written to the journal or the manifest since the run was opened."""
        while journal_and_manifest(self._root) == self._seen and not self._closed.wait(POLL_S):
            pass

    def _place_again(self, first: MapState) -> None:
        """Show the exact map; where that cannot be had, the first one stays."""
        try:
            self._adopt(replayed(self._root, first, self._closed))
        except ProcessLostError as error:
            if not self._closed.is_set():
                logger.warning("%s", error)
                self._panel.notify("The view before optimisation is missing", str(error), colour="orange")
        else:
            self._panel.allow_before()

    def _follow(self, growing: GrowingMap) -> None:
        state = growing.update()
        if state is None:
            return
        self._adopt(state)
        self._panel.allow_before()
        if not growing.is_finished:
            self._extend_points(state)
        if growing.is_finished:
            self._panel.notify("The run has finished", f"{len(state)} frames", colour="green")
            self._growing = None
            self._read_from(FinishedRun(self._root))
            self._ask_for_points()

    def _ask_for_points(self) -> None:
        self._is_due = True
        self._work.set()

    @property
    def _options(self) -> CloudOptions:
        """Which points are asked for at this moment."""
        with self._lock:
            return CloudOptions(
                budget=self._budget or self._pace.budget(), confidence_percentile=self._confidence_percentile
            )

    def _budget_after(self, points: int) -> int:
        """How many points there may be, now that so many are there."""
        if self._budget is not None:
            return self._budget
        self._wait_for_browser()
        self._pace.ask(self.clients, points)
        self._pace.wait(_ANSWER_WAIT_S, self._is_stale)
        return self._pace.budget()

    def _wait_for_browser(self) -> None:
        """Once: leave the cores to the browser until it is there."""
        deadline = time.monotonic() + BROWSER_WAIT_S
        while self._awaits_browser and not (self.clients or self._is_stale()):
            self._awaits_browser = time.monotonic() < deadline
            time.sleep(_TICK_S)
        self._awaits_browser = False

    def _keep_pace(self) -> None:
        """Ask for other points if the browsers that look by now draw far more or fewer than there are."""
        assert self._scene is not None
        assert self._builder is not None
        if self._budget is not None:
            return
        points = self._scene.points
        self._pace.ask(self.clients, points)
        budget = self._pace.budget()
        if points > budget or not self._builder.is_enough(round(budget / _WORTH_MORE)):
            self._ask_for_points()

    def _extend_points(self, state: MapState) -> None:
        """Show what has come; all anew, more coarsely, only if the budget does not hold it."""
        assert self._scene is not None
        assert self._builder is not None
        keyframes = growing_keyframes(len(state))
        if not self._builder.extend(state, keyframes, self._options):
            self._ask_for_points()
        self._suggest_frusta(len(keyframes))
        self._scene.show_frusta(state)

    def _suggest_frusta(self, keyframes: int) -> None:
        assert self._scene is not None
        self._scene.every = self._panel.suggest_every(-(-keyframes // FRUSTA_AT_FIRST))

    def _build_points(self) -> None:
        """Show the points that are asked for at this moment; a newer wish ends the work."""
        self._is_due = False
        with self._lock:
            state, options = self._optimised, self._options
        assert state is not None
        assert self._scene is not None
        assert self._builder is not None
        is_growing = self._growing is not None
        keyframes = growing_keyframes(len(state)) if is_growing else choose_keyframes(state.centres).tolist()
        began = time.monotonic()
        self._suggest_frusta(len(keyframes))
        for _ in self._builder.build(state, keyframes, options, self._is_stale, self._budget_after):
            self._scene.show_frusta(state)
            self._say_points()
        self._move_scene()
        self._say_points()
        logger.info("%d points after %.1f s", self._scene.points, time.monotonic() - began)

    def _is_stale(self) -> bool:
        """Whether the points that are being built are no longer asked for."""
        return self._is_due or self._closed.is_set()

    def _say_points(self) -> None:
        """What is there, and whether more comes."""
        shown = None if self._optimised is None else self._scene
        has = "" if shown is None else f"{shown.points:,} points of {len(shown.keyframes)} keyframes"
        if has and self._builder is not None and self._builder.is_finest:
            has += ", all there are"
        if self._growing is None:
            status = has or "Reading ..."
        elif is_being_written(self._root):
            status = f"{has} · the run goes on" if has else "Waiting for the first chunk ..."
        else:
            resume = escaped(command_line("resume", self._root))
            status = f"{has or 'No chunk yet'} · the run was interrupted, go on with: {resume}"
        self._panel.show_status(status)

    # The map --------------------------------------------------------------------------------------

    def _adopt(self, state: MapState) -> None:
        """Show the cameras of a state; points that are there move with them."""
        if self._optimised is None:
            self._begin(state)
        with self._lock:
            self._optimised, self._playback.frames = state, len(state)
        self._panel.set_frames(len(state))
        self._panel.show_info(describe_run(self._run.manifest, state, is_metric=self._is_metric()))
        self._move_scene()
        self._looks_again = True

    def _is_metric(self) -> bool:
        if self._growing is not None:
            return self._growing.is_metric
        by_hand = self._run.alignment is not None and self._run.alignment.is_metric
        return by_hand or bool(self._run.manifest.get("is_metric"))

    def _begin(self, state: MapState) -> None:
        """Make the scene, now that its size and its upright direction are known."""
        keyframes = choose_keyframes(state.centres).tolist()
        self._depth = typical_depth(self._run, state, keyframes)
        self._up = up_of(self._run, state)
        self._server.scene.set_up_direction(self._up)
        if self._scene is None:
            self._scene = MapScene(
                self._server, self._depth, lambda frame: self._frames.camera(frame), self.seek
            )
        self._scene.restart(self._depth)
        self._read_from(self._run)
        view = starting_view(state.world_from_cam, self._depth, self._up)
        camera = self._server.initial_camera
        camera.position, camera.look_at, camera.up = view.position, view.look_at, view.up
        extent = float(np.linalg.norm(np.ptp(state.centres, axis=0))) + self._depth
        camera.near, camera.far = 0.01 * self._depth, 1000 * extent
        for client in self.clients:
            self._welcome(client)
        self._move_users(view)

    def _move_scene(self) -> None:
        """Put everything where the state that is shown has it."""
        state, scene = self.state, self._scene
        if state is None or scene is None:
            return
        scene.move(state)
        scene.show_path(state)
        scene.show_loops(state, self._run.closed_loops)
        scene.show_frusta(state)
        self._looks_again = True

    # Timeline -------------------------------------------------------------------------------------

    def _work_at_timeline(self) -> None:
        was_playing = False
        while not self._closed.wait(_TICK_S):
            if self._playback.is_playing != was_playing:
                was_playing = self._playback.is_playing
                self._panel.show_playing(was_playing)
            with self._lock:
                self._show_frame_of_now()

    def _show_frame_of_now(self) -> None:
        state, scene = self.state, self._scene
        frame = self._playback.frame_at(time.monotonic())
        if state is None or scene is None or (frame == self._shown_frame and not self._looks_again):
            return
        self._looks_again, self._shown_frame = False, frame
        try:
            self._show_frame(frame, state, scene)
        except RunCorruptError as error:  # one frame that cannot be read: the others can
            self._panel.notify(f"Frame {frame} cannot be shown", str(error))

    def _show_frame(self, frame: int, state: MapState, scene: MapScene) -> None:
        if self._panel.flies:
            self._move_users(flying_view(state.world_from_cam, frame, self._depth))
        scene.show_current(frame, state, self._frames.camera(frame))
        reader = self._frames
        self._panel.show_frame(frame, reader.image(frame), reader.depth(frame), reader.confidence(frame))

    # Users ----------------------------------------------------------------------------------------

    def _welcome(self, client: ClientHandle) -> None:
        client.camera.near, client.camera.far = (
            self._server.initial_camera.near,
            self._server.initial_camera.far,
        )

    def _move_users(self, view: View) -> None:
        for client in self.clients:
            with client.atomic():
                client.camera.up_direction = view.up
                client.camera.position = view.position
                client.camera.look_at = view.look_at

    def _guarded(self, work: Callable[[], None]) -> None:
        """Work in a thread; what goes wrong is said in the page and on the terminal."""
        try:
            work()
        except Da3StreamError as error:
            self._say_stopped(error)
        except Exception as error:
            logger.exception("the viewer cannot go on")
            self._panel.show_status(f"**Stopped:** {type(error).__name__}: {escaped(str(error))}")
        else:
            return
        self._stopped.set()

    def _say_stopped(self, error: Da3StreamError) -> None:
        logger.error("%s", error)
        self._panel.show_status(f"**Stopped:** {escaped(str(error))}")


def open_viewer(root: Path, host: str, port: int, *, follow: bool = False) -> Viewer:
    """Show a run at an address; it is checked before anything listens there.

    Raises:
        MissingDependencyError: viser is not there.
        ConfigError: the address cannot be used.
        StoreError: the run cannot be shown; see `Viewer`.
    """
    check_installed()
    check_viewable(root, follow=follow)
    server = start_server(host, port, label="/".join(root.resolve().parts[-2:]))
    try:
        viewer = Viewer(server, root, follow=follow)
    except BaseException:  # the port would stay taken
        stop_server(server)
        raise
    viewer.start()
    return viewer
