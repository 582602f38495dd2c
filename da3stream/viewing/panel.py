"""The panel beside the scene: what can be set, and what is said of the run."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from da3stream.errors import Da3StreamError
from da3stream.store.run import REPORT
from da3stream.viewing.colours import Colouring
from da3stream.viewing.frames import Image
from da3stream.viewing.scene import POINT_SIZE

if TYPE_CHECKING:
    from da3stream.viewing.library import GuiSliderHandle, ViserServer

logger = logging.getLogger(__name__)

AUTO = "as the browser draws"
BUDGETS = {
    AUTO: None,
    "0.25 M": 250_000,
    "0.5 M": 500_000,
    "1 M": 1_000_000,
    "2 M": 2_000_000,
    "4 M": 4_000_000,
}
_BLANK = np.full((9, 16, 3), 230, dtype=np.uint8)


class PanelEvents(Protocol):
    """What the panel asks for."""

    def seek(self, frame: int) -> None: ...
    def play_or_pause(self) -> None: ...
    def set_fps(self, fps: float) -> None: ...
    def begin_or_end_flight(self) -> None: ...
    def look_from_start(self) -> None: ...
    def look_from_above(self) -> None: ...
    def choose_points(self, budget: int | None, confidence_percentile: float) -> None: ...
    def set_point_size(self, size: float) -> None: ...
    def set_frusta(self, *, shown: bool, size: float, every: int) -> None: ...
    def set_colouring(self, colouring: Colouring) -> None: ...
    def set_lines(self, *, path: bool, loops: bool) -> None: ...
    def set_before(self, before: bool) -> None: ...
    def report(self) -> bytes: ...


def _within(slider: GuiSliderHandle[Any]) -> float:
    """Its value; anything can be typed beside it."""
    return float(min(max(slider.value, slider.min), slider.max))


class Panel:
    """The controls of the page. They are the same for all who look at it.

    Args:
        server: the page.
        events: who acts on them.
        confidence_percentile: what the run's own clouds leave out.
        every: every so many-th keyframe has a frustum at first.
    """

    def __init__(
        self, server: ViserServer, events: PanelEvents, *, confidence_percentile: float, every: int
    ) -> None:
        self._server, self._events = server, events
        self._nth: GuiSliderHandle[int]
        self._suggested = every
        """What the slider for every so many-th frustum was set to by us."""
        self._is_told = False
        """Whether the frame slider is being moved by us."""
        gui = server.gui
        self._status = gui.add_markdown("")
        with gui.add_folder("Playback"):
            self._build_playback()
        with gui.add_folder("Cloud"):
            self._build_cloud(confidence_percentile)
        with gui.add_folder("Cameras"):
            self._build_cameras(every)
        with gui.add_folder("Trajectory"):
            self._build_trajectory()
        with gui.add_folder("Info"):
            self._info = gui.add_markdown("")
            report = gui.add_button("Report", hint="Offers the run's report.html, a page of its own.")
            report.on_click(self._offer_report)

    # What is shown --------------------------------------------------------------------------------

    @property
    def flies(self) -> bool:
        """Whether the users' cameras go along with the frame."""
        return bool(self._fly.value)

    def set_frames(self, frames: int) -> None:
        """How many frames the timeline has."""
        self._frame.max = max(1, frames - 1)

    def show_frame(self, frame: int, image: Image, depth: Image, confidence: Image) -> None:
        """Show what belongs to the current frame."""
        self.show_number(frame)
        with self._server.atomic():
            self._image.image, self._depth.image, self._confidence_map.image = image, depth, confidence

    def show_number(self, frame: int) -> None:
        """Put the timeline to a frame, without asking for it."""
        self._is_told = True
        try:
            self._frame.value = frame
        finally:
            self._is_told = False

    def show_playing(self, is_playing: bool) -> None:
        """What the button does next."""
        self._play.label = "Pause" if is_playing else "Play"

    def show_status(self, text: str) -> None:
        """One line above all controls."""
        if text != self._status.content:
            self._status.content = text

    def show_info(self, markdown: str) -> None:
        """What is known of the run."""
        self._info.content = markdown

    def allow_before(self) -> None:
        """It is known where everything was before the optimisation."""
        self._before.disabled = False

    def suggest_every(self, every: int) -> int:
        """Which frusta are shown: every so many-th, unless a user has chosen otherwise."""
        if self._nth.value == self._suggested:
            self._suggested = min(int(self._nth.max), every)
            self._nth.value = self._suggested
        return int(self._nth.value)

    def notify(self, title: str, body: str, colour: str = "red") -> None:
        """Tell everybody who looks at the page."""
        for client in self._server.get_clients().values():
            client.add_notification(title, body, auto_close_seconds=15, color=colour)

    def reported(self, act: Callable[..., None]) -> Callable[[Any], None]:
        """A callback that shows in the page, too, what goes wrong in it."""

        @functools.wraps(act)
        def guarded(_event: Any) -> None:
            try:
                act()
            except Da3StreamError as error:
                self.notify("Not possible", str(error))
            except Exception as error:
                self.notify("Error in the viewer", f"{type(error).__name__}: {error}")
                logger.exception("the viewer could not do what was asked")

        return guarded

    # Controls -------------------------------------------------------------------------------------

    def _build_playback(self) -> None:
        gui, events = self._server.gui, self._events
        self._frame = gui.add_slider("Frame", min=0, max=1, step=1, initial_value=0)
        self._frame.on_update(self.reported(self._seek))
        self._play = gui.add_button("Play")
        self._play.on_click(self.reported(events.play_or_pause))
        fps = gui.add_slider("Frames a second", min=1, max=60, step=1, initial_value=10)
        fps.on_update(self.reported(lambda: events.set_fps(_within(fps))))
        self._fly = gui.add_checkbox("Fly along the path", initial_value=False)
        self._fly.on_update(self.reported(events.begin_or_end_flight))
        from_start = gui.add_button("View from the start")
        from_start.on_click(self.reported(events.look_from_start))
        from_above = gui.add_button("View from above")
        from_above.on_click(self.reported(events.look_from_above))
        self._image = gui.add_image(_BLANK, label="Image", format="jpeg")
        maps = gui.add_tab_group()
        with maps.add_tab("Depth"):
            self._depth = gui.add_image(_BLANK, label="near is red, far is blue", format="jpeg")
        with maps.add_tab("Confidence"):
            self._confidence_map = gui.add_image(_BLANK, label="bright is sure", format="jpeg")

    def _seek(self) -> None:
        if not self._is_told:
            self._events.seek(int(self._frame.value))

    def _offer_report(self, event: Any) -> None:
        """Give a link to the report to the one who asks."""
        offer = self.reported(lambda: event.client.send_file_download(REPORT, self._events.report()))
        offer(event)

    def _build_cloud(self, confidence_percentile: float) -> None:
        gui, events = self._server.gui, self._events
        budget = self._budget = gui.add_dropdown(
            "Points at most",
            tuple(BUDGETS),
            initial_value=AUTO,
            hint="9 bytes each. By itself: as many as the slowest browser that looks draws 7 times a second.",
        )
        size = gui.add_slider("Point size", min=0.2, max=4.0, step=0.1, initial_value=POINT_SIZE)
        size.on_update(self.reported(lambda: events.set_point_size(_within(size))))
        confidence = self._confidence = gui.add_slider(
            "Leave out, %",
            min=0,
            max=95,
            step=5,
            initial_value=min(95, round(confidence_percentile / 5) * 5),
            hint="So many percent of each image, the least confident, have no points.",
        )
        choose = self.reported(lambda: events.choose_points(BUDGETS[budget.value], _within(confidence)))
        budget.on_update(choose)
        confidence.on_update(choose)

    def _build_cameras(self, every: int) -> None:
        gui = self._server.gui
        shown = gui.add_checkbox("Frusta", initial_value=True)
        size = gui.add_slider("Size", min=0.2, max=4.0, step=0.1, initial_value=1.0)
        nth = self._nth = gui.add_slider("Every", min=1, max=50, step=1, initial_value=every)
        change = self.reported(
            lambda: self._events.set_frusta(
                shown=bool(shown.value), size=_within(size), every=int(_within(nth))
            )
        )
        for control in (shown, size, nth):
            control.on_update(change)
        gui.add_markdown("A click on a frustum goes to its frame.")

    def _build_trajectory(self) -> None:
        gui, events = self._server.gui, self._events
        colour = gui.add_dropdown("Colour by", tuple(kind.value for kind in Colouring))
        colour.on_update(self.reported(lambda: events.set_colouring(Colouring(colour.value))))
        path = gui.add_checkbox("Path", initial_value=True)
        loops = gui.add_checkbox("Loops (green)", initial_value=True)
        change = self.reported(lambda: events.set_lines(path=bool(path.value), loops=bool(loops.value)))
        path.on_update(change)
        loops.on_update(change)
        self._before = gui.add_checkbox(
            "Before optimisation",
            initial_value=False,
            disabled=True,
            hint="Where everything lies if chunks are only joined one after the other.",
        )
        self._before.on_update(self.reported(lambda: events.set_before(bool(self._before.value))))
